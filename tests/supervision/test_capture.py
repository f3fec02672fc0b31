"""Parts of a capture beside its engines: the way of its memories to whoever asked, and the order of packets. What is
captured is in serving/test_captures.py."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from usnet_framework._native_capture import Captured
from usnet_framework.errors import ControlError
from usnet_framework.shards import control
from usnet_framework.shards.capture import CaptureOrders, Captures, _data_bytes
from usnet_framework.shards.capturemerge import HOLD_NS, Merger
from usnet_framework.shards.enginewords import Kind, Message

SHARDS = 600  # more descriptors than one message takes


class Engine:
    """Of one shard: it confirms what it is asked with `error`."""

    def __init__(self, number: int, error: int = 0) -> None:
        self.number = number
        self.asked: list[tuple[int, int]] = []  # serial of a capture, how many descriptors came along
        self._error = error
        self.capture = CaptureOrders(number, self._ask)

    def _ask(self, packet: bytes, fds: Sequence[int]) -> None:
        message = Message.read(packet)
        assert message is not None
        assert message.kind is Kind.CAPTURE
        self.asked.append((message.serial, len(fds)))
        asyncio.get_running_loop().call_soon(self.capture.confirmed, message.serial, self._error)


class Asker:
    def __init__(self) -> None:
        self.fds: Sequence[int] = ()
        self._hung_up = asyncio.Event()

    def answer(self, result: Any, fds: Sequence[int]) -> None:
        self.fds = [os.fstat(fd).st_size for fd in fds]

    async def gone(self) -> None:
        await self._hung_up.wait()

    def hang_up(self) -> None:
        self._hung_up.set()


REQUEST = {"snaplen": 100, "drops": False, "program": b""}


def test_engines_are_asked_and_asked_again_until_whoever_asked_hangs_up() -> None:
    async def run() -> None:
        engines, asker = [Engine(0), Engine(1)], Asker()
        serving = asyncio.create_task(Captures(lambda: engines).serve(REQUEST, asker))
        while not asker.fds:
            await asyncio.sleep(0)
        assert [engine.asked for engine in engines] == [[(1, 1)], [(1, 1)]]
        engines[1].capture.again()
        assert engines[1].asked == [(1, 1), (1, 1)]
        asker.hang_up()
        await serving
        engines[0].capture.again()  # it may have missed the end
        assert engines[0].asked[0] == (1, 1)
        assert {*engines[0].asked[1:]} == {(0, 0)}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "error", "why"),
    [
        (REQUEST | {"snaplen": 0}, 0, "no program of a filter, or no length of a packet was asked for"),
        (REQUEST | {"program": bytes(8)}, 0, "no program of a filter was asked for"),  # it does not return
        (REQUEST | {"program": bytes(7)}, 0, "no program of a filter, or no length of a packet was asked for"),
        ({}, 0, "the request lacks snaplen, drops or program"),
        (REQUEST, 24, "shard 0 cannot capture: Too many open files"),
    ],
)
def test_what_is_refused_leaves_nothing(request_: Mapping[str, Any], error: int, why: str) -> None:
    async def run() -> None:
        engines, before = [Engine(0, error)], set(os.listdir("/proc/self/fd"))
        captures = Captures(lambda: engines)
        for _ in range(2):
            with pytest.raises(ControlError, match=why):
                await captures.serve(request_, Asker())
        assert set(os.listdir("/proc/self/fd")) == before
        assert not engines[0].asked or engines[0].asked[-1] == (0, 0)

    asyncio.run(run())


def test_a_starting_server_has_nothing_to_capture() -> None:
    with pytest.raises(ControlError, match="the server is starting; try again when it is ready"):
        asyncio.run(Captures(list).serve(REQUEST, Asker()))


@pytest.mark.parametrize(("shards", "mebibytes"), [(1, 16), (4, 16), (5, 8), (16, 4), (1024, 2)])
def test_memories_share_what_there_is(shards: int, mebibytes: int) -> None:
    assert _data_bytes(shards) == mebibytes << 20


def test_descriptors_of_many_shards_arrive(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")

    async def many(request: Mapping[str, Any], asker: control.Asker) -> None:
        assert request["what"] == "all"
        with socket.socket() as one:
            asker.answer({"shards": list(range(SHARDS))}, [one.fileno()] * SHARDS)
        await asker.gone()

    async def refuse(request: Mapping[str, Any], asker: control.Asker) -> None:
        raise ControlError("no, because")

    def ask() -> None:
        with control.opened(path, "many", {"what": "all"}) as session:
            assert len({*session.fds}) == SHARDS
            assert all(os.fstat(fd).st_ino for fd in session.fds)
        with pytest.raises(ControlError, match=r"^refuse: no, because$"), control.opened(path, "refuse", {}):
            pass

    async def run() -> None:
        server = control.ControlServer(control.listen(path), {}, {"many": many, "refuse": refuse})
        await server.start()
        try:
            await asyncio.to_thread(ask)
        finally:
            server.close()

    asyncio.run(run())


class Memory:
    """Each read brings the next of these batches."""

    def __init__(self, *batches: list[int]) -> None:
        self._batches = [[Captured(time_ns, 0, 0, 0, 0, b"") for time_ns in batch] for batch in batches]

    def read(self) -> list[Captured]:
        return self._batches.pop(0) if self._batches else []


def test_packets_wait_for_older_ones_of_other_shards() -> None:
    merger = Merger([Memory([100, 300], [], [400]), Memory([200, 350], [], [250])])  # type: ignore[list-item]

    def times(now_ns: int | None) -> list[tuple[int, int]]:
        return [(placed.place, placed.captured.time_ns) for placed in merger.take(now_ns)]

    assert times(HOLD_NS + 220) == [(0, 100), (1, 200)]
    assert times(HOLD_NS + 300) == [(0, 300)]
    assert times(None) == [(1, 350), (1, 250), (0, 400)]  # one that was published too late comes where it can
