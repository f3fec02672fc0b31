"""One worker at one seat, from on_start until its port is given back. A seat (seat.py) has up to two of them at a time.

    state      waits for                          ended by, and then
    STARTING   "started": on_start returned       "failed", its death, --start-timeout: GONE
    STARTED    a port, which the seat gives it    ATTACHING; its death: GONE
    ATTACHING  the engine's confirmation          SEATING: the worker is given the port; had it died, LOST. Refused, as
                                                  events of the one before are still being copied: STARTED
    SEATING    "attached"                         SERVING; "failed" or ATTACH_TIMEOUT_S: it is killed; its death: LOST
    SERVING    retire, or a successor             RETIRING; LEAVING; its death: LOST
    LEAVING    the engine's VACANT                RETIRING, also after --reload-overlap; its death: LOST
    RETIRING   "left"                             LOST; its time and RETIRE_MARGIN_S over: it is killed; its death: LOST
    LOST       the engine's confirmation          GONE
    GONE       nothing

What waits for the engine has no deadline of its own: an engine that is silent is replaced, and the next one is told
again what was not confirmed. ATTACH and LOST come to the engine in pairs, so a death in ATTACHING waits for the
confirmation.

A worker in LEAVING was told "yield": a successor serves at the other port, new connections go there, and so do those of
this port as soon as nothing of them is unfinished. The port is given back at "left", when the worker has closed it. Its
process may take longer (exit hooks, threads): nobody waits for it, and after LINGER_S it is killed. Until "left" the
port is the worker's even if it is vacant, since two workers at one port would fill the same memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Protocol

from usnet_framework.config import Config
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.messages import Message
from usnet_framework.shards.spare import Later
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

ATTACH_TIMEOUT_S = 5.0  # to map memory and say so: milliseconds; new connections wait for it
RETIRE_MARGIN_S = 1.0  # what a worker gets beyond its timeout before it is killed
LINGER_S = 3.0  # what a process gets for its end once its port is closed


class SittingState(Flag):
    STARTING = auto()
    STARTED = auto()
    ATTACHING = auto()
    SEATING = auto()
    SERVING = auto()
    LEAVING = auto()
    RETIRING = auto()
    LOST = auto()
    GONE = auto()

    ARRIVING = ATTACHING | SEATING
    TOLD = SEATING | SERVING | LEAVING  # the worker has the port, or is about to
    WATCHED = SERVING | LEAVING | RETIRING  # it has the port, and is to make progress there


@dataclass
class Patience:
    """How long who may take: `start_s` on_start and import, `overlap_s` two workers side by side, `graceful_s` a worker
    that leaves. One for all that wait; a reload may change it."""

    start_s: float = 60.0
    overlap_s: float = 60.0
    graceful_s: float = 10.0

    def take(self, config: Config) -> None:
        self.start_s = config.start_timeout
        self.overlap_s = config.reload_overlap
        self.graceful_s = config.graceful_timeout


@dataclass(frozen=True)
class Means:
    """What whoever looks after workers needs: the loop's `later(seconds, callback)`; how long who may take; and who is
    told, in one line, that a worker or what serves it could not start."""

    later: Later
    patience: Patience
    failed: Callable[[str], None]


class Engine(Protocol):
    """Who owns the connections of the shard. Each request is answered by a call of the sitting's confirm_ method."""

    def attach(self, port: int, serial: int, resumes: bool) -> None: ...
    def lost(self, port: int, serial: int, left: bool) -> None: ...


class Place(Protocol):
    """The seat."""

    name: str

    def start_message(self, serial: int) -> Message: ...
    def attachment(self, port: int) -> tuple[Message, list[int]]: ...
    def commits(self, port: int) -> int: ...
    def handled(self, port: int) -> Mapping[str, object]: ...
    def sitting_changed(self, sitting: Sitting) -> None: ...


@dataclass(frozen=True)
class Death:
    """When it was noticed, who, how; what the worker had done since it came to its port, and the event that it handled,
    for a log line."""

    at_ns: int
    pid: int
    how: str
    commits: int = 0
    lived_s: float = 0.0
    handled: Mapping[str, object] = field(default_factory=dict)


