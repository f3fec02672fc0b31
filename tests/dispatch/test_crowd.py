"""What waits in a worker is bounded for all connections together: output for slow peers, input for callbacks (P5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.fake_engine import Event, FakeEngine, Op, run_all
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler, SendBufferFull
from usnet_framework._dispatch import Port

MIB = 1 << 20
LIMIT = MIB
CONNECTIONS = 100
SLICES = 8


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A worker may put 1 MiB aside; peers take nothing until the test says so."""
    with FakeEngine(buffer_mib=LIMIT // MIB, hold_max=SLICES) as engine:
        engine.hold_output = True
        yield engine


@pytest.fixture
def conns(engine: FakeEngine, port: Port, handler: Recorder) -> list[Connection]:
    numbers = [engine.connect(slot) for slot in range(CONNECTIONS)]
    run_all(port)
    return [handler.conns[number] for number in numbers]


def exchange(engine: FakeEngine, port: Port, conn: Connection | None = None) -> int:
    """The engine takes what was committed, the peer of `conn` reads it all, and DRAINs come for peers that have
    nothing to read; how many there were."""
    port.commit()
    drains = [command.conn for command in engine.take() if command.op is Op.WANT_DRAIN]
    if conn is not None:
        engine.flush(conn.id)
        drains = [*(number for number in drains if number != conn.id), conn.id]
    told = [number for number in drains if not engine.waiting(number)]
    for number in told:
        engine.post(Event.DRAIN, number)
    run_all(port)
    return len(told)


def empty(engine: FakeEngine, port: Port, conn: Connection) -> None:
    while conn.write_buffer_size:
        exchange(engine, port, conn)


def sums_are_right(port: Port, conns: list[Connection]) -> bool:
    return port.statistics()["overflow_bytes"] == sum(conn.statistics().overflow_bytes for conn in conns)


def fill(port: Port, conns: list[Connection], size: int) -> int:
    """Send once to each; how many were refused."""
    refused = 0
    for conn in conns:
        try:
            conn.send(bytearray(size))
        except SendBufferFull:
            refused += 1
    return refused


def test_many_slow_peers_hold_no_more_than_the_limit(port: Port, conns: list[Connection]) -> None:
    refused = sum(fill(port, conns, 100_000) for _ in range(10))
    statistics = port.statistics()
    assert refused > 900
    assert LIMIT // 2 < statistics["overflow_held"] <= LIMIT
    assert sums_are_right(port, conns)
    port.commit()
    assert port.statistics()["sends_crowded"] == refused
    assert port.statistics()["sends_full"] == 0


def test_small_pieces_are_counted_as_what_they_take(port: Port, conns: list[Connection]) -> None:
    """A byte that waits takes an object: sixty-four times as much."""
    conns[0].send(bytearray(70_000))
    taken = port.statistics()["overflow_bytes"]
    while fill(port, conns[:1], 1) == 0:
        pass
    assert port.statistics()["overflow_bytes"] - taken < LIMIT // 64


def test_a_piece_partly_sent_is_held_whole(engine: FakeEngine, port: Port, conns: list[Connection]) -> None:
    conns[0].send(bytes(200_000))
    before = port.statistics()
    exchange(engine, port, conns[0])
    after = port.statistics()
    assert after["overflow_bytes"] < before["overflow_bytes"]
    assert after["overflow_held"] == before["overflow_held"] >= 200_000
    empty(engine, port, conns[0])
    assert port.statistics()["overflow_held"] == 0


def test_a_single_large_send_is_taken(port: Port, conns: list[Connection]) -> None:
    """While less than half of the limit waits; the others then have their frames."""
    assert conns[0].send(bytes(5 * LIMIT)) is False
    with pytest.raises(SendBufferFull, match="--buffer-limit"):
        conns[0].send(b"more")
    with pytest.raises(SendBufferFull):
        conns[1].send(bytes(100_000))
    assert conns[1].send(bytes(10_000)) is True


def test_the_share_of_one(port: Port, conns: list[Connection]) -> None:
    conns[0].send(bytearray(600_000))
    free = LIMIT - port.statistics()["overflow_held"]
    with pytest.raises(SendBufferFull):
        conns[1].send(bytearray(free // 2))
    assert conns[1].send(bytearray(free // 2 - 100)) is False
    assert sums_are_right(port, conns)


@pytest.mark.parametrize("data", [bytes(10**6), bytearray(10**6), [bytes(500_000)] * 2, (b"x" for _ in range(10**5))])
def test_a_refused_send_takes_nothing(engine: FakeEngine, port: Port, conns: list[Connection], data: bytes) -> None:
    conns[0].send(bytes(600_000))
    port.commit()
    engine.take()
    with pytest.raises(SendBufferFull):
        conns[1].send(data)
    port.commit()
    assert engine.take() == []
    assert conns[1].write_buffer_size == 0


def test_who_was_refused_tries_again_when_less_waits(engine: FakeEngine, port: Port, handler: Recorder,
                                                     conns: list[Connection]) -> None:  # fmt: skip
    slow, *others = conns
    slow.send(bytes(600_000))
    assert fill(port, others, 500_000) == len(others)
    exchange(engine, port)
    assert "drain" not in handler.names()
    assert engine.is_dirty(others[0].id), "no command promises its on_drain"
    assert port.pending_work
    empty(engine, port, slow)
    while exchange(engine, port):
        pass
    drained = [call[1] for call in handler.calls if call[0] == "drain" and call[1] != slow.id]
    assert drained == [conn.id for conn in others], "each once, in the order in which they were refused"
    assert port.dirty == 0


def test_only_as_many_try_again_as_there_is_room_for(engine: FakeEngine, port: Port, handler: Recorder,
                                                     conns: list[Connection]) -> None:  # fmt: skip
    slow, *others = conns
    handler.on_drain = lambda conn: conn.send(bytes(600_000)) if conn is not slow else None  # type: ignore[method-assign]
    port.close()
    port = engine.port(handler)
    for conn in conns:
        engine.eof(conn.id)
    run_all(port)
    slow, *others = [handler.conns[conn.id] for conn in conns]
    slow.send(bytes(600_000))
    assert fill(port, others, 500_000) == len(others)
    empty(engine, port, slow)
    while exchange(engine, port):
        pass
    assert port.statistics()["overflow_held"] <= LIMIT
    assert [conn for conn in others if conn.write_buffer_size] == others[:1]
    port.close()


@pytest.mark.parametrize("end", ["close", "abort", "disconnect", "handler"])
def test_who_waits_for_room_may_end(engine: FakeEngine, port: Port, handler: Recorder, conns: list[Connection],
                                    end: str) -> None:  # fmt: skip
    slow, *others = conns
    slow.send(bytes(600_000))
    fill(port, others, 500_000)
    for conn in others[::2]:
        if end == "disconnect":
            engine.disconnect(conn.id)
        elif end == "handler":
            conn.send(bytes(1000))
            engine.hold_output = False  # its peer reads
        else:
            getattr(conn, end)()
    run_all(port)
    empty(engine, port, slow)
    while exchange(engine, port):
        pass
    drained = {call[1] for call in handler.calls if call[0] == "drain"}
    left = others if end == "handler" else others[1::2]
    assert drained - {slow.id} == {conn.id for conn in left}
    assert port.dirty == 0


@pytest.mark.parametrize("end", ["close", "abort", "disconnect", "reads", "port"])
def test_nothing_is_counted_after_the_end(engine: FakeEngine, port: Port, conns: list[Connection], end: str) -> None:
    fill(port, conns, 100_000)
    assert port.statistics()["overflow_held"] > LIMIT // 2
    if end == "port":
        port.close()  # it asserts that the sums are zero
        return
    for conn in conns:
        if end == "disconnect":
            engine.disconnect(conn.id)
        elif end != "reads":
            getattr(conn, end)()
    run_all(port)
    while end in ("reads", "close") and port.statistics()["overflow_held"]:
        for conn in conns:
            exchange(engine, port, conn)
    while port.pressed:
        exchange(engine, port)
    statistics = port.statistics()
    assert (statistics["overflow_held"], statistics["overflow_bytes"]) == (0, 0)
    assert port.dirty == 0


def test_a_successor_starts_with_nothing(engine: FakeEngine, port: Port, conns: list[Connection]) -> None:
    fill(port, conns, 100_000)
    port.commit()
    port.close()
    successor = engine.port(Recorder())
    assert successor.statistics()["overflow_held"] == 0
    successor.close()


def test_a_port_that_is_stopped_lets_its_successor_tell_them(engine: FakeEngine, port: Port, handler: Recorder,
                                                             conns: list[Connection]) -> None:  # fmt: skip
    slow, *others = conns
    slow.send(bytes(600_000))
    fill(port, others, 500_000)
    port.commit()
    engine.take()
    port.stop()
    for _ in others:
        port.commit()
    wanted = [command.conn for command in engine.take() if command.op is Op.WANT_DRAIN]
    assert wanted == [conn.id for conn in others]


class Slow(Handler):
    """Its callbacks wait until `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.received: dict[int, int] = {}
        self.reasons: list[CloseReason] = []

    async def on_data(self, conn: Connection, data: memoryview) -> None:
        await self.go.wait()
        self.received[conn.id] = self.received.get(conn.id, 0) + len(data)

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.reasons.append(reason)


def test_input_for_slow_callbacks(engine: FakeEngine) -> None:
    """At half of the limit the engine is told to stop at once; beyond all of it connections are reset."""

    async def test() -> None:
        port = engine.port(handler)
        conns = [engine.connect(slot) for slot in range(CONNECTIONS)]
        aborted: list[int] = []
        paused: list[int] = []
        sent = dict.fromkeys(conns, 0)
        for _ in range(12):
            for conn in conns:
                if conn not in aborted:
                    engine.data(conn, bytes(2000))
                    sent[conn] += 2000
                    port.run()
                    engine.take_releases()
                    commands = engine.take()
                    aborted += [command.conn for command in commands if command.op is Op.ABORT]
                    paused += [command.conn for command in commands if command.op is Op.PAUSE]
            port.commit()
            assert port.statistics()["inbox_held"] <= LIMIT
            assert engine.segment.seat_status(0).inbox_held == port.statistics()["inbox_held"]
        assert sorted(paused) == conns
        assert 10 < len(aborted) < CONNECTIONS * 3 // 4, "each that is reset makes room for others"
        assert port.statistics()["inputs_crowded"] == len(aborted)
        for conn in aborted:
            engine.disconnect(conn, CloseReason.ERROR)
        handler.go.set()
        while port.pending_work or port.statistics()["inbox_held"] or len(handler.reasons) < len(aborted):
            port.run()
            port.commit()
            engine.take()
            engine.take_releases()
            await asyncio.sleep(0)
        left = set(conns) - set(aborted)
        assert {conn: handler.received[conn] for conn in left} == {conn: sent[conn] for conn in left}
        assert handler.reasons == [CloseReason.ERROR] * len(aborted)
        port.close()

    handler = Slow()
    asyncio.run(asyncio.wait_for(test(), 20))
