"""The order of many runs, and what they say together.

A machine's speed drifts, and on a virtual machine it does so within seconds. So servers take turns (A B C A B C …):
a drift meets all of them alike. Of each we give the median and the quartiles. A run from which the hypervisor took
more than STEAL_LIMIT of a core says more about the neighbours than about the server: it is dropped, and counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from usnet_framework.bench.machine import TICK_US, Cores, Usage

STEAL_LIMIT = 0.30
NOTHING = float("nan")  # the figure of no runs


@dataclass(frozen=True)
class Cost:
    """Of one message: microseconds of the server's core, all and by what they went for, and of the load's. `wakes`: how
    often a thread of the server slept and was woken."""

    server_us: float = NOTHING
    user_us: float = NOTHING
    system_us: float = NOTHING
    softirq_us: float = NOTHING
    load_us: float = NOTHING
    wakes: float = NOTHING

    @classmethod
    def of(cls, usage: Usage, seconds: float, cores: Cores, wakes: int, messages: int) -> Cost:
        """The kernel knows exactly how long a core was idle. What the rest went for it samples: that gives shares."""
        if not messages or cores.server == cores.load:
            return cls()
        spent = usage.spent[cores.server]
        parts = (spent.user, spent.system, spent.softirq)
        server_us, load_us = (
            (seconds * 1e6 - (time.idle + time.steal) * TICK_US) / messages
            for time in (spent, usage.spent[cores.load])
        )
        user_us, system_us, softirq_us = (server_us * part / max(1, sum(parts)) for part in parts)
        return cls(server_us, user_us, system_us, softirq_us, load_us, wakes / messages)


NO_COST = Cost()


@dataclass(frozen=True)
class Sample:
    """One run of one server."""

    name: str
    round: int
    throughput: float  # messages per second
    p50_us: float
    p99_us: float
    server_busy: float  # shares of the two cores' time, 0 to 1
    load_busy: float
    steal: float
    cost: Cost = NO_COST

    @classmethod
    def of(
        cls, name: str, round: int, result: dict[str, Any], cores: Cores, usage: Usage, cost: Cost = NO_COST
    ) -> Sample:
        latency = result["latency_ns"]
        return cls(
            name,
            round,
            throughput=result["throughput"],
            p50_us=latency["p50"] / 1e3,
            p99_us=latency["p99"] / 1e3,
            server_busy=usage.busy[cores.server],
            load_busy=usage.busy[cores.load],
            steal=usage.steal,
            cost=cost,
        )


@dataclass(frozen=True)
class Summary:
    name: str
    runs: int  # that count
    dropped: int
    throughput: float  # median
    lower: float  # quartiles of the throughput
    upper: float
    ratio: float  # to the base's median
    p50_us: float  # medians of the runs
    p99_us: float
    server_busy: float
    load_busy: float
    cost: Cost = NO_COST  # medians
    lower_us: float = NOTHING  # quartiles of what a message takes of the server's core
    upper_us: float = NOTHING


def interleave(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    for number in range(rounds):
        for name in names:
            yield number, name


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        value = values[0] if values else NOTHING
        return value, value, value
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else NOTHING


def over(value: float, base: float) -> float:
    """The ratio; NOTHING where the base has not answered once, as may be in a short window of a busy machine."""
    return value / base if base else NOTHING


def _clean(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.steal <= STEAL_LIMIT]


def _summary(name: str, samples: Sequence[Sample], base: float) -> Summary:
    clean = _clean(samples)
    lower, middle, upper = quartiles([sample.throughput for sample in clean])
    lower_us, _, upper_us = quartiles([sample.cost.server_us for sample in clean])
    costs = [astuple(sample.cost) for sample in clean]
    return Summary(
        name,
        runs=len(clean),
        dropped=len(samples) - len(clean),
        throughput=middle,
        lower=lower,
        upper=upper,
        ratio=over(middle, base),
        p50_us=median(sample.p50_us for sample in clean),
        p99_us=median(sample.p99_us for sample in clean),
        server_busy=median(sample.server_busy for sample in clean),
        load_busy=median(sample.load_busy for sample in clean),
        cost=Cost(*(median(one) for one in zip(*costs, strict=True))),
        lower_us=lower_us,
        upper_us=upper_us,
    )


def summarise(samples: Sequence[Sample], base: str) -> list[Summary]:
    """One row per name, in the order of their first runs; ratios to the median of `base`."""
    names = list(dict.fromkeys(sample.name for sample in samples))
    by_name = {name: [sample for sample in samples if sample.name == name] for name in names}
    base_throughput = median(sample.throughput for sample in _clean(by_name[base]))
    return [_summary(name, by_name[name], base_throughput) for name in names]
