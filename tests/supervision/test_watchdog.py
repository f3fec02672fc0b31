"""What counts as silence, sample by sample; the processes are played, so no time passes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from usnet_framework.shards import watchdog
from usnet_framework.shards.watchdog import SAMPLE_S, Watchdog, Watched


class Process:
    def __init__(self) -> None:
        self.pid = 4_000_000  # none there is
        self.running = True

    def kill(self) -> None:
        self.running = False


class Segment:
    """Of one shard with two seats; a test sets the words."""

    def __init__(self) -> None:
        self.counters = [dict.fromkeys(("worker_commits", "worker_turns", "worker_sleeps"), 0) for _ in range(2)]
        self.seats = [SimpleNamespace(sleeping=False, events_waiting=0) for _ in range(2)]
        self.handling = [0, 0]
        self.polls = 0

    def port_counters(self, port: int) -> dict[str, int]:
        return self.counters[port]

    def port_status(self, port: int) -> SimpleNamespace:
        return self.seats[port]

    def engine_counters(self) -> dict[str, int]:
        self.polls += 1
        return {"polls": self.polls}


class Shard:
    number = 0

    def __init__(self) -> None:
        self.segment: Any = Segment()
        self.network: Any = None
        self.workers = [Process(), Process()]
        self.serial = 1
        self.diverted: list[tuple[int, bool]] = []
        self.hung: list[tuple[int, int]] = []

    def watched(self) -> Iterator[Watched]:
        yield Watched(0, "0.0", 0, self.serial, self.workers[0])

    def divert(self, port: int, away: bool) -> None:
        self.diverted.append((port, away))

    def hangs(self, port: int, serial: int) -> None:
        self.hung.append((port, serial))


class Stacks:
    """Everybody is where `stack` says."""

    def __init__(self) -> None:
        self.stack = '  File "app.py", line 7 in on_data\n'

    async def ask(self, pid: int) -> str:
        return self.stack


@pytest.fixture
def shard(monkeypatch: pytest.MonkeyPatch) -> Shard:
    monkeypatch.setattr(watchdog, "port_word", lambda segment, port, field: segment.handling[port])
    monkeypatch.setattr(watchdog, "handled", lambda segment, port: {"handling": "data", "conn": 17})
    return Shard()


class Dog:
    """Looks, and lets what it began come to its end."""

    def __init__(self, shard: Shard, timeout_s: float = 3, kills: bool = True) -> None:
        self.changes = 0
        stacks: Any = Stacks()
        self.timeout_s = timeout_s
        self.kills = kills
        self.watchdog = Watchdog(lambda: [shard], stacks, lambda: (self.timeout_s, self.kills), self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def looks(self, seconds: float, step_s: float = SAMPLE_S) -> None:
        async def look() -> None:
            for _ in range(round(seconds / SAMPLE_S)):
                self.watchdog.look(step_s)
                for _ in range(3):
                    await asyncio.sleep(0)

        asyncio.run(look())


def test_one_that_does_not_move_hangs_after_the_timeout(shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog(shard)
    dog.looks(3)
    assert dog.watchdog.hangs == []
    dog.looks(SAMPLE_S)
    (record,) = caplog.records
    assert record.getMessage() == (
        "worker 0.0 hangs: on_data of connection 17 has not returned for 3.0 s (app.py:7 in on_data); it is killed"
    )
    assert vars(record)["conn"] == 17
    assert (shard.hung, shard.workers[0].running, dog.watchdog.count(0, 0)) == ([(0, 1)], False, 1)


@pytest.mark.parametrize("word", ["worker_commits", "worker_turns", "worker_sleeps", "handling"])
def test_whatever_moves_is_progress(word: str, shard: Shard) -> None:
    dog = Dog(shard)
    for moved in range(10):
        if word == "handling":
            shard.segment.handling[0] = moved
        else:
            shard.segment.counters[0][word] = moved
        dog.looks(2)
    assert dog.watchdog.count(0, 0) == 0


def test_one_that_sleeps_does_not_hang_unless_events_wait(shard: Shard) -> None:
    dog = Dog(shard)
    shard.segment.seats[0].sleeping = True
    dog.looks(60)
    assert dog.watchdog.count(0, 0) == 0
    shard.segment.seats[0].events_waiting = 1  # and it was woken
    dog.looks(4)
    assert dog.watchdog.count(0, 0) == 1


def test_time_in_which_nobody_looked_does_not_count(shard: Shard) -> None:
    dog = Dog(shard)
    dog.looks(SAMPLE_S)
    dog.looks(4 * SAMPLE_S, step_s=3600)
    assert dog.watchdog.count(0, 0) == 0


def test_new_connections_go_elsewhere_as_long_as_it_does_not_move(shard: Shard) -> None:
    dog = Dog(shard)
    dog.looks(2)
    assert shard.diverted == [(0, True)]
    shard.segment.counters[0]["worker_commits"] += 1
    dog.looks(1)
    assert shard.diverted == [(0, True), (0, False)]


def test_one_that_is_not_killed_may_go_on(shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog(shard, kills=False)
    dog.looks(10)
    (hang,) = dog.watchdog.hangs
    assert (hang.seconds, shard.workers[0].running, shard.hung) == (9.75, True, [])
    assert (len(caplog.records), dog.watchdog.count(0, 0), dog.changes) == (1, 1, 1)
    shard.segment.handling[0] += 1
    dog.looks(1)
    assert (dog.watchdog.hangs, dog.changes) == ([], 2)
    assert "goes on" in caplog.text


def test_one_that_hangs_is_killed_when_a_reload_says_so(shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog(shard, kills=False)
    dog.looks(10)
    dog.kills = True
    dog.looks(SAMPLE_S)
    assert (shard.hung, shard.workers[0].running, dog.watchdog.count(0, 0)) == ([(0, 1)], False, 1)
    dog.looks(5)
    assert [record.getMessage().count("it is killed") for record in caplog.records] == [0, 1]


def test_new_connections_come_back_when_a_reload_ends_the_watch(shard: Shard) -> None:
    dog = Dog(shard)
    dog.looks(2)
    dog.timeout_s = 0
    dog.looks(1)
    assert shard.diverted == [(0, True), (0, False)]


def test_the_next_worker_begins_anew(shard: Shard) -> None:
    dog = Dog(shard)
    dog.looks(2.5)
    shard.serial += 1
    dog.looks(2.5)
    assert dog.watchdog.count(0, 0) == 0


def test_zero_watches_no_worker(shard: Shard) -> None:
    dog = Dog(shard, timeout_s=0)
    dog.looks(3600)
    assert (dog.watchdog.count(0, 0), shard.diverted) == (0, [])


class Network(Process):
    """A keeper, and a process that plays its engine."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = subprocess.Popen(["sleep", "1000"])
        self.engine_pid: int | None = self.engine.pid


