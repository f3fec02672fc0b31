"""The machine under the measurement: which core gets what, and how much of it the hypervisor took away."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """Where servers and load run. On two cores `extra` is the load's own; on one, all are the same."""

    server: int
    extra: int  # the second core of a server that is given two
    load: int

    @property
    def extra_is_shared(self) -> bool:
        return self.extra == self.load


def plan_cores(available: Iterable[int]) -> Cores:
    """The lowest core for the server, the highest for the load, and one between them when there is any."""
    cores = sorted(available)
    return Cores(server=cores[0], extra=cores[1 % len(cores)], load=cores[-1])


def available_cores() -> set[int]:
    return os.sched_getaffinity(0)


@dataclass(frozen=True)
class CoreTime:
    """Clock ticks of one core since boot, from /proc/stat (proc(5))."""

    total: int
    idle: int
    steal: int


def core_times() -> dict[int, CoreTime]:
    return parse_core_times(Path("/proc/stat").read_text())


def parse_core_times(text: str) -> dict[int, CoreTime]:
    times = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(field) for field in fields[:8]]  # user nice system idle iowait irq softirq steal
            times[int(name[3:])] = CoreTime(total=sum(ticks), idle=ticks[3] + ticks[4], steal=ticks[7])
    return times


@dataclass(frozen=True)
class Usage:
    """What became of some time of some cores; shares are 0 to 1."""

    busy: dict[int, float]
    steal: float  # of the core that lost most

    @classmethod
    def between(cls, before: Mapping[int, CoreTime], after: Mapping[int, CoreTime], cores: Iterable[int]) -> Usage:
        busy, steal = {}, 0.0
        for core in cores:
            total = max(1, after[core].total - before[core].total)
            busy[core] = 1 - (after[core].idle - before[core].idle) / total
            steal = max(steal, (after[core].steal - before[core].steal) / total)
        return cls(busy, steal)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model", "cpu model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe() -> dict[str, str | int]:
    """What a figure must be read with."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
