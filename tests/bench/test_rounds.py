"""What many runs say together, and what is dropped."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import pytest

from usnet_framework.bench.compare import slowest
from usnet_framework.bench.machine import Cores, CoreTime, Usage, parse_core_times, plan_cores
from usnet_framework.bench.rounds import Cost, Sample, interleave, quartiles, summarise


def sample(name: str, throughput: float, steal: float = 0.0) -> Sample:
    return Sample(name, 0, throughput, p50_us=10, p99_us=20, server_busy=1, load_busy=0.5, steal=steal)


def test_servers_take_turns() -> None:
    assert [name for _, name in interleave(["a", "b", "c"], 3)] == list("abcabcabc")
    assert list(islice(interleave(["a", "b"], 2), 3)) == [(0, "a"), (0, "b"), (1, "a")]


def test_medians_quartiles_and_ratios() -> None:
    samples = [sample("a", value) for value in (50, 10, 40, 20, 30)] + [sample("b", 60)]
    first, second = summarise(samples, base="a")
    assert (first.name, first.throughput, first.lower, first.upper, first.ratio) == ("a", 30, 20, 40, 1)
    assert (second.name, second.throughput, second.ratio, second.runs) == ("b", 60, 2, 1)


def test_disturbed_runs_are_dropped_and_counted() -> None:
    samples = [sample("a", 10), sample("a", 20), sample("a", 9000, steal=0.31), sample("a", 30, steal=0.30)]
    (summary,) = summarise(samples, base="a")
    assert (summary.throughput, summary.runs, summary.dropped) == (20, 3, 1)


def test_a_server_without_a_clean_run_has_no_figure() -> None:
    first, second = summarise([sample("a", 10, steal=0.9), sample("b", 10)], base="a")
    assert (first.runs, first.dropped) == (0, 1)
    assert math.isnan(first.throughput)
    assert math.isnan(second.ratio)
    assert second.throughput == 10


def test_nothing_is_measured_by_a_base_that_has_not_answered() -> None:
    base, other = summarise([sample("a", 0), sample("b", 200)], "a")
    assert math.isnan(base.ratio)
    assert math.isnan(other.ratio)
    assert other.throughput == 200


def test_quartiles_of_one_value_are_that_value() -> None:
    assert quartiles([7]) == (7, 7, 7)


STAT = """\
cpu  300 0 100 500 100 0 0 0 0 0
cpu0 90 10 50 200 50 4 6 100 7 7
cpu11 200 0 50 300 50 0 0 0 0 0
intr 12345
"""


def test_core_times_leave_guest_time_out() -> None:
    """Guest time is part of user time already (proc(5))."""
    assert parse_core_times(STAT) == {
        0: CoreTime(total=510, idle=250, steal=100, user=100, system=50, softirq=10),
        11: CoreTime(total=600, idle=350, steal=0, user=200, system=50, softirq=0),
    }


def test_a_message_takes_what_the_core_was_not_idle_for() -> None:
    """Two seconds with 0.9 s of idle time and 0.1 s of steal, and samples of the rest."""
    server = CoreTime(total=0, idle=90, steal=10, user=10, system=30, softirq=60)
    load = CoreTime(total=0, idle=150, steal=0)
    usage = Usage.between({0: CoreTime(0, 0, 0), 1: CoreTime(0, 0, 0)}, {0: server, 1: load}, {0, 1})
    cost = Cost.of(usage, 2.0, Cores(server=0, extra=1, load=1), wakes=500, messages=10_000)
    figures = (cost.server_us, cost.user_us, cost.system_us, cost.softirq_us, cost.load_us, cost.wakes)
    assert figures == pytest.approx((100, 10, 30, 60, 50, 0.05))


def test_one_core_for_both_tells_nothing_of_either() -> None:
    usage = Usage.between({0: CoreTime(0, 0, 0)}, {0: CoreTime(9, 1, 0)}, {0})
    assert math.isnan(Cost.of(usage, 2.0, Cores(0, 0, 0), wakes=1, messages=1).server_us)


def test_costs_are_summed_up_by_medians() -> None:
    costs = [Cost(us, us / 2, us / 2, 0, 1, us / 10) for us in (10.0, 30.0, 20.0)]
    (row,) = summarise([replace(sample("a", 1), cost=cost) for cost in costs], "a")
    assert row.cost == Cost(20, 10, 10, 0, 1, 2)
    assert (row.lower_us, row.upper_us) == (15, 25)


def test_usage_takes_the_worst_core_for_steal() -> None:
    before = {0: CoreTime(0, 0, 0), 1: CoreTime(0, 0, 0), 2: CoreTime(0, 0, 0)}
    after = {0: CoreTime(100, 50, 10), 1: CoreTime(200, 0, 50), 2: CoreTime(100, 0, 99)}
    usage = Usage.between(before, after, {0, 1})
    assert usage.busy == {0: 0.5, 1: 1.0}
    assert usage.steal == 0.25


@pytest.mark.parametrize(
    ("available", "planned", "shared"),
    [
        ({3}, Cores(3, 3, 3), True),
        ({0, 1}, Cores(server=0, extra=1, load=1), True),
        ({2, 5, 9}, Cores(server=2, extra=5, load=9), False),
    ],
)
def test_cores_are_shared_only_when_there_are_too_few(available: set[int], planned: Cores, shared: bool) -> None:
    assert plan_cores(available) == planned
    assert planned.extra_is_shared is shared


def test_the_slowest_is_found_among_disturbed_runs_too() -> None:
    samples = [sample("a", 10), sample("a", 30), sample("a", 20, steal=0.9), sample("b", 25, steal=0.9)]
    assert slowest(samples, ["a", "b"]) == 20
