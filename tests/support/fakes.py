"""Everybody that a seat and a pool of spares talk to, as a script: what they were asked is recorded, tests answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, cast

from usnet_framework.shards.seat import Seat
from usnet_framework.shards.spare import SparePool
from usnet_framework.shards.workerprocess import WorkerOwner, WorkerProcess

PIDS = itertools.count(1000)


class FakeWorker:
    """A worker process that does what the test says: `loads`, `serves`, `fails`, `dies`."""

    def __init__(self, generation: int, owner: WorkerOwner) -> None:
        self.pid = next(PIDS)
        self.generation = generation
        self.owner: WorkerOwner | None = owner
        self.resumes = True
        self.died_ns = 0
        self.running = True
        self.said: list[str] = []

    @property
    def process(self) -> WorkerProcess:
        return cast(WorkerProcess, self)

    # What the supervisor asks.

    def attach(self, message: dict[str, Any], fds: list[int]) -> None:
        self.said.append(f"attach {message['serial']}")

    def retire(self, timeout_s: float) -> None:
        self.said.append(f"retire {timeout_s:g}")

    def drain(self) -> None:
        self.said.append("drain")

    def kill(self) -> None:
        self.said.append("kill")

    def discard(self) -> None:
        self.owner = None
        self.running = False

    # What the test lets it do.

    def loads(self) -> None:
        if self.owner is not None:
            self.owner.worker_ready(self.process)

    def serves(self) -> None:
        if self.owner is not None:
            self.owner.worker_attached(self.process)

    def fails(self, error: str) -> None:
        if self.owner is not None:
            self.owner.worker_failed(self.process, error)

    def dies(self, status: int = -9) -> None:
        self.running = False
        self.died_ns = time.monotonic_ns()
        if self.owner is not None:
            self.owner.worker_exited(self.process, status)


class Timers:
    """The loop's call_later, without time passing."""

    def __init__(self) -> None:
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.planned.append((seconds, callback))

    def fire(self) -> list[float]:
        """Run what is planned now; after how many seconds each would have been due."""
        due, self.planned = self.planned, []
        for _, callback in due:
            callback()
        return [seconds for seconds, _ in due]


class FakeShard:
    """An engine and a shard: requests are recorded, the test confirms them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.commits_made = 0
        self.quarantined: list[int] = []
        self.states: list[str] = []

    def attach(self, seat: int, serial: int, resumes: bool) -> None:
        self.asked.append(f"attach {serial}" if resumes else f"attach {serial} without resume")

    def lost(self, seat: int, serial: int) -> None:
        self.asked.append(f"lost {serial}")

    def attachment(self, seat: int, serial: int) -> tuple[dict[str, Any], list[int]]:
        return {"serial": serial}, []

    def commits(self, seat: int) -> int:
        return self.commits_made

    def quarantine(self, seat: int) -> None:
        self.quarantined.append(seat)

    def seat_changed(self, seat: Seat) -> None:
        self.states.append((seat.state.name or "").lower())


class Stage:
    """A pool with fake workers, and a seat on a fake shard."""

    def __init__(self, spares: int = 1) -> None:
        self.timers = Timers()
        self.shard = FakeShard()
        self.workers: list[FakeWorker] = []
        self.failures: list[str] = []
        self.pool = SparePool(spares, self.spawn, self.timers.later, self.failures.append)
        self.seat = Seat(0, 0, self.shard, self.shard, self.pool, self.timers.later, self.failures.append)

    def spawn(self, generation: int, owner: WorkerOwner) -> WorkerProcess:
        self.workers.append(FakeWorker(generation, owner))
        return self.workers[-1].process

    def loading(self) -> list[FakeWorker]:
        """Workers that import, oldest first."""
        return [worker for worker in self.workers if worker.running and worker.process in self.pool._loading]

    def load_all(self) -> None:
        """Every worker that is wanted gets ready."""
        while True:
            self.timers.fire()
            if not (loading := self.loading()):
                return
            for worker in loading:
                worker.loads()

    def serve(self) -> FakeWorker:
        """Bring the seat to SERVING; its worker."""
        self.seat.start()
        self.load_all()
        return self.confirm()

    def confirm(self) -> FakeWorker:
        """The engine confirms the attach and the worker serves."""
        self.seat.confirm_attach(self.seat.serial)
        assert self.seat.worker is not None
        worker = cast(FakeWorker, self.seat.worker)
        worker.serves()
        return worker
