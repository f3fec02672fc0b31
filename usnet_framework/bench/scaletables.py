"""How the results of `usnet-bench scale` read: tables, the laws in words, and what a reader has to know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from usnet_framework.bench.report import number, share, table
from usnet_framework.bench.rounds import STEAL_LIMIT
from usnet_framework.bench.scalefit import COUNTS_MIN
from usnet_framework.bench.scalepoints import Sides
from usnet_framework.bench.scalesummary import Fitted, Sample, Summary

OTHERS_LIMIT = 0.05  # of the cores' time: so much a quiet machine has to do besides

LOAD_LIMIT = 0.95  # of its cores' time


def throughput(rows: Sequence[Summary]) -> str:
    header = (
        "point", "processes", "requests/s", "efficiency", "server busy", "load busy", "p50 us", "p99 us", "spread",
        "crossed/M", "runs", "dropped",
    )  # fmt: skip
    cells = [
        (
            row.point.name,
            f"{row.point.processes}{'' if row.has_room else '*'}",
            number(row.costs.throughput),
            share(row.efficiency),
            share(row.costs.server_busy),
            share(row.costs.load_busy),
            number(row.costs.p50_us, 1),
            number(row.costs.p99_us, 1),
            number(row.costs.spread, 2),
            number(row.costs.crossed),
            str(row.runs),
            str(row.dropped),
        )
        for row in rows
    ]
    return table(header, cells)


def server_costs(rows: Sequence[Summary]) -> str:
    header = (
        "point", "processes", "x first", "network", "worker", "rest", "cores", "user", "system", "softirq", "switches",
        "wakes",
    )  # fmt: skip
    cells = []
    for row in rows:
        costs = row.costs
        times = (
            costs.processes, row.growth, costs.network, costs.worker, costs.rest,
            costs.server, costs.server_user, costs.server_system, costs.server_softirq,
        )  # fmt: skip
        counts = (costs.switches, costs.wakes)
        cells.append(
            [row.point.name, *(number(value, 2) for value in times), *(number(value, 3) for value in counts)]
        )
    return table(header, cells)


def load_costs(rows: Sequence[Summary]) -> str:
    cells = []
    for row in rows:
        costs = row.costs
        times = (costs.generator, costs.load, costs.load_user, costs.load_system, costs.load_softirq)
        cells.append([row.point.name, *(number(value, 2) for value in times)])
    return table(("point", "processes", "cores", "user", "system", "softirq"), cells)


def law(fitted: Fitted) -> str:
    found = fitted.law
    most = "more queues carry more" if found.peak is None else f"most is predicted with {number(found.peak, 1)} queues"
    return (
        f"{fitted.series}: one queue {number(found.rate)}/s, contention {found.contention:.2%}, "
        f"coherence {found.coherence:.3%}: {most}; off by {found.error:.0%} at worst"
    )


def notes(rows: Sequence[Summary], samples: Sequence[Sample], sides: Sides, laws: Sequence[Fitted]) -> Iterator[str]:
    """What the tables do not say."""
    if not sides.are_apart:
        yield (
            "* server and load share their cores: the cores' accounts cannot be told apart, and throughput is of both "
            "together. The processes' times, switches and wakes are each side's own"
        )
    crowded = [row for row in rows if not row.has_room]
    if crowded and sides.are_apart:
        yield (
            f"* more processes than the server has cores ({len(sides.server)}): they take turns, so throughput says "
            "nothing of how the server scales. What a request costs, wakes and crossing packets do"
        )
    full = [row.point.name for row in rows if row.has_room and row.costs.load_busy > LOAD_LIMIT]
    if full:
        yield f"the load's cores are full, so that more cannot be carried whatever the server does: {'; '.join(full)}"
    if any(row.point.backend == "afxdp" for row in rows):
        yield (
            "afxdp: what comes is taken off the pair in the context of its sender, so the load's cores pay for that; "
            "and the pair chooses queues by a random number, so that packets cross to their owner"
        )
    if not laws:
        yield f"no scaling law: no series has {COUNTS_MIN} queue counts with a core for each process"
    others = max(sample.costs.others for sample in samples)
    if others > OTHERS_LIMIT:
        yield (
            f"other programs had {others:.0%} of these cores in the worst run: the cores' accounts are of them too, "
            "the processes' are not"
        )
    worst = max(sample.costs.steal for sample in samples)
    dropped = sum(row.dropped for row in rows)
    yield f"steal: {worst:.0%} in the worst run; {dropped} of {len(samples)} dropped for more than {STEAL_LIMIT:.0%}"
