"""`async def` callbacks: tasks of the loop, in order per connection, never silently lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection
from usnet_framework._dispatch import Port


class Waits(Recorder):
    """Each on_data waits for the gate before it answers."""

    gate: asyncio.Event

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        self.note("start", conn, bytes(data))
        await self.gate.wait()
        conn.send(data)
        self.note("end", conn, bytes(data))


def in_loop(engine: FakeEngine, handler: Waits, test: Callable[[Port], Awaitable[None]]) -> None:
    async def main() -> None:
        handler.gate = asyncio.Event()
        port = engine.port(handler)
        try:
            await test(port)
        finally:
            port.close()

    asyncio.run(main())


async def settle(port: Port) -> None:
    """Let tasks run as far as they can."""
    for _ in range(100):
        await asyncio.sleep(0)
        port.run()
    port.commit()


def test_input_waits_for_the_task_before_it(engine: FakeEngine) -> None:
    handler = Waits()

    async def test(port: Port) -> None:
        conn, other = engine.connect(0), engine.connect(1)
        frame = engine.data(conn, b"one ")
        engine.data(conn, b"two")
        engine.data(other, b"x")
        assert port.run() == 5
        await settle(port)
        assert handler.names().count("start") == 2
        assert engine.is_dirty(conn)
        assert engine.is_dirty(other)
        assert port.pending_work
        assert frame not in engine.take_releases()
        handler.gate.set()
        await settle(port)
        assert [call[2] for call in handler.calls if call[1] == conn and call[0] in ("start", "end")] == [
            b"one ", b"one ", b"two", b"two"
        ]  # fmt: skip
        assert engine.sent() == {conn: b"one two", other: b"x"}
        assert not engine.is_dirty(conn)
        assert not port.pending_work
        assert frame in engine.take_releases()

    in_loop(engine, handler, test)


def test_end_of_file_and_close_wait_too(engine: FakeEngine) -> None:
    handler = Waits()

    async def test(port: Port) -> None:
        conn = engine.connect()
        engine.data(conn, b"x")
        engine.eof(conn)
        engine.disconnect(conn, CloseReason.RESET)
        port.run()
        await settle(port)
        assert handler.names() == ["connect", "start"]
        assert handler.conns[conn].closed  # the task can see it
        assert not engine.is_dirty(conn)  # its slot may belong to another connection already
        again = engine.connect()
        engine.data(again, b"y")
        handler.gate.set()
        await settle(port)
        assert [name for name, number, *_ in handler.calls if number == conn] == [
            "connect", "start", "eof", "close"
        ]  # fmt: skip
        assert isinstance(handler.errors[0], Exception)  # its send came too late
        assert ("end", again, b"y") in handler.calls

    in_loop(engine, handler, test)


def test_many_waiting_events_stop_the_engine(engine: FakeEngine) -> None:
    handler = Waits()

    async def test(port: Port) -> None:
        conn = engine.connect()
        for i in range(20):
            engine.data(conn, b"%d " % i)
        port.run()
        assert engine.take() == [Command(Op.PAUSE, conn)]
        handler.gate.set()
        await settle(port)
        commands = engine.take()
        commands.remove(Command(Op.RESUME, conn))
        assert b"".join(command.value for command in commands) == b"".join(b"%d " % i for i in range(20))

    in_loop(engine, handler, test)


def test_a_task_that_raises_resets(engine: FakeEngine) -> None:
    class Fails(Waits):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            raise LookupError

    handler = Fails()

    async def test(port: Port) -> None:
        conn = engine.connect()
        engine.data(conn, b"x")
        engine.data(conn, b"not delivered")
        port.run()
        await settle(port)
        assert [type(error) for error in handler.errors] == [LookupError]
        assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]
        assert port.dirty == 0

    in_loop(engine, handler, test)


def test_a_cancelled_task_resets(engine: FakeEngine) -> None:
    handler = Waits()

    async def test(port: Port) -> None:
        conn = engine.connect()
        engine.data(conn, b"x")
        port.run()
        await settle(port)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await settle(port)
        assert [type(error) for error in handler.errors] == [asyncio.CancelledError]
        assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]

    in_loop(engine, handler, test)


def test_a_task_may_wait_for_on_drain(engine: FakeEngine) -> None:
    class Streams(Waits):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            conn.context = asyncio.Event()
            if not conn.send(bytes(100_000)):
                await conn.context.wait()
            self.note("drained", conn, conn.closed)

        def on_drain(self, conn: Connection) -> None:
            conn.context.set()

    handler = Streams()

    async def test(port: Port) -> None:
        engine.hold_output = True
        conn, dying = engine.connect(0), engine.connect(1)
        engine.data(conn, b"x")
        engine.data(dying, b"x")
        port.run()
        await settle(port)
        assert "drained" not in handler.names()
        engine.take()
        for _ in range(5):
            engine.flush(conn)
            engine.post(Event.DRAIN, conn)
            port.run()
            engine.take()
        engine.disconnect(dying, CloseReason.RESET)
        port.run()
        await settle(port)
        assert ("drained", conn, False) in handler.calls
        assert ("drained", dying, True) in handler.calls
        assert handler.calls[-1] == ("close", dying, CloseReason.RESET)

    in_loop(engine, handler, test)


def test_other_callbacks_may_be_tasks(engine: FakeEngine) -> None:
    class AllTasks(Waits):
        async def on_connect(self, conn: Connection) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.note("connect", conn)

        async def on_close(self, conn: Connection, reason: CloseReason) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            self.note("close", conn, reason)

    handler = AllTasks()

    async def test(port: Port) -> None:
        handler.gate.set()
        conn = engine.connect()
        engine.data(conn, b"x")
        engine.disconnect(conn)
        port.run()
        await settle(port)
        assert [name for name, *_ in handler.calls] == ["connect", "start", "close"]
        assert port.statistics()["objects"] == 0
        assert not port.pending_work

    in_loop(engine, handler, test)


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_without_a_loop_a_coroutine_is_an_error(engine: FakeEngine) -> None:
    handler = Waits()
    port = engine.port(handler)
    conn = engine.connect()
    engine.data(conn, b"x")
    port.run()
    assert [type(error) for error in handler.errors] == [RuntimeError]
    assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]
