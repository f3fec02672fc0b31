"""The state machine of a seat, one conversation per test."""

from __future__ import annotations

from typing import cast

import pytest
from support.fakes import FakeWorker, Stage

from usnet_framework.shards.seat import QUICK_DEATHS_FREE, RETIRE_MARGIN_S, SeatState


@pytest.fixture
def stage() -> Stage:
    return Stage()


def sitting(stage: Stage) -> FakeWorker:
    return cast(FakeWorker, stage.seat.worker)


def test_a_seat_is_filled_step_by_step(stage: Stage) -> None:
    stage.seat.start()
    assert stage.seat.state is SeatState.EMPTY
    stage.load_all()
    assert stage.shard.asked == ["attach 1"]
    assert sitting(stage).said == []
    stage.seat.confirm_attach(1)
    assert sitting(stage).said == ["attach 1"]
    assert stage.seat.state is SeatState.STARTING
    sitting(stage).serves()
    assert stage.seat.state is SeatState.SERVING


def test_a_handler_without_resume_is_told_to_the_engine(stage: Stage) -> None:
    stage.seat.start()
    for worker in stage.loading():
        worker.resumes = False
        worker.loads()
    assert stage.shard.asked == ["attach 1 without resume"]


def test_a_dead_worker_is_replaced_by_the_spare_without_waiting(stage: Stage) -> None:
    old = stage.serve()
    planned = len(stage.timers.planned)
    old.dies()
    stage.seat.confirm_lost(1, poisoned=False)
    stage.seat.confirm_attach(2)
    assert stage.shard.asked == ["attach 1", "lost 1", "attach 2"]
    assert sitting(stage).said == ["attach 2"]
    assert len(stage.timers.planned) == planned + 1, "only the next spare is put off"
    sitting(stage).serves()
    status = stage.seat.status()
    assert status["restarts"] == 1
    assert status["replaced_ms"] >= 0


def test_without_a_spare_the_seat_waits_for_one() -> None:
    stage = Stage(spares=0)
    stage.serve().dies()
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.seat.state is SeatState.EMPTY
    stage.load_all()
    assert stage.shard.asked[-1] == "attach 2"


def test_poison_is_put_aside_before_the_next_worker_attaches(stage: Stage) -> None:
    stage.serve().dies()
    stage.seat.confirm_lost(1, poisoned=True)
    assert stage.shard.quarantined == [0]
    assert stage.seat.status()["poisoned"] == 1
    assert stage.shard.asked[-1] == "attach 2"


