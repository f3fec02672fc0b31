"""New code without a gap: every worker is replaced by one that imported the application again.

The first worker of the new code is imported before anything is touched; when that fails the reload is refused and the
old workers stay. Then seat by seat: a successor is ready, the old worker commits what it did and leaves, the successor
sits down. Should a successor die as it starts, the seats that were not reached yet keep the old code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from usnet_framework.errors import UsnetError
from usnet_framework.shards.changes import Changes
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.seat import Seat, SeatState
from usnet_framework.shards.spare import SparePool, Spawn
from usnet_framework.shards.workerprocess import WorkerProcess


class ReloadRefused(UsnetError):
    """The new code cannot be used; the old workers stay. One line."""


class _Candidate:
    """The first worker of the new code (workerprocess.WorkerOwner)."""

    def __init__(self, spawn: Spawn, generation: int) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.worker = spawn(generation, self)

    def worker_ready(self, worker: WorkerProcess) -> None:
        self._settle(None)

    def worker_attached(self, worker: WorkerProcess) -> None:
        """Said by workers that sit on a seat only."""

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        self._settle(error)

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        self._settle(f"the worker {describe_exit(status)} while it imported the application")

    def _settle(self, error: str | None) -> None:
        if self.ready.done():
            return
        if error is None:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(ReloadRefused(error))


class _Succession:
    """Waits for a ready worker to follow the one on a seat (spare.Taker)."""

    def __init__(self, seat: Seat, timeout_s: float) -> None:
        self.begun = False
        self._seat = seat
        self._timeout_s = timeout_s

    def take(self, worker: WorkerProcess) -> None:
        self.begun = True
        self._seat.replace(worker, self._timeout_s)


async def reload(pool: SparePool, spawn: Spawn, seats: Iterable[Seat], changes: Changes, timeout_s: float) -> int:
    """Replace the workers of all seats, each with `timeout_s` to finish; how many were. ReloadRefused."""
    await _adopt_new_code(pool, spawn)
    replaced = 0
    for seat in seats:
        if seat.generation == pool.generation:
            continue  # its worker died meanwhile, and the new one has the new code already
        await _replace(pool, seat, changes, timeout_s)
        if seat.start_error is not None:
            raise ReloadRefused(f"{seat.start_error}; seats after {seat.name} keep the old code")
        replaced += 1
    return replaced


async def _replace(pool: SparePool, seat: Seat, changes: Changes, timeout_s: float) -> None:
    """Until a worker of the new code serves, or says that it cannot."""
    succession = _Succession(seat, timeout_s)
    pool.request(succession)
    try:
        await changes.until(
            lambda: (
                succession.begun
                and seat.generation == pool.generation
                and (seat.state is SeatState.SERVING or seat.start_error is not None)
            )
        )
    finally:
        pool.withdraw(succession)


async def _adopt_new_code(pool: SparePool, spawn: Spawn) -> None:
    try:
        candidate = _Candidate(spawn, pool.generation + 1)
    except OSError as error:
        raise ReloadRefused(f"cannot start a worker process: {error.strerror}") from None
    try:
        await candidate.ready
    except BaseException:
        candidate.worker.discard()
        raise
    pool.adopt(candidate.worker)
