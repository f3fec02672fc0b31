"""Requests of the supervisor to an engine, as they come over its control socket: LISTEN and UNLISTEN, and what makes no
sense, which costs neither the engine nor a descriptor."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_engine import config
from support.limits import no_descriptor_left

from usnet_framework import Connection, Handler
from usnet_framework._dispatch import Engine, Port
from usnet_framework.shards.enginewords import MESSAGE, Kind
from usnet_framework.shards.listeners import LISTENERS_MAX
from usnet_framework.shards.segment import EngineOptions, Segment

OPTIONS = EngineOptions(numbers={"connection_limit": 100, "linger_ns": 10**9})
TURNS = 1000  # far more than anything here takes


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


@dataclass
class Bench:
    """An engine with one listener, number 0, and the supervisor's end of its control socket."""

    engine: Engine
    port: Port
    control: socket.socket
    first: tuple[str, int]

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.control, [packet], fds)
        self.turn()

    def turn(self) -> None:
        self.engine.turn(0)
        self.port.run()

    def ask(self, kind: Kind, number: int, fds: Sequence[int] = ()) -> int:
        """The errno that it was confirmed with."""
        self.send(MESSAGE.pack(kind, number, 7, 0, 0, 0), fds)
        said, confirmed, serial, _, error, _ = MESSAGE.unpack(self.control.recv(MESSAGE.size))
        assert (said, confirmed, serial) == (kind, number, 7)
        return int(error)

    def is_served(self, address: tuple[str, int]) -> bool:
        with socket.create_connection(address, 10) as client:
            return self.is_echoed(client)

    def is_echoed(self, client: socket.socket) -> bool:
        client.sendall(b"hello")
        client.setblocking(False)
        for _ in range(TURNS):
            self.turn()
            try:
                return client.recv(5) == b"hello"
            except BlockingIOError:
                continue
        return False


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as opened:
        yield open_bench(opened)


def open_bench(opened: ExitStack) -> Bench:
    segment = Segment.create(config(rx_frame_bytes=16384), OPTIONS)
    opened.callback(segment.close)
    first = opened.enter_context(listening())
    control, theirs = (opened.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    control.setblocking(False)
    engine = Engine(segment.public_fd, segment.port_fds[0], [first.fileno()], True, control_fd=theirs.fileno())
    opened.callback(engine.close)
    port = Port(engine=engine, handler=Echo(), resumes=True)
    opened.callback(port.close)
    return Bench(engine, port, control, first.getsockname())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_listener_comes_and_goes(bench: Bench) -> None:
    before = descriptors()
    with listening() as listener:
        assert bench.ask(Kind.LISTEN, 1, [listener.fileno()]) == 0
        address = listener.getsockname()
    assert bench.is_served(address)  # the engine has a descriptor of its own
    assert descriptors() > before
    assert bench.ask(Kind.UNLISTEN, 1) == 0
    assert descriptors() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)
    assert bench.is_served(bench.first)


def test_connections_that_wait_are_accepted_before_it_goes(bench: Bench) -> None:
    with listening() as listener:
        bench.ask(Kind.LISTEN, 1, [listener.fileno()])
        with socket.create_connection(listener.getsockname(), 10) as client:
            bench.control.send(MESSAGE.pack(Kind.UNLISTEN, 1, 0, 0, 0, 0))
            bench.turn()
            listener.close()
            assert bench.is_echoed(client)


def test_requests_may_be_repeated(bench: Bench) -> None:
    with listening() as listener:
        assert bench.ask(Kind.LISTEN, 1, [listener.fileno()]) == 0
        before = descriptors()
        assert bench.ask(Kind.LISTEN, 1, [listener.fileno()]) == 0
        assert descriptors() == before
        assert bench.ask(Kind.UNLISTEN, 1) == 0
        assert bench.ask(Kind.UNLISTEN, 1) == 0
        assert descriptors() == before - 1


@pytest.mark.parametrize(
    ("number", "which", "error"),
    [
        (1, "", errno.EBADF),
        (1, "listening listening", errno.EINVAL),
        (LISTENERS_MAX, "listening", errno.ERANGE),
        (2**32 - 1, "listening", errno.ERANGE),
        (0, "listening", errno.EEXIST),
        (1, "connected", errno.EINVAL),
        (1, "null", errno.EINVAL),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, number: int, which: str, error: int) -> None:
    with ExitStack() as opened:
        ends = [opened.enter_context(end) for end in socket.socketpair()]
        null = opened.enter_context(open("/dev/null"))
        things = {"listening": opened.enter_context(listening()), "connected": ends[0], "null": null}
        before = descriptors()
        assert bench.ask(Kind.LISTEN, number, [things[name].fileno() for name in which.split()]) == error
        assert descriptors() == before
    assert bench.is_served(bench.first)


def test_without_a_free_descriptor_it_says_so(bench: Bench) -> None:
    with listening() as listener:
        with no_descriptor_left():
            assert bench.ask(Kind.LISTEN, 1, [listener.fileno()]) == errno.EMFILE
        assert bench.ask(Kind.LISTEN, 1, [listener.fileno()]) == 0


def test_a_number_that_cannot_be_does_not_go(bench: Bench) -> None:
    assert bench.ask(Kind.UNLISTEN, LISTENERS_MAX) == errno.ERANGE
    assert bench.is_served(bench.first)


@pytest.mark.parametrize("length", [1, MESSAGE.size - 1, MESSAGE.size + 1])
def test_descriptors_of_what_is_no_request_are_closed(bench: Bench, length: int) -> None:
    with listening() as listener:
        before = descriptors()
        bench.send(MESSAGE.pack(Kind.LISTEN, 1, 0, 0, 0, 0).ljust(length, b"\0")[:length], [listener.fileno()])
        assert descriptors() == before
    assert bench.is_served(bench.first)


def test_a_descriptor_that_nobody_asked_for_is_closed(bench: Bench) -> None:
    with listening() as listener:
        before = descriptors()
        assert bench.ask(Kind.UNLISTEN, 5, [listener.fileno()]) == 0
        assert descriptors() == before


LISTENING = st.tuples(
    st.sampled_from([Kind.LISTEN, Kind.UNLISTEN]), st.integers(1, LISTENERS_MAX + 2), st.integers(0, 3)
)


@settings(max_examples=50, deadline=None)
@given(st.lists(LISTENING, max_size=40))
def test_any_requests_leave_the_engine_and_no_descriptor(requests: list[tuple[Kind, int, int]]) -> None:
    with ExitStack() as opened:
        bench = open_bench(opened)
        fds = [opened.enter_context(listening()).fileno() for _ in range(3)]
        before = descriptors()
        for kind, number, count in requests:
            bench.ask(kind, number, fds[:count])
        for number in range(1, LISTENERS_MAX):
            assert bench.ask(Kind.UNLISTEN, number) == 0
        assert descriptors() == before
        assert bench.is_served(bench.first)
