"""A child that a fork makes has nothing of its parent's port and engine but what was received."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator

import pytest
from support.fake_engine import FakeEngine, config
from support.recorder import Recorder
from support.server import wait

from usnet_framework import Connection, Handler
from usnet_framework._dispatch import Engine, Port
from usnet_framework.errors import WorkerForked
from usnet_framework.shards.loop import WorkerLoop
from usnet_framework.shards.segment import EngineOptions, Segment


def threads() -> int:
    """Of this process; those that are just ending have left Python's own list already."""
    return len(os.listdir("/proc/self/task"))


THREADS = threads()


@pytest.fixture(autouse=True)
def no_thread_is_ending() -> None:
    """A thread that ends holds locks of AddressSanitizer's, for ever in a child that a fork makes meanwhile."""
    wait("the threads of earlier tests have ended", lambda: threads() <= THREADS)


def in_child(check: Callable[[], object]) -> None:
    """Fork; `check` raises nothing in the child."""
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def refused(use: Callable[[], object]) -> bool:
    try:
        use()
    except WorkerForked:
        return True
    return False


class Hoarder(Recorder):
    """Keeps what it was given, and calls `inside` from within on_data."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[memoryview] = []
        self.inside: Callable[[], object] = lambda: None

    def on_data(self, conn: Connection, data: memoryview) -> None:
        super().on_data(conn, data)
        self.views.append(data)
        self.inside()


@pytest.fixture
def handler() -> Hoarder:
    return Hoarder()


@pytest.fixture
def port(engine: FakeEngine, handler: Hoarder) -> Iterator[Port]:
    port = engine.port(handler)
    yield port
    handler.views.clear()
    port.close()


@pytest.fixture
def conn(engine: FakeEngine, handler: Hoarder, port: Port) -> Connection:
    number = engine.connect()
    engine.data(number, b"received")
    port.run()
    return handler.conns[number]


def set_state(conn: Connection) -> None:
    conn.state = b"x"


def test_every_use_is_refused(engine: FakeEngine, port: Port, conn: Connection) -> None:
    uses: list[Callable[[], object]] = [
        port.run, port.commit, port.sleep, port.awake, port.stop, port.start, lambda: port.spin(1), port.statistics,
        lambda: conn.send(b"x"), lambda: conn.send([b"x"]), conn.send_eof, conn.close, conn.abort, conn.pause_reading,
        conn.resume_reading, lambda: set_state(conn),
    ]  # fmt: skip
    before = engine.committed
    in_child(lambda: [use for use in uses if not refused(use)] and pytest.fail("a use was not refused"))
    assert engine.committed == before
    conn.send(b"of the parent")
    port.commit()
    assert engine.sent() == {conn.id: b"of the parent"}


def test_what_was_received_stays_readable(engine: FakeEngine, port: Port, handler: Hoarder, conn: Connection) -> None:
    def check() -> None:
        assert handler.views == [b"received"]
        assert conn.peer == ("10.0.0.1", 4711)
        kept = handler.views[0]
        handler.views.clear()
        port.close()
        gc.collect()
        assert kept == b"received"

    in_child(check)
    assert engine.take_releases() == []
    handler.views.clear()
    port.commit()
    assert len(engine.take_releases()) == 1


@pytest.mark.parametrize("leaves", [False, True])
def test_a_child_that_comes_back_handles_no_more(engine: FakeEngine, port: Port, handler: Hoarder, conn: Connection,
                                                 leaves: bool) -> None:  # fmt: skip
    """The parent handles the rest of the batch, each event once."""
    parent = os.getpid()
    ended: list[int] = []

    def fork() -> None:
        if ended or os.getpid() != parent:
            return
        pid = os.fork()
        if pid:
            ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        elif leaves:
            raise SystemExit

    handler.inside = fork
    for number in range(10):
        engine.data(conn.id, b"%d" % number)
    try:
        count = port.run()
    except (WorkerForked, SystemExit) as error:
        if os.getpid() == parent:
            raise
        good = isinstance(error, SystemExit) is leaves and [call[2] for call in handler.calls[2:]] == [b"0"]
        os._exit(0 if good and refused(port.run) else 1)
    assert os.getpid() == parent, "the child went on"
    assert ended == [0]
    assert count == 10
    assert [call[2] for call in handler.calls[2:]] == [b"%d" % number for number in range(10)]


def test_port_memory_is_not_shared(engine: FakeEngine, port: Port, conn: Connection) -> None:
    """Nor mapped any more: what the child writes through a stale pointer is its own."""

    def check() -> None:
        with open("/proc/self/maps") as maps:
            shared = [line for line in maps if "usnet-port" in line and "rw-s" in line]
        assert len(shared) == 1, "the fake engine's"

    in_child(check)


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


@pytest.mark.parametrize("child", ["ends", "closes", "turns"])
def test_inline(child: str) -> None:
    """The parent's sockets, listener and epoll set stay as they are, whatever the child closes."""
    options = EngineOptions(numbers={"connection_limit": 100, "linger_ns": 10**9})
    segment = Segment.create(config(rx_frame_bytes=16384), options)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    engine = Engine(segment.public_fd, segment.port_fds[0], [listener.fileno()], True)
    port = Port(engine=engine, handler=Echo(), resumes=True)
    loop = WorkerLoop()
    loop.serve(port, "sleep", engine)

    def check() -> None:
        with pytest.raises(WorkerForked):
            port.run()
        with pytest.raises(ValueError, match="parent"):
            engine.turn(0)
        if child == "closes":
            port.close()
            engine.close()
            loop.close()
        elif child == "turns":
            with pytest.raises(WorkerForked):
                loop.run_until_complete(asyncio.sleep(0))
        assert asyncio.run(asyncio.sleep(0.001, "own loop")) == "own loop"

    async def say(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], message: bytes) -> None:
        client[1].write(message)
        assert await client[0].readexactly(len(message)) == message

    async def before() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        client = await asyncio.open_connection(*listener.getsockname())
        await say(client, b"before")
        return client

    async def after() -> None:
        await say(old, b"after")
        new = await asyncio.open_connection(*listener.getsockname())
        await say(new, b"new")
        assert await asyncio.to_thread(lambda: "woken") == "woken"
        for _, writer in (old, new):
            writer.close()
            await writer.wait_closed()

    old = loop.run_until_complete(asyncio.wait_for(before(), 20))
    in_child(check)
    loop.run_until_complete(asyncio.wait_for(after(), 20))
    loop.close()
    port.close()
    engine.close()
    listener.close()
    segment.close()
