"""pause_reading and resume_reading: input that was on its way is kept, in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection
from usnet_framework._dispatch import Port


class PausesAtFirst(Recorder):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        super().on_data(conn, data)
        if data == b"pause":
            conn.pause_reading()


@pytest.fixture
def handler() -> PausesAtFirst:
    return PausesAtFirst()


@pytest.fixture
def port(engine: FakeEngine, handler: PausesAtFirst) -> Iterator[Port]:
    port = engine.port(handler)
    yield port
    port.close()


def test_what_comes_while_paused_is_kept(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    engine.data(conn, b"pause")
    kept = engine.data(conn, b"one")
    engine.data(conn, b"two")
    engine.eof(conn)
    port.run()
    assert handler.names() == ["connect", "data"]
    assert engine.take() == [Command(Op.PAUSE, conn)]
    assert engine.is_dirty(conn)
    assert kept not in engine.take_releases()
    handler.conns[conn].resume_reading()
    assert handler.names() == ["connect", "data"]  # never from within the handler's own call
    assert not port.sleep()
    port.run()
    assert handler.calls[2:] == [("data", conn, b"one"), ("data", conn, b"two"), ("eof", conn)]
    assert engine.take() == [Command(Op.RESUME, conn)]
    assert not engine.is_dirty(conn)
    assert kept in engine.take_releases()


def test_an_event_that_is_nobodys_ends_no_connection(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    engine.data(conn, b"pause")
    engine.post(Event.SKIP, conn)
    port.run()
    handler.conns[conn].resume_reading()
    port.run()
    assert handler.names() == ["connect", "data"]
    assert not handler.conns[conn].closed


def test_pausing_again_while_delivering(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    for data in (b"pause", b"pause", b"last"):
        engine.data(conn, data)
    port.run()
    handler.conns[conn].resume_reading()
    port.run()
    assert handler.calls[-1] == ("data", conn, b"pause")
    assert engine.is_dirty(conn)
    handler.conns[conn].resume_reading()
    port.run()
    assert handler.calls[-1] == ("data", conn, b"last")
    assert not engine.is_dirty(conn)
    assert engine.take()[-1] == Command(Op.RESUME, conn)


def test_a_paused_connection_that_ends(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    idle, waiting = engine.connect(0), engine.connect(1)
    for conn in (idle, waiting):
        engine.data(conn, b"pause")
    engine.data(waiting, b"rest")
    for conn in (idle, waiting):
        engine.disconnect(conn, CloseReason.RESET)
    port.run()
    assert ("close", idle, CloseReason.RESET) in handler.calls
    assert ("close", waiting, CloseReason.RESET) not in handler.calls
    assert handler.conns[waiting].closed
    handler.conns[waiting].resume_reading()
    port.run()
    assert [call[0] for call in handler.calls if call[1] == waiting] == ["connect", "data", "data", "close"]
    assert [call[0] for call in handler.calls if call[1] == idle] == ["connect", "data", "close"]
    assert port.statistics()["objects"] == 0


def test_closing_while_paused(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    engine.data(conn, b"pause")
    kept = engine.data(conn, b"not wanted any more")
    port.run()
    handler.conns[conn].close()
    engine.disconnect(conn, CloseReason.LOCAL)
    port.run()
    port.run()
    assert handler.names() == ["connect", "data", "close"]
    port.commit()
    assert kept in engine.take_releases()


def test_hoarding_by_pausing_gets_copies(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    engine.data(conn, b"pause")
    for i in range(200):
        engine.data(conn, b"%d" % i)
    while port.run():
        pass
    assert port.statistics()["held_frames"] == engine.config.hold_max
    assert port.statistics()["copied_out"] == 200 - engine.config.hold_max
    handler.conns[conn].resume_reading()
    port.run()
    assert [call[2] for call in handler.calls[2:]] == [b"%d" % i for i in range(200)]


def test_pausing_twice_is_pausing_once(engine: FakeEngine, port: Port, handler: PausesAtFirst) -> None:
    conn = engine.connect()
    port.run()
    for _ in range(2):
        handler.conns[conn].pause_reading()
    port.commit()
    assert engine.take() == [Command(Op.PAUSE, conn)]
    for _ in range(2):
        handler.conns[conn].resume_reading()
    port.commit()
    assert engine.take() == [Command(Op.RESUME, conn)]
