"""Which (address, port) of an interface leave the kernel, where its addresses are shared: those that are listened on.

    tcp://10.0.0.1:7000    that one, while the interface has the address
    tcp://0.0.0.0:7000     that port of every IPv4 address of the interface, as they come and go; [::]: of every address

For each of them the kernel has a socket that is bound and listens to nothing. So it takes the port for no connection of
its own, and no other server gets it; a port that somebody has already is not taken from him.

Where something is at the port that is no listener, it is not clear what: connections, or what is left of them in
TIME-WAIT, which is in nobody's way. The place is kept from others (`unclear`) until somebody has asked the kernel
(`look`), which may take long."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from usnet_framework.addresses import IpAddress
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards.kernelsockets import local_ends
from usnet_framework.shards.listeners import why_not_bound
from usnet_framework.values import endpoint_text

Endpoint = tuple[str, int]
Place = tuple[IpAddress, int]


class Program(Protocol):
    """What takes packets from the kernel: _native_bpf.XdpProgram."""

    def share(self, address: IpAddress) -> None: ...
    def unshare(self, address: IpAddress) -> None: ...
    def serve(self, address: IpAddress, port: int) -> None: ...
    def unserve(self, address: IpAddress, port: int) -> None: ...


class Going(StartupError):
    """The kernel has taken the address from the interface, and we have not heard of it yet."""


class Unclear(StartupError):
    """Whether the kernel has connections there."""


class Connected(InUse):
    """It has. Finding that out again may take long, and is not done with all news."""


class ServedPorts:
    """Of the interface with this index. `all_shared`: addresses of which no port is listened on are ours to use, too,
    for connections that we open. `endpoints`: what is listened on already."""

    def __init__(
        self, program: Program, index: int, all_shared: bool = False, endpoints: Iterable[Endpoint] = ()
    ) -> None:
        self._program = program
        self._index = index
        self._all_shared = all_shared
        self._endpoints = list(endpoints)
        self._addresses: list[IpAddress] = []
        self._shared: set[IpAddress] = set()
        self._held: dict[Place, socket.socket] = {}
        self._unclear: dict[Place, socket.socket] = {}
        self.refused: dict[Place, StartupError] = {}
        """What is to be served and is not, and why."""

    def serve(self, endpoint: Endpoint) -> None:
        """All of it that can be. OSError, as follow has it: nothing of it."""
        self._endpoints.append(endpoint)
        try:
            self._settle()
        except BaseException:
            self.unserve(endpoint)
            raise

    def check(self, endpoint: Endpoint) -> None:
        """InUse, StartupError: something of it is not served, as the kernel has somebody else there. An address that
        goes is nobody's fault."""
        for place, why in self.refused.items():
            if _is_meant(place, endpoint) and not isinstance(why, Going):
                raise type(why)(f"{shown(place)}: {why}")

    def unserve(self, endpoint: Endpoint) -> None:
        """The kernel has it again, and answers what comes there."""
        self._endpoints.remove(endpoint)
        self._settle()

    def holds(self, place: Place) -> bool:
        """It is served."""
        return place in self._held

    def ending(self, endpoint: Endpoint) -> set[Place]:
        """What is served for this one alone, and would be no more without it."""
        others = list(self._endpoints)
        others.remove(endpoint)
        return self._held.keys() - self._places(others)

    def follow(self, addresses: Sequence[IpAddress]) -> None:
        """The interface has these. OSError: the program does not take one of them; the others are served."""
        self._addresses = list(addresses)
        self._settle(again=False)

    def try_again(self) -> None:
        """What was refused. OSError, as follow has it."""
        self._settle()

    def unclear(self) -> dict[Place, socket.socket]:
        """To be looked at, and then given to clear_up."""
        return dict(self._unclear)

    def clear_up(self, unclear: Mapping[Place, socket.socket], refused: Mapping[Place, StartupError]) -> None:
        """What was looked at is served, but for what is refused. What has changed since is left as it is."""
        for place, held in unclear.items():
            if self._unclear.get(place) is not held:
                continue
            del self._unclear[place]
            if place in refused:
                held.close()
                self.refused[place] = refused[place]
            else:
                self._begin(place, held)

    def missing(self) -> list[str]:
        """Addresses that are listened on and are not there."""
        named = (ipaddress.ip_address(host) for host, _ in self._endpoints)
        return sorted({str(ip) for ip in named if not ip.is_unspecified and ip not in self._addresses})

    def close(self) -> None:
        """With the program, which ends with its last descriptor. The interface may be gone; endpoints can come and go
        all the same, and nothing of them is served."""
        for held in (*self._held.values(), *self._unclear.values()):
            held.close()
        self._held, self._unclear, self._shared, self._addresses, self.refused = {}, {}, set(), [], {}

    def _settle(self, again: bool = True) -> None:
        """`again`: what the kernel had connections at is tried, too."""
        wanted = self._places(self._endpoints)
        self.refused = {place: why for place, why in self.refused.items() if place in wanted}
        for place in self._held.keys() - wanted:
            self._program.unserve(*place)
            self._held.pop(place).close()
        for place in self._unclear.keys() - wanted:
            self._unclear.pop(place).close()
        left = {place for place, why in self.refused.items() if isinstance(why, Connected) and not again}
        for place in sorted(wanted - self._held.keys() - self._unclear.keys() - left, key=shown):
            self._take(place)
        shared = set(self._addresses) if self._all_shared else {ip for ip, _ in self._held}
        for ip in self._shared - shared:
            self._program.unshare(ip)
            self._shared.remove(ip)
        for ip in shared:
            self._share(ip)

    def _take(self, place: Place) -> None:
        try:
            self._begin(place, _bound(place, self._index))
        except OSError as error:
            self._refuse(place, error)

    def _refuse(self, place: Place, error: OSError) -> None:
        """It could not be bound; without a listener in the way it is unclear why."""
        if error.errno == errno.EADDRINUSE:
            try:
                self._unclear[place] = _bound(place, self._index, beside_connections=True)
            except OSError as refused:
                error = refused
            else:
                self.refused[place] = Unclear("the kernel is being asked whether it has connections there")
                return
        self.refused[place] = _why_not(place, error)

    def _begin(self, place: Place, held: socket.socket) -> None:
        try:
            self._share(place[0])
            self._program.serve(*place)
        except OSError as error:
            held.close()
            self.refused[place] = StartupError(f"its packets cannot be taken from the kernel: {error.strerror}")
            return
        self._held[place] = held
        self.refused.pop(place, None)

    def _share(self, ip: IpAddress) -> None:
        if ip not in self._shared:
            self._program.share(ip)
            self._shared.add(ip)

    def _places(self, endpoints: Iterable[Endpoint]) -> set[Place]:
        places = ((ip, endpoint[1], endpoint) for endpoint in endpoints for ip in self._addresses)
        return {(ip, port) for ip, port, endpoint in places if _is_meant((ip, port), endpoint)}


