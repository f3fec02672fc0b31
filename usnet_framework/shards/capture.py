"""Captures, as the supervisor has them: `usnet-ctl capture` asks for one, engines copy packets, and usnet-ctl reads.

The supervisor makes a memory for each shard (a sealed memfd), writes into it what is wanted, sends it to the engine
and, over the control socket, to whoever asked, and does nothing more until that one hangs up. No packet passes through
it. So a reader that stops, or a filter that is slow, costs nobody but the reader: an engine that finds no room counts
what it leaves out. Workers have no part in it. An engine that comes after another one is asked again, and its memory
is the same, so a capture goes on over the death of engines, keepers and inline workers.

There is one capture at a time: each would cost engines another copy.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from usnet_framework._native_capture import memory_bytes, write_head
from usnet_framework.errors import ControlError
from usnet_framework.installed import VERSION
from usnet_framework.shards import limits
from usnet_framework.shards.enginewords import MESSAGE, Kind

log = logging.getLogger("usnet.supervisor")

DATA_BYTES_ALL = 64 << 20
DATA_BYTES = (2 << 20, 16 << 20)
"""For packets: of all shards together, and what one gets at least and at most. 16 MiB are 100,000 small packets, some
tenths of a second of the busiest shard; a reader looks fifty times a second."""
ANSWER_S = 2.0  # of an engine; one that is being replaced is asked again when it is there
PATIENCE_S = 0.5  # with another capture, which may just be ending


class CaptureOrders:
    """What the engines of one shard are asked."""

    def __init__(self, shard: int, ask: Callable[[bytes, Sequence[int]], object]) -> None:
        """`ask` sends a request to the engine, if there is one."""
        self._shard = shard
        self._ask = ask
        self._orders: list[tuple[bytes, Sequence[int]]] = []  # what was asked last, behind an end that nobody confirmed
        self._number = 0
        self._answer: asyncio.Future[int] | None = None

    def begin(self, number: int, fd: int, size: int) -> asyncio.Future[int]:
        """Copy into this memory. The future is an errno, or 0, once an engine has answered."""
        return self._give(number, MESSAGE.pack(Kind.CAPTURE, 0, number, 0, size, 0), [fd])

    def end(self) -> asyncio.Future[int]:
        """Copy no more, of which there is nothing left to do once an engine has answered."""
        return self._give(0, MESSAGE.pack(Kind.CAPTURE, 0, 0, 0, 0, 0), [])

    def _give(self, number: int, packet: bytes, fds: Sequence[int]) -> asyncio.Future[int]:
        is_end_owed = number != 0 and self._answer is not None and not self._answer.done()
        self._number = number
        self._orders = [*(self._orders if is_end_owed else ()), (packet, fds)]
        self._answer = asyncio.get_running_loop().create_future()
        self.again()
        return self._answer

    def again(self) -> None:
        """There is another engine: it may have missed what was asked, and go on with the capture before."""
        for order in self._orders:
            self._ask(*order)

    def confirmed(self, number: int, error: int) -> None:
        if number != self._number or self._answer is None:
            return
        self._orders = self._orders[-1:]
        if not self._answer.done():
            self._answer.set_result(error)
        elif error:
            log.warning("packets are not captured: %s", os.strerror(error), extra={"shard": self._shard})


class CapturedShard(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def capture(self) -> CaptureOrders: ...


class Asker(Protocol):
    """Whoever asked (control.Asker)."""

    @property
    def pid(self) -> int: ...
    def answer(self, result: Any, fds: Sequence[int]) -> None: ...
    async def gone(self) -> None: ...


class Captures:
    """Those of a server, one at a time."""

    def __init__(self, shards: Callable[[], Sequence[CapturedShard]]) -> None:
        self._shards = shards
        self._one = asyncio.Lock()
        self._number = 0
        self._pid = 0  # of whoever asked for the one that runs

    async def serve(self, request: Mapping[str, Any], asker: Asker) -> None:
        """Until whoever asked hangs up, and engines copy no more. ControlError: it is refused."""
        shards = self._shards()
        if not shards:
            raise ControlError("the server is starting; try again when it is ready")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._one.acquire()
        except TimeoutError:
            who = f" (process {self._pid})" if self._pid else ""  # else it is of another PID namespace
            raise ControlError(f"another capture runs; end that one first{who}") from None
        self._pid = asker.pid
        try:
            with ExitStack() as opened:
                await self._serve(shards, request, asker, opened)
        finally:
            self._one.release()

    async def _serve(
        self, shards: Sequence[CapturedShard], request: Mapping[str, Any], asker: Asker, opened: ExitStack
    ) -> None:
        size = memory_bytes(_data_bytes(len(shards)))
        fds = [_memory(size, request, opened) for _ in shards]
        limits.check_spare("its memories")
        self._number += 1
        try:
            answers = [shard.capture.begin(self._number, fd, size) for shard, fd in zip(shards, fds, strict=True)]
            unanswered = await _answered(shards, answers)
            numbers = [shard.number for shard in shards]
            result = {"shards": numbers, "unanswered": unanswered, "bytes": size}
            asker.answer(result | {"version": VERSION}, fds)
            log.info("packets are being captured")
            await asker.gone()
        finally:
            ended = [shard.capture.end() for shard in shards]
        await asyncio.wait(ended, timeout=ANSWER_S)
        log.info("the capture has ended")


async def _answered(shards: Sequence[CapturedShard], answers: Sequence[asyncio.Future[int]]) -> list[int]:
    """The shards that have not answered in time. What their engines say later is logged if it is an error.
    ControlError: one cannot."""
    await asyncio.wait(answers, timeout=ANSWER_S)
    unanswered = []
    for shard, answer in zip(shards, answers, strict=True):
        if answer.cancel():
            unanswered.append(shard.number)
        elif answer.result():
            raise ControlError(f"shard {shard.number} cannot capture: {os.strerror(answer.result())}")
    return unanswered


def _data_bytes(shards: int) -> int:
    """Of one shard: a power of two."""
    least, most = DATA_BYTES
    share = DATA_BYTES_ALL // shards
    return min(most, max(least, 1 << (share.bit_length() - 1)))


def _memory(size: int, request: Mapping[str, Any], opened: ExitStack) -> int:
    """Its descriptor, which is closed with `opened`. ControlError: there is none, or the request makes no sense."""
    snaplen, drops, program = (request.get(name) for name in ("snaplen", "drops", "program"))
    if not (isinstance(snaplen, int) and isinstance(drops, bool) and isinstance(program, bytes)):
        raise ControlError("the request lacks snaplen, drops or program")
    try:
        fd = os.memfd_create("usnet-capture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        opened.callback(os.close, fd)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        with mmap.mmap(fd, size) as memory:
            write_head(memory, snaplen, drops, program)
    except OSError as error:
        raise ControlError(f"there is no memory for it: {error.strerror}") from None
    except ValueError as error:
        raise ControlError(f"{error} was asked for") from None
    return fd
