"""Virtual time, and cables in it: what a direction of a cable does to the frames that pass.

A `Clock` is a queue of what is to happen. A `Wire` is one direction of a cable: it draws from a generator of its own,
so that equal seeds have equal losses, and what happens in one direction changes nothing in the other. Rate is modelled
without an event per packet: a wire knows until when it is busy, and drops what its queue has no room for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

from usnet_framework.testing import offload
from usnet_framework.testing.offload import Frame

SECOND_NS = 1_000_000_000
ROUTER_MAC = bytes.fromhex("0200000000fe")


class Clock:
    """Virtual time in nanoseconds, and what is to happen when. Equal times: in the order in which it was asked for."""

    def __init__(self, begin_s: float = 1000.0) -> None:
        self.begin_ns = self.now_ns = round(begin_s * SECOND_NS)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    @property
    def now_s(self) -> float:
        """Seconds since the clock was made."""
        return (self.now_ns - self.begin_ns) / SECOND_NS

    def at(self, when_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call it then; what is past happens now."""
        self._count += 1
        heappush(self._queue, (max(when_ns, self.now_ns), self._count, call, arguments))

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_ns + round(seconds * SECOND_NS), call, *arguments)

    def next_ns(self) -> int | None:
        """When the next thing happens; None: nothing ever will."""
        return self._queue[0][0] if self._queue else None

    def step(self) -> None:
        """Go on to the next time at which something happens, and let all of it happen."""
        queue = self._queue
        now_ns = self.now_ns = queue[0][0]
        while queue and queue[0][0] == now_ns:
            _, _, call, arguments = heappop(queue)
            call(*arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one direction of a cable treats packets. The default is a perfect one. Probabilities are from 0 to 1."""

    delay_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    """One byte of the packet is changed. Not of ARP, which has no checksum, nor of the Ethernet header."""
    reorder: float = 0.0
    """It comes later than it should, by up to `reorder_s`; others overtake it."""
    reorder_s: float = 0.01
    mark: float = 0.0
    """Of packets whose sender can be told: "congestion experienced" (RFC 3168)."""
    rate_bps: float = 0.0
    """Bits per second; 0: no limit."""
    queue_bytes: int = 64 * 1024
    """What may wait because of the rate; more is dropped."""
    mtu: int = 0
    """Bytes of an IP packet that fits, if less than the stack's own; others are dropped. 0: all that it sends."""
    announce_mtu: bool = True
    """A router says that a packet was too large; otherwise it vanishes."""


class Wire:
    """One direction of a cable. `deliver` gets what arrives; `answer` what a router sends back."""

    def __init__(
        self, clock: Clock, seed: str, deliver: Callable[[Frame], None], answer: Callable[[Frame], None]
    ) -> None:
        self.clock = clock
        self.deliver = deliver
        self.answer = answer
        self.random = random.Random(seed)
        self.profile = Profile()
        self.is_cut = False
        self.sent = 0
        self.lost = 0
        self._free_ns = 0  # when the last packet has left

    def send(self, frame: Frame) -> None:
        """A frame enters; whatever comes of it arrives in its time."""
        profile, draw = self.profile, self.random.random
        self.sent += 1
        if self.is_cut or (profile.loss and draw() < profile.loss):
            self.lost += 1
            return
        if profile.mtu and offload.packet_bytes(frame) > profile.mtu:
            self._too_big(frame)
            return
        if profile.rate_bps:
            wait_ns = self._transmit(offload.length_of(frame))
            if wait_ns is None:
                self.lost += 1
                return
        else:
            wait_ns = 0
        if profile.corrupt or profile.reorder or profile.duplicate or profile.mark:
            self._mistreat(frame, wait_ns)
        elif wait_ns or profile.delay_s:
            self._arrive(frame, wait_ns)
        else:
            self.deliver(frame)

    def _arrive(self, frame: Frame, wait_ns: int) -> None:
        clock = self.clock
        clock.at(clock.now_ns + wait_ns + int(self.profile.delay_s * SECOND_NS), self.deliver, frame)

    def _transmit(self, length: int) -> int | None:
        """How long until it has left; None: the queue is full."""
        now_ns, rate = self.clock.now_ns, self.profile.rate_bps
        begin_ns = max(now_ns, self._free_ns)
        if (begin_ns - now_ns) * rate > self.profile.queue_bytes * 8 * SECOND_NS:
            return None
        self._free_ns = begin_ns + int(length * 8 * SECOND_NS / rate)
        return self._free_ns - now_ns

    def _mistreat(self, frame: Frame, wait_ns: int) -> None:
        profile, draw = self.profile, self.random.random
        copies = 2 if draw() < profile.duplicate else 1
        for _ in range(copies):
            late_ns = int(draw() * profile.reorder_s * SECOND_NS) if draw() < profile.reorder else 0
            if draw() < profile.mark:
                frame = self._marked(frame)
            if draw() < profile.corrupt:
                self.lost += 1
                for piece in offload.complete(frame):
                    self._arrive(self._corrupted(piece), wait_ns + late_ns)
            else:
                self._arrive(frame, wait_ns + late_ns)

    @staticmethod
    def _marked(frame: Frame) -> Frame:
        return offload.marked(frame) if isinstance(frame, bytes) else replace(frame, data=offload.marked(frame.data))

    def _corrupted(self, frame: bytes) -> bytes:
        if frame[12:14] == b"\x08\x06":
            return frame
        at = self.random.randrange(14, len(frame))
        return frame[:at] + bytes([frame[at] ^ self.random.randrange(1, 256)]) + frame[at + 1 :]

    def _too_big(self, frame: Frame) -> None:
        self.lost += 1
        if self.profile.announce_mtu:
            self.answer(offload.too_big(offload.complete(frame)[0], self.profile.mtu, ROUTER_MAC))
