"""Below TCP: the kernel resolves our addresses and pings us, and we resolve the kernel's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.echo import ping
from support.host import Host
from support.link import INTERFACE, KERNELS, OUR_ADDRESSES, OURS, Link, ip, kernel_serves, neighbours
from support.privilege import needs_tap
from support.server import Server

pytestmark = needs_tap


@pytest.fixture(scope="module")
def server(ethernet: Link) -> Iterator[Server]:
    with Server("examples.echo:Echo", "--queues", "1", backend=ethernet) as server:
        yield server


@pytest.mark.parametrize("size", [0, 1, 1000, 1452])
def test_pings_are_answered(server: Server, version: int, size: int) -> None:
    ping(OURS[version], size=size)


def test_a_ping_in_fragments_is_answered(server: Server, version: int) -> None:
    before = server.metrics()["usnet_ip_reassembled_total"]
    ping(OURS[version], size=4000)
    assert server.metrics()["usnet_ip_reassembled_total"] > before


def test_the_kernel_resolves_our_addresses_anew(server: Server, version: int) -> None:
    ip("neighbour", "flush", "dev", INTERFACE)
    ping(OURS[version])
    station = neighbours()[OURS[version]]
    assert int(station[:2], 16) & 3 == 2  # locally administered, one station
    ip("neighbour", "flush", "dev", INTERFACE)
    ping(OURS[version])
    assert neighbours()[OURS[version]] == station


def test_the_kernel_probes_that_we_are_still_there(server: Server, version: int) -> None:
    """It asks us alone instead of everybody."""
    ping(OURS[version])
    ip("neighbour", "change", OURS[version], "dev", INTERFACE, "nud", "probe")
    server.wait("the answer came", lambda: "REACHABLE" in ip("neighbour", "show", OURS[version], "dev", INTERFACE))


def test_an_address_that_nobody_has_is_not_answered_for(server: Server, version: int) -> None:
    nobody = {4: "10.77.0.3", 6: "fd77::3"}[version]
    with pytest.raises((AssertionError, OSError)):
        ping(nobody, seconds=1)
    assert nobody not in neighbours()
