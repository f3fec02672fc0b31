"""A shard whose network process cannot be started: a refusal at first, another try later."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from support.fakes import Stage

from usnet_framework.errors import StartupError
from usnet_framework.shards.listeners import Listeners
from usnet_framework.shards.placement import ShardPlan
from usnet_framework.shards.privileges import Privileges
from usnet_framework.shards.segment import EngineOptions
from usnet_framework.shards.shard import ShardSetup
from usnet_framework.shards.splitshard import LONG_LIFE_S, SplitShard
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


def test_a_keeper_that_lived_long_is_followed_at_once() -> None:
    stage = Stage()
    shard = make(stage)
    shard._was_ready = True
    for lived_s in (0, 0, 0, LONG_LIFE_S, 0):
        shard._began_s = time.monotonic() - lived_s
        shard.network_exited(-9)
    assert [seconds for seconds, _ in stage.timers.planned] == [0.0, 0.1, 0.2, 0.0, 0.1]
