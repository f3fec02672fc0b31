"""Packets of all shards of a capture in the order of their time, and what is said of each."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from usnet_framework._native import STACK_COUNTERS
from usnet_framework._native_capture import FOREIGN, Captured, CaptureMemory

HOLD_NS = 20_000_000
"""How long a packet waits for older ones of other shards. An engine publishes a packet within its turn, microseconds
after it has noted the time; one that lost its core meanwhile for longer than this comes out of order."""
AHEAD_NS = 1_000_000_000  # of the clock: no engine notes such a time
READS_AT_ONCE = 17  # of one shard, before the others have their turn: all that its memory holds, and more

_DROP = "drop_"
REASONS = [(name.removeprefix(_DROP), text) for name, text in STACK_COUNTERS if name.startswith(_DROP)]
"""(name, meaning) of each, in the order of their bits, from bit 1 on."""


class Placed(NamedTuple):
    """A packet, and the place of its shard."""

    place: int
    captured: Captured


class Merger:
    def __init__(self, memories: Sequence[CaptureMemory], clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock`: the one that engines have, in nanoseconds."""
        self._memories = memories
        self._clock = clock
        self._waiting: list[deque[Captured]] = [deque() for _ in memories]

    def take(self, is_last: bool = False) -> Iterator[Placed]:
        """What was read is handed out when it is older than HOLD_NS, or at once (`is_last`). OSError: an engine has
        written nonsense."""
        until_ns = None if is_last else self._clock() - HOLD_NS
        for memory, waiting in zip(self._memories, self._waiting, strict=True):
            for _ in range(READS_AT_ONCE):
                if not (packets := self._read(memory)):
                    break
                waiting.extend(packets)
        due = [_due(place, waiting, until_ns) for place, waiting in enumerate(self._waiting)]
        return merge(*due, key=lambda placed: placed.captured.time_ns)

    def _read(self, memory: CaptureMemory) -> list[Captured]:
        """A packet of the future would wait, with all behind it, until then."""
        packets = list(memory.read())
        if packets and max(packet.time_ns for packet in packets) > self._clock() + AHEAD_NS:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return packets


def _due(place: int, waiting: deque[Captured], until_ns: int | None) -> Iterator[Placed]:
    while waiting and (until_ns is None or waiting[0].time_ns <= until_ns):
        yield Placed(place, waiting.popleft())


def comment(captured: Captured) -> str:
    """Its connection, as usnet-ctl conns has it, and why it was dropped."""
    parts = [f"connection {captured.conn}"] if captured.conn else []
    if captured.flags & FOREIGN:
        parts.append("came through the queue of another shard")
    parts += [f"dropped: {name} ({text})" for name, text in reasons(captured.drops)]
    return "; ".join(parts)


def reasons(drops: int) -> list[tuple[str, str]]:
    return [reason for bit, reason in enumerate(REASONS, 1) if drops >> bit & 1]