def test_a_death_while_attaching_waits_for_the_engine(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    sitting(stage).dies()
    assert stage.shard.asked == ["attach 1"]
    stage.seat.confirm_attach(1)
    assert stage.shard.asked == ["attach 1", "lost 1"]
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.shard.asked[-1] == "attach 2"


def test_old_confirmations_are_ignored(stage: Stage) -> None:
    stage.serve().dies()
    stage.seat.confirm_attach(1)
    assert stage.seat.state is SeatState.LOST
    stage.seat.confirm_lost(1, poisoned=False)
    stage.seat.confirm_lost(1, poisoned=True)
    assert stage.seat.state is SeatState.ATTACHING
    assert stage.shard.quarantined == []


@pytest.mark.parametrize(("confirmed", "repeated"), [(False, "attach 1"), (True, "lost 1")])
def test_a_new_engine_is_told_what_the_old_one_did_not_confirm(stage: Stage, confirmed: bool, repeated: str) -> None:
    stage.seat.start()
    stage.load_all()
    if confirmed:
        stage.confirm().dies()
    stage.seat.repeat()
    assert stage.shard.asked[-2:] == [repeated, repeated]


def test_a_new_engine_is_told_nothing_of_a_seat_that_serves(stage: Stage) -> None:
    stage.serve()
    stage.seat.repeat()
    assert stage.shard.asked == ["attach 1"]


def test_a_worker_that_writes_nonsense_is_killed_once_it_is_the_one_that_is_meant(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.bad(7)
    assert "kill" not in worker.said
    stage.seat.bad(1)
    assert worker.said[-1] == "kill"


def test_reload_seats_the_successor_that_was_ready(stage: Stage) -> None:
    old = stage.serve()
    successor = FakeWorker(1, stage.pool)
    stage.seat.replace(successor.process, 10)
    assert old.said[-1] == "retire 10"
    old.dies(status=0)
    stage.seat.confirm_lost(1, poisoned=False)
    assert sitting(stage) is successor
    stage.confirm()
    assert stage.seat.status()["restarts"] == 0, "a reload is no death"


def test_a_successor_that_dies_meanwhile_is_replaced_by_a_spare(stage: Stage) -> None:
    old = stage.serve()
    successor = FakeWorker(1, stage.pool)
    stage.seat.replace(successor.process, 10)
    successor.dies()
    old.dies(status=0)
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.seat.state is SeatState.ATTACHING
    assert sitting(stage) is not successor


def test_reload_does_not_wait_for_a_worker_that_is_only_attaching(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    old = sitting(stage)
    successor = FakeWorker(1, stage.pool)
    stage.seat.replace(successor.process, 10)
    assert old.said == ["kill"]
    old.dies()
    stage.seat.confirm_attach(1)
    stage.seat.confirm_lost(1, poisoned=False)
    assert sitting(stage) is successor


def test_ending_a_seat_forgets_everybody(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.end()
    worker.dies()
    assert stage.seat.state is SeatState.CLOSED
    assert stage.shard.asked == ["attach 1"]


def test_a_worker_that_does_not_leave_is_killed(stage: Stage) -> None:
    worker = stage.serve()
    stage.timers.fire()
    stage.seat.close(3)
    assert worker.said[-1] == "retire 3"
    assert stage.timers.fire() == [3 + RETIRE_MARGIN_S]
    assert worker.said[-1] == "kill"


def test_a_worker_that_left_in_time_is_not_killed_later(stage: Stage) -> None:
    old = stage.serve()
    stage.seat.replace(FakeWorker(1, stage.pool).process, 3)
    old.dies(status=0)
    stage.seat.confirm_lost(1, poisoned=False)
    new = stage.confirm()
    stage.timers.fire()
    assert "kill" not in new.said


def test_close_ends_with_closed_and_nobody_follows(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.close(3)
    worker.dies(status=0)
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.seat.state is SeatState.CLOSED
    assert stage.shard.asked == ["attach 1", "lost 1"]


def test_closing_an_empty_seat_withdraws_its_request(stage: Stage) -> None:
    stage.seat.start()
    stage.seat.close(3)
    assert stage.seat.state is SeatState.CLOSED
    stage.load_all()
    assert stage.shard.asked == []


def test_closing_while_attaching_kills_the_worker_that_was_never_told(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    worker = sitting(stage)
    stage.seat.close(3)
    assert worker.said == ["kill"]
    worker.dies()
    stage.seat.confirm_attach(1)
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.seat.state is SeatState.CLOSED


def test_workers_that_die_before_they_did_anything_are_slowed_down(stage: Stage) -> None:
    stage.serve()
    for _ in range(QUICK_DEATHS_FREE):
        die_and_follow(stage)
    assert stage.seat.state is SeatState.SERVING
    delays = []
    for _ in range(3):
        sitting(stage).dies()
        stage.seat.confirm_lost(stage.seat.serial, poisoned=False)
        assert stage.seat.state is SeatState.EMPTY
        delays.append(max(stage.timers.fire()))
        stage.load_all()
        stage.confirm()
    assert delays == [0.1, 0.2, 0.4]


def test_workers_that_did_something_are_replaced_at_once_for_ever(stage: Stage) -> None:
    stage.serve()
    for _ in range(20):
        stage.shard.commits_made += 1
        die_and_follow(stage)
    assert stage.seat.state is SeatState.SERVING


def die_and_follow(stage: Stage) -> None:
    sitting(stage).dies()
    stage.seat.confirm_lost(stage.seat.serial, poisoned=False)
    stage.load_all()
    stage.confirm()


def test_on_start_that_raises_is_reported_and_tried_again(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.seat.confirm_attach(1)
    worker = sitting(stage)
    worker.fails("on_start failed")
    assert stage.failures == ["on_start failed"]
    assert stage.seat.start_error == "on_start failed"
    worker.dies(status=3)
    stage.seat.confirm_lost(1, poisoned=False)
    assert stage.shard.asked[-1] == "attach 2"
    assert stage.failures == ["on_start failed"]
    stage.confirm()
    assert stage.seat.start_error is None


def test_a_worker_that_ends_before_it_serves_is_reported(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.seat.confirm_attach(1)
    sitting(stage).dies(status=9)
    assert stage.failures == ["worker 0.0 exited with 9 before it served; look at the handler's on_start"]
    assert stage.seat.start_error == stage.failures[0]


def test_a_successor_is_not_blamed_for_the_worker_before_it(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.seat.confirm_attach(1)
    old = sitting(stage)
    old.fails("on_start failed")
    stage.seat.replace(FakeWorker(1, stage.pool).process, timeout_s=1)
    assert stage.seat.start_error is None
    old.dies(status=3)
    assert stage.seat.start_error is None


def test_after_a_reset_the_seat_begins_again(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.reset()
    assert not worker.running
    worker.dies()
    assert stage.seat.state is SeatState.EMPTY
    stage.seat.start()
    stage.load_all()
    assert stage.shard.asked == ["attach 1", "attach 2"]


def test_a_worker_found_before_there_is_an_engine_is_told_to_it_and_no_other_sits_down(stage: Stage) -> None:
    stage.serve()
    stage.seat.reset()  # the keeper died; a reload goes on meanwhile
    successor = FakeWorker(1, stage.pool)
    stage.seat.replace(successor.process, timeout_s=1)
    stage.seat.start()
    stage.load_all()
    assert sitting(stage) is successor
    assert stage.shard.asked == ["attach 1", "attach 2", "attach 2"]
    stage.confirm()
    assert stage.seat.state is SeatState.SERVING
