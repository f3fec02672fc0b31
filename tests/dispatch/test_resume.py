"""A worker that follows another one: what it is told, and how it commits at first (P1, P2, P3)."""

from __future__ import annotations

from support.fake_engine import Command, Event, FakeEngine, Op, run_all
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler


def test_on_resume_comes_before_the_first_event(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.data(conn, b"one")
    engine.data(conn, b"two")
    port.run()
    assert handler.calls == [("resume", conn), ("data", conn, b"one"), ("data", conn, b"two")]
    assert port.statistics()["resumed"] == 1


def test_a_connection_that_this_worker_saw_opening_is_not_resumed(engine: FakeEngine) -> None:
    class DataOnly(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            names.append("data")

        def on_resume(self, conn: Connection) -> None:
            names.append("resume")

    names: list[str] = []
    port = engine.port(DataOnly())
    conn = engine.connect()
    port.run()
    engine.data(conn, b"x")
    port.run()
    assert names == ["data"]


def test_without_on_resume_an_unknown_connection_is_reset(engine: FakeEngine) -> None:
    class Forgetful(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            raise AssertionError

    port = engine.port(Forgetful(), resumes=False)
    conn = engine.connect(announce=False)
    frame = engine.data(conn, b"x")
    port.run()
    assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]
    assert engine.take_releases() == [frame]


def test_the_first_events_are_committed_one_by_one(engine: FakeEngine) -> None:
    class Notes(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            super().on_data(conn, data)
            consumed.append(engine.consumed)

    consumed: list[int] = []
    conn = engine.connect()
    for _ in range(3):
        engine.data(conn, b"left over")
    port = engine.port(Notes())
    engine.data(conn, b"new")
    engine.data(conn, b"new")
    while port.run():
        pass
    assert consumed == [1, 2, 3, 4, 4]
    assert engine.consumed == 6


def test_all_that_waited_is_committed_one_by_one(engine: FakeEngine) -> None:
    """What an earlier worker died of may stand at the very end (P3)."""

    class Notes(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            consumed.append(engine.consumed)

    consumed: list[int] = []
    conn = engine.connect()
    for _ in range(200):
        engine.data(conn, b"left over")
    port = engine.port(Notes())
    run_all(port)
    assert consumed == list(range(1, 201))


def test_write_buffer_size_goes_on(engine: FakeEngine) -> None:
    engine.hold_output = True
    first_handler = Recorder()
    first = engine.port(first_handler)
    conn = engine.connect()
    first.run()
    first_handler.conns[conn].send(bytes(1000))
    first.commit()
    engine.take()
    first_handler.conns[conn].send(bytes(500))
    first.commit()  # committed, not taken by the engine
    handler = Recorder()
    second = engine.port(handler)
    engine.data(conn, b"x")
    second.run()
    assert handler.conns[conn].write_buffer_size == 1500
    handler.conns[conn].send(bytes(100))
    second.commit()
    assert handler.conns[conn].write_buffer_size == 1600
    engine.take()
    engine.flush(conn)
    assert handler.conns[conn].write_buffer_size == 0


def test_a_drain_that_an_earlier_worker_asked_for(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.post(Event.DRAIN, conn)
    port.run()
    assert handler.names() == ["resume", "drain"]


def test_a_resumed_connection_may_end_at_once(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.disconnect(conn, CloseReason.PEER)
    port.run()
    assert handler.calls == [("resume", conn), ("close", conn, CloseReason.PEER)]
    assert port.statistics()["objects"] == 0


def test_paused_reading_is_carried_over(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.set_flags(conn, 4)  # UN_CONN_PAUSED
    engine.data(conn, b"was in the ring")
    port.run()
    assert handler.names() == ["resume"]
    handler.conns[conn].resume_reading()
    port.run()
    assert handler.names() == ["resume", "data"]
    assert Command(Op.RESUME, conn) in engine.take()


def test_a_resume_that_raises_resets(engine: FakeEngine) -> None:
    class Fails(Recorder):
        def on_resume(self, conn: Connection) -> None:
            raise LookupError

    handler = Fails()
    port = engine.port(handler)
    conn = engine.connect(announce=False)
    engine.data(conn, b"x")
    port.run()
    assert handler.names() == []
    assert engine.take() == [Command(Op.ABORT, conn, CloseReason.ERROR)]
