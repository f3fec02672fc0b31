"""A shard whose worker runs the engine itself: its connections die with it, and the next one starts on a fresh segment.

The listening sockets stay open in the supervisor, so connections that nobody accepted yet wait for the next worker. Two
workers cannot serve side by side here. A reload's successor runs on_warm and on_start first, though, so that only its
engine has to begin between the old worker's end and the first new connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from usnet_framework.errors import StartupError
from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.enginewords import InlineWords
from usnet_framework.shards.listeners import Listener
from usnet_framework.shards.messages import Message
from usnet_framework.shards.ownstack import StackSetup
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.shard import Shard, ShardSetup

RETRIES_FREE = 0  # where there is no shared memory, or no interface


class InlineShard(Shard):
    """One seat with one port; the requests of its seat need nobody's consent."""

    layout = "inline"
    sides = 1

    def __init__(self, setup: ShardSetup) -> None:
        super().__init__(setup)
        self._draining = False
        self._stack: StackSetup | None = None  # of the segment
        self._words: InlineWords | None = None  # of the engine on it
        self._begins_with: list[Listener] = []
        self._backoff = Backoff(RETRIES_FREE)

    def start(self) -> None:
        for seat in self.seats:
            seat.start()

    def drain(self, timeout_s: float) -> None:
        self._draining = True
        super().drain(timeout_s)

    async def stop(self) -> None:
        self._stopping = True
        self._hush()
        self._close_segment()

    # What seats ask.

    def attach(self, port: int, serial: int, resumes: bool) -> None:
        self._hush()
        self._begins_with = [] if self._draining else self.handover.begin()
        try:
            fresh = self._fresh_segment()
        except StartupError as error:
            self.handover.end()
            self.setup.means.later(self._put_off(error, self._backoff), self.seats[port].start)
            return
        self._backoff.succeeded()
        self._close_segment()
        self.segment = fresh
        self.seats[port].confirm_attach(port, serial)

    def _fresh_segment(self) -> Segment:
        """With what an engine on it takes. StartupError, and nothing is left open."""
        fresh = self._new_segment(self._begins_with)
        try:
            self._stack = self._stack_setup(fresh)
            self._hear()
        except BaseException:
            fresh.close()
            raise
        return fresh

    def _hear(self) -> None:
        """The next engine; the last one has been heard out."""
        try:
            self._words = InlineWords(self)
            self.looker.again()
        except OSError as error:
            raise StartupError(f"shard {self.number}: no socket for its engine: {error.strerror}") from None
        self.capture.again()

    def _hush(self) -> None:
        if self._words is not None:
            self.handover.end()
            self._words.close()
            self._words = None

    def _ask(self, packet: bytes, fds: Sequence[int]) -> bool:
        return self._words is not None and self._words.ask(packet, fds)

    def lost(self, port: int, serial: int, left: bool) -> None:
        self._hush()
        self.seats[port].confirm_lost(port, serial, poisoned=False)

    def attachment(self, port: int) -> tuple[Message, list[int]]:
        assert self.segment is not None, "attach made one"
        assert self._words is not None, "attach made them"
        stack = self._stack
        stack_fds = stack.fds() if stack is not None else []
        message = {
            "port": port,
            "device": stack.device if stack is not None else None,
            "device_fds": len(stack.device_fds) if stack is not None else 0,
            "stack_fds": len(stack_fds),
        }
        listeners = [one.sockets[self.number].fileno() for one in self._begins_with if one.sockets]
        words_fd = self._words.theirs.fileno()
        return message, [self.segment.public_fd, self.segment.port_fds[port], words_fd, *stack_fds, *listeners]
