"""Our stack against the kernel's TCP, over a TAP interface in a network namespace of each module's own; servers also by
AF_XDP over a veth pair, and on the kernel's own sockets, which show what is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.backends import network_namespace
from support.link import Link, Loopback, Lossy, Pair
from support.privilege import needs_network_namespaces, needs_tap, needs_xdp

MTUS = [1500, 9000]


@pytest.fixture(scope="module", params=MTUS, ids=[f"MTU {mtu}" for mtu in MTUS])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    with network_namespace():
        yield Link(request.param)


PLACES = [
    pytest.param((kind, mtu), marks=mark, id=f"{name}, MTU {mtu}")
    for kind, name, mark, mtus in (
        (Loopback, "kernel", needs_network_namespaces, MTUS[:1]),
        (Link, "tap", needs_tap, MTUS),
        (Pair, "afxdp", needs_xdp, MTUS),
    )
    for mtu in mtus
]


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Lossy]:
    """Of a server."""
    kind, mtu = request.param
    with network_namespace():
        yield kind(mtu)


@pytest.fixture(scope="module")
def ethernet() -> Iterator[Link]:
    """For what does not depend on the MTU."""
    with network_namespace():
        yield Link()


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)
