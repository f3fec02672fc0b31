"""Sending: what is taken, what waits where, and how a handler hears of a slow peer (P5)."""

from __future__ import annotations

import array
from collections.abc import Iterator

import pytest
from support.fake_engine import Command, Event, FakeEngine, Op, run_all
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection
from usnet_framework._dispatch import Port
from usnet_framework.errors import ConnectionClosed, SendBufferFull

HIGH, LOW, LIMIT = 65536, 16384, 16 << 20


@pytest.fixture
def conn(engine: FakeEngine, handler: Recorder, port: Port) -> Connection:
    """An open connection whose peer takes nothing until the test says so."""
    engine.hold_output = True
    number = engine.connect()
    port.run()
    return handler.conns[number]


def drain(engine: FakeEngine, port: Port, conn: Connection) -> bytes:
    """The peer reads; everything it gets until nothing comes any more."""
    output: list[bytes] = []
    while True:
        port.commit()
        commands = engine.take()
        output += [command.value for command in commands if command.op is Op.SEND]
        engine.flush(conn.id)
        if not any(command.op is Op.WANT_DRAIN for command in commands):
            return b"".join(output)
        engine.post(Event.DRAIN, conn.id)
        port.run()


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"xabcx")[1:4],
        array.array("B", b"abc"),
        [b"a", bytearray(b"b"), memoryview(b"c")],
        (b"abc",),
        (part for part in (b"a", b"", b"bc")),
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "list", "tuple", "generator"],
)
def test_any_buffer_or_iterable_of_buffers(engine: FakeEngine, port: Port, conn: Connection, data: bytes) -> None:
    assert conn.send(data) is True
    port.commit()
    assert engine.sent() == {conn.id: b"abc"}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("text", "a bytes-like object or an iterable of them is needed, not str"),
        (5, "a bytes-like object or an iterable of them is needed, not int"),
        (None, "a bytes-like object or an iterable of them is needed, not NoneType"),
        ([b"good", "bad"], "a bytes-like object is required, not 'str'"),
        ([b"good", 1], "a bytes-like object is required, not 'int'"),
    ],
)
def test_what_is_no_buffer_takes_nothing(
    engine: FakeEngine, port: Port, conn: Connection, data: bytes, what: str
) -> None:
    with pytest.raises(TypeError, match=what):
        conn.send(data)
    port.commit()
    assert engine.take() == []


def test_a_generator_that_raises_takes_nothing(engine: FakeEngine, port: Port, conn: Connection) -> None:
    def parts() -> Iterator[bytes]:
        yield b"a"
        raise LookupError

    with pytest.raises(LookupError):
        conn.send(parts())
    port.commit()
    assert engine.take() == []


def test_a_generator_that_closes_takes_nothing(engine: FakeEngine, port: Port, conn: Connection) -> None:
    def parts() -> Iterator[bytes]:
        conn.abort()
        yield b"a"

    with pytest.raises(ConnectionClosed):
        conn.send(parts())


