"""Connections that our stack opens to the kernel's TCP, by the socket level of usnet.h."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import pytest
from support.bulk import MEBIBYTE, digest, digest_of, stream, told
from support.churn import schedule
from support.host import Host, Socket
from support.link import FAMILIES, KERNELS, OUR_ADDRESSES, SECONDS, Link, kernel_answers, kernel_serves, reset
from support.privilege import needs_tap
from support.sizes import BULK_BYTES, CHURN_SECONDS, sized

pytestmark = needs_tap
T = TypeVar("T")
BULK = 8 * MEBIBYTE
ONE_BY_ONE = {"tx_segments_max": 1}
"""Options of a host that sends each segment in a packet of its own."""


@pytest.fixture
def host(link: Link) -> Iterator[Host]:
    with Host(*OUR_ADDRESSES) as host:
        yield host
        assert_understood(host)


def assert_understood(host: Host) -> None:
    """The kernel sent nothing that was malformed, and nothing that was not for us.

    A FIN of ours that was sent again (lost, or answered late) is acknowledged twice, and the first ends the connection.
    """
    wrong = ("malformed", "checksum", "bad_ack", "old_timestamp", "no_frame")
    counters = host.counters()
    counted = {name: count for name, count in counters.items() if count and name.startswith("drop_")}
    assert not [name for name in counted if name.endswith(wrong)], counted
    assert counted.get("drop_tcp_no_connection", 0) <= counters["tcp_retransmitted"], counted


def take(client: socket.socket) -> tuple[int, str]:
    return digest_of(lambda: client.recv(MEBIBYTE))


def give(client: socket.socket, length: int) -> None:
    for part in stream(length, MEBIBYTE):
        client.sendall(part)


def answer(client: socket.socket) -> None:
    """Everything back, after the end."""
    client.sendall(b"".join(iter(lambda: client.recv(MEBIBYTE), b"")))


@contextmanager
def served_by(host: Host, version: int, service: Callable[[socket.socket], T]) -> Iterator[tuple[Socket, Future[T]]]:
    """A connection to the kernel's end, and what that makes of it."""
    with kernel_serves(host, version, service) as (port, served), host.connect(KERNELS[version], port) as conn:
        yield conn, served


def exchange_bulk(host: Host, version: int, length: int) -> None:
    with told("give", length), served_by(host, version, take) as (conn, taken):
        for part in stream(length):
            conn.send(part)
        conn.shutdown()
    assert taken.result() == (length, digest(length))
    with told("take", length), served_by(host, version, lambda client: give(client, length)) as (conn, _):
        assert digest_of(conn.receive) == (length, digest(length))


def test_bulk(host: Host, version: int) -> None:
    exchange_bulk(host, version, BULK)


@sized
def test_bulk_with_losses(host: Host, link: Link, version: int) -> None:
    """Of packets of up to 64 KiB, whose segments are lost together."""
    with link.losses() as lost:
        while not lost():  # now and then none is: of packets so large there are few
            exchange_bulk(host, version, BULK_BYTES)


@sized
def test_bulk_with_losses_of_single_segments(link: Link, version: int) -> None:
    with Host(*OUR_ADDRESSES, **ONE_BY_ONE) as host:
        link.cut_segments()
        with link.losses():
            exchange_bulk(host, version, BULK_BYTES)


def test_bulk_over_a_link_with_every_fault(link: Link, version: int) -> None:
    faults = {"seed": 1, "loss": 10_000, "duplicate": 10_000, "corrupt": 5_000, "reorder": 20_000}
    with Host(*OUR_ADDRESSES, faults=faults, **ONE_BY_ONE) as host:
        exchange_bulk(host, version, BULK // 4)


def test_segments_are_as_large_as_the_link_allows(link: Link, host: Host, version: int) -> None:
    with served_by(host, version, answer) as (conn, _):
        assert conn.info().snd_mss == link.mtu - {4: 40, 6: 60}[version]  # headers of IP and TCP without options
        assert conn.info().agreed == 15  # window scaling, timestamps, SACK, ECN


def test_half_close_by_us(host: Host, version: int) -> None:
    data = os.urandom(300_000)
    with served_by(host, version, answer) as (conn, _):
        conn.send(data)
        conn.shutdown()
        assert conn.receive_all() == data


def test_half_close_by_the_kernel(host: Host, version: int) -> None:
    def end_first(client: socket.socket) -> bytes:
        client.sendall(b"that is all")
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))

    data = os.urandom(300_000)
    with served_by(host, version, end_first) as (conn, served):
        assert conn.receive_all() == b"that is all"
        conn.send(data)
    assert served.result() == data


def test_reset_by_us(host: Host, version: int) -> None:
    def wait_for_reset(client: socket.socket) -> type[BaseException]:
        with pytest.raises(ConnectionResetError) as raised:
            list(iter(lambda: client.recv(65536), b""))
        return raised.type

    with kernel_serves(host, version, wait_for_reset) as (port, served):
        conn = host.connect(KERNELS[version], port)
        conn.send(b"hello")
        conn.reset()
    assert served.result() is ConnectionResetError


def test_reset_by_the_kernel(host: Host, version: int) -> None:
    def reset_after_the_first_byte(client: socket.socket) -> None:
        client.recv(1)
        reset(client)

    with served_by(host, version, reset_after_the_first_byte) as (conn, _):
        conn.send(b"hello")
        with pytest.raises(ConnectionResetError):
            conn.receive()


def test_a_closed_port_refuses(host: Host, version: int) -> None:
    with socket.socket(FAMILIES[version]) as unused:
        unused.bind((KERNELS[version], 0))
        with pytest.raises(ConnectionRefusedError):
            host.connect(KERNELS[version], unused.getsockname()[1])


def test_a_kernel_that_does_not_read_for_a_while(host: Host, version: int) -> None:
    """Its window closes, is probed, and opens again."""
    length, may_read = 4 * MEBIBYTE, threading.Event()

    def hesitate(client: socket.socket) -> tuple[int, str]:
        assert may_read.wait(SECONDS)
        return take(client)

    data = b"".join(stream(length))
    with served_by(host, version, hesitate) as (conn, served):
        sent = 0
        while host.counters()["tcp_window_probes"] == 0:
            sent += conn.try_send(data[sent:])
            host.turn()
        may_read.set()
        conn.send(data[sent:])
        conn.shutdown()
    assert served.result() == (length, digest(length))


def test_we_do_not_read_for_a_while(host: Host, version: int) -> None:
    length = 4 * MEBIBYTE

    with served_by(host, version, lambda client: give(client, length)) as (conn, _):
        host.until("our window is closed", lambda: conn.info().rcv_wnd == 0)
        assert digest_of(conn.receive) == (length, digest(length))


@sized
def test_short_connections(host: Host, version: int) -> None:
    """We close first, and have them in TIME-WAIT, more than there is room for."""
    with kernel_answers(host, version) as port:
        for number in schedule(CHURN_SECONDS, host.live):
            with host.connect(KERNELS[version], port) as conn:
                conn.send(b"%060d" % number)
                assert conn.receive() == b"%060d" % number
