"""A shard whose worker runs the engine itself: its connections die with it, and the next one starts on a fresh segment.

The listening sockets stay open in the supervisor, so connections that nobody accepted yet wait for the next worker.
"""

from __future__ import annotations

import logging
from typing import Any

from usnet_framework.errors import StartupError
from usnet_framework.shards.messages import Message
from usnet_framework.shards.network import LINGER_MS
from usnet_framework.shards.seat import SeatState
from usnet_framework.shards.shard import Shard, ShardSetup

log = logging.getLogger("usnet.supervisor")

RETRY_S = 1.0  # when there is no shared memory


class InlineShard(Shard):
    """One seat; the requests of its seat need nobody's consent."""

    def __init__(self, setup: ShardSetup) -> None:
        super().__init__(setup)
        self._draining = False

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
        self._close_segment()

    # What seats ask.

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        try:
            fresh = self._new_segment()
        except StartupError as error:
            log.error("%s; tried again in %.0f s", error, RETRY_S, extra={"shard": self.number})
            self.setup.later(RETRY_S, self.seats[seat].repeat)
            return
        self._close_segment()
        self.segment = fresh
        self.seats[seat].confirm_attach(serial)

    def lost(self, seat: int, serial: int) -> None:
        self.seats[seat].confirm_lost(serial, poisoned=False)

    def attachment(self, seat: int, serial: int) -> tuple[Message, list[int]]:
        assert self.segment is not None, "attach made one"
        message = {
            "layout": "inline",
            "shard": self.number,
            "seat": seat,
            "serial": serial,
            "core": self.setup.plan.worker_cores[seat],
            "poll": self.setup.poll,
            "connection_limit": self.setup.connection_limit,
            "idle_timeout_ms": self.setup.idle_timeout_ms,
            "linger_ms": LINGER_MS,
            "shared_listeners": self.setup.shared_listeners,
            "stack": self._stack(),
        }
        stack_fds = self.setup.stack.fds() if self.setup.stack is not None else []
        listeners = [] if self._draining else self.setup.listener_fds
        return message, [self.segment.public_fd, self.segment.seat_fds[seat], *stack_fds, *listeners]

    def _stack(self) -> dict[str, Any] | None:
        """All of it but descriptors."""
        stack = self.setup.stack
        if stack is None:
            return None
        return {
            "queue": stack.queue,
            "queues": stack.queues,
            "addresses": stack.addresses,
            "gateways": stack.gateways,
            "listen": "" if self._draining else stack.listen,
            "backlog": stack.backlog,
        }
