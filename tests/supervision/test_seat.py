"""The state machine of a seat and of who sits there, one conversation per test."""

from __future__ import annotations

from typing import cast

import pytest
from support.fakes import PATIENCE, FakeWorker, Stage

from usnet_framework.shards.seat import QUICK_DEATHS_FREE, QUICK_DEATHS_MOST
from usnet_framework.shards.sitting import ATTACH_TIMEOUT_S, LINGER_S, RETIRE_MARGIN_S, SittingState

RETIRED = PATIENCE.graceful_s + RETIRE_MARGIN_S


@pytest.fixture
def stage() -> Stage:
    return Stage()


def state(stage: Stage) -> str:
    return str(stage.seat.status()["state"])


def sitting(stage: Stage) -> FakeWorker:
    assert stage.seat.current is not None
    return cast(FakeWorker, stage.seat.current.worker)


# A worker comes.


def test_a_seat_is_filled_step_by_step(stage: Stage) -> None:
    stage.seat.start()
    assert state(stage) == "empty"
    stage.load_all()
    worker = stage.workers[0]
    assert worker.said == ["start 1"]
    assert stage.shard.asked == [], "on_start comes before the port"
    worker.starts()
    assert stage.shard.asked == ["attach 1 at 0"]
    assert not stage.seat.serves
    stage.seat.confirm_attach(0, 1)
    assert worker.said == ["start 1", "attach 0"]
    assert state(stage) == "seating"
    worker.serves()
    assert state(stage) == "serving"
    assert stage.seat.serves


def test_a_handler_without_resume_is_told_to_the_engine(stage: Stage) -> None:
    stage.seat.start()
    for worker in stage.loading():
        worker.resumes = False
        worker.loads()
    stage.start_all()
    assert stage.shard.asked == ["attach 1 at 0 without resume"]


