"""Our connections as somebody else's analyser sees them: tshark's expert finds no error in what we send, and no warning
that does not have its reason in what the test does."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bulk
from support.backends import network_namespace
from support.bulk import MEBIBYTE
from support.capture import ERROR, Capture
from support.echo import ping
from support.host import Host
from support.link import (
    INTERFACE,
    KERNELS,
    OUR_ADDRESSES,
    OURS,
    Link,
    connect,
    ip,
    kernel_serves,
    reset,
    station,
)
from support.privilege import needs_tap
from support.server import Server

pytestmark = needs_tap

HARMLESS = {
    "TCP window specified by the receiver is now completely full",  # we send faster than the peer reads
    "TCP Zero Window segment",  # the peer sends faster than the application reads
    "D-SACK Sequence",  # the receiver had it already (RFC 2883): on a slow machine an answer may come after a probe
}
"""Warnings about speed; RFC 9293 has windows for it."""

SOON = "This frame is a (suspected) out-of-order segment"
"""So tshark calls what is sent again within a round trip or 3 ms of later segments, though it has seen it before."""

RESET = "Connection reset (RST)"


@pytest.fixture(scope="module")
def server(ethernet: Link) -> Iterator[Server]:
    with Server("support.bulk:Bulk", "--app-dir", "tests", "--queues", "1", backend=ethernet) as server:
        yield server


@pytest.fixture
def capture(ethernet: Link, tmp_path: Path) -> Capture:
    return Capture(INTERFACE, tmp_path / "link.pcap")


def assert_faultless(capture: Capture, *expected: str) -> None:
    """No error at all, and of what we sent no warning but HARMLESS ones and these."""
    remarks = capture.remarks()
    print(Counter(remark.text for remark in remarks))
    assert not [remark for remark in remarks if remark.severity >= ERROR]
    judged = HARMLESS.union(expected)
    assert not [remark for remark in remarks if remark.source != station() and remark.text not in judged]


def exchange(version: int, port: int, length: int = MEBIBYTE) -> None:
    with connect(version, port) as client:
        bulk.take_from(client, length)
    with connect(version, port) as client:
        bulk.give_to(client, length)


def test_a_server_on_a_clean_link(server: Server, capture: Capture, version: int) -> None:
    with capture:
        ip("neighbour", "flush", "dev", INTERFACE)
        exchange(version, server.address[1])
        with connect(version, server.address[1]) as client:  # the peer ends first
            client.sendall(b"give 1000\n")
            client.shutdown(socket.SHUT_WR)
            assert bulk.digest_of(lambda: client.recv(4096)) == (1000, bulk.digest(1000))
        connect(version, server.address[1]).close()
        for size in (0, 1001, 4000):
            ping(OURS[version], size)
        server.wait("connections are gone", lambda: server.ask("conns") == [])
    assert capture.packets("tcp") > 100
    assert_faultless(capture)


def test_a_server_and_a_reader_that_waits(server: Server, capture: Capture, version: int) -> None:
    before = server.metrics()["usnet_tcp_window_probes_total"]
    with capture, connect(version, server.address[1]) as client:
        client.sendall(b"give %d\n" % MEBIBYTE)
        server.wait("we probe its window", lambda: server.metrics()["usnet_tcp_window_probes_total"] > before)
        assert bulk.digest_of(lambda: client.recv(MEBIBYTE)) == (MEBIBYTE, bulk.digest(MEBIBYTE))
    assert capture.packets("tcp.analysis.zero_window_probe")
    assert_faultless(capture)


def test_a_server_that_refuses_and_a_peer_that_resets(server: Server, capture: Capture, version: int) -> None:
    with capture:
        with pytest.raises(ConnectionRefusedError):
            connect(version, server.address[1] + 1)
        client = connect(version, server.address[1])
        client.sendall(b"give %d\n" % MEBIBYTE)
        client.recv(1000)
        reset(client)
        server.wait("it is gone", lambda: server.ask("conns") == [])
    assert capture.packets("tcp.flags.reset == 1") >= 2
    assert_faultless(capture, RESET)


def test_a_server_on_a_link_that_loses(server: Server, ethernet: Link, capture: Capture, version: int) -> None:
    """Of packets of up to 64 KiB, so that a tenth of them has to be lost for some to be, most times."""
    with capture, ethernet.losses(per_mille=100) as lost:
        while not lost():
            exchange(version, server.address[1], 2 * MEBIBYTE)
    assert_faultless(capture, SOON)


@pytest.fixture
def alone() -> Iterator[Link]:
    """A link without the server."""
    with network_namespace():
        yield Link()


def see_a_reset(client: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_client(alone: Link, tmp_path: Path, version: int) -> None:
    capture = Capture(INTERFACE, tmp_path / "link.pcap")

    def serve(client: socket.socket) -> int:
        length = len(b"".join(iter(lambda: client.recv(MEBIBYTE), b"")))
        client.sendall(bytes(length))
        return length

    with capture, Host(*OUR_ADDRESSES) as host:
        with kernel_serves(host, version, serve) as (port, served), host.connect(KERNELS[version], port) as conn:
            conn.send(bytes(MEBIBYTE))
            conn.shutdown()
            assert len(conn.receive_all()) == MEBIBYTE
        assert served.result() == MEBIBYTE
        with kernel_serves(host, version, see_a_reset) as (port, _):
            host.connect(KERNELS[version], port).reset()
    assert_faultless(capture, RESET)
