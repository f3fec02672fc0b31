"""Connections that a successor is to have: what a worker gives up when the engine asks, and what it keeps for now."""

from __future__ import annotations

import asyncio

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op, run_all
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler
from usnet_framework._dispatch import Port
from usnet_framework.errors import ConnectionClosed


def move(engine: FakeEngine, port: Port, *conns: int) -> list[Command]:
    """Ask for connections; what the worker says to that, and whatever else it commanded."""
    for conn in conns:
        engine.post(Event.MOVE, conn)
    run_all(port)
    return engine.take()


def test_one_without_an_object_is_released_without_one(engine: FakeEngine) -> None:
    port = engine.port(Handler())
    conns = [engine.connect(slot) for slot in range(3)]
    assert move(engine, port, *conns) == [Command(Op.RELEASE, conn) for conn in conns]
    assert port.statistics()["objects"] == 0


@pytest.mark.parametrize("resumes", [True, False])
def test_one_that_this_worker_never_saw_is_released_without_a_callback(engine: FakeEngine, resumes: bool) -> None:
    handler = Recorder()
    port = engine.port(handler, resumes)
    conn = engine.connect(announce=False)
    assert Command(Op.RELEASE, conn) in move(engine, port, conn)
    assert handler.calls == []


def test_a_released_connection_is_a_closed_one_without_on_close(
    engine: FakeEngine, port: Port, handler: Recorder
) -> None:
    conn = engine.connect()
    engine.data(conn, b"x")
    assert move(engine, port, conn) == [Command(Op.RELEASE, conn)]
    mine = handler.conns[conn]
    assert mine.closed
    with pytest.raises(ConnectionClosed):
        mine.send(b"late")
    with pytest.raises(ConnectionClosed):
        mine.state = b"late"
    for verb in (mine.close, mine.abort, mine.pause_reading, mine.resume_reading, mine.close_when_idle):
        verb()
    port.commit()
    assert engine.take() == []
    assert handler.names() == ["connect", "data"]
    assert port.statistics()["objects"] == 0
    assert not engine.is_dirty(conn)