def test_on_start_that_raises_is_reported_and_tried_again(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    worker = stage.workers[0]
    worker.fails("on_start failed")
    assert stage.failures == ["on_start failed"]
    assert stage.seat.start_error == "on_start failed"
    worker.dies(status=3)
    assert stage.failures == ["on_start failed"]
    stage.follow()
    assert stage.shard.asked == ["attach 2 at 0"]
    assert stage.seat.start_error is None


def test_on_start_that_hangs_is_ended(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    worker = stage.workers[0]
    stage.timers.pass_time(PATIENCE.start_s)
    assert not worker.running
    assert stage.failures == ["worker 0.0: on_start took longer than 60 s (--start-timeout)"]
    assert stage.follow() is not worker


def test_a_worker_that_ends_in_on_start_is_reported(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.workers[0].dies(status=9)
    assert stage.failures == ["worker 0.0 exited with 9 before it served; look at the handler's on_start"]


def test_a_worker_that_ends_as_it_takes_its_port_is_past_on_start(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    stage.seat.confirm_attach(0, 1)
    sitting(stage).dies(status=9)
    stage.lose()
    assert stage.failures == ["worker 0.0 exited with 9 before it served"]


def test_a_worker_that_never_says_attached_is_killed(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    stage.seat.confirm_attach(0, 1)
    stage.timers.pass_time(ATTACH_TIMEOUT_S)
    assert sitting(stage).said[-1] == "kill"
    sitting(stage).dies()
    stage.lose()
    assert stage.failures == ["worker 0.0 did not take its port within 5 s"]
    stage.follow()
    assert stage.seat.serves


# A worker dies.


def test_a_dead_worker_is_replaced_by_the_spare_without_waiting(stage: Stage) -> None:
    old = stage.serve()
    stage.load_all()
    old.dies()
    stage.lose()
    stage.start_all()
    new = stage.confirm()
    assert stage.shard.asked == ["attach 1 at 0", "lost 1 at 0", "attach 2 at 0"]
    assert new.said == ["start 2", "attach 0"]
    status = stage.seat.status()
    assert status["restarts"] == 1
    assert status["replaced_ms"] >= 0


def test_what_it_handled_when_it_died_is_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.serve().dies()
    stage.lose()
    stage.follow()
    (record,) = [record for record in caplog.records if "killed" in record.message]
    assert (record.__dict__["handling"], record.__dict__["conn"]) == ("data", 7)


def test_without_a_spare_the_seat_waits_for_one() -> None:
    stage = Stage(spares=0)
    stage.serve().dies()
    stage.lose()
    assert state(stage) == "empty"
    stage.follow()
    assert stage.shard.asked[-1] == "attach 2 at 0"


def test_poison_is_put_aside_before_the_next_worker_attaches(stage: Stage) -> None:
    stage.serve().dies()
    stage.lose(poisoned=True)
    assert stage.shard.quarantined == [0]
    assert stage.seat.status()["poisoned"] == 1
    stage.follow()
    assert stage.shard.asked[-1] == "attach 2 at 0"


def test_a_death_while_attaching_waits_for_the_engine(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    sitting(stage).dies()
    assert stage.shard.asked == ["attach 1 at 0"]
    stage.seat.confirm_attach(0, 1)
    assert stage.shard.asked == ["attach 1 at 0", "lost 1 at 0"]
    stage.lose()
    stage.follow()
    assert stage.shard.asked[-1] == "attach 2 at 0"


def test_old_confirmations_are_ignored(stage: Stage) -> None:
    stage.serve().dies()
    stage.seat.confirm_attach(0, 1)
    assert state(stage) == "lost"
    stage.lose()
    stage.start_all()
    stage.seat.confirm_lost(0, 1, poisoned=True)
    stage.seat.confirm_lost(1, 2, poisoned=True)
    assert stage.shard.quarantined == []


@pytest.mark.parametrize(("confirmed", "repeated"), [(False, "attach 1 at 0"), (True, "lost 1 at 0")])
def test_a_new_engine_is_told_what_the_old_one_did_not_confirm(stage: Stage, confirmed: bool, repeated: str) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    if confirmed:
        stage.confirm().dies()
    stage.seat.start()
    assert stage.shard.asked[-2:] == [repeated, repeated]


def test_a_new_engine_is_told_nothing_of_a_seat_that_serves(stage: Stage) -> None:
    stage.serve()
    stage.seat.start()
    assert stage.shard.asked == ["attach 1 at 0"]


def test_a_worker_that_writes_nonsense_is_killed_once_it_is_the_one_that_is_meant(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.bad(0, 7)
    stage.seat.bad(1, 1)
    assert "kill" not in worker.said
    stage.seat.bad(0, 1)
    assert worker.said[-1] == "kill"


# A successor comes.


def test_nothing_is_taken_from_the_old_worker_before_the_new_one_has_started(stage: Stage) -> None:
    old = stage.serve()
    successor = FakeWorker(1, stage.pool)
    stage.seat.prepare(successor.process)
    stage.seat.hand_over(stage.make_pool(1, stage.failures.append))
    assert successor.said == ["start 2"]
    assert old.said == ["start 1", "attach 0"]
    assert stage.shard.asked == ["attach 1 at 0"]
    successor.starts()
    assert stage.shard.asked[-1] == "attach 2 at 1"


def test_a_successor_serves_before_the_old_worker_is_told(stage: Stage) -> None:
    old = stage.serve()
    successor = stage.succeed()
    assert stage.seat.serves, "for the moment until the new one serves, the old one does"
    stage.confirm()
    assert successor.said == ["start 2", "attach 1"]
    assert old.said[-1] == "yield 50"
    assert stage.seat.generation == 1
    assert stage.seat.serves
    assert stage.seat.status()["leaving"]["serial"] == 1


def test_the_old_worker_leaves_when_its_port_is_vacant_and_its_process_may_take_longer(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    stage.confirm()
    stage.seat.vacant(0, 1)
    assert old.said[-1] == "retire 10"
    old.leaves()
    assert stage.shard.asked[-1] == "lost 1 at 0"
    stage.lose()
    assert stage.seat.status()["leaving"] is None
    assert "kill" not in old.said
    stage.timers.pass_time(LINGER_S)
    assert old.said[-1] == "kill"
    old.dies()
    assert stage.seat.status()["restarts"] == 0, "a reload is no death"


def test_a_port_that_is_vacant_before_the_successor_serves_is_left_then(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    stage.seat.vacant(0, 1)
    assert old.said[-1] == "attach 0"
    stage.confirm()
    assert old.said[-2:] == ["yield 50", "retire 10"]


def test_an_overlap_ends(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    stage.confirm()
    stage.timers.pass_time(PATIENCE.overlap_s)
    assert old.said[-1] == "retire 10"
    stage.timers.pass_time(RETIRED)
    assert old.said[-1] == "kill"
    old.dies()
    stage.lose()
    assert stage.seat.status()["leaving"] is None


def test_the_next_successor_takes_the_port_that_is_free_then(stage: Stage) -> None:
    first = stage.serve()
    second = stage.succeed(1)
    stage.confirm()
    third = stage.succeed(2)
    assert third.said == ["start 3"], "both ports are taken"
    stage.seat.vacant(0, 1)
    first.leaves()
    stage.lose()
    assert stage.shard.asked[-1] == "attach 3 at 0"
    stage.confirm()
    assert second.said[-1] == "yield 50"


def test_the_old_worker_may_die_while_it_leaves(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    new = stage.confirm()
    old.dies()
    stage.lose()
    assert stage.shard.asked[-1] == "lost 1 at 0"
    assert sitting(stage) is new
    assert stage.seat.serves
    assert stage.shard.died == []


def test_a_successor_that_fails_to_start_leaves_the_old_worker_alone(stage: Stage) -> None:
    old = stage.serve()
    successor = FakeWorker(1, stage.pool)
    coming = stage.seat.prepare(successor.process)
    successor.fails("on_start failed")
    assert coming.state is SittingState.GONE
    assert coming.error == "on_start failed"
    assert old.said == ["start 1", "attach 0"]
    assert stage.failures == [], "whoever reloads says it"
    assert stage.seat.serves


def test_a_successor_that_dies_at_its_port_is_followed_there_by_its_own_code(stage: Stage) -> None:
    old = stage.serve()
    successor = stage.succeed()
    stage.seat.confirm_attach(1, 2)
    successor.dies()
    stage.lose()
    new = stage.follow()
    assert stage.shard.asked[-2:] == ["lost 2 at 1", "attach 3 at 1"]
    assert new.generation == 1
    assert old.said[-1] == "yield 50"


def test_an_old_worker_that_dies_meanwhile_is_replaced_by_its_own_code(stage: Stage) -> None:
    old = stage.serve()
    stage.load_all()
    successor = FakeWorker(1, stage.pool)
    stage.seat.prepare(successor.process)
    old.dies()
    stage.lose()
    stage.start_all()
    assert stage.confirm().generation == 0
    successor.starts()
    stage.seat.hand_over(stage.make_pool(1, stage.failures.append))
    assert stage.confirm() is successor


def test_a_successor_that_has_started_follows_a_dead_worker_at_once(stage: Stage) -> None:
    stage.serve()
    stage.load_all()
    successor = stage.succeed()
    stage.confirm()
    stage.seat.confirm_lost(0, 1, poisoned=False)
    assert sitting(stage) is successor


def test_a_dead_worker_counts_also_where_a_successor_came_before_the_engine_confirmed(stage: Stage) -> None:
    """A reload, or the way back to the code before; the engine may have died, too."""
    old = stage.serve()
    old.dies()
    stage.succeed()
    stage.confirm()
    stage.lose()
    assert stage.seat.status()["restarts"] == 1


def test_who_waits_for_a_port_does_not_hold_up_the_one_that_dies(stage: Stage) -> None:
    stage.serve()
    second = stage.succeed(1)
    stage.confirm()
    third = stage.succeed(2)
    second.dies()
    stage.lose()
    assert stage.shard.asked[-1] == "attach 3 at 1"
    assert stage.confirm() is third


def test_a_port_is_the_workers_until_it_has_left(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    stage.confirm()
    stage.seat.vacant(0, 1)
    stage.lose()
    assert "lost 1 at 0" not in stage.shard.asked
    old.leaves()
    assert "lost 1 at 0" in stage.shard.asked


def test_a_port_whose_events_are_being_copied_is_taken_when_it_is_vacant(stage: Stage) -> None:
    first = stage.serve()
    stage.succeed(1)
    stage.confirm()
    first.dies()
    stage.lose()
    third = stage.succeed(2)
    assert stage.shard.asked[-1] == "attach 3 at 0"
    stage.seat.refuse_attach(0, 3)
    assert stage.seat.serves, "the one before goes on"
    assert stage.seat.generation == 1
    assert third.running
    stage.seat.vacant(0, 1)
    assert stage.shard.asked[-2:] == ["attach 3 at 0", "attach 3 at 0"]
    assert stage.confirm() is third


def test_an_heir_that_is_refused_sits_at_the_other_port(stage: Stage) -> None:
    stage.serve().dies()
    stage.lose()
    stage.load_all()
    stage.start_all()
    assert stage.shard.asked[-1] == "attach 2 at 0"
    stage.seat.refuse_attach(0, 2)
    assert stage.shard.asked[-1] == "attach 2 at 1"
    stage.confirm()
    assert stage.seat.serves


def test_who_is_refused_and_dead_is_replaced(stage: Stage) -> None:
    stage.serve().dies()
    stage.lose()
    stage.load_all()
    stage.start_all()
    sitting(stage).dies()
    stage.seat.refuse_attach(0, 2)
    stage.follow()
    assert stage.shard.asked[-1] == "attach 3 at 1"


# Inline: one port.


def test_inline_the_successor_has_started_before_the_old_worker_leaves() -> None:
    stage = Stage(sides=1)
    old = stage.serve()
    successor = FakeWorker(1, stage.pool)
    stage.seat.prepare(successor.process)
    stage.seat.hand_over(stage.make_pool(1, stage.failures.append))
    assert old.said[-1] == "attach 0"
    successor.starts()
    assert old.said[-1] == "retire 10"
    old.leaves()
    stage.lose()
    assert stage.shard.asked == ["attach 1 at 0", "lost 1 at 0", "attach 2 at 0"]
    assert stage.confirm() is successor


# The end.


def test_ending_a_seat_forgets_everybody(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.end()
    assert not worker.running
    worker.dies()
    assert stage.seat.closed
    assert stage.shard.asked == ["attach 1 at 0"]


def test_a_worker_that_does_not_leave_is_killed(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.close(3)
    assert worker.said[-1] == "retire 3"
    stage.timers.pass_time(3 + RETIRE_MARGIN_S)
    assert worker.said[-1] == "kill"


def test_close_ends_both_workers_and_nobody_follows(stage: Stage) -> None:
    old = stage.serve()
    stage.succeed()
    new = stage.confirm()
    coming = FakeWorker(2, stage.pool)
    stage.seat.prepare(coming.process)
    stage.seat.close(3)
    assert (old.said[-1], new.said[-1], coming.running) == ("retire 3", "retire 3", False)
    old.leaves()
    new.leaves()
    assert not stage.seat.closed
    stage.lose()
    assert stage.seat.closed
    assert stage.shard.asked[-2:] == ["lost 1 at 0", "lost 2 at 1"]


def test_closing_an_empty_seat_withdraws_its_request(stage: Stage) -> None:
    stage.seat.start()
    stage.seat.close(3)
    assert stage.seat.closed
    stage.load_all()
    assert stage.shard.asked == []


def test_closing_while_attaching_kills_the_worker_that_was_never_told(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    worker = sitting(stage)
    stage.seat.close(3)
    assert worker.said == ["start 1", "kill"]
    worker.dies()
    stage.seat.confirm_attach(0, 1)
    stage.lose()
    assert stage.seat.closed


def test_everybody_is_told_that_the_server_stops_also_who_comes_meanwhile(stage: Stage) -> None:
    worker = stage.serve()
    stage.load_all()
    stage.seat.drain(10)
    assert worker.said[-1] == "drain 10"
    worker.dies()
    stage.lose()
    assert stage.follow().said == ["start 2", "attach 0", "drain 10"]


def test_a_worker_that_is_about_to_serve_is_told_once_that_the_server_stops(stage: Stage) -> None:
    stage.seat.start()
    stage.load_all()
    stage.start_all()
    stage.seat.confirm_attach(0, 1)
    stage.seat.drain(10)
    sitting(stage).serves()
    assert sitting(stage).said == ["start 1", "attach 0", "drain 10"]


def test_after_a_reset_the_seat_begins_again(stage: Stage) -> None:
    worker = stage.serve()
    stage.seat.reset()
    assert not worker.running
    worker.dies()
    assert state(stage) == "empty"
    stage.serve()
    assert stage.shard.asked == ["attach 1 at 0", "attach 2 at 0"]


def test_a_worker_that_starts_while_there_is_no_engine_waits_for_it(stage: Stage) -> None:
    stage.serve()
    stage.seat.reset()  # the keeper died; a reload goes on meanwhile
    successor = stage.succeed()
    assert stage.shard.asked == ["attach 1 at 0"]
    stage.seat.start()
    assert stage.shard.asked == ["attach 1 at 0", "attach 2 at 0"]
    assert stage.confirm() is successor


# Workers that die again and again.


def die_and_follow(stage: Stage) -> None:
    sitting(stage).dies()
    stage.lose()
    stage.follow()


def die_late(stage: Stage) -> float:
    """The delay before the next one may come."""
    sitting(stage).dies()
    stage.lose()
    assert state(stage) == "empty"
    due = min(seconds for seconds, callback in stage.timers.planned if "request_if_empty" in callback.__qualname__)
    stage.timers.pass_time(due)
    stage.follow()
    return due


def test_workers_that_die_before_they_did_anything_are_slowed_down(stage: Stage) -> None:
    stage.shard.handling = {}
    stage.serve()
    for _ in range(QUICK_DEATHS_FREE):
        die_and_follow(stage)
    assert state(stage) == "serving"
    assert [die_late(stage) for _ in range(3)] == [0.1, 0.2, 0.4]


def test_workers_that_did_something_are_replaced_at_once_for_ever(stage: Stage) -> None:
    stage.serve()
    for _ in range(20):
        stage.shard.commits_made += 1
        die_and_follow(stage)
    assert state(stage) == "serving"


def test_workers_that_died_of_what_a_peer_sent_are_replaced_at_once_for_ever(stage: Stage) -> None:
    """Two deaths end that (P3). Else whoever has poison could delay everybody, or take the seat out of service."""
    stage.serve()
    for _ in range(2 * QUICK_DEATHS_MOST):
        die_and_follow(stage)
    assert state(stage) == "serving"
    assert stage.seat.serves


def test_a_seat_whose_workers_die_too_often_is_out_of_service_until_one_holds(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.shard.handling = {}
    stage.serve()
    for _ in range(QUICK_DEATHS_FREE):
        die_and_follow(stage)
    for _ in range(QUICK_DEATHS_MOST - QUICK_DEATHS_FREE):
        die_late(stage)
    assert stage.seat.serves
    die_late(stage)
    die_late(stage)
    assert not stage.seat.serves, "although a worker is there for the moment"
    assert stage.seat.status()["out_of_service"]
    assert [record.message for record in caplog.records if "out of service" in record.message] == [
        "seat is out of service: more than 10 of its workers died within 60 s before they had done anything"
    ]
    stage.timers.pass_time(1.0)
    assert stage.seat.serves
