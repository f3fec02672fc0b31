"""`usnet-bench compare`: servers side by side, each confined to one core, the load on another.

Throughput is limited by the load's core where there are few cores; what a message costs is not. So a comparison can go
on at a fixed rate, the same for all: half of what the slowest reached. There, a server that would spin while it has
nothing to do is told to sleep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from usnet_framework.bench import aims, machine, report
from usnet_framework.bench.aims import Aim, Verdict
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Cores, Usage
from usnet_framework.bench.network import Network, open_network, pair_of, receive_at_home, stop_segmenting
from usnet_framework.bench.rounds import STEAL_LIMIT, Cost, Sample, Summary, interleave, summarise
from usnet_framework.bench.servers import KINDS, STATION, TAP, Kind, check_load, meeting_places, running
from usnet_framework.errors import StartupError, UsageError

DEFAULT_BASE = "uvloop"
OF_THE_SLOWEST = 0.5  # the fixed rate


@dataclass(frozen=True)
class Setting:
    """How servers and load meet."""

    network: str
    cores: Cores
    rps: bool = False  # each kernel receives on the core of its side's process
    segmentation: bool = True  # the interfaces cut what TCP sends


@dataclass(frozen=True)
class Fixed:
    """At a fixed rate."""

    rate: float  # messages per second
    summaries: tuple[Summary, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Comparison:
    machine: dict[str, str | int]
    network: str
    cores: Cores
    load: Load
    rounds: int
    base: str
    notes: tuple[str, ...]
    summaries: tuple[Summary, ...]
    samples: tuple[Sample, ...]
    fixed: Fixed | None
    aims: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        load = self.load
        pace = f"{load.rate:,.0f} messages/s" if load.rate is not None else "closed loop"
        pace = "a new connection for each message" if load.connect else pace
        lines = [
            f"{load.connections} connections, {load.size} bytes, {load.way}, pipeline {load.pipeline}, {pace}, "
            f"{self.rounds} rounds of {load.duration_s:g} s, servers in turn",
            f"{self.machine['processor']}, {self.machine['cores']} cores, Linux {self.machine['kernel']}, "
            f"Python {self.machine['python']}",
            f"network: {self.network}; server on core {self.cores.server}, load on core {self.cores.load}",
            *self.notes,
            "",
            report.summary_table(self.summaries, self.base, load),
        ]
        return "\n".join([*lines, *self._fixed_lines(), *map(str, self.aims)])

    def _fixed_lines(self) -> list[str]:
        if self.fixed is None:
            return []
        title = (
            f"what a message takes at {self.fixed.rate:,.0f} messages/s, {OF_THE_SLOWEST:.0%} of what the slowest "
            "reached; nobody spins"
        )
        return ["", title, "", report.cost_table(self.fixed.summaries, self.base)]


def notes(kinds: Sequence[Kind], setting: Setting, samples: Sequence[Sample]) -> list[str]:
    """What a reader of the table must know and the table does not say."""
    cores = setting.cores
    found = ["each kernel receives on the core of the process that it receives for (RPS)"] if setting.rps else []
    if not setting.segmentation:
        found.append("TCP segmentation offload is off at both ends of the veth pair")
    if any(len(kind.cores(cores)) > 1 for kind in kinds):
        shared = ", which it shares with the load" if cores.extra_is_shared else ""
        found.append(f"usnet-split-2 has cores {cores.server} and {cores.extra}{shared}")
    names = {place: ", ".join(kind.name for kind in kinds if kind.place == place) for place in (TAP, STATION)}
    if names[TAP]:
        found.append(
            f"{names[TAP]}: over a TAP interface, with the load at its kernel's end, where therefore no server on "
            "kernel sockets can be"
        )
    if names[STATION]:
        who = "a thread of the kernel on the server's core" if setting.rps else "the sender, on the load's core"
        found.append(
            f"{names[STATION]}: on an AF_XDP socket of the server's end of the veth pair; what comes is put there by "
            f"{who}"
        )
    if cores.server == cores.load:
        found.append("only one core: server and load share it, so these figures are of both together")
    worst = max(sample.steal for sample in samples)
    dropped = sum(sample.steal > STEAL_LIMIT for sample in samples)
    found.append(
        f"steal: {worst:.0%} in the worst run; {dropped} of {len(samples)} runs dropped for more than {STEAL_LIMIT:.0%}"
    )
    return found


def measure(network: Network, kind: Kind, number: int, load: Load, setting: Setting, sleeps: bool) -> Sample:
    cores = setting.cores
    with running(network, kind.command(load.way, sleeps), kind.cores(cores)) as server:
        if setting.rps:
            receive_at_home(network, cores.server, cores.load)
        wakes, start_s, before = server.wakes(), time.monotonic(), machine.core_times()
        result = run_load(network, load, server.target, cores.load)
        usage = Usage.between(before, machine.core_times(), {cores.server, cores.load})
        seconds = time.monotonic() - start_s
        wakes = server.wakes() - wakes
    cost = Cost.of(usage, seconds, cores, wakes, result["messages"]["answered"])
    return Sample.of(kind.name, number, result, cores, usage, cost if len(kind.cores(cores)) == 1 else Cost())


def choose(names: Sequence[str], base: str) -> list[Kind]:
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise UsageError(f"--servers: unknown server {unknown[0]!r}; there are {', '.join(KINDS)}")
    if base not in names:
        raise UsageError(f"--base: {base!r} is not one of the servers compared: {', '.join(names)}")
    return [KINDS[name] for name in names]


def take_turns(
    places: Mapping[str, Network], rounds: int, load: Load, setting: Setting, sleeps: bool = False
) -> list[Sample]:
    samples = []
    for number, name in interleave(tuple(places), rounds):
        sample = measure(places[name], KINDS[name], number, load, setting, sleeps)
        samples.append(sample)
        took = f"  {sample.cost.server_us:6.2f} us" if sleeps else ""
        report.progress(
            f"round {number + 1}/{rounds} {name:19} {sample.throughput:12,.0f}/s{took}  steal {sample.steal:.0%}"
        )
    return samples


def slowest(samples: Sequence[Sample], names: Iterable[str]) -> float:
    """Its messages per second. Runs that were disturbed count too: they are slow, and so the rate can be reached."""
    return min(statistics.median(run.throughput for run in samples if run.name == name) for name in names)


def at_fixed_rate(
    reached: Sequence[Sample], places: Mapping[str, Network], rounds: int, load: Load, setting: Setting, base: str
) -> Fixed:
    rate = OF_THE_SLOWEST * slowest(reached, places)
    if rate == 0:
        raise StartupError("--fixed: a server has answered nothing; take a longer --duration")
    samples = take_turns(places, rounds, replace(load, rate=rate), setting, sleeps=True)
    return Fixed(rate, tuple(summarise(samples, base)), tuple(samples))


def compare(
    names: Sequence[str],
    base: str,
    load: Load,
    rounds: int,
    setting: Setting,
    wanted: Sequence[Aim] = (),
    fixed: bool = False,
) -> Comparison:
    kinds = choose(names, base)
    check_load(kinds, load)
    aims.check(wanted, names, fixed)
    with open_network(setting.network) as network:
        places = meeting_places(kinds, network)
        if setting.rps:
            pair_of("--rps needs", network)
        if not setting.segmentation:
            stop_segmenting(network)
        samples = take_turns(places, rounds, load, setting)
        summaries = summarise(samples, base)
        at_rate = at_fixed_rate(samples, places, rounds, load, setting, base) if fixed else None
        description = network.description
    everything = [*samples, *(at_rate.samples if at_rate else ())]
    costs = at_rate.summaries if at_rate else ()
    return Comparison(
        machine.describe(),
        description,
        setting.cores,
        load,
        rounds,
        base,
        tuple(notes(kinds, setting, everything)),
        tuple(summaries),
        tuple(samples),
        at_rate,
        tuple(aims.verdict(aim, summaries, costs, base, load.size) for aim in wanted),
    )
