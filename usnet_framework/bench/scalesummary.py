"""What many runs of `usnet-bench scale` say together: medians of each point, how they change along a series, and the
law that a series follows. Runs from which the hypervisor took too much are dropped, as in rounds.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from usnet_framework.bench.rounds import NOTHING, STEAL_LIMIT, over
from usnet_framework.bench.scalecosts import Costs
from usnet_framework.bench.scalefit import Law, fit
from usnet_framework.bench.scalepoints import Point, Sides


@dataclass(frozen=True)
class Sample:
    """One run of one point."""

    point: Point
    round: int
    costs: Costs


@dataclass(frozen=True)
class Summary:
    """Of a point. `growth`: CPU time of the server's processes per request, to that of the first point of the series;
    other programs on the same cores do not count in it. `efficiency`: requests per second and core, likewise; NOTHING
    where processes share cores."""

    point: Point
    has_room: bool  # each process of the server has a core to itself
    runs: int  # that count
    dropped: int
    costs: Costs  # medians
    growth: float
    efficiency: float


@dataclass(frozen=True)
class Fitted:
    series: str
    law: Law


def summarise(samples: Sequence[Sample], sides: Sides) -> list[Summary]:
    """In the order of the points' first runs, which is that of the queues within a series."""
    by_point: dict[Point, list[Sample]] = {}
    for sample in samples:
        by_point.setdefault(sample.point, []).append(sample)
    medians = {point: _medians(_clean(runs)) for point, runs in by_point.items()}
    firsts: dict[str, Point] = {}
    for point in by_point:
        firsts.setdefault(point.series, point)
    return [
        Summary(
            point,
            sides.has_room(point),
            len(_clean(runs)),
            len(runs) - len(_clean(runs)),
            medians[point],
            over(medians[point].processes, medians[firsts[point.series]].processes),
            _efficiency(point, firsts[point.series], medians, sides),
        )
        for point, runs in by_point.items()
    ]


def _clean(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.costs.steal <= STEAL_LIMIT]


def _medians(samples: Sequence[Sample]) -> Costs:
    if not samples:
        return Costs(*(NOTHING for _ in fields(Costs)))
    return Costs(*(statistics.median(getattr(one.costs, field.name) for one in samples) for field in fields(Costs)))


def _efficiency(point: Point, first: Point, medians: dict[Point, Costs], sides: Sides) -> float:
    if not (sides.has_room(point) and sides.has_room(first)):
        return NOTHING
    each, base = (medians[one].throughput / sides.cores_of(one) for one in (point, first))
    return over(each, base)


def laws(summaries: Sequence[Summary]) -> list[Fitted]:
    """Of each series that has enough points with room."""
    series = dict.fromkeys(row.point.series for row in summaries)
    found = []
    for name in series:
        rows = [row for row in summaries if row.point.series == name and row.has_room and row.runs]
        law = fit([(row.point.queues, row.costs.throughput) for row in rows])
        found += [] if law is None else [Fitted(name, law)]
    return found
