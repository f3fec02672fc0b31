"""The pool of warm workers, and what reload asks of it."""

from __future__ import annotations

import asyncio

import pytest
from support.fakes import FakeWorker, Stage

from usnet_framework.shards.changes import Changes
from usnet_framework.shards.reload import ReloadRefused, reload
from usnet_framework.shards.workerprocess import WorkerProcess


class Taker:
    def __init__(self) -> None:
        self.taken: list[WorkerProcess] = []

    def take(self, worker: WorkerProcess) -> None:
        self.taken.append(worker)


def test_the_pool_keeps_its_spares() -> None:
    stage = Stage(spares=2)
    stage.pool.refill()
    stage.load_all()
    assert stage.pool.ready == 2
    taker = Taker()
    stage.pool.request(taker)
    assert len(taker.taken) == 1
    assert len(stage.workers) == 2, "spawning waits until the one that was handed over runs"
    stage.load_all()
    assert stage.pool.ready == 2


def test_requests_are_served_in_order() -> None:
    stage = Stage(spares=0)
    takers = [Taker(), Taker()]
    for taker in takers:
        stage.pool.request(taker)
    first = stage.workers[0]
    stage.load_all()
    assert takers[0].taken == [first.process]
    assert len(takers[1].taken) == 1
    assert stage.pool.pids == []


def test_a_spare_that_dies_is_replaced() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.load_all()
    stage.workers[0].dies()
    assert stage.pool.ready == 0
    stage.load_all()
    assert stage.pool.ready == 1


def test_imports_that_fail_are_tried_again_with_growing_delays() -> None:
    stage = Stage()
    stage.pool.refill()
    delays = []
    for _ in range(3):
        (worker,) = stage.loading()
        worker.fails("no module named x")
        delays += stage.timers.fire()
    assert delays == [0.1, 0.2, 0.4]
    assert stage.failures == ["no module named x"] * 3


def test_a_worker_that_dies_of_its_import_says_how() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.workers[0].dies(status=-11)
    assert stage.failures == ["a worker was killed by SIGSEGV while it imported the application"]


def test_a_closed_pool_spawns_no_more() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.load_all()
    stage.pool.close()
    stage.pool.request(Taker())
    stage.timers.fire()
    assert len(stage.workers) == 1
    assert not stage.workers[0].running


async def play(stage: Stage, changes: Changes) -> None:
    """Every worker does what it is asked, a little later."""
    while True:
        await asyncio.sleep(0)
        for worker in stage.workers:
            if worker.running and worker.said and worker.said[-1].startswith("retire"):
                worker.dies(status=0)
                stage.seat.confirm_lost(stage.seat.serial, poisoned=False)
        stage.load_all()
        if stage.seat.state.name == "ATTACHING":
            stage.confirm()
        changes.notify()


async def reload_with(stage: Stage, candidate: list[FakeWorker]) -> int:
    """Reload; new code is what `candidate` gets."""
    changes = Changes()

    def spawn(generation, owner):  # type: ignore[no-untyped-def]
        worker = stage.spawn(generation, owner)
        candidate.append(stage.workers[-1])
        return worker

    player = asyncio.create_task(play(stage, changes))
    try:
        async with asyncio.timeout(5):
            return await reload(stage.pool, spawn, [stage.seat], changes, 10)
    finally:
        player.cancel()


async def when(condition: list[FakeWorker]) -> FakeWorker:
    while not condition:
        await asyncio.sleep(0)
    return condition[0]


def test_reload_replaces_worker_and_spare_by_new_code() -> None:
    async def scenario() -> None:
        stage = Stage()
        old = stage.serve()
        stage.load_all()
        candidates: list[FakeWorker] = []
        reloading = asyncio.create_task(reload_with(stage, candidates))
        candidate = await when(candidates)
        assert old.said == ["attach 1"], "the old worker is not touched before the new code is imported"
        candidate.loads()
        assert await reloading == 1
        assert stage.seat.generation == 1
        assert {worker.generation for worker in stage.workers if worker.running} == {1}

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_code_that_cannot_be_imported_changes_nothing(how: str) -> None:
    async def scenario() -> None:
        stage = Stage()
        old = stage.serve()
        stage.load_all()
        candidates: list[FakeWorker] = []
        reloading = asyncio.create_task(reload_with(stage, candidates))
        candidate = await when(candidates)
        if how == "fails":
            candidate.fails("syntax error")
        else:
            candidate.dies()
        with pytest.raises(ReloadRefused):
            await reloading
        assert stage.seat.worker is old.process
        assert stage.pool.ready == 1
        assert stage.pool.generation == 0

    asyncio.run(scenario())
