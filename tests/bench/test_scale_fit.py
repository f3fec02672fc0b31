"""The Universal Scalability Law, fitted to data that were made by it."""

from __future__ import annotations

import random

import pytest

from usnet_framework.bench.scalefit import Law, fit

QUEUES = (1, 2, 4, 8, 16)


def made_by(law: Law, queues: tuple[int, ...] = QUEUES) -> list[tuple[int, float]]:
    return [(n, law.at(n)) for n in queues]


@pytest.mark.parametrize(
    ("contention", "coherence"), [(0.05, 0.01), (0.2, 0.001), (0.0, 0.02), (0.3, 0.0), (0.0, 0.0), (0.9, 0.1)]
)
def test_what_made_the_data_is_found(contention: float, coherence: float) -> None:
    found = fit(made_by(Law(100_000.0, contention, coherence, 0.0)))
    assert found is not None
    assert found.rate == pytest.approx(100_000)
    assert (found.contention, found.coherence) == (pytest.approx(contention), pytest.approx(coherence))
    assert found.error == pytest.approx(0, abs=1e-9)


def test_three_counts_are_enough_and_two_are_not() -> None:
    law = Law(1000.0, 0.1, 0.02, 0.0)
    found = fit(made_by(law, (1, 2, 4)))
    assert found is not None
    assert found.coherence == pytest.approx(0.02)
    assert fit(made_by(law, (1, 2)) * 3) is None


def test_most_is_carried_at_the_peak() -> None:
    law = Law(1000.0, 0.04, 0.015, 0.0)
    assert law.peak == pytest.approx(8)
    assert max(range(1, 100), key=law.at) == 8


def test_without_coherence_more_carry_more() -> None:
    found = fit(made_by(Law(1000.0, 0.1, 0.0, 0.0)))
    assert found is not None
    assert found.coherence == 0
    assert found.peak is None


def test_one_is_most_where_every_other_one_hinders() -> None:
    assert Law(1000.0, 0.0, 4.0, 0.0).peak == 1
    assert Law(1000.0, 1.5, 0.1, 0.0).peak == 1


def test_more_than_proportional_growth_is_no_negative_contention() -> None:
    found = fit([(1, 100.0), (2, 220.0), (4, 500.0), (8, 1100.0)])
    assert found is not None
    assert (found.contention, found.coherence) == (0, 0)
    assert 100 < found.rate < 1100 / 8
    assert found.error > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_two_per_cent_leaves_the_peak_where_it_is(seed: int) -> None:
    noise = random.Random(seed)
    law = Law(50_000.0, 0.03, 0.01, 0.0)
    found = fit([(n, law.at(n) * noise.uniform(0.98, 1.02)) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24) for _ in range(5)])
    assert found is not None
    assert law.peak is not None
    assert found.peak == pytest.approx(law.peak, rel=0.1)
    assert found.error < 0.05
