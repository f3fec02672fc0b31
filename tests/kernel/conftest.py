"""Our stack against the kernel's TCP, over a TAP interface in a network namespace of each module's own; servers also by
AF_XDP over a veth pair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.backends import network_namespace
from support.link import Link, Lossy, Pair
from support.privilege import needs_tap, needs_xdp

MTUS = [1500, 9000]


@pytest.fixture(scope="module", params=MTUS, ids=[f"MTU {mtu}" for mtu in MTUS])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    with network_namespace():
        yield Link(request.param)


PLACES = [*(pytest.param(mtu, marks=needs_tap, id=f"MTU {mtu}") for mtu in MTUS),
          pytest.param(None, marks=needs_xdp, id="AF_XDP")]  # fmt: skip


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Lossy]:
    """Of a server."""
    with network_namespace():
        yield Link(request.param) if request.param else Pair()


@pytest.fixture(scope="module")
def ethernet() -> Iterator[Link]:
    """For what does not depend on the MTU."""
    with network_namespace():
        yield Link()


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)
