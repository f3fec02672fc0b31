"""Notices workers and network processes that hang: they do not die, so nobody else would.

Four times a second the supervisor looks at what they count in shared memory (P9: that costs them nothing, not even a
clock). What does not move is silent; only time in which we looked counts, so neither a machine that was suspended nor a
supervisor that was stopped makes anybody else look so.

    worker    silent: it is awake, or sleeps beside events, and neither what it handles, its commits, its turns nor its
              sleeps moved. After DIVERT_S new connections go to other seats of the shard. After --callback-timeout it
              hangs: the log has connection, callback, time and its Python stack (stacks.py); /readyz, doctor, status
              and a metric say so until it goes on or is gone. With --callback-kill on it is killed then, or when a
              reload turns that on; its connections go on (P2), and the event that it hung in is quarantined at once
              (P3). One that leaves is watched until it has closed its port: it turns all the while (worker.py)
    engine    silent: its turns do not move; it sleeps a second at most. After ENGINE_SILENT_S it is killed, and its
              keeper starts the next one, which goes on with all connections (P10)
    keeper    silent: an engine that was killed has still not ended after as long again, or there is none for
              ENGINE_ABSENT_S. It is killed, and the shard is rebuilt

Inline, engine and worker are one process, which is watched as a worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from usnet_framework.shards.findings import Finding
from usnet_framework.shards.look import handled, port_word
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.stacks import StackPipe, innermost, is_stopped

log = logging.getLogger("usnet.supervisor")

SAMPLE_S = 0.25
DIVERT_S = 1.0
ENGINE_SILENT_S = 3.0
ENGINE_ABSENT_S = 30.0  # a crash loop of engines has its own delays, below that


class Process(Protocol):
    """A child of the supervisor."""

    @property
    def pid(self) -> int: ...
    @property
    def running(self) -> bool: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Watched:
    """A worker that serves at a port."""

    seat: int
    name: str
    port: int
    serial: int
    worker: Process


class Network(Protocol):
    """The keeper, and the engine that it has: network.NetworkProcess."""

    @property
    def engine_pid(self) -> int | None: ...
    @property
    def running(self) -> bool: ...
    def kill(self) -> None: ...


class Shard(Protocol):
    number: int

    @property
    def segment(self) -> Segment | None: ...
    @property
    def network(self) -> Network | None: ...
    def watched(self) -> Iterable[Watched]: ...
    def divert(self, port: int, away: bool) -> None: ...
    def hangs(self, port: int, serial: int) -> None: ...


class Silence:
    """How long it has not moved."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: object = None

    def look(self, moves: object, elapsed_s: float) -> float:
        """`moves` is what it counts; `elapsed_s` since the last look."""
        if moves != self._last:
            self._last, self.seconds = moves, 0.0
        else:
            self.seconds += min(elapsed_s, 2 * SAMPLE_S)
        return self.seconds

    def rests(self) -> float:
        """It has nothing to do."""
        self.seconds = 0.0
        return 0.0


@dataclass
class Hang:
    """A worker that made no progress for the time-out."""

    shard: int
    seat: int
    name: str
    pid: int
    what: str  # "on_data of connection 17 has not returned"
    seconds: float
    at: str = ""
    is_left_alone: bool = False  # it was reported, and not killed

    def __str__(self) -> str:
        where = f" ({self.at})" if self.at else ""
        return f"worker {self.name} hangs: {self.what} for {self.seconds:.1f} s{where}"


_Key = tuple[int, int, int]
"""Of a worker: shard, port, serial."""


@dataclass
class _Worker:
    """One that is watched. `port` as in Watched."""

    silence: Silence = field(default_factory=Silence)
    diverted: bool = False
    hang: Hang | None = None


@dataclass
class _Engine:
    silence: Silence = field(default_factory=Silence)
    killed_pid: int | None = None


