"""The machine under the measurement: which core gets what, and how much of it the hypervisor took away."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
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


TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CoreTime:
    """Clock ticks of one core since boot, from /proc/stat (proc(5)). Interrupts count as softirq."""

    total: int
    idle: int
    steal: int
    user: int = 0
    system: int = 0
    softirq: int = 0

    def since(self, before: CoreTime) -> CoreTime:
        return CoreTime(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))


def core_times() -> dict[int, CoreTime]:
    return parse_core_times(Path("/proc/stat").read_text())


def parse_core_times(text: str) -> dict[int, CoreTime]:
    times = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(field) for field in numbers[:8]]
            user, nice, system, idle, waiting, interrupts, softirq, steal = ticks
            core = int(name.removeprefix("cpu"))
            times[core] = CoreTime(sum(ticks), idle + waiting, steal, user + nice, system, interrupts + softirq)
    return times


@dataclass(frozen=True)
class Usage:
    """What became of some time of some cores; shares are 0 to 1."""

    busy: dict[int, float]
    steal: float  # of the core that lost most
    spent: dict[int, CoreTime]

    @classmethod
    def between(cls, before: Mapping[int, CoreTime], after: Mapping[int, CoreTime], cores: Iterable[int]) -> Usage:
        spent = {core: after[core].since(before[core]) for core in cores}
        busy = {core: 1 - time.idle / max(1, time.total) for core, time in spent.items()}
        return cls(busy, max(time.steal / max(1, time.total) for time in spent.values()), spent)


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
