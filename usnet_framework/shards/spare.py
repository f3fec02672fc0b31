"""Workers that have imported the application and wait for a seat, so that a dead one is replaced in milliseconds.

Whoever needs a worker asks here, at the first start as well as after a death. A ready spare is handed over at once, in
the same call; otherwise the request waits in line. The pool keeps `spares` more than are asked for. A spare that fails
to import is tried again with growing delays, because the code on disk may be half deployed; the running workers are not
touched by that.

A generation is what the code on disk was when a worker imported it. `adopt` makes a worker of new code the measure:
older spares leave, older workers on seats are reload.py's business."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol

from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.workerprocess import WorkerOwner, WorkerProcess

log = logging.getLogger("usnet.supervisor")

SPAWN_DELAY_S = 0.01
"""Spawning takes a millisecond or two of the supervisor: it waits until the worker that was handed over is running."""

Later = Callable[[float, Callable[[], None]], object]
Spawn = Callable[[int, WorkerOwner], WorkerProcess]


class Taker(Protocol):
    """Whoever asked for a worker."""

    def take(self, worker: WorkerProcess) -> None: ...


class SparePool:
    """`spawn(generation, owner)` makes a worker; `later(seconds, callback)` is the loop's; `failed` gets one line when
    a worker cannot import the application."""

    def __init__(self, spares: int, spawn: Spawn, later: Later, failed: Callable[[str], None]) -> None:
        self.generation = 0
        self._spares = spares
        self._spawn = spawn
        self._later = later
        self._failed = failed
        self._takers: deque[Taker] = deque()
        self._loading: set[WorkerProcess] = set()
        self._ready: deque[WorkerProcess] = deque()
        self._parallel = max(2, os.cpu_count() or 1)
        self._backoff = Backoff(free=0)
        self._held = False  # a refill is planned
        self._closed = False

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def pids(self) -> list[int]:
        """Of every worker that has no seat."""
        return [worker.pid for worker in (*self._loading, *self._ready)]

    def request(self, taker: Taker) -> None:
        """Hand a worker to the taker, now if one is ready."""
        if self._ready:
            taker.take(self._ready.popleft())
            self._refill_after(SPAWN_DELAY_S)
        else:
            self._takers.append(taker)
            self.refill()

    def withdraw(self, taker: Taker) -> None:
        if taker in self._takers:
            self._takers.remove(taker)

    def refill(self) -> None:
        """Spawn what is missing, no more at a time than there are cores to import on."""
        wanted = len(self._takers) + self._spares
        while not (self._held or self._closed) and len(self._loading) < min(self._parallel, wanted - self.ready):
            try:
                self._loading.add(self._spawn(self.generation, self))
            except OSError as error:
                self._failure(f"cannot start a worker process: {error.strerror}")

    def adopt(self, worker: WorkerProcess) -> None:
        """From now on only workers of this ready worker's generation are handed out; it is the first of them."""
        self.generation = worker.generation
        for old in (*self._loading, *self._ready):
            old.discard()
        self._loading.clear()
        self._ready.clear()
        self._backoff.succeeded()
        worker.owner = self
        self._hand_out(worker)

    def close(self) -> list[WorkerProcess]:
        """Hand out and spawn no more; the workers without a seat, killed."""
        self._closed = True
        self._takers.clear()
        left = [*self._loading, *self._ready]
        for worker in left:
            worker.discard()
        self._loading.clear()
        self._ready.clear()
        return left

    # As the owner of workers without a seat.

    def worker_ready(self, worker: WorkerProcess) -> None:
        self._loading.discard(worker)
        self._backoff.succeeded()
        self._hand_out(worker)

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        self._loading.discard(worker)
        worker.discard()
        self._failure(error)

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        if worker in self._loading:
            self._loading.discard(worker)
            self._failure(f"a worker {describe_exit(status)} while it imported the application")
        elif worker in self._ready:
            self._ready.remove(worker)
            log.warning("spare %d %s", worker.pid, describe_exit(status), extra={"pid": worker.pid})
            self._refill_after(self._backoff.failed())

    def worker_attached(self, worker: WorkerProcess) -> None:
        """Said by workers that sit on a seat only."""

    def _hand_out(self, worker: WorkerProcess) -> None:
        if self._takers:
            self._takers.popleft().take(worker)
            self._refill_after(SPAWN_DELAY_S)
        else:
            self._ready.append(worker)
            self.refill()

    def _failure(self, error: str) -> None:
        self._refill_after(self._backoff.failed())
        self._failed(error)

    def _refill_after(self, seconds: float) -> None:
        if not self._held:
            self._held = True
            self._later(seconds, self._resume)

    def _resume(self) -> None:
        self._held = False
        self.refill()