def test_what_was_sent_and_set_in_the_same_batch_goes_before_the_release(engine: FakeEngine) -> None:
    class Answers(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(b"answer")
            conn.state = b"state"

    port = engine.port(Answers())
    conn = engine.connect()
    engine.data(conn, b"x")
    assert move(engine, port, conn) == [
        Command(Op.SEND, conn, b"answer"),
        Command(Op.STATE, conn, b"state"),
        Command(Op.RELEASE, conn),
    ]


def test_one_that_comes_back_is_resumed(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    move(engine, port, conn)
    engine.data(conn, b"again")
    run_all(port)
    assert handler.calls == [("connect", conn), ("resume", conn), ("data", conn, b"again")]


def test_a_slot_that_was_released_may_be_another_connections(
    engine: FakeEngine, port: Port, handler: Recorder
) -> None:
    first = engine.connect(5)
    move(engine, port, first)
    second = engine.connect(5)
    engine.data(second, b"x")
    run_all(port)
    assert handler.calls[1:] == [("connect", second), ("data", second, b"x")]


def test_output_in_worker_memory_keeps_it_until_it_is_in_a_commit(
    engine: FakeEngine, port: Port, handler: Recorder
) -> None:
    engine.hold_output = True
    conn, other = engine.connect(0), engine.connect(1)
    run_all(port)
    handler.conns[conn].send(bytes(100_000))
    commands = move(engine, port, conn, other)
    assert [command for command in commands if command.op is not Op.SEND] == [
        Command(Op.WANT_DRAIN, conn, 16384),
        Command(Op.KEEP, conn),
        Command(Op.RELEASE, other),
    ]
    engine.data(conn, b"it goes on")
    engine.flush(conn)
    engine.post(Event.DRAIN, conn)
    run_all(port)
    commands = engine.take()
    assert ("data", conn, b"it goes on") in handler.calls
    assert commands[-1] == Command(Op.SETTLED, conn)
    assert sum(len(command.value) for command in commands if command.op is Op.SEND) == 100_000 - 65536
    assert not engine.is_dirty(conn)
    assert move(engine, port, conn) == [Command(Op.RELEASE, conn)]  # the engine's queue holds the rest


def test_events_that_wait_keep_it(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].pause_reading()
    engine.data(conn, b"waits")
    assert move(engine, port, conn) == [Command(Op.PAUSE, conn), Command(Op.KEEP, conn)]
    handler.conns[conn].resume_reading()
    run_all(port)
    assert handler.calls[-1] == ("data", conn, b"waits")
    assert engine.take() == [Command(Op.RESUME, conn), Command(Op.SETTLED, conn)]


def test_one_that_only_paused_is_released(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].pause_reading()
    assert move(engine, port, conn) == [Command(Op.PAUSE, conn), Command(Op.RELEASE, conn)]


def test_a_task_keeps_it(engine: FakeEngine) -> None:
    class Waits(Recorder):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await self.gate.wait()
            conn.send(data)

    handler = Waits()

    async def main() -> None:
        handler.gate = asyncio.Event()
        port = engine.port(handler)
        conn = engine.connect()
        engine.data(conn, b"x")
        assert move(engine, port, conn) == [Command(Op.KEEP, conn)]
        for _ in range(10):
            await asyncio.sleep(0)
            port.run()
            port.commit()
        assert engine.take() == []
        handler.gate.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert engine.is_dirty(conn)
        port.commit()
        assert engine.take() == [Command(Op.SEND, conn, b"x"), Command(Op.SETTLED, conn)]
        assert not engine.is_dirty(conn)
        port.commit()
        assert engine.take() == [], "settled is said once"
        assert move(engine, port, conn) == [Command(Op.RELEASE, conn)]
        port.close()

    asyncio.run(main())


def test_one_that_the_next_commit_makes_clean_is_asked_for_again(
    engine: FakeEngine, port: Port, handler: Recorder
) -> None:
    """Its byte says dirty until that commit, and then the slot would be the successor's already."""
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].pause_reading()
    engine.data(conn, b"x")
    run_all(port)
    handler.conns[conn].resume_reading()
    assert engine.is_dirty(conn)
    engine.take()
    assert move(engine, port, conn) == [
        Command(Op.RESUME, conn),
        Command(Op.KEEP, conn),
        Command(Op.SETTLED, conn),
    ]
    assert not engine.is_dirty(conn)


def test_one_that_ends_is_not_settled(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    engine.hold_output = True
    conn, other = engine.connect(0), engine.connect(1)
    run_all(port)
    for number in (conn, other):
        handler.conns[number].send(bytes(100_000))
    move(engine, port, conn, other)
    engine.disconnect(conn, CloseReason.RESET)
    run_all(port)
    engine.flush(other)
    engine.post(Event.DRAIN, other)
    run_all(port)
    assert [command.conn for command in engine.take() if command.op is Op.SETTLED] == [other]


@pytest.mark.parametrize("with_objects", [True, False])
def test_answers_wait_for_a_full_command_ring_in_order(with_objects: bool) -> None:
    with FakeEngine(command_slots=16) as engine:
        handler = Recorder() if with_objects else Handler()
        port = engine.port(handler)
        conns = [engine.connect(slot) for slot in range(40)]
        run_all(port)
        for conn in conns:
            engine.post(Event.MOVE, conn)
        run_all(port)
        assert port.statistics()["objects"] == 0
        assert engine.consumed == 80
        assert port.pressed
        assert port.pending_work
        answers = []
        while port.pending_work:
            answers += engine.take()
            port.commit()
        answers += engine.take()
        assert answers == [Command(Op.RELEASE, conn) for conn in conns]
        assert not port.pressed
        port.close()


def test_a_port_that_closes_forgets_its_answers(engine: FakeEngine) -> None:
    port = engine.port(Handler())
    for slot in range(100):
        engine.post(Event.MOVE, engine.connect(slot))
    for _ in range(200):
        engine.post(Event.SKIP, 0) if engine.produced - engine.consumed < 250 else run_all(port)
    run_all(port)
    port.close()
    assert not port.pending_work
