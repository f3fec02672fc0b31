"""Which code runs: reloads, refusals, the way back. Workers and engine are scripts, see support/fakes.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import pytest
from support.fakes import PATIENCE, FakeGeneration, FakeWorker, Stage

from usnet_framework.shards.reload import ANEW, DEATHS_MAX, Releases, ReloadRefused
from usnet_framework.shards.sitting import SittingState

PROBATION = 10


class World:
    """Every worker does what it is asked a little later, but `reluctant` generations do not start."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.releases: Releases = self.stage.releases()
        self.reluctant: set[int] = set()
        self.overlaps = False  # the worker before does not get rid of what it has
        self.mute: set[int] = set()  # generations whose workers never come to serve

    @property
    def current(self) -> FakeWorker:
        assert self.stage.seat.current is not None
        return cast(FakeWorker, self.stage.seat.current.worker)

    def turn(self) -> None:
        stage = self.stage
        stage.timers.fire_soon()
        for worker in [one for one in stage.loading() if one.generation not in self.reluctant]:
            worker.loads()
        stage.start_all()
        for seat, sitting in [(one, sitting) for one in stage.seats for sitting in one.sittings]:
            worker = cast(FakeWorker, sitting.worker)
            assert sitting.port is not None
            if sitting.state is SittingState.ATTACHING:
                seat.confirm_attach(sitting.port, sitting.serial)
            elif sitting.state is SittingState.SEATING and worker.generation not in self.mute:
                worker.serves()
            elif sitting.state is SittingState.LEAVING and not self.overlaps:
                seat.vacant(sitting.port, sitting.serial)
            elif sitting.state is SittingState.RETIRING:
                worker.leaves()
            elif sitting.state is SittingState.LOST:
                seat.confirm_lost(sitting.port, sitting.serial, False)
        stage.changes.notify()

    async def goes_on(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turn()

    def turns(self, count: int = 20) -> None:
        for _ in range(count):
            self.turn()


def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """With a seat that serves the first code."""

    async def run() -> None:
        world = World()
        world.stage.seat.start()
        world.turns()
        player = asyncio.create_task(world.goes_on())
        try:
            async with asyncio.timeout(30):
                await scenario(world)
        finally:
            player.cancel()

    asyncio.run(run())


async def until(predicate: Callable[[], bool]) -> None:
    while not predicate():
        await asyncio.sleep(0)


async def successors_die(world: World) -> None:
    """As many as it takes to roll back, each as it takes its port."""
    seat = world.stage.seat
    for _ in range(DEATHS_MAX):
        await until(lambda: seat.status()["state"] in ("attaching", "seating"))
        serial = seat.serial
        world.current.dies()
        await until(lambda serial=serial: seat.serial > serial)  # type: ignore[misc]


async def refused(change: Awaitable[int]) -> str:
    with pytest.raises(ReloadRefused) as refusal:
        await change
    return str(refusal.value)


def test_reload_replaces_worker_and_spare_by_new_code() -> None:
    async def scenario(world: World) -> None:
        old = world.current
        assert await world.releases.reload() == 1
        assert world.current.generation == 1
        await until(lambda: world.stage.seat.leaving is None)
        assert old.said == ["start 1", "attach 0", "yield 50", "retire 10"]
        world.stage.timers.pass_time(PROBATION)
        await until(lambda: world.stage.pools[1].ready == 1)
        assert {worker.generation for worker in world.stage.workers if worker.running} == {0, 1}
        world.stage.timers.pass_time(3)
        assert old.said[-1] == "kill", "it had left long ago"

    play(scenario)


@pytest.mark.parametrize("how", ["fails", "dies", "hangs"])
def test_code_that_cannot_be_imported_changes_nothing(how: str) -> None:
    async def scenario(world: World) -> None:
        old = world.current
        world.reluctant = {1}
        reloading = asyncio.create_task(world.releases.reload())
        await until(lambda: any(worker.generation == 1 for worker in world.stage.workers))
        candidate = next(worker for worker in world.stage.workers if worker.generation == 1)
        if how == "fails":
            candidate.fails("syntax error")
        elif how == "dies":
            candidate.dies()
        else:
            world.stage.timers.pass_time(PATIENCE.start_s)
        error = await refused(reloading)
        wanted = {"fails": "syntax error", "dies": "SIGKILL while it imported", "hangs": "(--start-timeout)"}
        assert wanted[how] in error
        assert world.current is old
        assert old.said == ["start 1", "attach 0"]
        assert world.stage.pools[0].ready == 1
        assert world.stage.pools[1].generation.closed  # type: ignore[attr-defined]
        assert not any(worker.running for worker in world.stage.workers if worker.generation == 1)
        world.reluctant = set()
        assert await world.releases.reload() == 1, "the next one is not held up"

    play(scenario)


@pytest.mark.parametrize("how", ["fails", "dies", "hangs"])
def test_code_whose_on_start_goes_wrong_changes_nothing(how: str) -> None:
    async def scenario(world: World) -> None:
        stage = world.stage
        stage.start_all = lambda: None  # type: ignore[method-assign]
        old = world.current
        reloading = asyncio.create_task(world.releases.reload())
        await until(lambda: any(worker.said == ["start 2"] for worker in stage.workers))
        successor = next(worker for worker in stage.workers if worker.said == ["start 2"])
        if how == "fails":
            successor.fails("no database")
        elif how == "dies":
            successor.dies()
        else:
            stage.timers.pass_time(PATIENCE.start_s)
        wanted = {"fails": "no database", "dies": "before it served", "hangs": "on_start took longer than 60 s"}
        assert wanted[how] in await refused(reloading)
        assert world.current is old
        assert old.said == ["start 1", "attach 0"]
        assert stage.failures == []
        assert not any(worker.running for worker in stage.workers if worker.generation == 1 and worker is not successor)

    play(scenario)


def test_a_reload_waits_for_the_overlap_of_the_one_before() -> None:
    async def scenario(world: World) -> None:
        world.overlaps = True
        await world.releases.reload()
        second = asyncio.create_task(world.releases.reload())
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(world.stage.pools) == 2
        world.stage.timers.pass_time(PATIENCE.overlap_s)
        assert await second == 1
        assert world.current.generation == 2

    play(scenario)


def test_rollback_is_possible_while_the_code_has_not_proven_itself() -> None:
    async def scenario(world: World) -> None:
        assert "no code to go back to" in await refused(world.releases.rollback())
        await world.releases.reload()
        assert await world.releases.rollback() == 1
        assert world.current.generation == 0
        assert world.stage.pools[1].generation.closed  # type: ignore[attr-defined]
        await world.releases.reload()
        assert world.current.generation == 2
        world.stage.timers.pass_time(PROBATION)
        assert world.stage.pools[0].generation.closed  # type: ignore[attr-defined]
        assert "no code to go back to" in await refused(world.releases.rollback())

    play(scenario)


def test_a_rollback_does_not_wait_for_a_long_overlap() -> None:
    async def scenario(world: World) -> None:
        first = world.current
        world.overlaps = True
        await world.releases.reload()
        assert await world.releases.rollback() == 1
        assert first.said[-1] == "retire 10"
        assert world.current.generation == 0

    play(scenario)


def test_new_code_that_dies_thrice_is_rolled_back() -> None:
    async def scenario(world: World) -> None:
        await world.releases.reload()
        for count in range(DEATHS_MAX):
            assert not world.releases.failing, count
            await until(lambda: world.stage.seat.serves)
            world.current.dies()
        await until(lambda: world.releases.failing)
        assert await world.releases.rollback() == 1
        assert world.current.generation == 0
        assert not world.releases.failing

    play(scenario)


def test_code_that_did_something_or_has_proven_itself_is_not_rolled_back() -> None:
    async def scenario(world: World) -> None:
        await world.releases.reload()
        for _ in range(2 * DEATHS_MAX):
            await until(lambda: world.stage.seat.serves)
            world.stage.shard.commits_made += 100
            world.current.dies()
        assert not world.releases.failing
        world.stage.timers.pass_time(PROBATION)
        for _ in range(2 * DEATHS_MAX):
            await until(lambda: world.stage.seat.serves)
            world.current.dies()
        assert not world.releases.failing

    play(scenario)


def test_new_code_that_dies_as_it_takes_its_port_is_rolled_back_by_the_reload() -> None:
    async def scenario(world: World) -> None:
        old = world.current
        reloading = asyncio.create_task(world.releases.reload())
        await successors_die(world)
        assert "3 workers of the new code died" in await refused(reloading)
        await until(lambda: world.stage.seat.serves)
        assert world.current.generation == 0
        assert world.current is not old, "it has given way to one of its own code"

    play(scenario)


@pytest.mark.parametrize(("keeps", "told"), [(True, "rolled back"), (False, ANEW)])
def test_what_new_code_that_never_serves_is_rolled_back_to_is_said(
    monkeypatch: pytest.MonkeyPatch, keeps: bool, told: str
) -> None:
    """Spawned workers import what is on the disk, which is the new code."""
    patience = property(lambda releases: 0.05 if releases.current.number == 1 else 60.0)
    monkeypatch.setattr(Releases, "_hand_over_s", patience)
    monkeypatch.setattr(FakeGeneration, "keeps_code", keeps)

    async def scenario(world: World) -> None:
        world.mute = {1}
        reloading = asyncio.create_task(world.releases.reload())
        for number in (1, 0):
            await until(lambda number=number: world.releases.current.number == number)  # type: ignore[misc]
        world.current.dies()  # as it is killed for that
        assert await refused(reloading) == f"seat 0.0 is not served after 0.05 s; {told}"
        assert world.current.generation == 0

    play(scenario)


def test_a_seat_that_the_new_code_did_not_come_to_is_as_before_when_it_is_rolled_back() -> None:
    async def scenario(world: World) -> None:
        stage, second = world.stage, world.stage.add_seat()
        second.start()
        await until(lambda: second.serves)
        reloading = asyncio.create_task(world.releases.reload())
        await successors_die(world)
        await refused(reloading)
        assert second.generation == 0
        assert not any(worker.running for worker in stage.workers if worker.generation == 1)
        assert second.current is not None
        cast(FakeWorker, second.current.worker).dies()
        await until(lambda: second.serves)
        assert await world.releases.reload() == 2, "the next one is not held up"

    play(scenario)


def test_a_rollback_to_code_that_cannot_be_imported_any_more_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.releases.reload()
        await until(lambda: world.stage.pools[1].ready == 1)
        await world.releases.reload()
        new, before = world.current, world.stage.pools[1]
        before.worker_exited(before._ready[0], -9)
        world.reluctant = {1}
        going_back = asyncio.create_task(world.releases.rollback())
        await until(lambda: any(worker.generation == 1 for worker in world.stage.loading()))
        next(worker for worker in world.stage.loading() if worker.generation == 1).fails("syntax error")
        assert "syntax error" in await refused(going_back)
        assert world.current is new
        world.reluctant = set()
        assert await world.releases.reload() == 1, "the next one is not held up"

    play(scenario)


def test_a_successor_that_dies_before_its_turn_is_followed_by_another() -> None:
    async def scenario(world: World) -> None:
        stage, second = world.stage, world.stage.add_seat()
        second.start()
        await until(lambda: second.serves)
        reloading = asyncio.create_task(world.releases.reload())
        await until(lambda: stage.seat.status()["state"] in ("attaching", "seating"))
        assert second._successor is not None
        cast(FakeWorker, second._successor.worker).dies()
        assert await reloading == 2
        assert second.generation == 1

    play(scenario)


def test_a_reload_that_is_refused_leaves_the_way_back() -> None:
    async def scenario(world: World) -> None:
        await world.releases.reload()
        world.reluctant = {2}
        reloading = asyncio.create_task(world.releases.reload())
        await until(lambda: any(worker.generation == 2 for worker in world.stage.loading()))
        next(worker for worker in world.stage.loading() if worker.generation == 2).fails("syntax error")
        await refused(reloading)
        assert await world.releases.rollback() == 1
        assert world.current.generation == 0

    play(scenario)
