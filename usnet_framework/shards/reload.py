"""Which release of the application runs, how the next one comes, and the way back.

    reload     1  running overlaps end, each in its own time (--reload-overlap)
               2  for every seat a worker of the new code runs on_warm and on_start. Should one fail, die or hang
                  (--start-timeout): refused, the old workers were never touched
               3  seat by seat the successor is attached beside the old worker (seat.py). From now on workers that die
                  are replaced by the new code
    probation  from step 3 until --reload-probation seconds after the last seat: the old generation stays, with its
               spares. Three deaths of workers of the new code that had committed less than 100 times: rolled back.
               Never later, as clients could cause it then
    rollback   steps 2 and 3 with the old generation; seats without a worker get one of it at once. A worker that
               still leaves makes room first, within --graceful-timeout

One of these runs at a time; the supervisor asks (supervisor.py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from usnet_framework.errors import UsnetError
from usnet_framework.shards.changes import Changes
from usnet_framework.shards.seat import Seat
from usnet_framework.shards.sitting import ATTACH_TIMEOUT_S, RETIRE_MARGIN_S, Means, Sitting, SittingState
from usnet_framework.shards.spare import SparePool
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

DEATHS_MAX = 3
COMMITS_PROVEN = 100
NO_WAY_BACK = "there is no code to go back to: none was reloaded, or the code that runs has proven itself"
ANEW = "rolled back to what is in the application's folder now: workers are spawned, and import it anew"

MakePool = Callable[[int, Callable[[str], None]], SparePool]
"""Of the generation with this number; the other argument is told when a worker of it cannot be imported."""


class ReloadRefused(UsnetError):
    """The new code cannot be used, or there is no old code to go back to. One line."""


class _Succession:
    """The worker that is to follow at a seat (spare.Taker)."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.sitting: Sitting | None = None

    def take(self, worker: WorkerProcess) -> None:
        self.sitting = self.seat.prepare(worker)

    @property
    def started(self) -> bool:
        return self.sitting is not None and self.sitting.state is SittingState.STARTED

    @property
    def trouble(self) -> str | None:
        if self.sitting is None or self.sitting.state is not SittingState.GONE:
            return None
        if self.sitting.error is not None:
            return self.sitting.error
        death = self.sitting.death
        return f"the successor of worker {self.seat.name} {death.how if death is not None else 'is gone'}"


