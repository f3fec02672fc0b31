"""What `usnet-bench scale` measures: the points, and the cores of either side. Pure functions of what was asked and of
the machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from usnet_framework.errors import UsageError
from usnet_framework.shards.topology import Core

BACKENDS = ("kernel", "tap", "afxdp")
LAYOUTS = ("inline", "split")


@dataclass(frozen=True)
class Point:
    """One server under one load."""

    backend: str
    layout: str
    workers: int  # per queue
    size: int  # bytes of a message
    connections: int
    queues: int

    @property
    def series(self) -> str:
        """What it has in common with the points that differ in the number of queues alone."""
        workers = "" if self.layout == "inline" else f" {self.workers}w"
        return f"{self.backend} {self.layout}{workers}, {self.size} B, {self.connections} c"

    @property
    def name(self) -> str:
        return f"{self.series}, {self.queues} q"

    @property
    def processes(self) -> int:
        """Those that a request passes through, of all queues."""
        return self.queues * (1 if self.layout == "inline" else 1 + self.workers)


@dataclass(frozen=True)
class Choice:
    """The values of each dimension."""

    queues: tuple[int, ...] = (1, 2, 4, 8)
    backends: tuple[str, ...] = BACKENDS
    layouts: tuple[str, ...] = LAYOUTS
    workers: tuple[int, ...] = (1,)
    sizes: tuple[int, ...] = (60,)
    connections: tuple[int, ...] = (128,)

    def points(self) -> list[Point]:
        """All combinations. Inline there are no workers beside the one that polls the queue."""
        shapes = [(layout, each) for layout in self.layouts for each in ((1,) if layout == "inline" else self.workers)]
        combinations = itertools.product(
            self.sizes, self.connections, self.backends, dict.fromkeys(shapes), sorted(set(self.queues))
        )
        return [
            Point(backend, layout, workers, size, connections, queues)
            for size, connections, backend, (layout, workers), queues in combinations
        ]


@dataclass(frozen=True)
class Sides:
    """The cores that the server may have, those to be taken first in front, and those of the load."""

    server: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def are_apart(self) -> bool:
        return not set(self.server) & set(self.load)

    def has_room(self, point: Point) -> bool:
        """Each process of the server has a core to itself. Only then throughput says how a server scales."""
        return self.are_apart and point.processes <= len(self.server)

    def cores_of(self, point: Point) -> int:
        return min(point.processes, len(self.server))

    def of(self, point: Point) -> Sides:
        """With no more cores for the server than it has processes: on others the kernel would work for it unseen."""
        return Sides(self.server[: self.cores_of(point)], self.load)


def plan_sides(cores: Sequence[Core]) -> Sides:
    """Half of the machine for each, neighbours on one side. SMT siblings stay together, as each slows the other down,
    and come last among the cores of a side; a machine that is one physical core has nothing else to divide. A single
    core is both sides'."""
    ordered = sorted(cores, key=lambda core: (core.node, core.l3, core.physical, core.number))
    whole = [[core.number for core in group] for _, group in itertools.groupby(ordered, key=lambda core: core.physical)]
    units = whole if len(whole) > 1 else [[core.number] for core in ordered]
    half = (len(units) + 1) // 2
    server, load = _one_of_each_first(units[:half]), _one_of_each_first(units[half:])
    return Sides(server, load or server)


def _one_of_each_first(units: Sequence[Sequence[int]]) -> tuple[int, ...]:
    turns = itertools.zip_longest(*units)
    return tuple(number for turn in turns for number in turn if number is not None)


def choose_sides(cores: Sequence[Core], server: tuple[int, ...] | None, load: tuple[int, ...] | None) -> Sides:
    """What was asked for; a side that was not gets what is left, and the same cores where nothing is. UsageError: there
    is no such core."""
    numbers = {core.number for core in cores}
    asked = {*(server or ()), *(load or ())}
    if missing := sorted(asked - numbers):
        raise UsageError(f"core {missing[0]} may not be used here; available: {sorted(numbers)}")
    if not asked:
        return plan_sides(cores)
    rest = tuple(sorted(numbers - asked or asked))
    return Sides(server or rest, load or rest)
