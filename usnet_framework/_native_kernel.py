"""The table of what the kernel knows of a shared interface (native/include/usnet_kernel.h) as typed Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap

from usnet_framework._native import checked
from usnet_framework._usnet import ffi, lib
from usnet_framework.addresses import IpAddress, IpInterface, IpNetwork, mapped

ADDRESSES_MAX: int = lib.USNET_KERNEL_ADDRESSES_MAX
ROUTES_MAX: int = lib.USNET_KERNEL_ROUTES_MAX
NEIGHBOURS_MAX: int = lib.USNET_KERNEL_NEIGHBOURS_MAX


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a network, by our interface unless it leads `elsewhere`."""

    network: IpNetwork
    gateway: IpAddress | None = None
    """Of the same family; None: the network is on the link."""
    elsewhere: bool = False
    """Packets leave by another interface, or nowhere."""


def table_bytes() -> int:
    """How large the memory of a table is; zeros are an empty table."""
    return int(lib.usnet_kernel_table_bytes())


def write_table(
    memory: mmap, addresses: Sequence[IpInterface], routes: Sequence[Route], neighbours: Mapping[bytes, bytes]
) -> int:
    """Write all of it anew; routes with the best first; the MAC addresses of neighbours by their IP addresses, IPv4 in
    its mapped form. Returns how many had no room, the last of each kind."""
    stations = b"".join(ip + mac for ip, mac in neighbours.items())
    given = (
        ffi.new("struct usnet_kernel_address[]", [_address(address) for address in addresses]),
        len(addresses),
        ffi.new("struct usnet_kernel_route[]", [_route(route) for route in routes]),
        len(routes),
        ffi.from_buffer("struct usnet_kernel_neighbour[]", stations),
        len(neighbours),
    )
    with ffi.from_buffer("uint8_t[]", memory, require_writable=True) as bytes_:
        if len(bytes_) < table_bytes():
            raise ValueError(f"a table takes {table_bytes()} bytes, not {len(bytes_)}")
        return checked(lib.usnet_kernel_table_write(bytes_, *given))


def _address(address: IpInterface) -> dict[str, object]:
    return {"ip": mapped(address.ip.packed), "prefix": address.network.prefixlen}


def _route(route: Route) -> dict[str, object]:
    return {
        "network": mapped(route.network.network_address.packed),
        "gateway": bytes(16) if route.gateway is None else mapped(route.gateway.packed),
        "prefix": route.network.prefixlen,
        "elsewhere": route.elsewhere,
    }
