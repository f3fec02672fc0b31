"""Everybody that a seat and a pool of spares talk to, as a script: what they were asked is recorded, tests answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, cast

from usnet_framework.shards.changes import Changes
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.reload import Releases
from usnet_framework.shards.seat import Seat
from usnet_framework.shards.sitting import Means, Patience
from usnet_framework.shards.spare import SparePool
from usnet_framework.shards.workerprocess import WorkerOwner, WorkerProcess

PIDS = itertools.count(1000)


class FakeWorker:
    """A worker process that does what the test says: `loads`, `starts`, `serves`, `fails`, `leaves`, `dies`. `said` is
    what it was told."""

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

    def start(self, message: dict[str, Any]) -> None:
        self.said.append(f"start {message['serial']}")

    def attach(self, message: dict[str, Any], fds: list[int]) -> None:
        self.said.append(f"attach {message['port']}")

    def give_way(self, timeout_s: float) -> None:
        self.said.append(f"yield {timeout_s:g}")

    def retire(self, timeout_s: float) -> None:
        self.said.append(f"retire {timeout_s:g}")

    def drain(self, timeout_s: float) -> None:
        self.said.append(f"drain {timeout_s:.0f}")

    def kill(self) -> None:
        self.said.append("kill")

    def discard(self) -> None:
        self.owner = None
        self.running = False

    # What the test lets it do.

    def loads(self) -> None:
        if self.owner is not None:
            self.owner.worker_ready(self.process)

    def starts(self) -> None:
        if self.owner is not None:
            self.owner.worker_started(self.process)

    def leaves(self) -> None:
        if self.owner is not None:
            self.owner.worker_left(self.process)

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

    def fire_soon(self) -> None:
        """Run what is planned for within a second."""
        due = [plan for plan in self.planned if plan[0] < 1]
        self.planned = [plan for plan in self.planned if plan[0] >= 1]
        for _, callback in due:
            callback()

    def pass_time(self, seconds: float) -> None:
        """Run what is planned for exactly that many seconds."""
        due = [plan for plan in self.planned if plan[0] == seconds]
        assert due, f"nothing is planned in {seconds} s: {[plan[0] for plan in self.planned]}"
        self.planned = [plan for plan in self.planned if plan[0] != seconds]
        for _, callback in due:
            callback()

    def fire(self) -> list[float]:
        """Run what is planned now; after how many seconds each would have been due."""
        due, self.planned = self.planned, []
        for _, callback in due:
            callback()
        return [seconds for seconds, _ in due]


class FakeShard:
    """A shard: requests are recorded, the test confirms them."""

    number = 0

    def __init__(self, sides: int) -> None:
        self.sides = sides
        self.asked: list[str] = []
        self.commits_made = 0
        self.handling: dict[str, object] = {"handling": "data", "conn": 7}
        self.quarantined: list[int] = []
        self.states: list[str] = []
        self.died: list[tuple[int, int]] = []

    def attach(self, port: int, serial: int, resumes: bool) -> None:
        self.asked.append(f"attach {serial} at {port}" + ("" if resumes else " without resume"))

    def lost(self, port: int, serial: int, left: bool) -> None:
        self.asked.append(f"lost {serial} at {port}")

    def start_message(self, seat: int, serial: int) -> dict[str, Any]:
        return {"seat": seat, "serial": serial}

    def attachment(self, port: int) -> tuple[dict[str, Any], list[int]]:
        return {"port": port}, []

    def commits(self, port: int) -> int:
        return self.commits_made

    def handled(self, port: int) -> dict[str, object]:
        return self.handling

    def quarantine(self, port: int) -> None:
        self.quarantined.append(port)

    def worker_died(self, generation: int, commits: int) -> None:
        self.died.append((generation, commits))

    def seat_changed(self, seat: Seat) -> None:
        self.states.append(seat.status()["state"])


class FakeGeneration:
    """Brings forth fake workers."""

    keeps_code = True
    is_over = True

    def __init__(self, number: int, workers: list[FakeWorker]) -> None:
        self.number = number
        self.closed = False
        self._workers = workers

    @property
    def pids(self) -> list[int]:
        return []

    def spawn(self, owner: WorkerOwner) -> WorkerProcess:
        self._workers.append(FakeWorker(self.number, owner))
        return self._workers[-1].process

    def close(self) -> None:
        self.closed = True

    async def wait(self) -> None:
        """There is no process."""

    def finding(self) -> Finding:
        return Finding("preload", "auto", "workers are made up")


PATIENCE = Patience(start_s=60, overlap_s=50, graceful_s=10)


class Stage:
    """Pools with fake workers, and a seat on a fake shard, with two ports unless told otherwise."""

    def __init__(self, spares: int = 1, sides: int = 2, patience: Patience = PATIENCE) -> None:
        self.timers = Timers()
        self.shard = FakeShard(sides)
        self.workers: list[FakeWorker] = []
        self.failures: list[str] = []
        self.changes = Changes()
        self._spares = spares
        self.pools: list[SparePool] = []
        self.pool = self.make_pool(0, self.failures.append)
        self.means = Means(self.timers.later, patience, self.failures.append)
        self.seat = Seat(self.shard, 0, self.pool, self.means)
        self.seats = [self.seat]

    def add_seat(self) -> Seat:
        """One more, of the same shard; a test has it start."""
        number = len(self.seats)
        self.seats.append(Seat(self.shard, number, self.pool, self.means))
        return self.seats[-1]

    def make_pool(self, number: int, failed: Callable[[str], None]) -> SparePool:
        generation = FakeGeneration(number, self.workers)
        self.pools.append(SparePool(generation, self._spares, 60, self.timers.later, failed))
        return self.pools[-1]

    def releases(self) -> Releases:
        """What reloads the seats; the pool is the first of it."""
        releases = Releases(
            lambda number, failed: self.pool if number == 0 else self.make_pool(number, failed),
            *(lambda: self.seats, self.changes, self.means, 10),
        )
        self.shard.worker_died = releases.worker_died  # type: ignore[method-assign]
        return releases

    def loading(self) -> list[FakeWorker]:
        """Workers that import, oldest first."""
        pools = [pool for pool in self.pools if not pool._closed]
        return [worker for worker in self.workers if any(worker.process in pool._loading for pool in pools)]

    def load_all(self) -> None:
        """Every worker that is wanted gets ready."""
        while True:
            self.timers.fire_soon()
            if not (loading := self.loading()):
                return
            for worker in loading:
                worker.loads()

    def start_all(self) -> None:
        """on_start returns wherever it runs."""
        for worker in self.workers:
            if worker.said and worker.said[-1].startswith("start"):
                worker.starts()

    def serve(self) -> FakeWorker:
        """Bring the seat to serve; its worker."""
        self.seat.start()
        return self.follow()

    def follow(self) -> FakeWorker:
        """Whoever comes next is loaded and started, the engine confirms, and it serves."""
        self.load_all()
        self.start_all()
        return self.confirm()

    def confirm(self) -> FakeWorker:
        """The engine confirms the attach of who is at the current port, and the worker serves."""
        current = self.seat.current
        assert current is not None
        assert current.port is not None
        self.seat.confirm_attach(current.port, current.serial)
        worker = cast(FakeWorker, current.worker)
        worker.serves()
        return worker

    def lose(self, poisoned: bool = False) -> None:
        """The engine confirms every LOST."""
        for sitting in list(self.seat.sittings):
            assert sitting.port is not None
            self.seat.confirm_lost(sitting.port, sitting.serial, poisoned)

    def succeed(self, generation: int = 1) -> FakeWorker:
        """A worker of new code has started and is given the seat; nobody has confirmed anything."""
        pool = self.make_pool(generation, self.failures.append)
        worker = FakeWorker(generation, pool)
        self.seat.prepare(worker.process)
        worker.starts()
        self.seat.hand_over(pool)
        return worker
