"""Workers of one generation that have imported the application and wait for a seat, so that a dead one is replaced in
milliseconds.

Whoever needs a worker of this code asks here, at the first start as well as after a death or for a reload. A ready
spare is handed over at once, in the same call; otherwise the request waits in line. The pool keeps `spares` more than
are asked for.

    a worker is  until
    loading      "ready": a spare, or taken; "failed", its death, --start-timeout: tried again with growing delays
    a spare      somebody takes it; its death: replaced. One that is stopped (SIGSTOP) is killed, not handed over
    taken        its taker owns it

A worker that fails to import is tried again because the code on disk may be half deployed; the running workers are not
touched by that. What a failure means besides is the business of whoever made the pool (`failed`)."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.generation import Generation
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

SPAWN_DELAY_S = 0.01
"""Spawning takes a millisecond or two of the supervisor: it waits until the worker that was handed over is running."""

Later = Callable[[float, Callable[[], None]], object]


class Taker(Protocol):
    """Whoever asked for a worker."""

    def take(self, worker: WorkerProcess) -> None: ...


class SparePool:
    """`later(seconds, callback)` is the loop's; `failed` gets one line when a worker cannot import the application."""

    def __init__(
        self, generation: Generation, spares: int, start_timeout_s: float, later: Later, failed: Callable[[str], None]
    ) -> None:
        self.generation = generation
        self._spares = spares
        self._start_timeout_s = start_timeout_s
        self._later = later
        self._failed = failed
        self._takers: deque[Taker] = deque()
        self._loading: set[WorkerProcess] = set()
        self._ready: deque[WorkerProcess] = deque()
        self._parallel = max(2, os.cpu_count() or 1)
        self._backoff = Backoff(free=0)
        self._held = False  # a refill is planned
        self._error: str | None = None  # the last one, until it comes
        self._closed = False

    @property
    def number(self) -> int:
        """Of the generation."""
        return self.generation.number

    @property
    def ready(self) -> int:
        return len(self._ready)

    @property
    def pids(self) -> list[int]:
        """Of every worker that has no seat, and a process."""
        return [worker.pid for worker in (*self._loading, *self._ready) if worker.pid]

    def request(self, taker: Taker) -> None:
        """Hand a worker to the taker, now if one is ready."""
        worker = self._next()
        if worker is not None:
            taker.take(worker)
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
                worker = self.generation.spawn(self)
            except OSError as error:
                self._failure(f"cannot start a worker process: {error.strerror}")
            else:
                self._loading.add(worker)
                self._later(self._start_timeout_s, self._give_up_if_loading(worker))

    def close(self) -> None:
        """Hand out and bring forth no more; the workers without a seat are killed."""
        self._closed = True
        self._takers.clear()
        for worker in (*self._loading, *self._ready):
            worker.discard()
        self._loading.clear()
        self._ready.clear()
        self.generation.close()

    # As the owner of workers without a seat.

    def worker_ready(self, worker: WorkerProcess) -> None:
        self._loading.discard(worker)
        self._backoff.succeeded()
        if self._takers:
            self._takers.popleft().take(worker)
            self._refill_after(SPAWN_DELAY_S)
        else:
            self._ready.append(worker)
            self.refill()

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        self._loading.discard(worker)
        worker.discard()
        self._failure(error)

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        if worker in self._loading:
            self._loading.discard(worker)
            self._failure(f"a worker {describe_exit(status)} while it imported the application, or in on_warm")
        elif worker in self._ready:
            self._ready.remove(worker)
            log.warning("spare %d %s", worker.pid, describe_exit(status), extra={"pid": worker.pid})
            self._refill_after(self._backoff.failed())

    def worker_started(self, worker: WorkerProcess) -> None:
        """This and what follows is said by workers that have a seat."""

    def worker_attached(self, worker: WorkerProcess) -> None: ...

    def worker_left(self, worker: WorkerProcess) -> None: ...

    # Steps.

    def _next(self) -> WorkerProcess | None:
        """A spare that can run; those that were stopped have been for longer than they are worth waiting for."""
        while self._ready:
            worker = self._ready.popleft()
            if not _is_stopped(worker.pid):
                return worker
            log.warning("spare %d is stopped, and is killed", worker.pid, extra={"pid": worker.pid})
            worker.discard()
        return None

    def _give_up_if_loading(self, worker: WorkerProcess) -> Callable[[], None]:
        def give_up() -> None:
            if worker in self._loading:
                self._loading.discard(worker)
                worker.discard()
                took = f"longer than {self._start_timeout_s:g} s (--start-timeout)"
                self._failure(f"importing the application, on_warm included, took {took}")

        return give_up

    def _failure(self, error: str) -> None:
        """Workers that fail of the same at the same time are one failure."""
        if self._held and error == self._error:
            return
        self._error = error
        self._refill_after(self._backoff.failed())
        self._failed(error)

    def _refill_after(self, seconds: float) -> None:
        if not self._held:
            self._held = True
            self._later(seconds, self._resume)

    def _resume(self) -> None:
        self._held = False
        self._error = None
        self.refill()


def _is_stopped(pid: int) -> bool:
    with suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read(4096).rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False
