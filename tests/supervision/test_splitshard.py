"""A shard whose network process cannot be started: a refusal at first, another try later."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.fakes import Stage
from support.limits import no_descriptor_left

from usnet_framework.errors import StartupError
from usnet_framework.shards.joining import AGAIN_S, NotYet
from usnet_framework.shards.listeners import Listeners
from usnet_framework.shards.placement import ShardPlan
from usnet_framework.shards.privileges import Privileges
from usnet_framework.shards.segment import EngineOptions
from usnet_framework.shards.shard import ShardSetup
from usnet_framework.shards.splitshard import LONG_LIFE_S, STEADY_S, SplitShard
from usnet_framework.shards.upgrade import EngineFile, EngineName


def make(stage: Stage) -> SplitShard:
    return SplitShard(
        ShardSetup(
            plan=ShardPlan(shard=0, network_core=None, worker_cores=(None,)),
            poll="sleep",
            listeners=Listeners(),
            stack=None,
            options=EngineOptions(numbers={"connection_limit": 16}),
            state_bytes=64,
            buffer_mib=256,
            quarantine=Path("quarantine"),
            cleanup=list,
            privileges=Privileges(),
            pool=stage.pool,
            means=stage.means,
            worker_died=lambda generation, commits: None,
            changed=lambda: None,
        )
    )


def refuse(*arguments: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("call", ["os.pipe2", "socket.socketpair"])
def test_without_descriptors_it_is_tried_again(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    shard = make(stage)
    shard._engine_file = EngineFile()
    shard._engine_name = EngineName()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(call, refuse)
    with pytest.raises(StartupError, match="shard 0: cannot start its network process: Too many open files"):
        shard.start()
    shard._release()
    shard._rebuild()
    assert [seconds for seconds, _ in stage.timers.planned] == [0.0]
    stage.timers.fire()
    assert [seconds for seconds, _ in stage.timers.planned] == [0.1]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_opens_no_file_says_nothing_of_the_installation() -> None:
    with no_descriptor_left(), pytest.raises(StartupError, match=r"usnet-engine\.so: Too many open files$"):
        EngineFile()


def test_a_keeper_that_lived_long_is_followed_at_once() -> None:
    stage = Stage()
    shard = make(stage)
    shard._was_ready = True
    for lived_s in (0, 0, 0, LONG_LIFE_S, 0):
        shard._began_s = time.monotonic() - lived_s
        shard.network_exited(-9)
    assert [seconds for seconds, _ in stage.timers.planned] == [0.0, 0.1, 0.2, 0.0, 0.1]


CRASH_AGAIN = "network processes of shard 0 crash again and again"


def serves(shard: SplitShard, pid: int) -> None:
    network: Any = SimpleNamespace(engine_pid=pid, ask=lambda packet, fds: True, divert=lambda port, away: None)
    shard._network = network
    shard.engine_ready(pid, pid, refused=False)


def test_network_processes_that_crash_again_and_again_are_told_of_until_one_lives_for_a_while() -> None:
    stage = Stage()
    shard = make(stage)
    serves(shard, 1)
    shard.engine_died(1, signal.SIGSEGV)
    serves(shard, 2)
    assert shard.unready() != CRASH_AGAIN, "one is nothing that anybody notices"
    shard.engine_died(2, signal.SIGABRT)
    assert shard.unready() == CRASH_AGAIN
    serves(shard, 3)
    assert shard.unready() == CRASH_AGAIN
    shard.network_exited(1)
    serves(shard, 4)
    assert shard.unready() == CRASH_AGAIN, "the next keeper's may crash as well"
    for seconds, callback in stage.timers.planned:
        if seconds == STEADY_S:
            callback()
    assert shard.unready() != CRASH_AGAIN


@pytest.mark.parametrize(
    ("status", "lived_s"), [(signal.SIGKILL, 0.0), (signal.SIGTERM, 0.0), (signal.SIGSEGV, STEADY_S)]
)
def test_a_network_process_that_is_killed_or_has_lived_does_not_count(status: int, lived_s: float) -> None:
    shard = make(Stage())
    for pid in range(1, 5):
        serves(shard, pid)
        shard._engine_began_s = time.monotonic() - lived_s
        shard.engine_died(pid, status)
    assert shard.unready() != CRASH_AGAIN


def test_what_is_being_made_ready_is_asked_for_again_soon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often before it was not there at all; and nothing is wrong, so nobody is told."""
    stage = Stage()
    shard = make(stage)

    def not_yet() -> None:
        raise NotYet("--interface eth1: is being joined again")

    for _ in range(10):
        shard._backoff.failed()
    monkeypatch.setattr(shard, "start", not_yet)
    for _ in range(2):
        shard._rebuild()
    assert [seconds for seconds, _ in stage.timers.planned] == [AGAIN_S] * 2
    assert not caplog.messages
