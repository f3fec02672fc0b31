"""`usnet-bench compare`: servers side by side, each confined to one core, the load on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from usnet_framework.bench import aims, machine, report
from usnet_framework.bench.aims import Aim
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Cores, Usage
from usnet_framework.bench.network import Network, add_tap, open_network, receive_at_home
from usnet_framework.bench.rounds import STEAL_LIMIT, Sample, Summary, interleave, summarise
from usnet_framework.bench.servers import KINDS, Kind, check_load, running
from usnet_framework.errors import UsageError

DEFAULT_BASE = "uvloop"


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
    aims: tuple[str, ...]  # a line each

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
        return "\n".join([*lines, *self.aims])


def notes(kinds: Sequence[Kind], cores: Cores, samples: Sequence[Sample], rps: bool) -> list[str]:
    """What a reader of the table must know and the table does not say."""
    found = ["each kernel receives on the core of the process that it receives for (RPS)"] if rps else []
    if any(len(kind.cores(cores)) > 1 for kind in kinds):
        shared = ", which it shares with the load" if cores.extra_is_shared else ""
        found.append(f"usnet-split-2 has cores {cores.server} and {cores.extra}{shared}")
    over_tap = ", ".join(kind.name for kind in kinds if kind.over_tap)
    if over_tap:
        found.append(
            f"{over_tap}: over a TAP interface, with the load at its kernel's end, where therefore no server on "
            "kernel sockets can be"
        )
    if cores.server == cores.load:
        found.append("only one core: server and load share it, so these figures are of both together")
    worst = max(sample.steal for sample in samples)
    dropped = sum(sample.steal > STEAL_LIMIT for sample in samples)
    found.append(
        f"steal: {worst:.0%} in the worst run; {dropped} of {len(samples)} runs dropped for more than {STEAL_LIMIT:.0%}"
    )
    return found


def measure(network: Network, kind: Kind, number: int, load: Load, cores: Cores) -> Sample:
    command = kind.echo if load.way == "echo" else kind.exchange
    with running(network, command, kind.cores(cores)) as server:
        before = machine.core_times()
        result = run_load(network, load, server.target, cores.load)
        usage = Usage.between(before, machine.core_times(), {cores.server, cores.load})
    return Sample.of(kind.name, number, result, cores, usage)


def choose(names: Sequence[str], base: str) -> list[Kind]:
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise UsageError(f"--servers: unknown server {unknown[0]!r}; there are {', '.join(KINDS)}")
    if base not in names:
        raise UsageError(f"--base: {base!r} is not one of the servers compared: {', '.join(names)}")
    return [KINDS[name] for name in names]


def meeting_places(kinds: Sequence[Kind], network: Network) -> dict[str, Network]:
    """Where each of them meets the load, by name."""
    tap = add_tap(network) if any(kind.over_tap for kind in kinds) else network
    return {kind.name: tap if kind.over_tap else network for kind in kinds}


def compare(
    names: Sequence[str],
    base: str,
    load: Load,
    rounds: int,
    network_choice: str,
    cores: Cores,
    wanted: Sequence[Aim] = (),
    rps: bool = False,
) -> Comparison:
    kinds = choose(names, base)
    check_load(kinds, load)
    aims.check(wanted, names)
    samples = []
    with open_network(network_choice) as network:
        places = meeting_places(kinds, network)
        for place in places.values() if rps else ():
            receive_at_home(place, cores.server, cores.load)
        for number, name in interleave(names, rounds):
            sample = measure(places[name], KINDS[name], number, load, cores)
            samples.append(sample)
            report.progress(
                f"round {number + 1}/{rounds} {name:16} {sample.throughput:12,.0f}/s  steal {sample.steal:.0%}"
            )
        description = network.description
    summaries = summarise(samples, base)
    return Comparison(
        machine.describe(),
        description,
        cores,
        load,
        rounds,
        base,
        tuple(notes(kinds, cores, samples, rps)),
        tuple(summaries),
        tuple(samples),
        tuple(aims.verdict(aim, summaries, base, load.size) for aim in wanted),
    )
