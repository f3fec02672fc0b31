"""A shard whose worker runs the engine itself: its connections die with it, and the next one starts on a fresh segment.

The listening sockets stay open in the supervisor, so connections that nobody accepted yet wait for the next worker.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from usnet_framework.errors import StartupError
from usnet_framework.shards.enginewords import InlineWords
from usnet_framework.shards.listeners import Listener
from usnet_framework.shards.messages import Message
from usnet_framework.shards.ownstack import StackSetup
from usnet_framework.shards.seat import SeatState
from usnet_framework.shards.segment import port_of
from usnet_framework.shards.shard import Shard, ShardSetup

log = logging.getLogger("usnet.supervisor")

RETRY_S = 1.0  # when there is no shared memory


class InlineShard(Shard):
    """One seat; the requests of its seat need nobody's consent."""

    def __init__(self, setup: ShardSetup) -> None:
        super().__init__(setup)
        self._draining = False
        self._stack: StackSetup | None = None  # of the segment
        self._words: InlineWords | None = None  # of the engine on it
        self._begins_with: list[Listener] = []

    def start(self) -> None:
        for seat in self.seats:
            seat.start()

    def drain(self) -> None:
        self._draining = True
        for seat in self.seats:
            if seat.worker is not None and seat.state in SeatState.OCCUPIED:
                seat.worker.drain()

    async def stop(self) -> None:
        self._stopping = True
        self._hush()
        self._close_segment()

    # What seats ask.

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        self._hush()
        self._begins_with = [] if self._draining else self.handover.begin()
        try:
            fresh = self._new_segment(self._begins_with)
            self._stack = self._stack_setup(fresh)
            self._hear()
        except StartupError as error:
            self.handover.end()
            log.error("%s; tried again in %.0f s", error, RETRY_S, extra={"shard": self.number})
            self.setup.later(RETRY_S, self.seats[seat].repeat)
            return
        self._close_segment()
        self.segment = fresh
        self.seats[seat].confirm_attach(serial)

    def _hear(self) -> None:
        """The next engine; the last one has been heard out."""
        try:
            self._words = InlineWords(self)
        except OSError as error:
            raise StartupError(f"shard {self.number}: no socket for its engine: {error.strerror}") from None

    def _hush(self) -> None:
        if self._words is not None:
            self.handover.end()
            self._words.close()
            self._words = None

    def _ask(self, packet: bytes, fds: Sequence[int]) -> None:
        if self._words is not None:
            self._words.ask(packet, fds)

    def lost(self, seat: int, serial: int) -> None:
        self._hush()
        self.seats[seat].confirm_lost(serial, poisoned=False)

    def attachment(self, seat: int, serial: int) -> tuple[Message, list[int]]:
        assert self.segment is not None, "attach made one"
        assert self._words is not None, "attach made them"
        message = {
            "layout": "inline",
            "shard": self.number,
            "seat": seat,
            "serial": serial,
            "core": self.setup.plan.worker_cores[seat],
            "poll": self.setup.poll,
        }
        stack = self._stack
        message["device"] = stack.device if stack is not None else None
        message["device_fds"] = len(stack.device_fds) if stack is not None else 0
        message["stack_fds"] = len(stack.fds()) if stack is not None else 0
        listeners = [one.sockets[self.number].fileno() for one in self._begins_with if one.sockets]
        stack_fds = stack.fds() if stack is not None else []
        words_fd = self._words.theirs.fileno()
        port_fd = self.segment.port_fds[port_of(seat, 0)]
        return message, [self.segment.public_fd, port_fd, words_fd, *stack_fds, *listeners]