class Releases:
    """`current` brings forth the workers that are needed; `previous` is there while there is a way back."""

    def __init__(
        self, make: MakePool, seats: Callable[[], Sequence[Seat]], changes: Changes, means: Means, probation_s: float
    ) -> None:
        """`means.failed` is called when the code that runs cannot be imported."""
        self._make = make
        self._seats = seats
        self._changes = changes
        self._means = means
        self._probation_s = probation_s
        self._number = 0  # of the last generation
        self._errors: dict[int, str] = {}  # why code of which successors are to start cannot be imported
        self._starting: int | None = None  # the generation of these
        self._deaths = 0
        self.current = self._new()
        self.previous: SparePool | None = None
        self._candidate: SparePool | None = None

    @property
    def pids(self) -> list[int]:
        """Of workers without a seat."""
        return [pid for pool in self._pools() for pid in pool.pids]

    @property
    def zygotes(self) -> list[int]:
        """What brings them forth, where that is a process."""
        return [pid for pool in self._pools() for pid in pool.generation.pids]

    @property
    def failing(self) -> bool:
        """The new code dies again and again: to be rolled back. Not where the code before it would have to be imported
        from the disk again, which may hold anything by now."""
        kept = self.previous is not None and self.previous.generation.keeps_code
        return kept and self._deaths >= DEATHS_MAX

    def close(self) -> None:
        for pool in self._pools():
            pool.close()

    def worker_died(self, generation: int, commits: int) -> None:
        """At a seat, or before it could serve there."""
        if self.previous is not None and generation == self.current.number and commits < COMMITS_PROVEN:
            self._deaths += 1
            self._changes.notify()

    async def reload(self) -> int:
        """Have every seat served by the code that is on the disk now; how many. ReloadRefused: the old code goes on."""
        await self._changes.until(lambda: not self._overlaps())
        seats = list(self._seats())
        self._number += 1
        try:
            self._candidate = pool = self._new()
        except UsnetError as error:
            raise ReloadRefused(str(error)) from None
        try:
            await self._start_successors(seats, pool)
        except BaseException:
            pool.close()
            raise
        finally:
            self._candidate = None
        self._end_probation()  # not before: a reload that is refused leaves the way back
        self.previous, self.current = self.current, pool
        self._deaths = 0
        try:
            await self._hand_over(seats, pool)
        except ReloadRefused as refusal:
            kept = self.previous is not None and self.previous.generation.keeps_code
            await self._go_back()
            raise ReloadRefused(f"{refusal}; {'rolled back' if kept else ANEW}") from None
        self._means.later(self._probation_s, lambda: self._end_probation(pool))
        return len(seats)

    async def rollback(self) -> int:
        """Go back to the code before the last reload; how many seats have it again. ReloadRefused."""
        if self.previous is None:
            raise ReloadRefused(NO_WAY_BACK)
        return await self._go_back()

    # Steps.

    def _new(self) -> SparePool:
        number = self._number
        return self._make(number, lambda error: self._import_failed(number, error))

    def _import_failed(self, number: int, error: str) -> None:
        if number == self._starting:
            self._errors[number] = error
            self._changes.notify()
        else:
            self._means.failed(error)

    async def _start_successors(self, seats: Sequence[Seat], pool: SparePool) -> None:
        """Until one of this pool has started for each seat. ReloadRefused, and none is left."""
        successions = [_Succession(seat) for seat in seats]
        self._errors.pop(pool.number, None)
        self._starting = pool.number
        for succession in successions:
            pool.request(succession)

        def trouble() -> str | None:
            found = (succession.trouble for succession in successions)
            return self._errors.get(pool.number) or next((one for one in found if one is not None), None)

        try:
            await self._changes.until(
                lambda: trouble() is not None or all(succession.started for succession in successions)
            )
            if (why := trouble()) is not None:
                raise ReloadRefused(why)
        except BaseException:
            for succession in successions:
                pool.withdraw(succession)
                succession.seat.forgo()
            raise
        finally:
            self._starting = None

    async def _hand_over(self, seats: Sequence[Seat], pool: SparePool) -> None:
        """ReloadRefused: workers of this pool die too often, and there is another one to go back to, or one does not
        come to serve at all."""
        for seat in seats:
            try:
                async with asyncio.timeout(self._hand_over_s):
                    await self._hand_over_seat(seat, pool)
            except TimeoutError:
                raise ReloadRefused(f"seat {seat.name} is not served after {self._hand_over_s:g} s") from None
            if self.failing:
                raise ReloadRefused(f"{self._deaths} workers of the new code died before they had done anything much")

    async def _hand_over_seat(self, seat: Seat, pool: SparePool) -> None:
        """Should the successor die before its turn has come, another one is started."""
        seat.hand_over(pool)
        while not self._served_or_failing(seat, pool):
            if seat.lacks_successor(pool.number):
                await self._start_successors([seat], pool)
                seat.hand_over(pool)
            await self._changes.until(
                lambda: self._served_or_failing(seat, pool) or seat.lacks_successor(pool.number)
            )

    def _served_or_failing(self, seat: Seat, pool: SparePool) -> bool:
        return self.failing or seat.serves_generation(pool.number)

    @property
    def _hand_over_s(self) -> float:
        """For a worker that leaves, and one that comes, were it to be imported and started first."""
        leaving_s = self._means.patience.graceful_s + RETIRE_MARGIN_S
        return leaving_s + 2 * self._means.patience.start_s + ATTACH_TIMEOUT_S

    async def _go_back(self) -> int:
        """Whatever comes of it, workers that die are replaced by those of the previous code."""
        assert self.previous is not None, "there is a way back"
        bad, self.current = self.current, self.previous
        self.previous = None
        if not self.current.generation.keeps_code:
            log.warning(ANEW)
        seats = [seat for seat in self._seats() if not seat.serves_generation(self.current.number)]
        for seat in self._seats():  # also those that the new code did not come to
            seat.forgo()
            seat.follow(self.current)  # who has nobody gets one of it at once
        for seat in seats:
            seat.end_overlap()
        try:
            await self._start_successors([seat for seat in seats if seat.current is not None], self.current)
            await self._hand_over(seats, self.current)
        finally:
            bad.close()
        return len(seats)

    def _end_probation(self, of: SparePool | None = None) -> None:
        """The code that runs has proven itself; `of`: if it is this one."""
        if self.previous is not None and of in (None, self.current):
            self.previous.close()
            self.previous = None

    def _overlaps(self) -> bool:
        return any(seat.leaving is not None for seat in self._seats())

    def _pools(self) -> list[SparePool]:
        return [pool for pool in (self.current, self.previous, self._candidate) if pool is not None]
