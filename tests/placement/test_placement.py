"""Placement is a pure function: invented machines in, plans out."""

from __future__ import annotations

import pytest

from usnet_framework.errors import UsageError
from usnet_framework.shards.placement import Plan, Wish, plan
from usnet_framework.shards.topology import Core, Topology


def flat(count: int, quota: float | None = None) -> Topology:
    """`count` cores that share one last-level cache."""
    return Topology(tuple(Core(number, physical=number, l3=0) for number in range(count)), quota)


def server() -> Topology:
    """64 logical processors as Linux numbers them: 2 nodes of 16 physical cores; the sibling of core n is n + 32.

    Each node has two last-level caches of 8 physical cores.
    """
    return Topology(
        tuple(
            Core(number, physical=number % 32, l3=number % 32 // 8 * 8, node=number % 32 // 16) for number in range(64)
        )
    )


def used(found: Plan) -> list[int | None]:
    return [core for shard in found.shards for core in (shard.network_core, *shard.worker_cores)]


def finding(found: Plan, what: str) -> str:
    (line,) = [str(finding) for finding in found.findings if finding.what == what]
    return line


def test_one_core_is_overprovisioned() -> None:
    found = plan(flat(1), Wish())
    assert len(found.shards) == 1
    assert found.overprovisioned
    assert found.poll == "sleep"
    assert used(found) == [None, None]
    assert finding(found, "pinning") == (
        "pinning: all asked, no process is pinned in force: 2 processes for 1 core; give it more cores"
    )


def test_one_core_inline_has_room_for_its_only_process() -> None:
    found = plan(flat(1), Wish(layout="inline"))
    assert not found.overprovisioned
    assert found.poll == "adaptive"
    assert [(shard.network_core, shard.worker_cores) for shard in found.shards] == [(None, (0,))]


def test_two_cores_are_one_pair() -> None:
    found = plan(flat(2), Wish())
    assert used(found) == [0, 1]
    assert found.poll == "adaptive"
    assert all(finding.ok for finding in found.findings)


def test_three_cores_are_one_pair_and_the_third_is_left_to_others() -> None:
    assert used(plan(flat(3), Wish())) == [0, 1]


def test_two_cores_inline_are_two_shards() -> None:
    found = plan(flat(2), Wish(layout="inline"))
    assert [shard.worker_cores for shard in found.shards] == [(0,), (1,)]


def test_more_workers_take_more_cores_per_shard() -> None:
    found = plan(flat(8), Wish(workers=3))
    assert [(shard.network_core, shard.worker_cores) for shard in found.shards] == [(0, (1, 2, 3)), (4, (5, 6, 7))]


def test_two_nodes_with_smt_are_filled_by_pairs_of_siblings() -> None:
    found = plan(server(), Wish())
    assert len(found.shards) == 32
    assert sorted(used(found)) == list(range(64))
    for shard in found.shards:
        assert shard.network_core is not None
        assert shard.worker_cores == (shard.network_core + 32,)


def test_while_whole_cores_are_enough_siblings_stay_idle() -> None:
    found = plan(server(), Wish(queues=8))
    assert used(found) == list(range(16))


def test_a_shard_does_not_straddle_caches_or_nodes() -> None:
    machine = server()
    l3 = {core.number: core.l3 for core in machine.cores}
    found = plan(machine, Wish(queues=8, workers=2))  # 8 cores share a cache: two shards of three each, two cores left
    assert not found.overprovisioned
    for shard in found.shards:
        assert len({l3[core] for core in (shard.network_core, *shard.worker_cores) if core is not None}) == 1


def test_left_over_cores_are_used_across_caches_but_within_a_node() -> None:
    machine = server()
    node = {core.number: core.node for core in machine.cores}
    found = plan(machine, Wish(queues=10, workers=2))
    assert len(set(used(found))) == 30
    for shard in found.shards:
        assert len({node[core] for core in (shard.network_core, *shard.worker_cores) if core is not None}) == 1


def test_the_node_of_the_interface_comes_first() -> None:
    found = plan(server(), Wish(queues=4, nic_node=1))
    assert used(found) == list(range(16, 24))


@pytest.mark.parametrize(
    ("quota", "shards", "overprovisioned"), [(0.5, 1, True), (1.5, 1, True), (2.0, 1, False), (5.9, 2, False)]
)
def test_a_quota_counts_whole_cores(quota: float, shards: int, overprovisioned: bool) -> None:
    found = plan(flat(16, quota), Wish())
    assert len(found.shards) == shards
    assert found.overprovisioned is overprovisioned


def test_busy_polling_under_a_quota_is_told() -> None:
    found = plan(flat(16, 4.0), Wish(poll="busy"))
    assert found.poll == "busy"
    assert "a CPU quota of 4 cores goes into spinning" in finding(found, "poll")


def test_busy_polling_without_room_is_refused_and_told() -> None:
    found = plan(flat(2), Wish(queues=2, poll="busy"))
    assert found.poll == "sleep"
    assert finding(found, "poll") == (
        "poll: busy asked, sleep in force: 4 processes for 2 cores: a spinner would stop whom it waits for; "
        "use fewer --queues or --workers"
    )


def test_explicit_cores_are_the_only_ones() -> None:
    found = plan(server(), Wish(cores=(3, 35, 20, 52)))
    assert len(found.shards) == 2
    assert [(shard.network_core, shard.worker_cores) for shard in found.shards] == [(3, (35,)), (20, (52,))]
    assert found.cores == (3, 20, 35, 52)


def test_explicit_cores_that_are_too_few_are_shared() -> None:
    found = plan(server(), Wish(cores=(3,), queues=2))
    assert found.cores == (3,)
    assert set(used(found)) == {None}
    assert not [finding for finding in found.findings if finding.what == "pinning" and finding.ok]


def test_a_core_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--cores 1,9: core 9 is not usable by this process; usable are 0,1,2,3"):
        plan(flat(4), Wish(cores=(1, 9)))


def test_inline_has_one_worker_per_shard() -> None:
    with pytest.raises(UsageError, match=r"use --queues 3"):
        plan(flat(4), Wish(layout="inline", workers=3))


def test_holes_in_the_cpuset_are_not_used() -> None:
    machine = Topology(tuple(core for core in server().cores if core.number in (1, 5, 33, 60)))
    found = plan(machine, Wish())
    assert len(found.shards) == 2
    assert [(shard.network_core, shard.worker_cores) for shard in found.shards] == [(1, (33,)), (5, (60,))]
