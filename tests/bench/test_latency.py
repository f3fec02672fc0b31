"""`usnet-bench latency`: what buckets of several runs say together."""

from __future__ import annotations

import math

from usnet_framework.bench.latency import Run, distribution, percentile_us


def test_runs_are_added_up_bucket_by_bucket() -> None:
    runs = [Run("one", 0.0, {1000: 40, 3000: 8}), Run("one", 0.1, {2000: 40, 3000: 12})]
    found = distribution("one", runs)
    assert found.buckets == ((1.0, 40), (2.0, 40), (3.0, 20))
    assert (found.runs, found.dropped, found.answers) == (2, 0, 100)
    assert (found.p50_us, found.p90_us, found.p99_us, found.p999_us) == (2, 3, 3, 3)


def test_a_run_that_was_disturbed_does_not_count() -> None:
    found = distribution("one", [Run("one", 0.0, {1000: 1}), Run("one", 0.31, {9000: 99})])
    assert (found.runs, found.dropped, found.answers, found.p99_us) == (1, 1, 1, 1)


def test_without_answers_there_are_no_percentiles() -> None:
    found = distribution("one", [Run("one", 0.31, {9000: 99})])
    assert found.answers == 0
    assert math.isnan(found.p50_us)


def test_a_percentile_is_of_the_bucket_that_holds_that_rank() -> None:
    buckets = [(float(rank), 1) for rank in range(1, 101)]
    assert [percentile_us(buckets, percent) for percent in (50, 90, 99, 99.9)] == [50, 90, 99, 100]
