"""The machine as placement sees it: usable cores, who shares what, and how much CPU time there is.

Read once at start from /sys, /proc and the scheduler. The reader takes the root of the file system and the affinity,
so that an invented machine is a folder; placement itself only sees these dataclasses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from usnet_framework.shards.cgroup import parse_list, read_limits, read_text


@dataclass(frozen=True)
class Core:
    """A logical processor. Equal `physical`: SMT siblings; equal `l3`: a shared last cache; equal `node`: near memory.

    `physical` and `l3` are the smallest number among the logical processors that share it, unique in the machine.
    """

    number: int
    physical: int
    l3: int
    node: int = 0


@dataclass(frozen=True)
class Topology:
    """`cores`: those this process may run on; `quota`: cores' worth of CPU time per second, None when unlimited."""

    cores: tuple[Core, ...]
    quota: float | None = None

    @property
    def usable(self) -> int:
        """How many processes can run at the same time: a quota of 1.5 cores cannot feed two that never sleep."""
        if self.quota is None:
            return len(self.cores)
        return min(len(self.cores), max(1, int(self.quota)))

    @property
    def numbers(self) -> frozenset[int]:
        return frozenset(core.number for core in self.cores)


def read_topology(root: Path = Path("/"), affinity: Iterable[int] | None = None) -> Topology:
    """The machine under `root`; `affinity` defaults to the scheduler's for this process."""
    if affinity is None:
        affinity = psutil.Process().cpu_affinity()
    limits = read_limits(root)
    usable = frozenset(affinity)
    if limits.cores is not None and usable & limits.cores:
        usable &= limits.cores
    if online := parse_list(read_text(root / "sys/devices/system/cpu/online")):
        usable &= online
    nodes = _nodes(root)
    return Topology(
        cores=tuple(_read_core(root, number, nodes.get(number, 0)) for number in sorted(usable)), quota=limits.quota
    )


def interface_node(interface: str, root: Path = Path("/")) -> int | None:
    """The NUMA node of a network interface; None when it has none (virtual devices, machines with one node)."""
    text = read_text(root / "sys/class/net" / interface / "device/numa_node")
    return int(text) if text.isdigit() else None


def _nodes(root: Path) -> dict[int, int]:
    """Core to NUMA node."""
    return {
        core: int(folder.name.removeprefix("node"))
        for folder in sorted((root / "sys/devices/system/node").glob("node[0-9]*"))
        for core in parse_list(read_text(folder / "cpulist"))
    }


def _read_core(root: Path, number: int, node: int) -> Core:
    folder = root / f"sys/devices/system/cpu/cpu{number}"
    topology = folder / "topology"
    siblings = read_text(topology / "core_cpus_list") or read_text(topology / "thread_siblings_list")
    package = read_text(topology / "package_cpus_list") or read_text(topology / "core_siblings_list")
    return Core(
        number=number,
        physical=min(parse_list(siblings), default=number),
        l3=min(parse_list(_l3(folder) or package), default=0),
        node=node,
    )


def _l3(folder: Path) -> str:
    """The list of cores that share the last-level cache, empty when the machine does not tell (virtual machines)."""
    for cache in sorted((folder / "cache").glob("index[0-9]*")):
        if read_text(cache / "level") == "3":
            return read_text(cache / "shared_cpu_list")
    return ""
