"""`usnet-bench latency`: how long answers take, at a rate that is the same for all servers.

Servers take turns (rounds.py says why). The load generator counts answers by latency, in buckets that are a 128th of
their value wide at most. Those of all rounds are added up. A run from which the hypervisor took too much is dropped,
and counted. A message's time begins when the timetable wants it to leave, so a server that stalls does not hide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from usnet_framework.bench import compare, machine, report
from usnet_framework.bench.compare import Setting
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Usage
from usnet_framework.bench.network import Network, open_network, pair_of, receive_at_home
from usnet_framework.bench.rounds import NOTHING, STEAL_LIMIT, interleave
from usnet_framework.bench.servers import KINDS, meeting_places, running


@dataclass(frozen=True)
class Run:
    """Of one server. `buckets`: answers by the largest latency of their bucket, in ns."""

    name: str
    steal: float
    buckets: Mapping[int, int]


@dataclass(frozen=True)
class Distribution:
    """Of all runs of a server that count; times in microseconds."""

    name: str
    runs: int
    dropped: int
    answers: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    buckets: tuple[tuple[float, int], ...]  # (largest latency, answers), in order


@dataclass(frozen=True)
class Latencies:
    machine: dict[str, str | int]
    network: str
    load: Load
    rounds: int
    notes: tuple[str, ...]
    distributions: tuple[Distribution, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        load = self.load
        rows = [
            (
                one.name,
                report.number(one.answers),
                *(report.number(value, 1) for value in (one.p50_us, one.p90_us, one.p99_us, one.p999_us)),
                str(one.runs),
                str(one.dropped),
            )
            for one in self.distributions
        ]
        header = ("server", "answers", "p50 us", "p90 us", "p99 us", "p99.9 us", "runs", "dropped")
        return "\n".join(
            [
                f"{load.connections} connections, {load.size} bytes, {load.rate:,.0f} messages/s, {self.rounds} rounds "
                f"of {load.duration_s:g} s, servers in turn",
                f"{self.machine['processor']}; network: {self.network}",
                *self.notes,
                "",
                report.table(header, rows),
            ]
        )


def percentile_us(buckets: Sequence[tuple[float, int]], percent: float) -> float:
    """The largest latency of the bucket that holds the answer of that rank."""
    left = sum(count for _, count in buckets) * percent / 100
    for edge, count in buckets:
        left -= count
        if left <= 1e-9:
            return edge
    return NOTHING


def distribution(name: str, runs: Sequence[Run]) -> Distribution:
    clean = [run for run in runs if run.steal <= STEAL_LIMIT]
    together: Counter[int] = Counter()
    for run in clean:
        together.update(run.buckets)
    buckets = tuple((edge / 1e3, together[edge]) for edge in sorted(together))
    p50, p90, p99, p999 = (percentile_us(buckets, percent) for percent in (50, 90, 99, 99.9))
    return Distribution(name, len(clean), len(runs) - len(clean), together.total(), p50, p90, p99, p999, buckets)


def run(names: Sequence[str], load: Load, rounds: int, setting: Setting) -> Latencies:
    """UsageError, StartupError."""
    kinds = compare.choose(names, names[0])
    with open_network(setting.network) as network:
        places = meeting_places(kinds, network)
        if setting.rps:
            pair_of("--rps needs", network)
        runs = list(_take_turns(places, replace(load, histogram=True), rounds, setting))
        description = network.description
    return Latencies(
        machine.describe(),
        description,
        load,
        rounds,
        ("each kernel receives on the core of the process that it receives for (RPS)",) if setting.rps else (),
        tuple(distribution(name, [run for run in runs if run.name == name]) for name in names),
    )


def _take_turns(places: Mapping[str, Network], load: Load, rounds: int, setting: Setting) -> Iterator[Run]:
    for number, name in interleave(tuple(places), rounds):
        found, result = _measure(places[name], name, load, setting)
        report.progress(
            f"round {number + 1}/{rounds} {name:19} p50 {result['latency_ns']['p50'] / 1e3:8.1f} us  "
            f"p99 {result['latency_ns']['p99'] / 1e3:8.1f} us  steal {found.steal:.0%}"
        )
        yield found


def _measure(network: Network, name: str, load: Load, setting: Setting) -> tuple[Run, dict[str, Any]]:
    cores, kind = setting.cores, KINDS[name]
    with running(network, kind.echo, kind.cores(cores)) as server:
        if setting.rps:
            receive_at_home(network, cores.server, cores.load)
        before = machine.core_times()
        result = run_load(network, load, server.target, cores.load)
        usage = Usage.between(before, machine.core_times(), {cores.server, cores.load})
    return Run(name, usage.steal, dict(result["histogram_ns"])), result