def shown(place: Place) -> str:
    ip, port = place
    return f"tcp://{endpoint_text((str(ip), port))}"


def _is_meant(place: Place, endpoint: Endpoint) -> bool:
    (ip, port), (host, its_port) = place, endpoint
    is_any = host == "::" or (host == "0.0.0.0" and ip.version == 4)
    return port == its_port and (is_any or ip == ipaddress.ip_address(host))


def look(unclear: Iterable[Place]) -> dict[Place, StartupError]:
    """Which of these the kernel has connections at, all in one look; in a thread, where there is a loop."""
    places = set(unclear)
    try:
        ends = set(local_ends(*((port, port) for port in sorted({port for _, port in places}))))
    except OSError as error:
        return dict.fromkeys(places, Unclear(f"the kernel does not tell whether it has connections there: {error}"))
    why = Connected("the kernel still has connections there; wait until they have ended (ss -tan)")
    return dict.fromkeys(places & ends, why)


def _why_not(place: Place, error: OSError) -> StartupError:
    if error.errno == errno.EADDRNOTAVAIL:
        return Going("the interface has the address no longer")
    kind = InUse if error.errno == errno.EADDRINUSE else StartupError
    return kind(why_not_bound(error, place[1]))


def _bound(place: Place, index: int, beside_connections: bool = False) -> socket.socket:
    """A socket that keeps the place from others. OSError."""
    ip, port = place
    held = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, beside_connections)
        if ip.version == 6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((str(ip), port) if ip.version == 4 else (str(ip), port, 0, index if ip.is_link_local else 0))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # nobody is to listen beside us
    except BaseException:
        held.close()
        raise
    return held
