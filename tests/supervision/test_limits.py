"""Descriptors and locked memory: what is possible, and the refusal in numbers of what is not."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace

import pytest

from usnet_framework.errors import StartupError
from usnet_framework.shards import limits
from usnet_framework.shards.limits import (
    CONNECTIONS_AUTO,
    NETWORK_RESERVE,
    Demand,
    allow_locked,
    connections_per_shard,
)

DEMAND = Demand(layout="split", shards=2, workers=1, spares=1, listeners=1, max_connections=None)


def test_as_many_as_descriptors_allow() -> None:
    assert connections_per_shard(DEMAND, 20000) == 20000 - NETWORK_RESERVE - 1 - 3


def test_a_limit_without_end_does_not_make_tables_without_end() -> None:
    assert connections_per_shard(DEMAND, 1 << 30) == CONNECTIONS_AUTO


def test_what_was_asked_is_shared_by_the_shards() -> None:
    assert connections_per_shard(replace(DEMAND, max_connections=1001), 20000) == 501


def test_an_inline_worker_keeps_descriptors_for_the_application() -> None:
    assert connections_per_shard(replace(DEMAND, layout="inline"), 20000) < connections_per_shard(DEMAND, 20000)


def test_more_connections_than_descriptors() -> None:
    with pytest.raises(StartupError) as refusal:
        connections_per_shard(replace(DEMAND, max_connections=100_000), 20000)
    assert str(refusal.value) == (
        "--max-connections 100000: each of 2 shards needs 50068 descriptors, the limit is 20000; "
        "use more --queues, or raise it (ulimit -Hn, LimitNOFILE=)"
    )


def test_more_workers_than_descriptors() -> None:
    with pytest.raises(StartupError, match=r"--workers 64: 100 shards of so many need \d+ descriptors, the"):
        connections_per_shard(replace(DEMAND, shards=100, workers=64), 20000)


def test_ports_of_shared_addresses_take_descriptors_of_the_supervisor() -> None:
    demand = replace(DEMAND, own_stack=True, listeners=0, held=1024)
    with pytest.raises(StartupError, match=r"2 shards of so many and 1024 ports of shared addresses need 1\d+ desc"):
        connections_per_shard(demand, 1024)
    assert connections_per_shard(replace(demand, held=16), 1024) > 0


def test_a_limit_that_leaves_no_connection_at_all() -> None:
    with pytest.raises(StartupError, match="--max-connections auto: each of 1 shards needs"):
        connections_per_shard(replace(DEMAND, shards=1, workers=1, layout="inline"), 200)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process may lock 64 KiB, and more when it asks for that; it has not the right to lock any amount."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    monkeypatch.setattr(limits, "capabilities", lambda: 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


@pytest.mark.usefixtures("locked")
def test_the_limit_of_locked_memory_is_raised_as_far_as_is_needed() -> None:
    found = allow_locked(3, 65536)
    assert (found.in_force, found.ok) == ("3 x 0.0625 MiB of frames", True)
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == 3 * 65536
    allow_locked(1, 65536)
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == 3 * 65536
