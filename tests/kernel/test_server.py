"""usnet-serve on a TAP interface, a veth pair or the kernel's sockets, and the kernel's TCP as its client. What a
client notices of single calls is in tests/sockets, which runs there too."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from support import bulk
from support.bulk import MEBIBYTE
from support.churn import churn
from support.link import FAMILIES, OURS, SECONDS, Lossy, connect, kernel_counters, reset, reuse_ports
from support.server import Server
from support.sizes import BULK_BYTES, CHURN_SECONDS, sized

KERNELS_NAMES = {"window_probes": "TCPWinProbe", "timeouts": "RetransSegs"}


@pytest.fixture(scope="module")
def server(place: Lossy) -> Iterator[Server]:
    with Server("support.bulk:Bulk", "--app-dir", "tests", "--queues", "1", backend=place) as server:
        yield server


def both_ways(server: Server, version: int, length: int) -> None:
    for exchange in (bulk.take_from, bulk.give_to):
        with bulk.told(exchange.__name__, length), connect(version, server.address[1]) as client:
            exchange(client, length)


def test_bulk(server: Server, version: int) -> None:
    both_ways(server, version, 16 * MEBIBYTE)


@sized
def test_bulk_with_losses(server: Server, place: Lossy, version: int) -> None:
    """Of packets of up to 64 KiB, whose segments are lost together."""
    with place.losses() as lost:
        while not lost():  # now and then none is: of packets so large there are few
            both_ways(server, version, BULK_BYTES)


@sized
def test_bulk_with_losses_of_single_segments(server: Server, place: Lossy, version: int) -> None:
    place.cut_segments()
    before = kernel_counters()["RetransSegs"]
    with place.losses():
        both_ways(server, version, BULK_BYTES)
    assert kernel_counters()["RetransSegs"] - before > BULK_BYTES / place.mtu / 300  # what it sends is lost as well


def counted(server: Server, name: str) -> float:
    """By the stack that the server has, which may be the kernel's."""
    ours = server.metrics().get(f"usnet_tcp_{name}_total")
    return kernel_counters()[KERNELS_NAMES[name]] if ours is None else ours


def test_a_reader_that_waits_gets_everything_later(server: Server, version: int) -> None:
    length, before = 4 * MEBIBYTE, counted(server, "window_probes")
    with connect(version, server.address[1]) as client:
        client.sendall(b"give %d\n" % length)
        server.wait("we probe its window", lambda: counted(server, "window_probes") > before + 1)
        assert bulk.digest_of(lambda: client.recv(MEBIBYTE)) == (length, bulk.digest(length))


def test_a_reader_that_takes_its_window_back_gets_everything_later(server: Server, place: Lossy, version: int) -> None:
    def attempts() -> float:
        """It depends on the kernel's buffer whether what did not fit is sent again, or there is nothing but a probe."""
        return counted(server, "timeouts") + counted(server, "window_probes")

    length, before = 4 * MEBIBYTE, attempts()
    with connect(version, server.address[1]) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * place.mtu)
        client.sendall(b"give %d\n" % length)
        server.wait("we try again and again", lambda: attempts() > before + 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEBIBYTE)
        assert bulk.digest_of(lambda: client.recv(MEBIBYTE)) == (length, bulk.digest(length))


def test_a_port_that_is_used_again_at_once(server: Server, version: int) -> None:
    """The server closes first: it has the connection in TIME-WAIT when the next one comes from the same port."""
    port = 0
    for _ in range(50):
        with socket.socket(FAMILIES[version]) as client:
            client.settimeout(SECONDS)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("", port))
            server.wait("the port is free", lambda client=client: is_connected(client, version, server.address[1]))
            port = client.getsockname()[1]
            bulk.take_from(client, 1000)


def is_connected(client: socket.socket, version: int, port: int) -> bool:
    """Not while the kernel waits for the last acknowledgment of the connection before."""
    try:
        client.connect((OURS[version], port))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return False
    return True


def test_resets_in_the_middle_of_a_download(server: Server, version: int) -> None:
    for length in (0, 1, 100_000):
        with connect(version, server.address[1]) as client:
            client.sendall(b"give %d\n" % MEBIBYTE)
            for _ in range(length // 1000):
                client.recv(1000)
            reset(client)
    server.wait("connections are gone", lambda: server.ask("conns") == [])


@sized
@pytest.mark.parametrize("first", ["we", "the kernel"])
def test_short_connections(server: Server, version: int, first: str) -> None:
    """Whoever closes first is the one in TIME-WAIT."""
    reuse_ports()
    content = bytes(next(bulk.stream(1000)))

    def one(number: int) -> None:
        with connect(version, server.address[1]) as client:
            client.sendall(b"give %d\n" % len(content))
            if first == "the kernel":
                client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(4096), b"")) == content

    churn(one, CHURN_SECONDS)
    server.wait("connections are gone", lambda: server.ask("conns") == [])
