"""Ports for connections that a stack opens from an address that it shares with the kernel.

What comes back to them leaves the kernel like what comes to a served port, so the kernel must take none of them for
connections of its own: they are reserved (net.ipv4.ip_local_reserved_ports, which holds for IPv6 as well) for as long
as the server lives. The setting is a list of everybody's; our range is put into it and taken out again
(cardsettings.py), and others may come and go meanwhile. Servers change it one at a time (`alone`)."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from usnet_framework.addresses import IpAddress, Ports
from usnet_framework.errors import StartupError
from usnet_framework.shards.cgroup import listed, parse_list
from usnet_framework.shards.kernelsockets import local_ends

RESERVED = "proc/sys/net/ipv4/ip_local_reserved_ports"

LIST_BYTES_MAX = 1 << 20
"""Every second one of all ports takes less."""

TURN = "\0usnet-outgoing-ports"
"""An abstract name, of which each network namespace has its own, as of the list."""

PATIENCE_S = 2.0  # each has its turn for a few milliseconds
RETRY_S = 0.005


class _Turn:
    """No other server changes the list meanwhile. Whoever has the turn may ask for it again. OSError: EBUSY, for too
    long."""

    def __init__(self) -> None:
        self._thread = threading.RLock()
        self._depth = 0
        self._name: socket.socket | None = None

    def __enter__(self) -> None:
        self._thread.acquire()
        try:
            if self._depth == 0:
                self._name = _named()
        except BaseException:
            self._thread.release()
            raise
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._name is not None:
            self._name.close()
        self._thread.release()


alone = _Turn()


def _named() -> socket.socket:
    deadline_s = time.monotonic() + PATIENCE_S
    name = socket.socket(socket.AF_UNIX)
    while True:
        try:
            name.bind(TURN)
            return name
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                name.close()
                raise
        if time.monotonic() >= deadline_s:
            name.close()
            raise OSError(errno.EBUSY, f"a process has had the socket @{TURN[1:]} for {PATIENCE_S:g} s (ss -xap)")
        time.sleep(RETRY_S)


def name_of(ports: Ports) -> str:
    return f"{ports[0]}-{ports[1]}"


def ports_named(name: str) -> Ports:
    first, last = map(int, name.split("-"))
    return first, last


def reserved(root: Path = Path("/")) -> set[int]:
    """In one read: the kernel answers a second one of the same file with its end."""
    with (root / RESERVED).open("rb", buffering=0) as file:
        return set(parse_list((file.read(LIST_BYTES_MAX) or b"").decode("ascii")))


def is_reserved(ports: Ports, root: Path = Path("/")) -> bool:
    """All of them."""
    return set(_all(ports)) <= reserved(root)


def is_touched(ports: Ports, root: Path = Path("/")) -> bool:
    """Whether any of them is reserved: something is to be put back, be it that others have taken the rest out."""
    return not reserved(root).isdisjoint(_all(ports))


def reserve(ports: Ports, on: bool, root: Path = Path("/")) -> None:
    """Or let the kernel have them again, as many as there still are. OSError."""
    with alone:
        found = reserved(root)
        wanted = found | set(_all(ports)) if on else found - set(_all(ports))
        with (root / RESERVED).open("w", encoding="ascii") as file:
            file.write(f"{listed(wanted)}\n")


def check_free(ports: Ports, ours: Iterable[Ports] = (), root: Path = Path("/")) -> None:
    """StartupError: others have reserved some of them. `ours` are ranges that were reserved by a server before us, and
    are about to be free."""
    taken = reserved(root).intersection(_all(ports)) - {port for range_ in ours for port in _all(range_)}
    if taken:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: {listed(taken)} of them are reserved already "
            "(sysctl net.ipv4.ip_local_reserved_ports); use others"
        )


def check_unused(ports: Ports, addresses: Collection[IpAddress]) -> None:
    """StartupError: the kernel has sockets there, which would not hear of their peers any more."""
    used = {port for ip, port in local_ends(ports) if ip.is_unspecified or ip in addresses}
    if used:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: the kernel has connections at {listed(used)}; "
            "use others, or wait until they have ended (ss -tan)"
        )


def _all(ports: Ports) -> range:
    return range(ports[0], ports[1] + 1)
