"""Events become callbacks, in order, and a batch is one commit (P1)."""

from __future__ import annotations

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


def test_the_life_of_a_connection(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    engine.data(conn, b"hello")
    engine.eof(conn)
    engine.disconnect(conn, CloseReason.RESET)
    assert port.run() == 4
    assert handler.calls == [
        ("connect", conn), ("data", conn, b"hello"), ("eof", conn), ("close", conn, CloseReason.RESET)
    ]  # fmt: skip
    assert type(handler.calls[3][2]) is CloseReason


def test_a_batch_is_one_commit_of_input_and_output(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    conn, other = engine.connect(0), engine.connect(1)
    before = port.statistics()["worker_commits"]
    engine.data(conn, b"a")
    engine.data(conn, b"b")
    engine.data(other, b"c")
    assert port.run() == 5
    assert port.statistics()["worker_commits"] == before + 1
    assert engine.committed == (5, 2)
    assert engine.take() == [Command(Op.SEND, conn, b"ab"), Command(Op.SEND, other, b"c")]


def test_nothing_is_committed_without_work(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    assert port.run() == 0
    port.commit()
    assert port.statistics()["worker_commits"] == 0


def test_a_batch_is_bounded(engine: FakeEngine) -> None:
    port = engine.port(Recorder())
    conn = engine.connect()
    for _ in range(99):
        engine.data(conn, b"x")
    assert port.run() == 64
    assert engine.consumed == 64
    assert port.run() == 36
    assert port.run() == 0


def test_sends_outside_of_a_batch_wait_for_a_commit(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    port.run()
    handler.conns[conn].send(b"from a timer")
    assert engine.look() == []
    port.commit()
    assert engine.sent() == {conn: b"from a timer"}


def test_the_event_at_hand_is_marked(engine: FakeEngine) -> None:
    class Looks(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            marks.append(engine.handling)

    marks: list[int] = []
    port = engine.port(Looks())
    conn = engine.connect()
    engine.data(conn, b"a")
    engine.data(conn, b"b")
    port.run()
    assert marks == [1 << 32 | 1, 1 << 32 | 2]
    assert engine.handling == 0


def test_connections_without_callbacks_cost_no_object(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    conns = [engine.connect(slot) for slot in range(50)]
    port.run()
    assert port.statistics()["objects"] == 0
    engine.data(conns[7], b"x")
    port.run()
    assert port.statistics()["objects"] == 1
    for conn in conns:
        engine.disconnect(conn)
    port.run()
    assert port.statistics()["objects"] == 0


def test_an_object_is_the_same_all_its_life(engine: FakeEngine) -> None:
    class Counts(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.context = (conn.context or 0) + 1
            seen.append((id(conn), conn.context))

    seen: list[tuple[int, int]] = []
    port = engine.port(Counts())
    conn = engine.connect()
    for _ in range(3):
        engine.data(conn, b"x")
        port.run()
    assert [count for _, count in seen] == [1, 2, 3]
    assert len({identity for identity, _ in seen}) == 1


def test_a_slot_used_again_is_another_connection(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    first = engine.connect(5, ("10.0.0.1", 1))
    engine.data(first, b"1")
    engine.disconnect(first)
    port.run()
    second = engine.connect(5, ("10.0.0.2", 2))
    engine.data(second, b"2")
    port.run()
    assert first != second
    assert handler.conns[first].closed
    assert handler.conns[first].peer == ("10.0.0.1", 1)
    assert handler.conns[second].peer == ("10.0.0.2", 2)
    assert handler.calls[-1] == ("data", second, b"2")


def test_skipped_and_stale_events_are_consumed_silently(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    port.run()
    handler.calls.clear()
    engine.post(Event.SKIP, conn)
    engine.post(Event.EOF, conn + 1)
    stale = engine.data(conn + 2, b"for a connection that is gone")
    assert port.run() == 3
    assert handler.calls == []
    assert engine.take_releases() == [stale]


def test_end_of_file_closes_by_default(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    conn = engine.connect()
    engine.data(conn, b"last words")
    engine.eof(conn)
    port.run()
    assert engine.take() == [Command(Op.SEND, conn, b"last words"), Command(Op.CLOSE, conn)]


def test_nothing_but_on_close_follows_a_close(engine: FakeEngine) -> None:
    class Closes(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            super().on_data(conn, data)
            conn.close()

    handler = Closes()
    port = engine.port(handler)
    conn = engine.connect()
    engine.data(conn, b"bye")
    ignored = engine.data(conn, b"ignored")
    engine.eof(conn)
    engine.disconnect(conn, CloseReason.LOCAL)
    port.run()
    assert handler.names() == ["connect", "data", "close"]
    assert ignored in engine.take_releases()
    assert handler.conns[conn].closed


def test_a_callback_may_close_another_connection(engine: FakeEngine) -> None:
    class ClosesOther(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            super().on_data(conn, data)
            self.conns[other].send(b"bye")
            self.conns[other].close()

    handler = ClosesOther()
    port = engine.port(handler)
    conn, other = engine.connect(0), engine.connect(1)
    engine.data(conn, b"x")
    engine.data(other, b"too late")
    port.run()
    assert ("data", other, b"too late") not in handler.calls
    assert engine.take() == [Command(Op.SEND, other, b"bye"), Command(Op.CLOSE, other)]


def test_a_callback_may_not_drive_its_port(engine: FakeEngine) -> None:
    class Drives(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            port.run()

    handler = Drives()
    port = engine.port(handler)
    engine.data(engine.connect(), b"x")
    port.run()
    assert isinstance(handler.errors[0], RuntimeError)


def test_only_handlers_are_accepted(engine: FakeEngine) -> None:
    with pytest.raises(TypeError, match=r"instance of usnet_framework\.Handler, not object"):
        engine.port(object())  # type: ignore[arg-type]


def test_counters(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    conn = engine.connect()
    engine.data(conn, b"12345")
    port.run()
    counted = port.statistics()
    assert counted["worker_events"] == 2
    assert counted["worker_bytes_in"] == counted["worker_bytes_out"] == 5
    assert counted["worker_commands"] == counted["worker_commits"] == 1
    assert counted["wait_ns"] > 0
    assert counted["handler_ns"] > 0
    assert sum(engine.segment.wait_histogram(0)) == 2


def test_stop_takes_no_more_events(engine: FakeEngine) -> None:
    handler = Recorder()
    port = engine.port(handler)
    conn = engine.connect()
    port.run()
    port.stop()
    engine.data(conn, b"for the next worker")
    assert port.run() == 0
    assert port.sleep()
    port.start()
    assert port.run() == 1
