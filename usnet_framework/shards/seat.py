"""One seat of a shard, and the worker processes that come and go on it.

Connections belong to the seat and outlive its workers (P2). What has to happen when one dies is a conversation with two
others, the engine that owns the connections and the pool of spares, and each answer is a step of this state machine:

    state      waits for                      then
    EMPTY      a worker from the pool         ATTACHING: the engine is told (serial + 1)
    ATTACHING  the engine's confirmation      STARTING: the worker is told, with the descriptors
    STARTING   the worker's "attached"        SERVING
    SERVING    retire, or the worker's death  RETIRING, or LOST
    RETIRING   the worker's end               LOST
    LOST       the engine's confirmation      EMPTY, or CLOSED when the server stops; a poisoned event is kept first
    CLOSED     nothing

A death in ATTACHING waits for the confirmation as well, so the engine always sees ATTACH and LOST in pairs. An engine
that died and came back is told again what it had not confirmed. Nothing on the way from a death to the next "attach"
waits for anything slow: every step runs in the callback that brings the answer.

A worker that dies before it did anything, again and again, is replaced with growing delays. Having committed counts as
having done something, and so does having lived for a while: a server without traffic commits nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Flag, auto
from typing import Any, Protocol

from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.messages import Message
from usnet_framework.shards.spare import Later, Taker
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

QUICK_DEATHS_FREE = 3  # in a row; poison takes two
LONG_LIFE_S = 1.0
RETIRE_MARGIN_S = 1.0  # what a worker gets beyond its timeout before it is killed


class SeatState(Flag):
    EMPTY = auto()
    ATTACHING = auto()
    STARTING = auto()
    SERVING = auto()
    RETIRING = auto()
    LOST = auto()
    CLOSED = auto()

    OCCUPIED = STARTING | SERVING | RETIRING  # a worker has been told to sit here


class Engine(Protocol):
    """Who owns the connections of the shard. Each request is answered by a call of the seat's confirm_ method."""

    def attach(self, seat: int, serial: int, resumes: bool) -> None: ...
    def lost(self, seat: int, serial: int) -> None: ...


class Pool(Protocol):
    def request(self, taker: Taker) -> None: ...
    def withdraw(self, taker: Taker) -> None: ...


class Shard(Protocol):
    """The seat's shard."""

    def attachment(self, seat: int, serial: int) -> tuple[Message, list[int]]: ...
    def commits(self, seat: int) -> int: ...
    def quarantine(self, seat: int) -> None: ...
    def seat_changed(self, seat: Seat) -> None: ...


