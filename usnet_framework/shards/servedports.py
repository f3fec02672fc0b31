"""Which (address, port) of an interface leave the kernel, where its addresses are shared: those that are listened on.

    tcp://10.0.0.1:7000    that one, while the interface has the address
    tcp://0.0.0.0:7000     that port of every IPv4 address of the interface, as they come and go; [::]: of every address

For each of them the kernel has a socket that is bound and listens to nothing. So it takes the port for no connection of
its own, and no other server gets it; a port that somebody has already is not taken from him."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Protocol

from usnet_framework._native_kernel import IpAddress
from usnet_framework.errors import InUse
from usnet_framework.shards.kernelsockets import local_ends
from usnet_framework.values import endpoint_text

Endpoint = tuple[str, int]
Place = tuple[IpAddress, int]


class Program(Protocol):
    """What takes packets from the kernel: _native_bpf.XdpProgram."""

    def share(self, address: IpAddress) -> None: ...
    def unshare(self, address: IpAddress) -> None: ...
    def serve(self, address: IpAddress, port: int) -> None: ...
    def unserve(self, address: IpAddress, port: int) -> None: ...


class ServedPorts:
    """Of the interface with this index. `all_shared`: addresses of which no port is listened on are ours to use, too,
    for connections that we open."""

    def __init__(self, program: Program, index: int, all_shared: bool = False) -> None:
        self._program = program
        self._index = index
        self._all_shared = all_shared
        self._endpoints: list[Endpoint] = []
        self._addresses: list[IpAddress] = []
        self._shared: set[IpAddress] = set()
        self._held: dict[Place, socket.socket] = {}
        self.refused: dict[Place, str] = {}
        """What is to be served and is not, and why."""

    def serve(self, endpoint: Endpoint) -> None:
        """InUse: the kernel has somebody else there."""
        self._endpoints.append(endpoint)
        self._settle()
        for place, reason in self.refused.items():
            if place in self._places([endpoint]):
                self.unserve(endpoint)
                raise InUse(f"{shown(place)}: {reason}")

    def unserve(self, endpoint: Endpoint) -> None:
        """The kernel has it again, and answers what comes there."""
        self._endpoints.remove(endpoint)
        self._settle()

    def follow(self, addresses: Sequence[IpAddress]) -> None:
        """The interface has these."""
        self._addresses = list(addresses)
        self._settle()

    def missing(self) -> list[str]:
        """Addresses that are listened on and are not there."""
        named = (ipaddress.ip_address(host) for host, _ in self._endpoints)
        return sorted({str(ip) for ip in named if not ip.is_unspecified and ip not in self._addresses})

    def close(self) -> None:
        """With the program, which ends with its last descriptor. The interface may be gone; endpoints can come and go
        all the same, and nothing of them is served."""
        for held in self._held.values():
            held.close()
        self._held, self._shared, self._addresses = {}, set(), []

    def _settle(self) -> None:
        wanted = self._places(self._endpoints)
        self.refused = {place: reason for place, reason in self.refused.items() if place in wanted}
        for place in self._held.keys() - wanted:
            self._program.unserve(*place)
            self._held.pop(place).close()
        fresh = wanted - self._held.keys()
        used = fresh.intersection(local_ends()) if fresh else set()
        for place in sorted(fresh, key=shown):
            self._take(place, place in used)
        shared = set(self._addresses) if self._all_shared else {ip for ip, _ in self._held}
        for ip in self._shared - shared:
            self._program.unshare(ip)
        for ip in shared - self._shared:
            self._program.share(ip)
        self._shared = shared

    def _take(self, place: Place, is_used: bool) -> None:
        try:
            held = _bound(place, self._index)
        except OSError as error:
            self.refused[place] = _why(error, place[1])
            return
        if is_used:  # by connections: a listener would have been in the way
            held.close()
            self.refused[place] = "the kernel still has connections there; wait until they have ended (ss -tan)"
            return
        self._held[place] = held
        self.refused.pop(place, None)
        self._program.serve(*place)

    def _places(self, endpoints: Iterable[Endpoint]) -> set[Place]:
        return {(ip, port) for host, port in endpoints for ip in self._addresses if _is_meant(ip, host)}


def shown(place: Place) -> str:
    ip, port = place
    return f"tcp://{endpoint_text((str(ip), port))}"


def _is_meant(ip: IpAddress, host: str) -> bool:
    return host == "::" or (host == "0.0.0.0" and ip.version == 4) or ip == ipaddress.ip_address(host)


def _bound(place: Place, index: int) -> socket.socket:
    """OSError: it is somebody else's."""
    ip, port = place
    held = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside what is left in TIME-WAIT
        if ip.version == 6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((str(ip), port) if ip.version == 4 else (str(ip), port, 0, index if ip.is_link_local else 0))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # nobody is to listen beside us
    except BaseException:
        held.close()
        raise
    return held


def _why(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop who listens there or use another port"
    if error.errno == errno.EACCES:
        return f"no permission for port {port}; use one above 1023, or give the server CAP_NET_BIND_SERVICE"
    return os.strerror(error.errno or 0)
