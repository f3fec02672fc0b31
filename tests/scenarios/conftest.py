"""Scenarios begin with these: the timers and limits that they count on, and what they need often."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, Stack, states
from usnet_framework.testing.fixtures import *  # noqa: F403

SHARDED = {
    *("close", "congestion", "data", "ecn", "handshake", "icmp", "keepalive"),
    *("repeated", "reset", "resets_sent", "retransmission", "sack", "time_wait", "timestamps", "window"),
}
"""Subjects whose scenarios run a second time with every frame at the wrong shard, and have the same output."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    subject = metafunc.module.__name__.rpartition("test_")[2]
    if subject in SHARDED and "host" in metafunc.fixturenames:
        metafunc.parametrize("shards", [1, 2], ids=["", "wrong shard"])
    metafunc.parametrize("fast_paths", [True, False], ids=["", "slow path"], indirect=True)


@pytest.fixture(autouse=True)
def fast_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scenarios run a second time without fast paths, and have the same output."""
    monkeypatch.setattr(Stack, "fast_paths", request.param)


@pytest.fixture
def stack_options() -> dict[str, int | bool | bytes]:
    """The usual values, and a receive buffer that fits into a window without scaling."""
    return {
        "rcv_limit": 65535,
        "snd_limit": 262144,
        "rto_initial_us": 1_000_000,
        "rto_min_us": 200_000,
        "rto_max_us": 60_000_000,
        "delayed_ack_us": 40_000,
        "msl_ms": 30_000,
        "user_timeout_ms": 120_000,
        "fin_wait_2_ms": 60_000,
        "persist_max_us": 60_000_000,
        "syn_retries": 4,
        "syn_ack_retries": 4,
        "initial_window": 10,
        "challenge_acks_per_s": 10,
        "ecn": False,
    }


@pytest.fixture
def plain(host: Host) -> Scenario:
    """An established connection without window scaling, SACK and timestamps."""
    return states.established(host, states.PLAIN_SYN)


@pytest.fixture
def stamped(host: Host) -> Scenario:
    """An established connection with timestamps; the peer's stand at 0, and so do ours."""
    return states.established(host, states.SYN_WITH_TIMESTAMPS)
