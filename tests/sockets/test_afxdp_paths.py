"""A server on AF_XDP whose clients sit behind a router, on a path that takes less than the link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import bulk
from support.away import Away
from support.backends import Afxdp
from support.link import connect, ip
from support.privilege import needs_xdp
from support.server import Server

pytestmark = needs_xdp
BULK = ("support.bulk:Bulk", "--app-dir", "tests", "--queues", "1", "--gateway", "10.77.0.2", "--gateway", "fd77::2")
FORWARD = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"


@contextmanager
def behind_a_router(interface: Afxdp, mtu: int) -> Iterator[None]:
    """From here on towards us, packets have at most so many bytes."""
    interface.connect("1")
    with Away() as router:
        ip("link", "add", "near0", "type", "veth", "peer", "name", "far0")
        for end in (interface.peer, "far0"):
            ip("link", "set", end, "netns", str(router.pid))
        for name, ipv4, ipv6 in (
            (interface.peer, "10.77.0.2/24", "fd77::2/64"),
            ("far0", "192.0.2.1/24", "fd78::1/64"),
        ):
            router.run("ip", "link", "set", name, "up")
            router.run("ip", "address", "add", ipv4, "dev", name)
            router.run("ip", "address", "add", ipv6, "dev", name, "nodad")
        router.run("ip", "link", "set", "far0", "mtu", str(mtu))
        router.run("sh", "-c", FORWARD)
        ip("link", "set", "near0", "up")
        ip("address", "add", "192.0.2.2/24", "dev", "near0")
        ip("address", "add", "fd78::2/64", "dev", "near0", "nodad")
        ip("route", "add", "10.77.0.0/24", "via", "192.0.2.1")
        ip("route", "add", "fd77::/64", "via", "fd78::1")
        yield


@pytest.mark.parametrize("version", [4, 6])
def test_packets_become_as_small_as_the_path_wants_them(interface: Afxdp, version: int) -> None:
    with behind_a_router(interface, 1280), Server(*BULK, backend=interface) as server:
        with connect(version, server.address[1]) as client:
            bulk.take_from(client, 300_000)
        assert server.metrics()["usnet_tcp_path_mtu_lowered_total"] > 0
