"""The order of many runs, and what they say together.

A machine's speed drifts, and on a virtual machine it does so within seconds. So servers take turns (A B C A B C …):
a drift meets all of them alike. Of each we give the median and the quartiles. A run from which the hypervisor took
more than STEAL_LIMIT of a core says more about the neighbours than about the server: it is dropped, and counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

STEAL_LIMIT = 0.30


@dataclass(frozen=True)
class Sample:
    """One run of one server."""

    name: str
    round: int
    throughput: float  # messages per second
    p50_us: float
    p99_us: float
    steal: float  # 0 to 1

    @classmethod
    def of(cls, name: str, round: int, result: dict[str, Any], steal: float) -> Sample:
        latency = result["latency_ns"]
        return cls(name, round, result["throughput"], latency["p50"] / 1e3, latency["p99"] / 1e3, steal)


@dataclass(frozen=True)
class Summary:
    name: str
    runs: int  # that count
    dropped: int
    throughput: float  # median
    lower: float  # quartiles of the throughput
    upper: float
    ratio: float  # to the base's median
    p50_us: float
    p99_us: float


def interleave(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    for number in range(rounds):
        for name in names:
            yield number, name


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def _summary(name: str, samples: Sequence[Sample], base: float) -> Summary:
    clean = [sample for sample in samples if sample.steal <= STEAL_LIMIT]
    dropped = len(samples) - len(clean)
    if not clean:
        nothing = float("nan")
        return Summary(name, 0, dropped, nothing, nothing, nothing, nothing, nothing, nothing)
    lower, middle, upper = quartiles([sample.throughput for sample in clean])
    p50_us = statistics.median(sample.p50_us for sample in clean)
    p99_us = statistics.median(sample.p99_us for sample in clean)
    return Summary(name, len(clean), dropped, middle, lower, upper, middle / base, p50_us, p99_us)


def _median_throughput(samples: Iterable[Sample]) -> float:
    clean = [sample.throughput for sample in samples if sample.steal <= STEAL_LIMIT]
    return statistics.median(clean) if clean else float("nan")


def summarise(samples: Sequence[Sample], base: str) -> list[Summary]:
    """One row per name, in the order of their first runs; ratios to the median of `base`."""
    names = list(dict.fromkeys(sample.name for sample in samples))
    by_name = {name: [sample for sample in samples if sample.name == name] for name in names}
    base_throughput = _median_throughput(by_name[base])
    return [_summary(name, by_name[name], base_throughput) for name in names]
