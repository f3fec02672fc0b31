"""A server with a stack of our own whose clients sit behind a router, on a path that takes less than the link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import bulk
from support.away import Away
from support.backends import inside
from support.everywhere import AFXDP, TAP
from support.link import connect, ip
from support.server import Serve

BULK = ("support.bulk:Bulk", "--app-dir", "tests", "--queues", "1", "--gateway", "10.77.0.2", "--gateway", "fd77::2")


@contextmanager
def behind_a_router(mtu: int) -> Iterator[None]:
    """This thread. The router, which is where it was, sends it packets of at most so many bytes."""
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
    with Away() as away:
        ip("link", "add", "near0", "mtu", str(mtu), "type", "veth", "peer", "name", "far0", "netns", str(away.pid))
        ip("address", "add", "192.0.2.1/24", "dev", "near0")
        ip("address", "add", "fd78::1/64", "dev", "near0", "nodad")
        ip("link", "set", "near0", "up")
        away.run("ip", "address", "add", "192.0.2.2/24", "dev", "far0")
        away.run("ip", "address", "add", "fd78::2/64", "dev", "far0", "nodad")
        away.run("ip", "link", "set", "far0", "up")
        away.run("ip", "route", "add", "default", "via", "192.0.2.1")
        away.run("ip", "route", "add", "default", "via", "fd78::1")
        there = os.open(f"/proc/{away.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with inside(there):
                yield
        finally:
            os.close(there)
            ip("link", "delete", "near0")


@pytest.mark.parametrize("backend", [TAP, AFXDP], indirect=True, scope="module")
@pytest.mark.parametrize("version", [4, 6])
def test_packets_become_as_small_as_the_path_wants_them(serve: Serve, version: int) -> None:
    with serve(*BULK) as server:
        with behind_a_router(1280), connect(version, server.address[1]) as client:
            bulk.take_from(client, 300_000)
        assert server.metrics()["usnet_tcp_path_mtu_lowered_total"] > 0
