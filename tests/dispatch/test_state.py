"""conn.state: set by a handler, part of the commit, read by whoever resumes the connection."""

from __future__ import annotations

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op
from support.recorder import Recorder

from usnet_framework import Connection, Handler
from usnet_framework.errors import ConnectionClosed


class Counts(Handler):
    """Answers each message with how many came so far."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        count = int(conn.state or b"0") + 1
        conn.state = b"%d" % count
        conn.send(b"%d " % count)

    def on_resume(self, conn: Connection) -> None:
        """The state is all there is."""


def test_one_command_per_changed_connection_in_the_commit(engine: FakeEngine) -> None:
    port = engine.port(Counts())
    conn, other = engine.connect(0), engine.connect(1)
    for _ in range(3):
        engine.data(conn, b"x")
    engine.data(other, b"x")
    port.run()
    commands = engine.take()
    assert [c for c in commands if c.op is Op.SEND] == [
        Command(Op.SEND, conn, b"1 2 3 "), Command(Op.SEND, other, b"1 ")
    ]  # fmt: skip
    assert {(c.conn, c.value) for c in commands if c.op is Op.STATE} == {(conn, b"3"), (other, b"1")}
    engine.data(conn, b"x")
    port.run()
    assert engine.take() == [Command(Op.SEND, conn, b"4 "), Command(Op.STATE, conn, b"4")]


def test_state_is_read_from_the_table_by_the_next_worker(engine: FakeEngine) -> None:
    first = engine.port(Counts())
    conn = engine.connect()
    engine.data(conn, b"x")
    first.run()
    engine.take()
    second = engine.port(Counts())
    engine.data(conn, b"x")
    second.run()
    assert engine.take() == [Command(Op.SEND, conn, b"2 "), Command(Op.STATE, conn, b"2")]


def test_state_that_the_engine_did_not_take_yet_counts(engine: FakeEngine) -> None:
    first = engine.port(Counts())
    conn = engine.connect()
    engine.data(conn, b"x")
    first.run()
    second = engine.port(Counts())
    engine.data(conn, b"x")
    second.run()
    assert [c.value for c in engine.take() if c.op is Op.STATE] == [b"1", b"2"]


def test_setting_outside_of_a_batch(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    port.run()
    handler.conns[conn].state = bytearray(b"from a timer")
    assert handler.conns[conn].state == b"from a timer"
    assert engine.look() == []
    port.commit()
    assert engine.take() == [Command(Op.STATE, conn, b"from a timer")]
    handler.conns[conn].state = b""
    port.commit()
    assert engine.take() == [Command(Op.STATE, conn, b"")]
    assert handler.conns[conn].state == b""


def test_wrong_states(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    number = engine.connect()
    port.run()
    conn = handler.conns[number]
    with pytest.raises(ValueError, match="65 bytes, the limit is 64"):
        conn.state = bytes(65)
    with pytest.raises(TypeError):
        conn.state = "text"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        del conn.state
    conn.close()
    with pytest.raises(ConnectionClosed):
        conn.state = b"too late"


def test_a_state_that_cannot_be_placed_makes_dirty(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conns = [engine.connect(slot) for slot in range(2)]
    port.run()
    engine.hold_output = True
    for _ in range(engine.config.command_slots):  # every slot is in use: nothing is taken
        handler.conns[conns[0]].pause_reading()
        handler.conns[conns[0]].resume_reading()
    handler.conns[conns[1]].state = b"later"
    port.commit()
    assert engine.is_dirty(conns[1])
    assert port.pressed
    assert Op.STATE not in {command.op for command in engine.take()}
    port.commit()
    assert engine.take()[-1] == Command(Op.STATE, conns[1], b"later")
    assert not engine.is_dirty(conns[1])
    assert port.dirty == 0


def test_a_state_is_not_lost_with_the_object(engine: FakeEngine) -> None:
    port = engine.port(Counts())
    conn = engine.connect()
    engine.data(conn, b"x")
    port.run()
    engine.take()
    engine.post(Event.DRAIN, conn)
    engine.data(conn, b"x")
    port.run()
    assert engine.sent() == {conn: b"2 "}