def test_nothing_is_sent_twice_to_different_connections(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    one, two = engine.connect(0), engine.connect(1)
    port.run()
    for i in range(10):
        handler.conns[one].send(b"%d" % i)
        handler.conns[two].send(b"%d" % (9 - i))
    port.commit()
    assert engine.sent() == {one: b"0123456789", two: b"9876543210"}


def test_the_water_marks(engine: FakeEngine, port: Port, conn: Connection, handler: Recorder) -> None:
    assert conn.send(bytes(HIGH)) is True
    assert conn.write_buffer_size == HIGH
    assert conn.send(b"x") is False
    assert conn.send(b"y") is False
    port.commit()
    assert [c.value for c in engine.take() if c.op is Op.WANT_DRAIN] == [LOW]
    assert "drain" not in handler.names()
    engine.flush(conn.id)
    engine.post(Event.DRAIN, conn.id)
    port.run()
    drain(engine, port, conn)
    assert handler.names().count("drain") == 1
    assert conn.write_buffer_size == 0
    assert port.statistics()["sends_refused"] == 2


def test_on_drain_waits_for_the_low_water(engine: FakeEngine, port: Port, conn: Connection, handler: Recorder) -> None:
    conn.send(bytes(HIGH + 1))
    port.commit()
    engine.take()
    engine.post(Event.DRAIN, conn.id)  # nothing was read by the peer yet
    port.run()
    assert "drain" not in handler.names()
    drain(engine, port, conn)
    assert handler.names().count("drain") == 1


def test_what_does_not_fit_overflows_and_is_dirty(engine: FakeEngine, port: Port, conn: Connection) -> None:
    payload = bytes(range(256)) * 4096  # 1 MiB
    assert conn.send(payload) is False
    assert conn.write_buffer_size == len(payload)
    assert engine.is_dirty(conn.id)
    assert port.dirty == 1
    assert port.pending_work
    waiting = conn.statistics().overflow_bytes
    assert len(payload) - HIGH <= waiting < len(payload)
    assert port.statistics()["overflow_bytes"] == waiting
    assert conn.send(b"tail") is False
    assert drain(engine, port, conn) == payload + b"tail"
    assert not engine.is_dirty(conn.id)
    assert port.dirty == 0
    assert not port.pending_work
    assert port.statistics()["overflow_bytes"] == 0


def test_dirty_ends_after_the_commit_not_before(engine: FakeEngine, port: Port, conn: Connection) -> None:
    conn.send(bytes(HIGH + 100))
    port.commit()
    engine.take()
    engine.flush(conn.id)
    dirty_at_drain = []
    port.handler.on_drain = None  # type: ignore[method-assign]
    engine.post(Event.DRAIN, conn.id)
    dirty_at_drain.append(engine.is_dirty(conn.id))
    port.run()
    assert dirty_at_drain == [True]
    assert not engine.is_dirty(conn.id)


def test_close_and_end_of_file_wait_for_the_overflow(engine: FakeEngine, port: Port, conn: Connection) -> None:
    conn.send(bytes(3 * HIGH))
    conn.send_eof()
    conn.close()
    port.commit()
    assert {c.op for c in engine.look()} == {Op.SEND, Op.WANT_DRAIN}
    seen: list[Op] = []
    for _ in range(20):
        seen += [command.op for command in engine.take()]
        engine.flush(conn.id)
        engine.post(Event.DRAIN, conn.id)
        port.run()
    assert seen[-2:] == [Op.SEND_EOF, Op.CLOSE]
    assert not engine.is_dirty(conn.id)


def test_abort_drops_what_waits(engine: FakeEngine, port: Port, conn: Connection) -> None:
    conn.send(bytes(3 * HIGH))
    conn.abort()
    port.commit()
    assert engine.take()[-1] == Command(Op.ABORT, conn.id, CloseReason.ABORTED)
    assert conn.statistics().overflow_bytes == 0
    assert not engine.is_dirty(conn.id)
    assert conn.closed


def test_the_limit_refuses_everything(engine: FakeEngine, port: Port, conn: Connection) -> None:
    conn.send(bytes(LIMIT))
    assert conn.send(b"x") is False  # not yet above the limit
    size = conn.write_buffer_size
    with pytest.raises(SendBufferFull, match="on_drain"):
        conn.send(b"y")
    assert conn.write_buffer_size == size
    assert len(drain(engine, port, conn)) == size
    assert conn.send(b"z") is True


@pytest.mark.parametrize("end", ["close", "abort", "send_eof"])
def test_sending_after_the_end(port: Port, conn: Connection, end: str) -> None:
    getattr(conn, end)()
    with pytest.raises(ConnectionClosed):
        conn.send(b"x")
    assert conn.closed is (end != "send_eof")


def test_sending_on_a_connection_that_is_gone(engine: FakeEngine, port: Port, conn: Connection) -> None:
    engine.disconnect(conn.id)
    port.run()
    assert conn.closed
    for use in (lambda: conn.send(b"x"), conn.send_eof):
        with pytest.raises(ConnectionClosed):
            use()
    conn.close()
    conn.abort()
    conn.pause_reading()
    assert conn.write_buffer_size == 0
    port.commit()
    assert engine.take() == []


def test_a_full_command_ring_keeps_the_order(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    """Sends to many connections in turns, so that none grows the last command; the engine takes nothing meanwhile."""
    conns = [engine.connect(slot) for slot in range(100)]
    run_all(port)
    for i in range(20):
        for conn in conns:
            handler.conns[conn].send(b"%02d " % i)
    for conn in conns:
        handler.conns[conn].close()
    assert port.dirty > 0
    port.commit()
    assert port.pressed
    assert port.sleep()
    assert engine.want_space == 1
    port.awake()
    output = dict.fromkeys(conns, b"")
    closed: list[int] = []
    for _ in range(50):
        for command in engine.take():
            if command.op is Op.SEND:
                assert command.conn not in closed
                output[command.conn] += command.value
            elif command.op is Op.CLOSE:
                closed.append(command.conn)
            elif command.op is Op.WANT_DRAIN:
                engine.post(Event.DRAIN, command.conn)
        port.run()
        port.commit()
    assert output == dict.fromkeys(conns, b"".join(b"%02d " % i for i in range(20)))
    assert sorted(closed) == conns
    assert port.dirty == 0
    assert not port.pressed


def test_slow_peers_never_take_all_send_frames(engine: FakeEngine, port: Port, handler: Recorder) -> None:
    engine.hold_output = True
    slow = [engine.connect(slot) for slot in range(100)]
    quick = engine.connect(200)
    run_all(port)
    for conn in slow:
        handler.conns[conn].send(bytes(HIGH))
        port.commit()
        engine.take()
    handler.conns[quick].send(b"still goes")
    port.commit()
    assert engine.sent() == {quick: b"still goes"}


def test_a_stopped_port_still_empties_its_overflow(engine: FakeEngine, port: Port, conn: Connection) -> None:
    payload = bytes(5 * HIGH)
    conn.send(payload)
    port.commit()
    port.stop()
    engine.eof(conn.id)  # stands before the DRAIN, and is for the next worker
    received = 0
    for _ in range(100):
        received += sum(len(command.value) for command in engine.take() if command.op is Op.SEND)
        engine.flush(conn.id)
        port.commit()
    assert received == len(payload)
    assert port.dirty == 0
    assert engine.produced - engine.consumed == 1
