"""Ports for connections that a stack opens from an address that it shares with the kernel.

What comes back to them leaves the kernel like what comes to a served port, so the kernel must take none of them for
connections of its own: they are reserved (net.ipv4.ip_local_reserved_ports, which holds for IPv6 as well) for as long
as the server lives. The setting is a list of everybody's; our range is put into it and taken out again
(cardsettings.py), and others may come and go meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from usnet_framework._native_kernel import IpAddress
from usnet_framework.errors import StartupError
from usnet_framework.shards.cgroup import listed, parse_list
from usnet_framework.shards.kernelsockets import local_ends

RESERVED = "proc/sys/net/ipv4/ip_local_reserved_ports"

LIST_BYTES_MAX = 1 << 20
"""Every second one of all ports takes less."""

Ports = tuple[int, int]
"""The first and the last."""


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
    return set(_all(ports)) <= reserved(root)


def reserve(ports: Ports, on: bool, root: Path = Path("/")) -> None:
    """Or let the kernel have them again. OSError."""
    found = reserved(root)
    wanted = found | set(_all(ports)) if on else found - set(_all(ports))
    with (root / RESERVED).open("w", encoding="ascii") as file:
        file.write(f"{listed(wanted)}\n")


def check_free(
    ports: Ports, addresses: Collection[IpAddress], ours: Iterable[Ports] = (), root: Path = Path("/")
) -> None:
    """StartupError: others have reserved some of them, or the kernel has connections from these addresses there. `ours`
    are ranges that were reserved by a server before us, and are about to be free."""
    asked = f"--outgoing-ports {name_of(ports)}"
    taken = reserved(root).intersection(_all(ports)) - {port for range_ in ours for port in _all(range_)}
    if taken:
        raise StartupError(
            f"{asked}: {listed(taken)} of them are reserved already (sysctl net.ipv4.ip_local_reserved_ports); "
            "use others"
        )
    check_unused(ports, addresses, root)


def check_unused(ports: Ports, addresses: Collection[IpAddress], root: Path = Path("/")) -> None:
    """StartupError: the kernel has sockets there, which would not hear of their peers any more."""
    used = {port for ip, port in local_ends(root) if port in _all(ports) and (ip.is_unspecified or ip in addresses)}
    if used:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: the kernel has connections at {listed(used)}; "
            "use others, or wait until they have ended (ss -tan)"
        )


def _all(ports: Ports) -> range:
    return range(ports[0], ports[1] + 1)
