"""The pool of warm workers of one generation."""

from __future__ import annotations

import signal
import subprocess

import psutil
from support.fakes import Stage
from support.server import wait

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


def test_a_spare_that_is_stopped_is_not_handed_over() -> None:
    stage = Stage(spares=2)
    stage.pool.refill()
    stage.load_all()
    with subprocess.Popen(["sleep", "600"]) as process:
        stage.workers[0].pid = process.pid
        try:
            process.send_signal(signal.SIGSTOP)
            wait("it is stopped", lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
            taker = Taker()
            stage.pool.request(taker)
        finally:
            process.kill()
    assert taker.taken == [stage.workers[1].process]
    assert not stage.workers[0].running
    stage.load_all()
    assert stage.pool.ready == 2


def test_imports_that_fail_are_tried_again_with_growing_delays() -> None:
    stage = Stage()
    stage.pool.refill()
    for delay_s in (0.1, 0.2, 0.4):
        (worker,) = stage.loading()
        worker.fails("no module named x")
        stage.timers.pass_time(delay_s)
    assert stage.failures == ["no module named x"] * 3


def test_workers_that_fail_together_of_the_same_are_one_failure() -> None:
    stage = Stage(spares=2)
    stage.pool.refill()
    for delay_s in (0.1, 0.2):
        for worker in stage.loading():
            worker.fails("no module named x")
        stage.timers.pass_time(delay_s)
    assert stage.failures == ["no module named x"] * 2


def test_an_import_that_hangs_is_ended_and_tried_again() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.timers.pass_time(60)
    assert not stage.workers[0].running
    assert stage.failures == ["importing the application, on_warm included, took longer than 60 s (--start-timeout)"]
    stage.load_all()
    assert stage.pool.ready == 1


def test_a_worker_that_dies_of_its_import_says_how() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.workers[0].dies(status=-11)
    assert stage.failures == ["a worker was killed by SIGSEGV while it imported the application, or in on_warm"]


def test_a_closed_pool_spawns_no_more() -> None:
    stage = Stage()
    stage.pool.refill()
    stage.load_all()
    stage.pool.close()
    stage.pool.request(Taker())
    stage.timers.fire()
    assert len(stage.workers) == 1
    assert not stage.workers[0].running


def test_a_worker_that_was_handed_over_is_not_ended_for_its_import() -> None:
    stage = Stage(spares=0)
    stage.pool.request(Taker())
    stage.load_all()
    stage.timers.pass_time(60)
    assert stage.workers[0].running