@pytest.fixture
def network(shard: Shard) -> Iterator[Network]:
    network = shard.network = Network()
    shard.watched = lambda: iter(())  # type: ignore[method-assign]
    yield network
    network.engine.kill()
    network.engine.wait()


def stop_turning(shard: Shard) -> None:
    shard.segment.engine_counters = lambda: {"polls": 7}


def test_an_engine_that_turns_is_left_alone(shard: Shard, network: Network) -> None:
    Dog(shard).looks(30)
    assert network.engine.poll() is None


def test_an_engine_that_does_not_turn_is_killed_and_its_keeper_is_not(shard: Shard, network: Network) -> None:
    dog = Dog(shard)
    dog.looks(2)
    stop_turning(shard)
    dog.looks(3)
    assert network.engine.poll() is None
    dog.looks(SAMPLE_S)
    assert network.engine.wait(10) == -9
    assert network.running


def test_a_keeper_that_does_not_notice_is_killed(shard: Shard, network: Network) -> None:
    dog = Dog(shard)
    stop_turning(shard)
    dog.looks(7)
    assert not network.running


def test_a_keeper_that_brings_no_engine_is_killed(shard: Shard, network: Network) -> None:
    dog = Dog(shard)
    network.engine_pid = None
    dog.looks(29)
    assert network.running
    dog.looks(2)
    assert not network.running
