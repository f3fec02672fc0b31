"""Parts of a capture beside its engines: the way of its memories to whoever asked, and the order of packets. What is
captured is in serving/test_captures.py."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.limits import limit_of_descriptors, no_descriptor_left

from usnet_framework._native_capture import Captured
from usnet_framework.errors import ControlError, StartupError
from usnet_framework.shards import capture, control
from usnet_framework.shards.capture import CaptureOrders, Captures, _data_bytes
from usnet_framework.shards.capturemerge import AHEAD_NS, HOLD_NS, Merger
from usnet_framework.shards.enginewords import Kind, Message
from usnet_framework.shards.limits import SPARE

SHARDS = 600  # more descriptors than one message takes


class Engine:
    """Of one shard: it confirms what it is asked with `error`."""

    def __init__(self, number: int, error: int = 0, is_silent: bool = False) -> None:
        self.number = number
        self.asked: list[tuple[int, int]] = []  # serial of a capture, how many descriptors came along
        self._error = error
        self._is_silent = is_silent
        self.capture = CaptureOrders(number, self._ask)

    def _ask(self, packet: bytes, fds: Sequence[int]) -> None:
        message = Message.read(packet)
        assert message is not None
        assert message.kind is Kind.CAPTURE
        self.asked.append((message.serial, len(fds)))
        if not self._is_silent:
            asyncio.get_running_loop().call_soon(self.capture.confirmed, message.serial, self._error)


class Asker:
    pid = 7

    def __init__(self) -> None:
        self.result: Any = None
        self.fds: Sequence[int] = ()
        self._hung_up = asyncio.Event()

    def answer(self, result: Any, fds: Sequence[int]) -> None:
        self.result = result
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
        assert [engine.asked for engine in engines] == [[(1, 1), (0, 0)], [(1, 1), (1, 1), (0, 0)]]
        engines[0].capture.again()  # it may have missed the end
        assert engines[0].asked == [(1, 1), (0, 0), (0, 0)]

    asyncio.run(run())


def test_an_engine_that_has_not_heard_of_an_end_is_told_before_the_next_capture_begins() -> None:
    """The next one goes on with the capture before, and refuses another one."""

    async def run() -> None:
        engine = Engine(0, is_silent=True)
        engine.capture.begin(1, 0, 1)
        engine.capture.end()
        engine.capture.begin(2, 0, 1)
        engine.asked.clear()
        engine.capture.again()
        assert engine.asked == [(0, 0), (2, 1)]
        engine.capture.confirmed(0, 0)
        engine.capture.confirmed(2, 0)
        engine.asked.clear()
        engine.capture.again()
        assert engine.asked == [(2, 1)]

    asyncio.run(run())


@pytest.mark.parametrize("error", [0, 24])
def test_a_silent_engine_is_named_and_its_late_error_is_logged(
    error: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        engines, asker = [Engine(0), Engine(1, is_silent=True)], Asker()
        serving = asyncio.create_task(Captures(lambda: engines).serve(REQUEST, asker))
        while not asker.fds:
            await asyncio.sleep(0)
        assert (asker.result["shards"], asker.result["unanswered"]) == ([0, 1], [1])
        engines[1].capture.confirmed(1, error)
        asker.hang_up()
        await serving

    monkeypatch.setattr(capture, "ANSWER_S", 0.01)
    asyncio.run(run())
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == (["packets are not captured: Too many open files"] if error else [])


def test_descriptors_are_left_to_replace_what_dies_with() -> None:
    engine, asker = Engine(0), Asker()
    asker.hang_up()
    refused = pytest.raises(StartupError, match=r"^its memories: \d+ of \d+ descriptors would be left")
    with limit_of_descriptors(SPARE // 2), refused:
        asyncio.run(Captures(lambda: [engine]).serve(REQUEST, asker))
    assert not engine.asked


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


def test_whoever_asks_may_have_too_few_descriptors() -> None:
    """The kernel leaves out those that do not fit, and nothing more comes that could be waited for."""
    fds: list[int] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"."], [ours.fileno()] * 3)
        with no_descriptor_left(but=1), pytest.raises(ControlError, match=r"raise the limit \(ulimit -n\)"):
            control._receive(ours, 1, fds)
        assert len(fds) == 1
        control._close_all(fds)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (control._refusal("32 others are asking; try again"), r"^capture: 32 others are asking; try again$"),
        (control._frame({"error": "no, because"}), r"^capture: no, because$"),
        (control._frame({"ok": True, "result": "done"}), "no usnet server answers there"),
        (control._frame({"ok": True, "part": []}), "no usnet server answers there"),
        (control.LENGTH.pack(control.REPLY_BYTES_MAX + 1), "no usnet server answers there"),
        (control._frame({"ok": True, "result": {"shards": [0]}}), "no server answers; it was killed, or is stopping"),
    ],
)
def test_what_answers_a_capture_may_have_hung_up_before_it_was_asked(
    answer: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a server that has as many clients as it can have; or it is none of ours."""
    path = str(tmp_path / "c.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def hang_up(client: socket.socket, what: str) -> int:
            with listener.accept()[0] as server:
                server.sendall(answer)
            return os.getpid()

        monkeypatch.setattr(control, "_check_who_answers", hang_up)
        with pytest.raises(ControlError, match=why), control.opened(path, "capture", {}):
            pass


def test_a_stream_that_fails_is_told_and_one_that_is_left_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, left = str(tmp_path / "control"), asyncio.Event()

    async def fail(request: Mapping[str, Any], asker: control.Asker) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def answer_late(request: Mapping[str, Any], asker: control.Asker) -> None:
        assert asker.pid == os.getpid()
        await asker.gone()
        try:
            asker.answer({"shards": []}, [])
        finally:
            left.set()

    def ask() -> None:
        why = r"^fail: the server failed to answer \(OSError\); its log says more$"
        with pytest.raises(ControlError, match=why), control.opened(path, "fail", {}):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(control._frame({"command": "late"}))

    async def run() -> None:
        server = control.ControlServer(control.listen(path), {}, {"fail": fail, "late": answer_late})
        await server.start()
        try:
            await asyncio.to_thread(ask)
            await left.wait()
        finally:
            server.close()

    asyncio.run(run())
    assert [record.exc_info[1].errno for record in caplog.records if record.exc_info] == [errno.EMFILE]  # type: ignore[union-attr]


class Memory:
    """Each read brings the next of these batches."""

    def __init__(self, *batches: list[int]) -> None:
        self._batches = [[Captured(time_ns, 0, 0, 0, 0, b"") for time_ns in batch] for batch in batches]

    def read(self) -> list[Captured]:
        return self._batches.pop(0) if self._batches else []


def test_packets_wait_for_older_ones_of_other_shards() -> None:
    now_ns = 0
    memories: list[Any] = [Memory([100, 300], [], [400]), Memory([200, 350], [], [250])]
    merger = Merger(memories, clock=lambda: now_ns)

    def times(is_last: bool = False) -> list[tuple[int, int]]:
        return [(placed.place, placed.captured.time_ns) for placed in merger.take(is_last)]

    now_ns = HOLD_NS + 220
    assert times() == [(0, 100), (1, 200)]
    now_ns = HOLD_NS + 300
    assert times() == [(0, 300)]
    assert times(is_last=True) == [(1, 350), (1, 250), (0, 400)]  # one that was published too late comes where it can


@pytest.mark.parametrize("is_last", [False, True])
def test_a_packet_of_the_future_is_nonsense(is_last: bool) -> None:
    """All behind it would wait until then."""

    def take(time_ns: int) -> list[int]:
        memories: list[Any] = [Memory([0, time_ns])]
        return [placed.captured.time_ns for placed in Merger(memories, clock=lambda: HOLD_NS).take(is_last)]

    latest_ns = HOLD_NS + AHEAD_NS
    assert take(latest_ns) == [0, latest_ns][: 1 + is_last]
    with pytest.raises(OSError, match="Invalid argument"):
        take(latest_ns + 1)
