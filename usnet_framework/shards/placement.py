"""Which process runs on which core: a pure function of the machine and of what was asked.

Two rules decide. A process is pinned only when every process gets a core of its own; with fewer cores than processes
(overprovisioned) nobody is pinned and nobody spins, because a spinner would hold the core that the process it waits for
needs (measured: a 20 us spin on a shared core costs 23 us per hand-off instead of 1.6 us). And the processes of one
shard stay close together: they hand cache lines to each other all the time, and nothing to other shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from usnet_framework.errors import UsageError
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.topology import Core, Topology

CoreKey = Callable[[Core], tuple[int, ...]]


@dataclass(frozen=True)
class Wish:
    """What was asked for. None is automatic; `nic_node` is the NUMA node of the interface, when there is one."""

    queues: int | None = None
    workers: int = 1
    layout: str = "split"
    cores: tuple[int, ...] | None = None
    poll: str = "adaptive"
    nic_node: int | None = None

    @property
    def processes_per_shard(self) -> int:
        return 1 if self.layout == "inline" else 1 + self.workers

    @property
    def cores_text(self) -> str:
        return ",".join(map(str, self.cores or ())) or "all"


@dataclass(frozen=True)
class ShardPlan:
    """Cores of one shard's processes, None where a process is not pinned. Inline, the worker is all there is."""

    shard: int
    network_core: int | None
    worker_cores: tuple[int | None, ...]


@dataclass(frozen=True)
class Plan:
    """`poll` is the mode in force; `cores` are those that processes may use, pinned or not."""

    layout: str
    shards: tuple[ShardPlan, ...]
    cores: tuple[int, ...]
    overprovisioned: bool
    poll: str
    findings: tuple[Finding, ...]


def plan(topology: Topology, wish: Wish) -> Plan:
    """Place the processes. UsageError when the wish names cores that are not there or a layout that cannot be."""
    if wish.layout == "inline" and wish.workers != 1:
        raise UsageError(
            f"--workers {wish.workers} with --layout inline: an inline worker is its shard's only process; "
            f"use --queues {wish.workers}"
        )
    machine = _restrict(topology, wish)
    size = wish.processes_per_shard
    count = wish.queues or max(1, machine.usable // size)
    overprovisioned = count * size > machine.usable
    groups = [] if overprovisioned else list(_groups(_choose(machine.cores, count * size, wish.nic_node), size))
    return Plan(
        layout=wish.layout,
        shards=tuple(_shard(number, wish, groups[number] if groups else None) for number in range(count)),
        cores=tuple(sorted(machine.numbers)),
        overprovisioned=overprovisioned,
        poll="sleep" if overprovisioned else wish.poll,
        findings=tuple(_findings(machine, wish, count, overprovisioned)),
    )


def _restrict(topology: Topology, wish: Wish) -> Topology:
    if wish.cores is None:
        return topology
    if missing := sorted(set(wish.cores) - topology.numbers):
        usable = ",".join(map(str, sorted(topology.numbers)))
        raise UsageError(
            f"--cores {wish.cores_text}: core {missing[0]} is not usable by this process; usable are {usable}"
        )
    return Topology(tuple(core for core in topology.cores if core.number in wish.cores), topology.quota)


def _choose(cores: tuple[Core, ...], count: int, nic_node: int | None) -> list[Core]:
    """As many cores as there are processes, the NIC's node first, neighbours next to each other.

    While physical cores are enough, each process gets a whole one: network process and worker both compute, and SMT
    siblings would halve each other. When they are not, both siblings are used and stand side by side in the order, so
    that a network process and its worker share one physical core: their rings then never leave its first-level cache.
    """
    ordered = sorted(cores, key=lambda core: (core.node != nic_node, core.node, core.l3, core.physical, core.number))
    whole = [next(siblings) for _, siblings in groupby(ordered, key=lambda core: core.physical)]
    return whole if len(whole) >= count else ordered


def _groups(cores: list[Core], size: int) -> Iterator[list[Core]]:
    """Cut the ordered cores into shards: first within one last-level cache, then within one node, then what is left.

    A hand-off between two cores costs some 50 ns within a last-level cache and several times that across nodes.
    """
    closeness: tuple[CoreKey, ...] = (lambda c: (c.node, c.l3), lambda c: (c.node,), lambda c: ())
    for key in closeness:
        left: list[Core] = []
        for _, near in groupby(cores, key=key):
            members = list(near)
            whole = len(members) // size * size
            yield from (members[start : start + size] for start in range(0, whole, size))
            left += members[whole:]
        cores = left


def _shard(number: int, wish: Wish, cores: list[Core] | None) -> ShardPlan:
    numbers: Iterable[int | None] = [core.number for core in cores] if cores else [None] * wish.processes_per_shard
    if wish.layout == "inline":
        return ShardPlan(number, None, tuple(numbers))
    network, *workers = numbers
    return ShardPlan(number, network, tuple(workers))


def _findings(machine: Topology, wish: Wish, count: int, overprovisioned: bool) -> Iterator[Finding]:
    processes = count * wish.processes_per_shard
    room = f"{processes} processes for {_room(machine)}"
    fix = "give it more cores" if wish.queues is None and wish.workers == 1 else "use fewer --queues or --workers"
    yield Finding("shards", "auto" if wish.queues is None else str(wish.queues), str(count))
    if overprovisioned:
        yield Finding("pinning", wish.cores_text, "no process is pinned", room, fix, ok=False)
        if wish.poll != "sleep":
            yield Finding("poll", wish.poll, "sleep", f"{room}: a spinner would stop whom it waits for", fix, ok=False)
        return
    yield Finding("pinning", wish.cores_text, f"{processes} processes, each on a core of its own")
    if wish.poll == "busy" and machine.quota is not None:
        yield Finding(
            "poll",
            "busy",
            "busy",
            f"a CPU quota of {machine.quota:g} cores goes into spinning; then the group rests until the next period",
            "use --poll adaptive, or lift the quota",
            ok=False,
        )
    else:
        yield Finding("poll", wish.poll, wish.poll)


def _room(machine: Topology) -> str:
    cores = f"{len(machine.cores)} core{'' if len(machine.cores) == 1 else 's'}"
    return cores if machine.quota is None else f"{cores} and a CPU quota of {machine.quota:g}"
