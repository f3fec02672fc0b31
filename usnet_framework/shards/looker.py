"""Asks the engine of one shard what it knows of its connections and its link (native/src/engine/look.h).

Each question goes with a file in memory of its own, into which the engine writes at most LOOK_ENTRIES entries, so that
an answer that comes too late harms nobody. One question is under way at a time. An engine that has not answered within
ANSWER_S is not asked again before it has: it is stopped, or a worker inline is busy with a callback. When an engine
dies over a question, the one that comes after it is asked.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from usnet_framework._native import LOOK_ENTRIES, LOOK_FIELDS, LOOK_KINDS
from usnet_framework.errors import ControlError
from usnet_framework.shards.enginewords import MESSAGE, Kind
from usnet_framework.shards.lookwords import UNKNOWN, Words

ANSWER_S = 1.0  # a slice takes a fraction of a millisecond
TRIES = 2
SLICES_MAX = 1024
"""Of one table: 65536 places for neighbours in parts of LOOK_ENTRIES, and twice that."""
END = UNKNOWN
SILENT = "its network process does not answer"

Ask = Callable[[bytes, Sequence[int]], bool]
"""Sends a request to the engine, if there is one, and says whether it did."""


class NoAnswer(ControlError):
    """The engine could not be asked, or has no such table; the text says why."""


@dataclass(frozen=True)
class _Answer:
    count: int
    error: int
    position: int


class Looker:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._serial = 0
        self._waiting: asyncio.Future[_Answer | None] | None = None
        self._owed = False  # an answer, to somebody who has waited long enough

    async def connections(self, ids: Sequence[int]) -> dict[int, Words]:
        """Of those that are alive, by id; at most LOOK_ENTRIES at once. NoAnswer."""
        entries, _ = await self._question("conns", 0, ids)
        return {entry["id"]: entry for entry in entries}

    async def table(self, kind: str) -> AsyncIterator[list[Words]]:
        """All entries of a table, in parts. NoAnswer."""
        position = 0
        for _ in range(SLICES_MAX):
            entries, position = await self._question(kind, position, ())
            yield entries
            if position == END:
                return

    def answered(self, serial: int, count: int, error: int, position: int) -> None:
        """What the engine says; it may be about a question that nobody waits for any more."""
        self._owed = False
        if serial == self._serial:
            self._settle(_Answer(count, error, position))

    def again(self) -> None:
        """Another engine serves: the last one answers no more."""
        self._owed = False
        self._settle(None)

    def _settle(self, answer: _Answer | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    async def _question(self, kind: str, position: int, ids: Sequence[int]) -> tuple[list[Words], int]:
        async with self._turn:
            for _ in range(TRIES):
                if self._owed:
                    raise NoAnswer(SILENT)
                found = await self._try(kind, position, ids)
                if found is not None:
                    return found
        raise NoAnswer("its network process dies over the question")

    async def _try(self, kind: str, position: int, ids: Sequence[int]) -> tuple[list[Words], int] | None:
        """None: another engine serves now."""
        try:
            file = os.memfd_create("usnet-look", os.MFD_CLOEXEC)
        except OSError as error:
            raise NoAnswer(f"no file for its answer: {error.strerror}") from None
        try:
            os.write(file, struct.pack(f"<{len(ids)}Q", *ids))
            os.lseek(file, 0, os.SEEK_SET)
            answer = await self._send(kind, position, file)
            if answer is None:
                return None
            if answer.error:
                raise NoAnswer(os.strerror(answer.error))
            return _entries(kind, file, len(ids), answer.count), answer.position
        finally:
            os.close(file)

    async def _send(self, kind: str, position: int, file: int) -> _Answer | None:
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        self._waiting = asyncio.get_running_loop().create_future()
        sent = self._ask(MESSAGE.pack(Kind.LOOK, LOOK_KINDS[kind], self._serial, 0, position, 0), [file])
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._waiting
        except TimeoutError:
            self._owed = sent
            raise NoAnswer(SILENT) from None


def _entries(kind: str, file: int, skip: int, count: int) -> list[Words]:
    """As many as are whole."""
    fields = LOOK_FIELDS[kind]
    entry = struct.Struct(f"<{len(fields)}Q")
    data = os.pread(file, min(count, LOOK_ENTRIES) * entry.size, skip * 8)
    whole = len(data) - len(data) % entry.size
    return [dict(zip(fields, words, strict=True)) for words in entry.iter_unpack(data[:whole])]
