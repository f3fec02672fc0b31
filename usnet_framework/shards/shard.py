"""A shard as the supervisor keeps it: a segment, whoever owns the connections, and seats with their workers.

Two kinds differ in who owns the connections. SplitShard has a network process; when a worker dies its connections wait
for the next one, and when the engine dies its keeper starts another. Only when the keeper itself dies is everything
gone: the shard is rebuilt on a fresh segment. InlineShard has a worker that runs the engine itself: its connections die
with it, and the next one starts on a fresh segment.

`segment` is replaced by those, so whoever reads it (metrics, control socket) takes it anew each time and expects
ValueError from one that was closed meanwhile.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usnet_framework.errors import StartupError
from usnet_framework.shards import quarantine
from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.messages import Message
from usnet_framework.shards.network import LINGER_MS, NetworkProcess, NetworkSetup
from usnet_framework.shards.placement import ShardPlan
from usnet_framework.shards.seat import Pool, Seat, SeatState
from usnet_framework.shards.segment import Segment, SegmentConfig
from usnet_framework.shards.spare import Later

log = logging.getLogger("usnet.supervisor")

REBUILDS_FREE = 1  # a keeper that dies once may have been killed


@dataclass(frozen=True)
class ShardSetup:
    """What a shard is given. `start_failed` gets one line when something of it cannot start; `changed` is called after
    every change that may concern readiness."""

    plan: ShardPlan
    layout: str
    poll: str
    listener_fds: Sequence[int]
    shared_listeners: bool
    connection_limit: int
    idle_timeout_ms: int
    state_bytes: int
    quarantine: Path
    cleanup: Sequence[Path]
    pool: Pool
    later: Later
    start_failed: Callable[[str], None]
    changed: Callable[[], None]


class Shard:
    """What both kinds have in common."""

    def __init__(self, setup: ShardSetup) -> None:
        self.setup = setup
        self.number = setup.plan.shard
        self.segment: Segment | None = None
        self.poisoned = 0
        self.rebuilds = 0
        self._stopping = False
        self.seats = [
            Seat(self.number, seat, self, self, setup.pool, setup.later, setup.start_failed)
            for seat in range(len(setup.plan.worker_cores))
        ]

    @property
    def ready(self) -> bool:
        return all(seat.state is SeatState.SERVING for seat in self.seats)

    @property
    def closed(self) -> bool:
        return all(seat.state is SeatState.CLOSED for seat in self.seats)

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
            "rebuilds": self.rebuilds,
            "workers": [seat.status() for seat in self.seats],
        }

    def start(self) -> None:
        """Begin to serve; StartupError when the machine refuses."""
        raise NotImplementedError

    def drain(self) -> None:
        """Accept no more."""
        raise NotImplementedError

    def close_seats(self, timeout_s: float) -> None:
        """Have every worker finish and leave."""
        self._stopping = True
        for seat in self.seats:
            seat.close(timeout_s)

    async def stop(self, at_once: bool) -> None:
        """The workers have left: end what remains."""
        raise NotImplementedError

    # What seats ask (seat.Engine, seat.Shard).

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        raise NotImplementedError

    def lost(self, seat: int, serial: int) -> None:
        raise NotImplementedError

    def attachment(self, seat: int, serial: int) -> tuple[Message, list[int]]:
        raise NotImplementedError

    def commits(self, seat: int) -> int:
        return 0 if self.segment is None else self.segment.seat_counters(seat)["worker_commits"]

    def quarantine(self, seat: int) -> None:
        """Copy the poisoned event now, before the next worker attaches; write it when that is done."""
        record = self.segment.quarantine(seat) if self.segment is not None else None
        if record is not None:
            self.setup.later(0, lambda: self._keep(seat, record))

    def seat_changed(self, seat: Seat) -> None:
        self.setup.changed()

    def _keep(self, seat: int, record: quarantine.QuarantineRecord) -> None:
        extra: dict[str, Any] = {"worker": f"{self.number}.{seat}", "conn": record.conn, "peer": record.peer}
        text = "poisoned: two workers in a row died of the same event; its connection was reset"
        try:
            extra["file"] = str(quarantine.keep(self.setup.quarantine, extra["worker"], record))
        except (OSError, quarantine.QuarantineFull) as error:
            extra["not_kept"] = str(error)
        log.error(text, extra=extra)

    def _new_segment(self) -> Segment:
        config = SegmentConfig.for_kernel(
            self.number, len(self.seats), self.setup.connection_limit, self.setup.state_bytes
        )
        try:
            return Segment.create(config)
        except OSError as error:
            raise StartupError(f"shard {self.number}: no shared memory: {error.strerror}; see df /dev/shm, ulimit -v") from None

    def _close_segment(self) -> None:
        if self.segment is not None:
            self.segment.close()
            self.segment = None


class SplitShard(Shard):
    """Connections belong to a network process (network.NetworkOwner)."""

    def __init__(self, setup: ShardSetup) -> None:
        super().__init__(setup)
        self.engine_deaths = 0
        self._network: NetworkProcess | None = None
        self._was_ready = False
        self._draining = False
        self._backoff = Backoff(REBUILDS_FREE)
        self._wakes: list[int] = []  # the engine's, then one per seat

    def status(self) -> dict[str, Any]:
        network = self._network
        return super().status() | {
            "network_pid": network.engine_pid if network is not None else None,
            "keeper_pid": network.pid if network is not None and network.running else None,
            "network_restarts": self.engine_deaths,
        }

    def start(self) -> None:
        self.segment = self._new_segment()
        self._wakes = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(1 + len(self.seats))]
        self._network = NetworkProcess(
            NetworkSetup(
                shard=self.number,
                public_fd=self.segment.public_fd,
                seat_fds=self.segment.seat_fds,
                seat_wake_fds=self._wakes[1:],
                wake_fd=self._wakes[0],
                listener_fds=self.setup.listener_fds,
                shared_listeners=self.setup.shared_listeners,
                connection_limit=self.setup.connection_limit,
                idle_timeout_ms=self.setup.idle_timeout_ms,
                poll=self.setup.poll,
                core=self.setup.plan.network_core,
                cleanup=self.setup.cleanup,
            ),
            self,
        )

    def drain(self) -> None:
        self._draining = True
        if self._network is not None:
            self._network.drain()

    async def stop(self, at_once: bool) -> None:
        self._stopping = True
        if self._network is not None:
            if at_once:
                self._network.kill()
            else:
                self._network.quit()
            await self._network.wait()
        self._release()

    def kill(self) -> None:
        """End the network process: it was asked and did not go."""
        if self._network is not None:
            self._network.kill()

    # What seats ask.

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        if self._network is not None:
            self._network.attach(seat, serial, resumes)

    def lost(self, seat: int, serial: int) -> None:
        if self._network is not None:
            self._network.lost(seat, serial)

    def attachment(self, seat: int, serial: int) -> tuple[Message, list[int]]:
        assert self.segment is not None, "an engine has confirmed"
        message = {
            "layout": "split",
            "shard": self.number,
            "seat": seat,
            "serial": serial,
            "core": self.setup.plan.worker_cores[seat],
            "poll": self.setup.poll,
        }
        return message, [self.segment.public_fd, self.segment.seat_fds[seat], self._wakes[0], self._wakes[1 + seat]]

    # What the network process tells.

    def engine_ready(self, pid: int, epoch: int) -> None:
        extra = {"shard": self.number, "pid": pid, "epoch": epoch}
        if self._was_ready:
            log.warning("network process is back", extra=extra)
        else:
            log.info("network process serves", extra=extra)
        first, self._was_ready = not self._was_ready, True
        if self._draining and self._network is not None:
            self._network.drain()
        for seat in self.seats:
            if first:
                seat.start()
            else:
                seat.repeat()

    def engine_died(self, pid: int, wait_status: int) -> None:
        self.engine_deaths += 1
        how = describe_exit(os.waitstatus_to_exitcode(wait_status))
        log.error("network process %s; its keeper starts another", how, extra={"shard": self.number, "pid": pid})

    def attach_confirmed(self, seat: int, serial: int) -> None:
        self.seats[seat].confirm_attach(serial)

    def lost_confirmed(self, seat: int, serial: int, poisoned: bool) -> None:
        self.poisoned += poisoned
        self.seats[seat].confirm_lost(serial, poisoned)

    def worker_bad(self, seat: int, serial: int) -> None:
        self.seats[seat].bad(serial)

    def accepting_paused(self, error: int) -> None:
        reason = os.strerror(error) if error else f"{self.setup.connection_limit} connections are open"
        log.warning("accepting paused: %s", reason, extra={"shard": self.number})

    def network_exited(self, status: int) -> None:
        """The keeper is gone, and with it every connection of the shard."""
        if self._stopping:
            return
        if not self._was_ready:
            self.setup.start_failed(f"the network process of shard {self.number} {describe_exit(status)} as it started")
        delay_s = self._backoff.failed()
        text = "keeper %s: the connections of the shard are lost, it is rebuilt in %.1f s"
        log.error(text, describe_exit(status), delay_s, extra={"shard": self.number})
        for seat in self.seats:
            seat.reset()
        self._release()
        self.setup.later(delay_s, self._rebuild)

    def _rebuild(self) -> None:
        if self._stopping:
            return
        self.rebuilds += 1
        self._was_ready = False
        try:
            self.start()
        except StartupError as error:
            delay_s = self._backoff.failed()
            log.error("%s; tried again in %.1f s", error, delay_s, extra={"shard": self.number})
            self._release()
            self.setup.later(delay_s, self._rebuild)

    def _release(self) -> None:
        self._network = None
        self._close_segment()
        for fd in self._wakes:
            os.close(fd)
        self._wakes = []


class InlineShard(Shard):
    """Connections belong to the worker itself; its requests need nobody's consent."""

    def start(self) -> None:
        self.segment = self._new_segment()
        for seat in self.seats:
            seat.start()

    def drain(self) -> None:
        for seat in self.seats:
            if seat.worker is not None and seat.state in SeatState.OCCUPIED:
                seat.worker.drain()

    async def stop(self, at_once: bool) -> None:
        self._stopping = True
        self._close_segment()

    def kill(self) -> None:
        """There is no network process to end."""

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        if serial > 1:
            fresh = self._new_segment()
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
        }
        return message, [self.segment.public_fd, self.segment.seat_fds[seat], *self.setup.listener_fds]