class Watchdog:
    """`patience`: --callback-timeout, 0 if workers are not watched, and whether one that hangs is killed. `changed` is
    called when somebody begins or ceases to hang."""

    def __init__(
        self,
        shards: Callable[[], Sequence[Shard]],
        stacks: StackPipe,
        patience: Callable[[], tuple[float, bool]],
        changed: Callable[[], None],
    ) -> None:
        self._shards = shards
        self._stacks = stacks
        self._patience = patience
        self._changed = changed
        self._workers: dict[_Key, _Worker] = {}
        self._engines: dict[int, _Engine] = {}
        self._reports: set[asyncio.Task[None]] = set()
        self._counts: Counter[tuple[int, int]] = Counter()

    async def run(self) -> None:
        """Until it is cancelled."""
        looked_s = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            now_s = time.monotonic()
            self.look(now_s - looked_s)
            looked_s = now_s

    def close(self) -> None:
        """Nobody is asked for a stack any more."""
        for report in self._reports:
            report.cancel()

    @property
    def hangs(self) -> list[Hang]:
        """Workers that hang now."""
        return [worker.hang for worker in self._workers.values() if worker.hang is not None]

    def count(self, shard: int, seat: int) -> int:
        """How many hung there so far."""
        return self._counts[shard, seat]

    def look(self, elapsed_s: float) -> None:
        """One sample; `elapsed_s` since the last one."""
        seen: set[_Key] = set()
        for shard in self._shards():
            try:
                self._look_at_engine(shard, elapsed_s)
                if shard.segment is not None:
                    seen |= self._look_at_workers(shard, shard.segment, elapsed_s)
            except ValueError:  # its segment was closed: it is rebuilt
                pass
            except Exception:  # the next look may succeed, and others are to be looked at
                log.exception("unexpected: a look at shard %d failed", shard.number)
        for key in self._workers.keys() - seen:
            if self._workers.pop(key).hang is not None:
                self._changed()

    # Workers.

    def _look_at_workers(self, shard: Shard, segment: Segment, elapsed_s: float) -> set[_Key]:
        """Who was looked at: none if a reload has set --callback-timeout to 0."""
        seen: set[_Key] = set()
        for watched in shard.watched():
            key = (shard.number, watched.port, watched.serial)
            if self._patience()[0] > 0:
                seen.add(key)
                self._look_at_worker(shard, segment, watched, self._workers.setdefault(key, _Worker()), elapsed_s)
            elif key in self._workers and self._workers[key].diverted:
                shard.divert(watched.port, False)
        return seen

    def _look_at_worker(
        self, shard: Shard, segment: Segment, watched: Watched, worker: _Worker, elapsed_s: float
    ) -> None:
        status = segment.port_status(watched.port)
        counters = segment.port_counters(watched.port)
        moves = (
            port_word(segment, watched.port, "handling"),
            *(counters[name] for name in ("worker_commits", "worker_turns", "worker_sleeps")),
        )
        if status.sleeping and status.events_waiting == 0:
            silent_s = worker.silence.rests()
        else:
            silent_s = worker.silence.look(moves, elapsed_s)
        if (silent_s >= DIVERT_S) != worker.diverted:
            worker.diverted = not worker.diverted
            shard.divert(watched.port, worker.diverted)
        if worker.hang is not None:
            self._look_at_hang(shard, watched, worker, worker.hang, silent_s)
        elif silent_s >= self._patience()[0]:
            self._begin(shard, segment, watched, worker)

    def _look_at_hang(self, shard: Shard, watched: Watched, worker: _Worker, hang: Hang, silent_s: float) -> None:
        if silent_s >= hang.seconds:
            hang.seconds = silent_s
            if hang.is_left_alone and self._kills:
                log.error("%s; it is killed", hang, extra={"pid": hang.pid})
                self._kill(shard, watched, hang)
            return
        text = "worker goes on after it hung for %.1f s"
        log.warning(text, hang.seconds, extra={"worker": hang.name, "pid": hang.pid})
        worker.hang = None
        self._changed()

    def _begin(self, shard: Shard, segment: Segment, watched: Watched, worker: _Worker) -> None:
        what, extra = _what(handled(segment, watched.port))
        pid = watched.worker.pid
        worker.hang = Hang(shard.number, watched.seat, watched.name, pid, what, worker.silence.seconds)
        self._counts[shard.number, watched.seat] += 1
        report = asyncio.ensure_future(self._report(shard, watched, worker, worker.hang, extra))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)
        self._changed()

    async def _report(
        self, shard: Shard, watched: Watched, worker: _Worker, hang: Hang, extra: dict[str, object]
    ) -> None:
        stack = "" if is_stopped(hang.pid) else await self._stacks.ask(hang.pid)
        if not watched.worker.running:
            return
        hang.at = innermost(stack) or ("the process is stopped" if is_stopped(hang.pid) else "it shows no stack")
        kills = self._kills and worker.hang is hang  # it may go on just now
        text = f"{hang}{'; it is killed' if kills else ''}"
        extra = {"pid": hang.pid, **extra, "seconds": round(hang.seconds, 1), "at": hang.at}
        record = log.makeRecord(log.name, logging.ERROR, "", 0, text, (), None, None, extra, stack or None)
        log.handle(record)
        hang.is_left_alone = not kills
        if kills:
            self._kill(shard, watched, hang)

    @property
    def _kills(self) -> bool:
        return self._patience()[1]

    def _kill(self, shard: Shard, watched: Watched, hang: Hang) -> None:
        hang.is_left_alone = False
        shard.hangs(watched.port, watched.serial)
        watched.worker.kill()

    # Engines.

    def _look_at_engine(self, shard: Shard, elapsed_s: float) -> None:
        network, segment = shard.network, shard.segment
        if network is None or segment is None or not network.running:
            self._engines.pop(shard.number, None)
            return
        engine = self._engines.setdefault(shard.number, _Engine())
        pid = network.engine_pid
        moves = (pid, segment.engine_counters()["polls"] if pid is not None else 0)
        silent_s = engine.silence.look(moves, elapsed_s)
        if silent_s < (ENGINE_SILENT_S if pid is not None else ENGINE_ABSENT_S):
            return
        engine.silence.rests()
        extra = {"shard": shard.number, "pid": pid}
        if pid is None or pid == engine.killed_pid:
            log.error("keeper brings no network process for %.0f s; it is killed", silent_s, extra=extra)
            network.kill()
        else:
            log.error("network process makes no progress for %.1f s; it is killed", silent_s, extra=extra)
            engine.killed_pid = pid
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Watch:
    """The watchdog of a server, and what it takes. `start` comes before the first worker, `close` after the last."""

    def __init__(
        self,
        shards: Callable[[], Sequence[Shard]],
        patience: Callable[[], tuple[float, bool]],
        changed: Callable[[], None],
    ) -> None:
        self._stacks: StackPipe | None = None
        self._watchdog: Watchdog | None = None
        self._running: asyncio.Task[None] | None = None
        self._shards = shards
        self._patience = patience
        self._changed = changed

    def start(self) -> None:
        self._stacks = StackPipe()
        self._watchdog = Watchdog(self._shards, self._stacks, self._patience, self._changed)
        self._running = asyncio.create_task(self._watchdog.run())
        self._running.add_done_callback(_ended)

    @property
    def stack_fd(self) -> int:
        """For workers: stacks.py."""
        assert self._stacks is not None, "it was started"
        return self._stacks.writer

    @property
    def hangs(self) -> list[Hang]:
        return self._watchdog.hangs if self._watchdog is not None else []

    def findings(self) -> list[Finding]:
        fix = "look at that callback; a client that hits it again hangs the next worker"
        return [
            Finding(f"worker {hang.name}", "makes progress", "hangs", _without_name(hang), fix, ok=False)
            for hang in self.hangs
        ]

    def annotate(self, status: dict[str, Any]) -> dict[str, Any]:
        """Of a shard. Its workers get `hung`: how many hung on that seat so far; `hangs`: for how many seconds one
        does now, or None."""
        now = {(hang.shard, hang.seat): round(hang.seconds, 1) for hang in self.hangs}
        for worker in status["workers"]:
            where = (status["shard"], worker["seat"])
            worker["hung"] = self._watchdog.count(*where) if self._watchdog is not None else 0
            worker["hangs"] = now.get(where)
        return status

    def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
        if self._watchdog is not None:
            self._watchdog.close()
        if self._stacks is not None:
            self._stacks.close()


def _ended(running: asyncio.Task[None]) -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        log.error("unexpected: nobody watches workers and network processes any more", exc_info=error)


def _what(handling: dict[str, object]) -> tuple[str, dict[str, object]]:
    """What it is at, in words, and as fields of a log line."""
    extra = dict(handling)
    kind = extra.pop("handling", None)
    if kind is None:
        return "its loop has not turned", extra
    callback = "a task" if kind == "task" else f"on_{kind}"
    conn = f" of connection {extra['conn']}" if "conn" in extra else ""
    return f"{callback}{conn} has not returned", {**extra, "callback": callback}


def _without_name(hang: Hang) -> str:
    return str(hang).partition(": ")[2]
