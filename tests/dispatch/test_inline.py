"""The inline layout: engine, dispatcher and asyncio in one thread, over loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap

import pytest
from support.fake_engine import config

from usnet_framework import CloseReason, Connection, Handler
from usnet_framework._dispatch import Engine, Port
from usnet_framework._native import layout_offsets
from usnet_framework.shards.loop import WorkerLoop
from usnet_framework.shards.segment import EngineOptions, Segment

DEADLINE_S = 20
OPTIONS = EngineOptions(numbers={"connection_limit": 100, "linger_ns": 10**9})


class Echo(Handler):
    def __init__(self) -> None:
        self.closed: list[CloseReason] = []

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if data == b"slow":
            asyncio.get_running_loop().call_later(0.01, conn.send, b"at last")
        else:
            conn.send(data)

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.closed.append(reason)


@dataclass
class Server:
    segment: Segment
    engine: Engine
    port: Port
    handler: Echo
    address: tuple[str, int]
    views: list[memoryview] = field(default_factory=list)

    def run(self, poll: str, test: Callable[[], Awaitable[None]]) -> None:
        loop = WorkerLoop()
        loop.serve(self.port, poll, self.engine)
        try:
            loop.run_until_complete(asyncio.wait_for(test(), DEADLINE_S))
        finally:
            loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    segment = Segment.create(config(rx_frame_bytes=16384), OPTIONS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        engine = Engine(segment.public_fd, segment.port_fds[0], [listener.fileno()], True)
        handler = Echo()
        port = Port(engine=engine, handler=handler, resumes=True)
        yield Server(segment, engine, port, handler, listener.getsockname())
        port.close()
        engine.close()
    segment.close()


@pytest.fixture(params=["sleep", "adaptive", "busy"])
def poll(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_echo(server: Server, poll: str) -> None:
    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        for i in range(50):
            message = b"%d.%d " % (number, i) * (1 + i * 20)
            writer.write(message)
            assert await reader.readexactly(len(message)) == message
        writer.close()
        await writer.wait_closed()

    async def test() -> None:
        await asyncio.gather(*(client(number) for number in range(20)))
        while len(server.handler.closed) < 20:
            await asyncio.sleep(0.001)

    server.run(poll, test)
    assert server.handler.closed == [CloseReason.PEER] * 20
    assert server.port.statistics()["objects"] == 0


def test_large_output(server: Server, poll: str) -> None:
    payload = os.urandom(1 << 16) * 64

    async def test() -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        await writer.wait_closed()

    server.run(poll, test)


def test_timers_and_threads(server: Server, poll: str) -> None:
    async def test() -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"slow")
        assert await reader.readexactly(7) == b"at last"
        assert await asyncio.to_thread(lambda: 5) == 5
        writer.close()
        await writer.wait_closed()

    server.run(poll, test)


def test_end_all(server: Server) -> None:
    async def test() -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        server.engine.end_all(CloseReason.SHUTDOWN)
        assert await reader.read(1) == b""
        while not server.handler.closed:
            await asyncio.sleep(0.001)
        writer.close()

    server.run("sleep", test)
    assert server.handler.closed == [CloseReason.SHUTDOWN]


def test_stop_accepting(server: Server) -> None:
    async def test() -> None:
        server.engine.stop_accepting()
        _, writer = await asyncio.open_connection(*server.address)  # the kernel's backlog
        await asyncio.sleep(0.02)
        assert server.segment.engine_counters()["accepted"] == 0
        writer.close()

    server.run("sleep", test)


def test_views_outlive_port_and_engine(server: Server) -> None:
    server.handler.on_data = lambda conn, data: server.views.append(data)  # type: ignore[method-assign]
    handler = server.handler
    server.port.close()
    server.port = Port(engine=server.engine, handler=handler, resumes=True)

    async def test() -> None:
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(b"still here")
        while not server.views:
            await asyncio.sleep(0.001)
        writer.close()

    server.run("sleep", test)
    server.port.close()
    server.engine.close()
    del server.port, server.engine
    gc.collect()
    assert server.views[0] == b"still here"


def test_a_closed_engine(server: Server) -> None:
    server.port.close()
    server.engine.close()
    with pytest.raises(ValueError, match="closed"):
        server.engine.turn(0)


def test_descriptors_that_are_no_segment(server: Server) -> None:
    public, port = server.segment.public_fd, server.segment.port_fds[0]
    with pytest.raises(ValueError, match="the segment cannot be used: it is no segment"):
        Engine(port, port, [], True)
    with tempfile.TemporaryFile() as small:
        small.truncate(4096)
        with pytest.raises(ValueError, match="the port's memory is smaller than it says"):
            Engine(public, small.fileno(), [], True)
    with pytest.raises(ValueError, match="another number of queues than there are wake-ups"):
        Engine(public, port, [], True, 1, ("tap", [0], -1, -1, 0, [0, 0]))
    with pytest.raises(ValueError, match="it has another number of ports"):
        Engine(public, port, [], True, more_port_fds=[port, port])
    with pytest.raises(ValueError, match="there is no port 1"):
        server.engine.attach_worker(1, True, 1)
    with pytest.raises(ValueError, match="there is no port 1"):
        server.engine.lose_worker(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Engine(-1, port, [], True)
    with pytest.raises(ValueError, match="65 listeners"):
        Engine(server.segment.public_fd, server.segment.port_fds[0], [0] * 65, True)


@pytest.mark.parametrize("field", ["hash", "formats"])
def test_a_segment_of_another_build_is_refused(field: str) -> None:
    """Be it the layout that differs, or what engines read of each other beside it."""
    with contextlib.closing(Segment.create(config(), OPTIONS)) as segment:
        at = layout_offsets()["un_segment_header"][field]
        with mmap(segment.public_fd, segment.public_bytes) as public:
            public[at] ^= 1
        with pytest.raises(ValueError, match="it was made by another version of usnet_framework"):
            Engine(segment.public_fd, segment.port_fds[0], [], True)


class Keeper(Handler):
    def __init__(self) -> None:
        self.conns: list[Connection] = []

    def on_connect(self, conn: Connection) -> None:
        self.conns.append(conn)


def test_what_is_sent_after_a_turn_without_events_is_sent_then() -> None:
    """As by a timer of the handler: the clock goes on although nothing came."""
    segment = Segment.create(config(rx_frame_bytes=16384), OPTIONS)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(False)
        engine = Engine(segment.public_fd, segment.port_fds[0], [listener.fileno()], True, time_ns=10**9)
        handler = Keeper()
        port = Port(engine=engine, handler=handler, resumes=True)
        while not handler.conns:
            engine.turn(0)
            port.run()
        while engine.turn(0):
            pass
        engine.time_ns = 3 * 10**9
        engine.turn(0)
        handler.conns[0].send(b"a tick")
        port.commit()
        (info,) = segment.connections()
        assert (info.bytes_out, info.opened_ns, info.active_ns) == (6, 10**9, 3 * 10**9)
        port.close()
        engine.close()
    segment.close()
