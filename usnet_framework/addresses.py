"""IP addresses: types for both families, the form in which C and the kernel have them, and those of no host."""

from __future__ import annotations

import ipaddress

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Ports = tuple[int, int]
"""The first and the last of a range."""

_IPV4_MAPPED = bytes(10) + b"\xff\xff"


def mapped(packed: bytes) -> bytes:
    """A packed address in 16 bytes: IPv4 as ::ffff:a.b.c.d."""
    return _IPV4_MAPPED + packed if len(packed) == 4 else packed


def unmapped(packed: bytes) -> bytes:
    """The same in the bytes of its own family."""
    return packed.removeprefix(_IPV4_MAPPED)


def no_host(address: IpInterface) -> str | None:
    """What an address stands for that no single host of its network has; None: a host may have it. Networks of two
    addresses have nothing but hosts (RFC 3021, RFC 6164)."""
    network = address.network
    if network.prefixlen >= network.max_prefixlen - 1:
        return None
    if address.ip == network.network_address:
        return "the address of the network itself" if address.version == 4 else "the anycast address of its routers"
    if address.version == 4 and address.ip == network.broadcast_address:
        return "the broadcast address of its network"
    return None
