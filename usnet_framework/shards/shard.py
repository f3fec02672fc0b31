"""A shard as the supervisor keeps it: a segment, whoever owns the connections, and seats with their workers.

Two kinds differ in who owns the connections: a network process (splitshard.py) or the worker itself (inlineshard.py).

`segment` may be replaced by a fresh one, so whoever reads it (metrics, control socket) takes it anew each time and
expects ValueError from one that was closed meanwhile."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usnet_framework.errors import StartupError
from usnet_framework.shards import quarantine
from usnet_framework.shards.addressbook import News
from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.capture import CaptureOrders
from usnet_framework.shards.enginewords import MESSAGE, Kind, listener_request
from usnet_framework.shards.handover import Handover
from usnet_framework.shards.joining import AGAIN_S, NotYet
from usnet_framework.shards.listeners import Listener, Listeners
from usnet_framework.shards.look import handled
from usnet_framework.shards.looker import Looker
from usnet_framework.shards.messages import Message
from usnet_framework.shards.network import NetworkProcess
from usnet_framework.shards.ownstack import OwnStack, StackSetup
from usnet_framework.shards.placement import ShardPlan
from usnet_framework.shards.privileges import Privileges
from usnet_framework.shards.seat import Pool, Seat
from usnet_framework.shards.segment import CONN_MAX, EngineOptions, QuarantineRecord, Segment, SegmentConfig
from usnet_framework.shards.sitting import Means, SittingState
from usnet_framework.shards.watchdog import Watched
from usnet_framework.values import endpoint_text

log = logging.getLogger("usnet.supervisor")

ANSWER_S = 1.0  # of an engine, which looks at each connection
ENDING_SLOTS = 64
"""Slots of the connection table beyond the limit: for connections that ended, of which the worker was not told yet."""


@dataclass(frozen=True)
class ShardSetup:
    """What a shard is given; `stack` is None with the kernel backend. `cleanup` says which socket files there are now,
    to be removed if the supervisor is killed. `worker_died` gets the generation of a worker that died or could not
    start, and how much it had committed; `changed` is called after every change that may concern readiness."""

    plan: ShardPlan
    poll: str
    listeners: Listeners
    stack: OwnStack | None
    options: EngineOptions
    state_bytes: int
    buffer_mib: int
    quarantine: Path
    cleanup: Callable[[], Sequence[Path]]
    privileges: Privileges
    pool: Pool
    means: Means
    worker_died: Callable[[int, int], None]
    changed: Callable[[], None]


class Shard:
    """What both kinds have in common. A seat has `sides` ports: port `sides * seat + side`."""

    layout: str
    sides: int

    def __init__(self, setup: ShardSetup) -> None:
        self.setup = setup
        self.number = setup.plan.shard
        self.segment: Segment | None = None
        self.handover = Handover(setup.listeners, self._ask_listener)
        self.looker = Looker(self._ask)
        self.capture = CaptureOrders(self.number, self._ask)
        self._stopping = False
        self._delivered: asyncio.Future[bool] | None = None
        self.seats = [Seat(self, seat, setup.pool, setup.means) for seat in range(len(setup.plan.worker_cores))]

    @property
    def ready(self) -> bool:
        return self.unready() is None

    def unready(self) -> str | None:
        """Why it does not serve as it is to, one line; None when it does."""
        if all(seat.serves for seat in self.seats):
            return None
        return f"no handler can run on some seat of shard {self.number}"

    @property
    def in_service(self) -> bool:
        """Whether it may have new connections: not while workers of all its seats die too often."""
        return not all(seat.out_of_service for seat in self.seats)

    @property
    def closed(self) -> bool:
        return all(seat.closed for seat in self.seats)

    @property
    def connections(self) -> int:
        """Those that are open."""
        return 0 if self.segment is None else self.segment.engine_status().active

    def status(self) -> dict[str, Any]:
        """A snapshot that can be written as JSON."""
        return {
            "shard": self.number,
            "state": "serving" if self.ready else "stopping" if self._stopping else "starting",
            "network_pid": None,
            "keeper_pid": None,
            "workers": [seat.status() for seat in self.seats],
        }

    def pids(self) -> dict[str, Any]:
        """For a log line."""
        workers = [seat.current.worker.pid for seat in self.seats if seat.current is not None]
        return {"workers": ",".join(map(str, workers))}

    def start(self) -> None:
        """Begin to serve; StartupError when the machine refuses."""
        raise NotImplementedError

    def drain(self, timeout_s: float) -> None:
        """Accept no more, and let the workers know: the server stops, in so many seconds at most."""
        for seat in self.seats:
            seat.drain(timeout_s)

    def close_seats(self, timeout_s: float) -> None:
        """Have every worker finish and leave."""
        self._stopping = True
        for seat in self.seats:
            seat.close(timeout_s)

    async def stop(self) -> None:
        """The workers have left: end what remains, and return when it is gone."""
        raise NotImplementedError

    def kill(self) -> None:
        """End everything at once."""
        self._stopping = True
        self._end_seats()

    def _end_seats(self) -> None:
        for seat in self.seats:
            seat.end()

    # What seats ask (seat.Engine, seat.Shard).

    def start_message(self, seat: int, serial: int) -> Message:
        return {
            "layout": self.layout,
            "shard": self.number,
            "seat": seat,
            "serial": serial,
            "core": self.setup.plan.worker_cores[seat],
            "poll": self.setup.poll,
        }

    def attach(self, port: int, serial: int, resumes: bool) -> None:
        raise NotImplementedError

    def lost(self, port: int, serial: int, left: bool) -> None:
        raise NotImplementedError

    def attachment(self, port: int) -> tuple[Message, list[int]]:
        raise NotImplementedError

    def commits(self, port: int) -> int:
        return 0 if self.segment is None else self.segment.port_counters(port)["worker_commits"]

    def handled(self, port: int) -> Mapping[str, object]:
        return {} if self.segment is None else handled(self.segment, port)

    def quarantine(self, port: int) -> None:
        """Copy the poisoned event now, before the next worker attaches; write it when that is done."""
        record = self.segment.quarantine(port) if self.segment is not None else None
        if record is not None:
            self.setup.means.later(0, lambda: self._keep(port // self.sides, record))

    def worker_died(self, generation: int, commits: int) -> None:
        self.setup.worker_died(generation, commits)

    def seat_changed(self, seat: Seat) -> None:
        self.setup.changed()

    # What the watchdog asks and tells (watchdog.Shard).

    @property
    def network(self) -> NetworkProcess | None:
        """Inline there is none: the worker is watched."""
        return None

    def watched(self) -> Iterator[Watched]:
        """Workers at their ports, also those that leave."""
        for seat in self.seats:
            for sitting in seat.sittings:
                if sitting.state in SittingState.WATCHED and sitting.port is not None:
                    yield Watched(seat.number, seat.name, sitting.port, sitting.serial, sitting.worker)

    def divert(self, port: int, away: bool) -> None:
        """New connections are to go to other seats, or here again; inline there is no other."""

    def hangs(self, port: int, serial: int) -> None:
        """This worker is killed because it makes no progress."""

    # What engines of both layouts say (enginewords.Hearer).

    def listen_confirmed(self, number: int, error: int) -> None:
        self.handover.listen_confirmed(number, error)
        self.setup.changed()

    def unlisten_confirmed(self, number: int) -> None:
        self.handover.unlisten_confirmed(number)
        self.setup.changed()

    def look_answered(self, serial: int, count: int, error: int, position: int) -> None:
        self.looker.answered(serial, count, error, position)

    def capture_confirmed(self, number: int, error: int) -> None:
        self.capture.confirmed(number, error)

    def accepting_paused(self, error: int) -> None:
        reason = os.strerror(error) if error else f"{self.connection_limit} connections are open"
        log.warning("accepting paused: %s", reason, extra={"shard": self.number})

    def address_news(self, address: str, news: News, mac: str) -> None:
        if self.setup.stack is not None:
            self.setup.stack.addresses.tell(address, news, mac)

    def neighbour_wanted(self, ip: bytes) -> None:
        if self.setup.stack is not None and self.setup.stack.sharing is not None:
            self.setup.stack.sharing.ask(ip)

    def engine_says(self, text: str) -> None:
        log.error("network process: %s", text, extra={"shard": self.number})

    def drain_confirmed(self, owes: bool) -> None:
        if self._delivered is not None and not self._delivered.done():
            self._delivered.set_result(not owes)

    async def has_delivered(self) -> bool:
        """Whether peers have acknowledged all that was sent, while the server stops. An engine that does not answer has
        not."""
        self._delivered = asyncio.get_running_loop().create_future()
        self._ask(MESSAGE.pack(Kind.DRAIN, 0, 0, 0, 0, 0), [])
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._delivered
        except TimeoutError:
            return False

    def _ask_listener(self, kind: Kind, number: int, listener: Listener) -> None:
        self._ask(*listener_request(kind, number, listener, self.number))

    def _ask(self, packet: bytes, fds: Sequence[int]) -> bool:
        """Send a request to the engine, if there is one. Was it sent?"""
        raise NotImplementedError

    def _put_off(self, error: StartupError, backoff: Backoff) -> float:
        """Seconds until what has failed so is tried again, which is logged."""
        if isinstance(error, NotYet):
            return AGAIN_S
        delay_s = backoff.failed()
        log.error("%s; tried again in %.1f s", error, delay_s, extra={"shard": self.number})
        return delay_s

    def _keep(self, seat: int, record: QuarantineRecord) -> None:
        extra: dict[str, Any] = {"worker": f"{self.number}.{seat}", "conn": record.conn}
        extra["peer"] = endpoint_text(record.peer)
        text = "poisoned: workers die of this event, or hang in it; its connection was reset"
        try:
            extra["file"] = str(quarantine.keep(self.setup.quarantine, extra["worker"], record))
        except (OSError, quarantine.QuarantineFull) as error:
            extra["not_kept"] = str(error)
        log.error(text, extra=extra)

    @property
    def connection_limit(self) -> int:
        return self.setup.options.numbers["connection_limit"]

    def _new_segment(self, listeners: Sequence[Listener]) -> Segment:
        endpoints = [one.endpoint for one in listeners if one.endpoint is not None]
        options = self.setup.options.listening_on(endpoints)
        slots = min(self.connection_limit + ENDING_SLOTS, CONN_MAX)
        setup = self.setup
        config = SegmentConfig.for_kernel(self.number, len(self.seats), slots, setup.state_bytes, setup.buffer_mib)
        try:
            return Segment.create(config, options)
        except OSError as error:
            fix = "raise the limit of file sizes (ulimit -f), which counts here too"
            if error.errno != errno.EFBIG:
                fix = "use a smaller --max-connections"
            raise StartupError(f"shard {self.number}: no shared memory: {error.strerror}; {fix}") from None

    def _stack_setup(self, segment: Segment) -> StackSetup | None:
        """For an engine on this segment; None with the kernel backend. StartupError."""
        return self.setup.stack.setup(self.number, segment) if self.setup.stack is not None else None

    def _close_segment(self) -> None:
        if self.segment is not None:
            self.segment.close()
            self.segment = None
