"""close_when_idle: a connection closes as soon as it has nothing left to do, and not before."""

from __future__ import annotations

import asyncio

from support.fake_engine import Command, Event, FakeEngine, Op, run_all
from support.recorder import Recorder

from usnet_framework import Connection
from usnet_framework._dispatch import Port


def test_an_idle_one_closes_at_the_next_commit(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].close_when_idle()
    assert not handler.conns[conn].closed
    port.commit()
    assert handler.conns[conn].closed
    port.commit()
    assert engine.take() == [Command(Op.CLOSE, conn)]
    handler.conns[conn].close_when_idle()
    port.commit()
    assert engine.take() == []


def test_a_callback_may_still_send_after_it(engine: FakeEngine) -> None:
    class Last(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.close_when_idle()
            conn.send(b"answer")

    port = engine.port(Last())
    conn = engine.connect()
    engine.data(conn, b"x")
    run_all(port)
    assert engine.take() == [Command(Op.SEND, conn, b"answer"), Command(Op.CLOSE, conn)]


def test_input_that_has_arrived_comes_first(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn, other = engine.connect(0), engine.connect(1)
    run_all(port)
    engine.data(conn, b"request")
    for number in (conn, other):
        handler.conns[number].close_when_idle()
    port.commit()
    assert engine.take() == [Command(Op.CLOSE, other)]
    run_all(port)
    assert ("data", conn, b"request") in handler.calls
    port.commit()
    assert engine.take() == [Command(Op.CLOSE, conn)]


def test_input_behind_the_batch_comes_first_too(engine: FakeEngine) -> None:
    """A batch is 64 events: the one that asks is in another than the input."""

    class Asks(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.close_when_idle()
            super().on_data(conn, data)

    handler = Asks()
    port = engine.port(handler)
    conn = engine.connect()
    for i in range(100):
        engine.data(conn, b"%d" % i)
    run_all(port)
    assert len(handler.calls) == 101
    assert engine.take() == [Command(Op.CLOSE, conn)]


def test_a_task_is_waited_for(engine: FakeEngine) -> None:
    class Waits(Recorder):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            conn.close_when_idle()
            await self.gate.wait()
            conn.send(data)

    handler = Waits()

    async def main() -> None:
        handler.gate = asyncio.Event()
        port = engine.port(handler)
        conn = engine.connect()
        engine.data(conn, b"1")
        engine.data(conn, b"2")
        for gate_opens in (False, True):
            if gate_opens:
                handler.gate.set()
            for _ in range(20):
                await asyncio.sleep(0)
                port.run()
                port.commit()
            if not gate_opens:
                assert engine.take() == []
        commands = engine.take()
        assert b"".join(command.value for command in commands[:-1]) == b"12"
        assert commands[-1] == Command(Op.CLOSE, conn)
        port.close()

    asyncio.run(main())


def test_output_in_worker_memory_is_waited_for(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    engine.hold_output = True
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].send(bytes(100_000))
    handler.conns[conn].close_when_idle()
    port.commit()
    assert Command(Op.CLOSE, conn) not in engine.take()
    assert not handler.conns[conn].closed
    engine.flush(conn)
    engine.post(Event.DRAIN, conn)
    run_all(port)
    assert engine.take()[-1] == Command(Op.CLOSE, conn)


def test_paused_reading_is_work_to_do(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    run_all(port)
    handler.conns[conn].pause_reading()
    handler.conns[conn].close_when_idle()
    port.commit()
    assert engine.take() == [Command(Op.PAUSE, conn)]
    handler.conns[conn].resume_reading()
    port.commit()
    assert engine.take() == [Command(Op.RESUME, conn), Command(Op.CLOSE, conn)]


def test_many_at_once_look_at_the_ring_once(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conns = [engine.connect(slot) for slot in range(100)]
    run_all(port)
    engine.data(conns[7], b"x")
    for conn in handler.conns.values():
        conn.close_when_idle()
    port.commit()
    assert {command.conn for command in engine.take()} == set(conns) - {conns[7]}
    run_all(port)
    assert engine.take() == [Command(Op.CLOSE, conns[7])]


def test_a_stopped_port_closes_too(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    conn = engine.connect()
    run_all(port)
    port.stop()
    handler.conns[conn].close_when_idle()
    port.commit()
    assert engine.take() == [Command(Op.CLOSE, conn)]
    assert not port.pending_work