class Seat:
    """`start_failed(error)` is called when a worker could not start to serve: on_start raised, or ended it."""

    def __init__(
        self,
        shard_number: int,
        number: int,
        engine: Engine,
        shard: Shard,
        pool: Pool,
        later: Later,
        start_failed: Callable[[str], None],
    ) -> None:
        self.number = number
        self.name = f"{shard_number}.{number}"
        self.state = SeatState.EMPTY
        self.worker: WorkerProcess | None = None
        self.serial = 0
        self.start_error: str | None = None  # why nobody serves: the worker ended, or on_start raised, before it did
        self._failed_serial = 0  # the last worker of which that was reported
        self._engine = engine
        self._shard = shard
        self._pool = pool
        self._later = later
        self._start_failed = start_failed
        self._successor: WorkerProcess | None = None  # ready to follow the one that retires
        self._closing = False
        self._backoff = Backoff(QUICK_DEATHS_FREE)
        self._attached_s = 0.0
        self._attached_commits = 0
        self._death: tuple[int, int, str] | None = None  # when, who, how: since then nobody served
        self._restarts = self._poisoned = self._bad = 0
        self._replaced_ms: float | None = None

    def status(self) -> dict[str, Any]:
        """`restarts`: workers that died; `replaced_ms`: how long the seat had none after the last of these deaths."""
        worker = self.worker
        return {
            "seat": self.number,
            "pid": worker.pid if worker is not None else None,
            "serial": self.serial,
            "state": (self.state.name or "").lower(),
            "restarts": self._restarts,
            "poisoned": self._poisoned,
            "bad": self._bad,
            "replaced_ms": self._replaced_ms,
        }

    @property
    def generation(self) -> int | None:
        """Of the code that the worker imported."""
        return self.worker.generation if self.worker is not None else None

    # What the shard asks for.

    def start(self) -> None:
        """The engine serves: have a worker sit here. One that was found before is told to the engine now."""
        if self.state is SeatState.EMPTY:
            self._pool.withdraw(self)  # a delay that ended meanwhile has asked already
            self._pool.request(self)
        else:
            self.repeat()

    def replace(self, successor: WorkerProcess, timeout_s: float) -> None:
        """Let the worker finish and leave; then `successor`, which is ready, sits here."""
        self._successor = successor
        successor.owner = self
        self.start_error = None  # of the worker that goes
        if self.state is SeatState.EMPTY:
            self._pool.withdraw(self)
            self._fill()
        elif self.state is SeatState.ATTACHING and self.worker is not None:
            self.worker.kill()  # it did nothing yet
        else:
            self._retire(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Let the worker finish and leave; nobody follows."""
        self._closing = True
        if self.state is SeatState.EMPTY:
            self._pool.withdraw(self)
            self._set(SeatState.CLOSED)
        elif self.state is SeatState.ATTACHING and self.worker is not None:
            self.worker.kill()
        else:
            self._retire(timeout_s)

    def end(self) -> None:
        """Nobody sits here any more, whatever it takes."""
        self._closing = True
        self.reset()
        self._set(SeatState.CLOSED)

    def bad(self, serial: int) -> None:
        """The engine refuses what worker `serial` writes."""
        if serial == self.serial and self.worker is not None:
            self._bad += 1
            log.error("worker wrote nonsense into shared memory; it is killed", extra=self._extra(self.worker.pid))
            self.worker.kill()

    def reset(self) -> None:
        """The engine and all connections are gone for good: begin again, once start is called."""
        self._pool.withdraw(self)
        for worker in (self.worker, self._successor):
            if worker is not None:
                worker.discard()
        self.worker = self._successor = None
        self._set(SeatState.EMPTY)

    def repeat(self) -> None:
        """A new engine serves: tell it what the last one did not confirm."""
        if self.state is SeatState.ATTACHING:
            self._engine.attach(self.number, self.serial, self.worker is not None and self.worker.resumes)
        elif self.state is SeatState.LOST:
            self._engine.lost(self.number, self.serial)

    # Answers of the pool and of the engine.

    def take(self, worker: WorkerProcess) -> None:
        assert self.worker is None, "two workers on one seat would fill the same memory"
        self.worker = worker
        worker.owner = self
        self.serial += 1
        self._set(SeatState.ATTACHING)
        self._engine.attach(self.number, self.serial, worker.resumes)

    def confirm_attach(self, serial: int) -> None:
        if self.state is not SeatState.ATTACHING or serial != self.serial:
            return
        if self.worker is None:  # it died meanwhile
            self._lose()
            return
        self.worker.attach(*self._shard.attachment(self.number, self.serial))
        self._attached_s = time.monotonic()
        self._attached_commits = self._shard.commits(self.number)
        self._report_replacement(self.worker)
        self._set(SeatState.STARTING)

    def confirm_lost(self, serial: int, poisoned: bool) -> None:
        if self.state is not SeatState.LOST or serial != self.serial:
            return
        if poisoned:
            self._poisoned += 1
            self._shard.quarantine(self.number)
        if self._closing:
            self._set(SeatState.CLOSED)
        else:
            self._set(SeatState.EMPTY)
            self._fill()

    # What the worker tells (workerprocess.WorkerOwner).

    def worker_ready(self, worker: WorkerProcess) -> None:
        """Said before a worker gets a seat."""

    def worker_attached(self, worker: WorkerProcess) -> None:
        if self.state is SeatState.STARTING:
            log.debug("worker serves", extra=self._extra(worker.pid, serial=self.serial))
            self.start_error = None
            self._set(SeatState.SERVING)

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        if self.state is SeatState.STARTING:
            self.start_error = error
            self._failed_serial = self.serial
            self._start_failed(error)
            self._shard.seat_changed(self)

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        if worker is self._successor:
            self._successor = None
            return
        if self._failed_serial != self.serial:
            how = describe_exit(status)
            self.worker_failed(worker, f"worker {self.name} {how} before it served; look at the handler's on_start")
        if self.state is not SeatState.RETIRING or status != 0:
            self._note_death(worker, status)
        self.worker = None
        if self.state in SeatState.OCCUPIED:
            self._lose()

    # Steps.

    def _retire(self, timeout_s: float) -> None:
        if self.worker is None or self.state not in SeatState.STARTING | SeatState.SERVING:
            return
        self.worker.retire(timeout_s)
        self._set(SeatState.RETIRING)
        self._later(timeout_s + RETIRE_MARGIN_S, self._kill_if_still(self.worker))

    def _kill_if_still(self, worker: WorkerProcess) -> Callable[[], None]:
        def kill() -> None:
            if self.worker is worker and self.state is SeatState.RETIRING:
                log.warning("worker did not leave in time; it is killed", extra=self._extra(worker.pid))
                worker.kill()

        return kill

    def _lose(self) -> None:
        self._set(SeatState.LOST)
        self._engine.lost(self.number, self.serial)

    def _fill(self) -> None:
        """Find somebody for the empty seat: the successor, a spare, or one later when workers die as they start."""
        if self._successor is not None:
            successor, self._successor = self._successor, None
            self.take(successor)
            return
        delay_s = self._backoff.failed() if self._died_quickly() else 0.0
        if delay_s == 0.0:
            self._pool.request(self)
        else:
            self._later(delay_s, self._request_if_empty)
        reported = self.start_error is not None and delay_s == 0.0
        if self.state is SeatState.EMPTY and self._death is not None and not reported:
            why = "no spare is ready" if delay_s == 0.0 else f"it had done nothing, the next one waits {delay_s:.1f} s"
            log.warning("worker %s; %s", self._death[2], why, extra=self._extra(self._death[1]))

    def _request_if_empty(self) -> None:
        if self.state is SeatState.EMPTY and not self._closing:
            self._pool.withdraw(self)  # a shard that was rebuilt meanwhile has asked already
            self._pool.request(self)

    def _died_quickly(self) -> bool:
        if self._death is None:
            return False
        lived_s = self._death[0] / 1e9 - self._attached_s
        if lived_s >= LONG_LIFE_S or self._shard.commits(self.number) != self._attached_commits:
            self._backoff.succeeded()
            return False
        return True

    def _note_death(self, worker: WorkerProcess, status: int) -> None:
        how = describe_exit(status)
        if self._closing or self.state is SeatState.ATTACHING:
            log.warning("worker %s", how, extra=self._extra(worker.pid))
        if not self._closing:
            self._restarts += 1
            self._death = self._death or (worker.died_ns, worker.pid, how)

    def _report_replacement(self, worker: WorkerProcess) -> None:
        if self._death is None:
            return
        died_ns, pid, how = self._death
        self._death = None
        self._replaced_ms = round((time.monotonic_ns() - died_ns) / 1e6, 3)
        if self.start_error is None:  # else its end was reported as an error
            text = "worker %s; replaced in %.1f ms"
            log.warning(text, how, self._replaced_ms, extra=self._extra(pid, new_pid=worker.pid))

    def _set(self, state: SeatState) -> None:
        self.state = state
        self._shard.seat_changed(self)

    def _extra(self, pid: int, **more: object) -> dict[str, object]:
        return {"worker": self.name, "pid": pid, **more}