class Sitting:
    """`error`: why it could not serve, one line. `death`: set when its process ended before it had left."""

    def __init__(self, worker: WorkerProcess, serial: int, place: Place, engine: Engine, means: Means) -> None:
        self.worker = worker
        self.serial = serial
        self.port: int | None = None
        self.state = SittingState.STARTING
        self.error: str | None = None
        self.death: Death | None = None
        self.poisoned = False
        self._place = place
        self._engine = engine
        self._later = means.later
        self._patience = means.patience
        self._vacant = False
        self._left = False
        self._drains = False
        self._served_s: float | None = None  # since when
        self._commits = 0  # of its port when it came
        worker.owner = self
        worker.start(place.start_message(serial))
        self._limit(self._patience.start_s, self._start_overdue)

    @property
    def generation(self) -> int:
        """Of the code that the worker imported."""
        return self.worker.generation

    # What the seat asks for.

    def attach(self, port: int) -> None:
        """Sit at this port, which is free."""
        assert self.state is SittingState.STARTED, "on_start comes first"
        self.port = port
        self.state = SittingState.ATTACHING
        self._engine.attach(port, self.serial, self.worker.resumes)
        if self.state is SittingState.ATTACHING:  # an inline engine confirms at once
            self._place.sitting_changed(self)

    def give_way(self) -> None:
        """A successor serves at the other port."""
        assert self.state is SittingState.SERVING, "it serves"
        self.worker.give_way(self._patience.overlap_s)
        self._set(SittingState.LEAVING, (self._patience.overlap_s, self._overlap_over))
        if self._vacant:
            self.retire(self._patience.graceful_s)

    def retire(self, timeout_s: float) -> None:
        """Finish and leave the port."""
        if self.state is SittingState.ATTACHING:
            self.worker.kill()  # it did nothing yet
        elif self.state in SittingState.TOLD:
            self.worker.retire(timeout_s)
            self._set(SittingState.RETIRING, (timeout_s + RETIRE_MARGIN_S, self._retirement_overdue))

    def drain(self, timeout_s: float) -> None:
        """The server stops. The worker is told once: its handler's on_shutdown is called for each word of it."""
        if self.state in SittingState.TOLD and not self._drains:
            self._drains = True
            self.worker.drain(timeout_s)

    def discard(self) -> None:
        """Gone, and nobody is told: the engine is gone as well, or never knew."""
        self.worker.discard()
        self.state = SittingState.GONE

    def bad(self) -> None:
        """The engine refuses what the worker writes."""
        self.worker.kill()

    def repeat(self) -> None:
        """A new engine serves: tell it what the last one did not confirm."""
        if self.state is SittingState.ATTACHING and self.port is not None:
            self._engine.attach(self.port, self.serial, self.worker.resumes)
        elif self.state is SittingState.LOST and self.port is not None:
            self._engine.lost(self.port, self.serial, self._left)

    # Answers of the engine.

    def confirm_attach(self) -> None:
        if self.state is not SittingState.ATTACHING or self.port is None:
            return
        if not self.worker.running:  # it died meanwhile
            self._lose()
            return
        self.worker.attach(*self._place.attachment(self.port))
        self._served_s = time.monotonic()
        self._commits = self._place.commits(self.port)
        self._set(SittingState.SEATING, (ATTACH_TIMEOUT_S, self._attach_overdue))

    def refuse_attach(self) -> None:
        """The port is not free yet."""
        if self.state is SittingState.ATTACHING:
            self.port = None
            self._set(SittingState.STARTED if self.worker.running else SittingState.GONE)

    def confirm_lost(self, poisoned: bool) -> None:
        if self.state is SittingState.LOST:
            self.poisoned = poisoned
            self._set(SittingState.GONE)

    def vacant(self) -> None:
        """Nothing is left at its port, where new connections come no more. An engine that took over from one that died
        as it attached the worker may say so too, before it is asked again."""
        if self.state is SittingState.ATTACHING:
            return
        self._vacant = True
        if self.state is SittingState.LEAVING:
            self.retire(self._patience.graceful_s)

    # What the worker tells (workerprocess.WorkerOwner).

    def worker_ready(self, worker: WorkerProcess) -> None:
        """Said before a worker comes here."""

    def worker_started(self, worker: WorkerProcess) -> None:
        if self.state is SittingState.STARTING:
            self._set(SittingState.STARTED)

    def worker_attached(self, worker: WorkerProcess) -> None:
        if self.state is SittingState.SEATING:
            self._set(SittingState.SERVING)

    def worker_left(self, worker: WorkerProcess) -> None:
        if self.state is SittingState.RETIRING:
            self._later(LINGER_S, self._end_lingerer)
            self._left = True
            self._lose()

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        self.error = error
        if self.state is SittingState.STARTING:
            self._later(LINGER_S, worker.kill)
            self._set(SittingState.GONE)
        else:
            worker.kill()  # it has a part of the port perhaps

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        if self.state in SittingState.LOST | SittingState.GONE:
            return
        self._note_death(worker, describe_exit(status), status)
        if self.state in SittingState.STARTING | SittingState.STARTED:
            self._set(SittingState.GONE)
        elif self.state is not SittingState.ATTACHING:
            self._lose()

    def _note_death(self, worker: WorkerProcess, how: str, status: int) -> None:
        if self.state is SittingState.RETIRING and status == 0:
            return
        if self.error is None and self.state in SittingState.STARTING | SittingState.SEATING:
            hint = "; look at the handler's on_start" if self.state is SittingState.STARTING else ""
            self.error = f"worker {self._place.name} {how} before it served{hint}"
        if self._served_s is None or self.port is None:
            self.death = Death(worker.died_ns, worker.pid, how)
            return
        commits = self._place.commits(self.port) - self._commits
        lived_s = worker.died_ns / 1e9 - self._served_s
        self.death = Death(worker.died_ns, worker.pid, how, commits, lived_s, self._place.handled(self.port))

    # What does not come.

    def _start_overdue(self) -> None:
        took = f"on_start took longer than {self._patience.start_s:g} s (--start-timeout)"
        self.error = f"worker {self._place.name}: {took}"
        self.worker.discard()
        self._set(SittingState.GONE)

    def _attach_overdue(self) -> None:
        self.error = f"worker {self._place.name} did not take its port within {ATTACH_TIMEOUT_S:g} s"
        self.worker.kill()

    def _overlap_over(self) -> None:
        log.warning(
            "worker has not finished what it had when its successor came; it gets %g s (--reload-overlap is over)",
            self._patience.graceful_s,
            extra=self._extra(),
        )
        self.retire(self._patience.graceful_s)

    def _retirement_overdue(self) -> None:
        log.warning("worker did not leave in time; it is killed", extra=self._extra())
        self.worker.kill()

    def _end_lingerer(self) -> None:
        if self.worker.running:
            text = "worker has left, but exit hooks or threads still ran after %g s; it is killed"
            log.warning(text, LINGER_S, extra=self._extra())
            self.worker.kill()

    # Steps.

    def _lose(self) -> None:
        assert self.port is not None, "it had one"
        self.state = SittingState.LOST
        self._engine.lost(self.port, self.serial, self._left)
        if self.state is SittingState.LOST:  # an inline engine confirms at once
            self._place.sitting_changed(self)

    def _set(self, state: SittingState, limit: tuple[float, Callable[[], None]] | None = None) -> None:
        """`limit`: what to call if it still is the state after so many seconds."""
        self.state = state
        if limit is not None:
            self._limit(*limit)
        self._place.sitting_changed(self)

    def _limit(self, seconds: float, overdue: Callable[[], None]) -> None:
        state = self.state

        def call() -> None:
            if self.state is state:
                overdue()

        self._later(seconds, call)

    def _extra(self) -> dict[str, object]:
        return {"worker": self._place.name, "pid": self.worker.pid}
