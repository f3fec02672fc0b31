"""Objects come and go without leaks, in cycles too, and a closed port leaves usable objects behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections import Counter

import pytest
from support.fake_engine import Event, FakeEngine
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler
from usnet_framework._dispatch import Port
from usnet_framework.errors import ConnectionClosed


class Mixed(Handler):
    """Uses everything once per message."""

    def on_connect(self, conn: Connection) -> None:
        conn.context = {"conn": conn, "handler": self}

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)
        conn.send([b"a", bytearray(b"b"), data])
        conn.state = bytes(data[:8])
        conn.pause_reading()
        conn.resume_reading()
        assert conn.statistics().bytes_in > 0
        assert repr(conn)
        if data == b"raise":
            raise LookupError

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        conn.context = None

    def on_error(self, conn: Connection, exception: BaseException) -> bool:
        return True


FEW = 400
"""Blocks of memory: the interpreter's own caches make up to 200 of difference, one lost per connection 500 at least."""


def objects() -> Counter[str]:
    gc.collect()
    return Counter(type(thing).__qualname__ for thing in gc.get_objects())


def work(engine: FakeEngine, port: Port, rounds: int) -> None:
    for i in range(rounds):
        conn = engine.connect(i % engine.config.conn_max)
        engine.data(conn, b"message %d" % i)
        engine.data(conn, b"raise")
        engine.post(Event.DRAIN, conn)
        engine.disconnect(conn)
        while port.run():
            pass
        engine.take()
        engine.take_releases()


def test_nothing_is_left_after_many_connections(engine: FakeEngine) -> None:
    port = engine.port(Mixed())
    work(engine, port, 50)
    before, none_before, blocks_before = objects(), sys.getrefcount(None), sys.getallocatedblocks()
    work(engine, port, 1000)
    grown = objects() - before
    assert grown.total() < 100, grown
    assert abs(sys.getrefcount(None) - none_before) < 50
    assert sys.getallocatedblocks() - blocks_before < FEW
    assert port.statistics()["objects"] == 0
    assert engine.lent == set()


def test_tasks_leave_nothing(engine: FakeEngine) -> None:
    class Tasks(Handler):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            conn.send(data)

    async def rounds(port: Port, count: int) -> None:
        for i in range(count):
            conn = engine.connect()
            for event in (engine.data, engine.data, lambda conn, _: engine.disconnect(conn)):
                event(conn, b"%d" % i)
                while port.run() or port.pending_work:
                    await asyncio.sleep(0)
                    port.commit()
            engine.take()
            engine.take_releases()

    async def main() -> None:
        port = engine.port(Tasks())
        await rounds(port, 50)
        before, blocks_before = objects(), sys.getallocatedblocks()
        await rounds(port, 500)
        grown = objects() - before
        assert grown.total() < 100, grown
        assert sys.getallocatedblocks() - blocks_before < FEW
        assert engine.lent == set()
        port.close()

    asyncio.run(main())


def test_a_forgotten_port_is_collected_with_its_connections(engine: FakeEngine) -> None:
    class Cyclic(Recorder):
        port: Port

        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.context = (self, conn, data)
            conn.send(bytes(200_000))

    handler = Cyclic()
    handler.port = engine.port(handler)
    engine.data(engine.connect(), b"x")
    handler.port.run()
    watch = weakref.ref(handler)
    del handler
    gc.collect()
    assert watch() is None


def test_what_a_closed_port_leaves_behind(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    number = engine.connect(address=("10.9.8.7", 6))
    engine.data(number, b"12345")
    port.run()
    conn = handler.conns[number]
    conn.state = b"s"
    conn.send(bytes(100_000))
    watch = weakref.ref(conn)
    port.close()
    port.close()
    assert conn.closed
    assert conn.peer == ("10.9.8.7", 6)
    assert conn.state == b"s"
    assert conn.statistics().bytes_in == 5
    with pytest.raises(ConnectionClosed):
        conn.send(b"x")
    with pytest.raises(ValueError, match="closed"):
        port.run()
    assert not port.pending_work
    del conn
    handler.conns.clear()
    assert watch() is None


def test_what_was_not_sent_stays_dirty(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn, clean = engine.connect(0), engine.connect(1)
    port.run()
    handler.conns[conn].send(bytes(100_000))
    handler.conns[clean].send(b"x")
    port.commit()
    port.close()
    assert engine.is_dirty(conn)
    assert not engine.is_dirty(clean)


def test_a_task_may_outlive_its_port(engine: FakeEngine) -> None:
    class Slow(Recorder):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.note("data", conn, bytes(data), conn.closed)

    handler = Slow()

    async def main() -> None:
        port = engine.port(handler)
        engine.data(engine.connect(), b"x")
        port.run()
        port.close()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert handler.calls[-1][2:] == (b"x", True)


def test_descriptors_that_are_no_segment(engine: FakeEngine) -> None:
    with pytest.raises(ValueError, match="the segment cannot be used: it is no segment"):
        Port(engine.segment.port_fds[0], engine.segment.port_fds[0], 0, -1, -1, Recorder(), True)
    with pytest.raises(ValueError, match="the segment cannot be used: it has no such seat"):
        Port(engine.segment.public_fd, engine.segment.port_fds[0], 2, -1, -1, Recorder(), True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Port(-1, -1, 0, -1, -1, Recorder(), True)
    with pytest.raises(TypeError):
        Port(engine.segment.public_fd, engine.segment.port_fds[0])


def test_connections_and_views_are_not_made_by_users() -> None:
    with pytest.raises(TypeError):
        Connection()
