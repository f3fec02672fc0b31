"""What a server on a stack of our own is to serve: interface, addresses, listeners; checked against each other.

    --address 10.0.0.1/24    an address that the stack answers for; what lies in its prefix is on the link
    --gateway 10.0.0.254     the router to all the rest; without it peers have to be on the link
    --bind tcp://HOST:PORT   HOST one of these addresses, or 0.0.0.0 (IPv4), [::] or * (all of them)

Without --address the stack may share those of the interface with the kernel, which has routes of its own, and keeps
every port but those of --bind and --outgoing-ports.

Nothing is opened here."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from usnet_framework._native import StackAddresses
from usnet_framework._native_kernel import ADDRESSES_MAX as SHARED_MAX
from usnet_framework.addresses import IpAddress, IpInterface, Ports, no_host
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.listeners import Bind
from usnet_framework.shards.rtnetlink import NAME_BYTES_MAX
from usnet_framework.shards.tune import NOT_TUNED, Tuning

ADDRESSES_MAX = 15
"""UN_OWN_ADDRESSES_MAX of native/src/shard/options.h: the stack adds a link-local address."""


@dataclass(frozen=True)
class StackPlan:
    """`shown` is what listens, as users write it; `tuning` what is asked of the interface besides serving, `require`
    what must be in force (config.REQUIREMENTS), `poll` how an idle process waits. `shared`: the addresses are the
    interface's, as it had them when this was planned."""

    interface: str
    addresses: tuple[str, ...]
    engine: StackAddresses
    shown: tuple[str, ...]
    tuning: Tuning = NOT_TUNED
    require: frozenset[str] = frozenset()
    poll: str = "sleep"
    shared: bool = False
    outgoing: Ports | None = None

    @property
    def held(self) -> int:
        """How many sockets keep the ports of shared addresses (servedports.py), with all addresses that may come."""
        anys = ("::", "0.0.0.0")
        return sum(SHARED_MAX if host in anys else 1 for host, _ in self.engine.listeners) if self.shared else 0


def check_interface(interface: str) -> None:
    """UsageError: no interface has such a name."""
    well_formed = re.fullmatch(r"[^/:%\s]+", interface) and interface not in (".", "..")
    if not well_formed or len(os.fsencode(interface)) > NAME_BYTES_MAX:
        raise UsageError(
            f"--interface {interface}: not a name of an interface: up to {NAME_BYTES_MAX} bytes, no slash"
        )


def plan_stack(
    name: str,
    addresses: Sequence[str],
    gateways: Sequence[str],
    binds: Sequence[Bind],
    backend: str,
    of_interface: Callable[[str], Sequence[str]] | None = None,
    outgoing: Ports | None = None,
    check_name: Callable[[str], None] = check_interface,
) -> StackPlan:
    """For an interface of this name, or of another kind that `check_name` takes. UsageError when the parts do not fit
    together; `backend` is what was asked for. `of_interface`: finds the addresses that it can share; then also
    StartupError."""
    check_name(name)
    if of_interface is not None and not addresses:
        ours = _shared_addresses(name, gateways, of_interface)
    else:
        ours = _own_addresses(addresses, backend)
    shared = not addresses
    plan = StackPlan(name, tuple(map(str, ours)), StackAddresses(), (), shared=shared, outgoing=outgoing)
    listeners = tuple(_endpoint(bind, plan, plan.addresses) for bind in binds)
    for number, endpoint in enumerate(listeners):
        if endpoint in listeners[:number]:
            raise UsageError(f"--bind {binds[number].text}: is given twice")
    engine = StackAddresses(
        addresses=() if shared else tuple((str(address.ip), address.network.prefixlen) for address in ours),
        gateways=_gateways(gateways, ours),
        listeners=listeners,
    )
    return replace(plan, engine=engine, shown=tuple(_shown(*endpoint) for endpoint in listeners))


def plan_listener(
    bind: Bind, plan: StackPlan, addresses: Sequence[str], taken: Collection[tuple[str, int]]
) -> tuple[tuple[str, int], str]:
    """What one more bind is to listen on, of the addresses that there are now, beside what is `taken` already, and as
    it is shown. UsageError, StartupError."""
    endpoint = _endpoint(bind, plan, addresses)
    if endpoint in taken:
        raise StartupError(f"{bind.asked}: is listened on already; unbind it first, or use another port")
    return endpoint, _shown(*endpoint)


def _shown(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _shared_addresses(
    name: str, gateways: Sequence[str], of_interface: Callable[[str], Sequence[str]]
) -> list[IpInterface]:
    if gateways:
        raise UsageError(f"--gateway {gateways[0]}: goes with an --address; without one, the kernel's routes are taken")
    return [ipaddress.ip_interface(address) for address in of_interface(name)]


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
        if (why := _no_router(router, ours)) is not None:
            raise UsageError(f"--gateway {router}: is {why}; name the router's own")
    return tuple(map(str, routers))


def _is_on_link(router: IpAddress, ours: Sequence[IpInterface]) -> bool:
    """As the stack has it (route.c), so that what it would refuse is refused with a reason."""
    is_everywhere = router.version == 6 and router.is_link_local
    return is_everywhere or any(router in address.network for address in ours)


def _no_router(router: IpAddress, ours: Sequence[IpInterface]) -> str | None:
    """What else it is. The anycast address of all routers is one for those of IPv6."""
    networks = [own.network for own in ours if own.version == router.version == 4 and router in own.network]
    reasons = (no_host(ipaddress.ip_interface((router.packed, network.prefixlen))) for network in networks)
    return next(filter(None, reasons), None)


def _endpoint(bind: Bind, plan: StackPlan, addresses: Sequence[str]) -> tuple[str, int]:
    """UsageError; StartupError when it depends on what the interface has."""
    what = bind.asked
    if bind.kind == "fd":
        how = "give tcp://HOST:PORT, or --backend kernel"
        raise UsageError(f"{what}: is a socket of the kernel, which a stack of our own cannot serve; {how}")
    if bind.kind != "tcp":
        raise UsageError(f"{what}: a stack of our own serves TCP only; give tcp://HOST:PORT, or --backend kernel")
    if bind.port == 0:
        raise UsageError(f"{what}: a port has to be named")
    if plan.outgoing is not None and plan.outgoing[0] <= bind.port <= plan.outgoing[1]:
        first, last = plan.outgoing
        raise UsageError(f"{what}: the port is one of --outgoing-ports {first}-{last}; use another one")
    host = bind.host or "::"
    owns = [ipaddress.ip_interface(address) for address in addresses]
    ours = [own.ip for own in owns]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not (address.is_unspecified or address in ours):
        listed = ", ".join(map(str, ours)) or "none"
        if plan.shared:
            raise StartupError(
                f"{what}: address not on the interface: {plan.interface} has {listed}; name one, or [::] for all"
            )
        raise UsageError(f"{what}: {host} is none of our addresses, which are {listed}; name one, or [::] for all")
    if not address.is_unspecified and (why := no_host(owns[ours.index(address)])) is not None:
        raise StartupError(f"{what}: {host} is {why}; name the address of a host, or [::] for all")
    return str(address), bind.port
