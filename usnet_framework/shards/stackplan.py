"""What a server on a stack of our own is to serve: interface, addresses, listeners; checked against each other.

    --address 10.0.0.1/24    an address that the stack answers for; what lies in its prefix is on the link
    --gateway 10.0.0.254     the router to all the rest; without it peers have to be on the link
    --bind tcp://HOST:PORT   HOST one of these addresses, or 0.0.0.0 (IPv4), [::] or * (all of them)

Pure: nothing is opened here."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from usnet_framework._native import StackAddresses
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.listeners import Bind
from usnet_framework.shards.tune import NOT_TUNED, Tuning

INTERFACE_BYTES_MAX = 15  # IFNAMSIZ - 1

ADDRESSES_MAX = 15
"""UN_OWN_ADDRESSES_MAX of native/src/shard/options.h: the stack adds a link-local address."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class StackPlan:
    """`shown` is what listens, as users write it; `tuning` what is asked of the interface besides serving, `require`
    what must be in force (config.REQUIREMENTS), `poll` how an idle process waits."""

    interface: str
    addresses: tuple[str, ...]
    engine: StackAddresses
    shown: tuple[str, ...]
    tuning: Tuning = NOT_TUNED
    require: frozenset[str] = frozenset()
    poll: str = "sleep"


def plan_stack(
    name: str, addresses: Sequence[str], gateways: Sequence[str], binds: Sequence[Bind], backend: str
) -> StackPlan:
    """For an interface of this name. UsageError when the parts do not fit together; `backend` is what was asked
    for."""
    well_formed = re.fullmatch(r"[^/:%\s]+", name) and name not in (".", "..")
    if not well_formed or len(os.fsencode(name)) > INTERFACE_BYTES_MAX:
        raise UsageError(
            f"--interface {name}: not a name of an interface: up to {INTERFACE_BYTES_MAX} bytes, no slash"
        )
    ours = _own_addresses(addresses, backend)
    listeners = tuple(_endpoint(bind, ours) for bind in binds)
    for number, endpoint in enumerate(listeners):
        if endpoint in listeners[:number]:
            raise UsageError(f"--bind {binds[number].text}: is given twice")
    return StackPlan(
        interface=name,
        addresses=tuple(map(str, ours)),
        engine=StackAddresses(
            addresses=tuple((str(address.ip), address.network.prefixlen) for address in ours),
            gateways=_gateways(gateways, ours),
            listeners=listeners,
        ),
        shown=tuple(_shown(*endpoint) for endpoint in listeners),
    )


def plan_listener(
    bind: Bind, addresses: Sequence[str], taken: Collection[tuple[str, int]]
) -> tuple[tuple[str, int], str]:
    """What one more bind is to listen on, beside what is `taken` already, and as it is shown. StartupError."""
    endpoint = _endpoint(bind, [ipaddress.ip_interface(address) for address in addresses])
    if endpoint in taken:
        raise StartupError(f"{bind.asked}: is listened on already; unbind it first, or use another port")
    return endpoint, _shown(*endpoint)


def _shown(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _own_addresses(addresses: Sequence[str], backend: str) -> list[IpInterface]:
    if not addresses:
        raise UsageError(
            f"--backend {backend}: no --address is given; name the address to serve and its prefix, like 10.0.0.1/24"
        )
    if len(addresses) > ADDRESSES_MAX:
        raise UsageError(f"--address: {len(addresses)} are given; at most {ADDRESSES_MAX} are possible")
    ours = [ipaddress.ip_interface(address) for address in addresses]
    for number, address in enumerate(ours):
        if address.ip in [other.ip for other in ours[:number]]:
            raise UsageError(f"--address {addresses[number]}: is given twice")
    return ours


def _gateways(gateways: Sequence[str], ours: Sequence[IpInterface]) -> tuple[str, ...]:
    routers = [ipaddress.ip_address(gateway) for gateway in gateways]
    for number, router in enumerate(routers):
        if router.version in [other.version for other in routers[:number]]:
            raise UsageError(f"--gateway {router}: there is one for IPv{router.version} already")
        if router in [address.ip for address in ours]:
            raise UsageError(f"--gateway {router}: is an --address of our own; name the router's")
        if not _is_on_link(router, ours):
            raise UsageError(f"--gateway {router}: is not on the link; it has to lie in the prefix of an --address")
    return tuple(map(str, routers))


def _is_on_link(router: IpAddress, ours: Sequence[IpInterface]) -> bool:
    """As the stack has it (route.c), so that what it would refuse is refused with a reason."""
    is_everywhere = router.version == 6 and router.is_link_local
    return is_everywhere or any(router in address.network for address in ours)


def _endpoint(bind: Bind, ours: Sequence[IpInterface]) -> tuple[str, int]:
    what = bind.asked
    if bind.kind != "tcp":
        raise UsageError(f"{what}: a stack of our own serves TCP only; give tcp://HOST:PORT, or --backend kernel")
    if bind.port == 0:
        raise UsageError(f"{what}: a port has to be named")
    host = bind.host or "::"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not (address.is_unspecified or address in [one.ip for one in ours]):
        listed = ", ".join(str(one.ip) for one in ours)
        raise UsageError(f"{what}: {host} is none of our addresses, which are {listed}; name one, or [::] for all")
    return str(address), bind.port
