"""`usnet-bench scale`: what becomes of a request when a server has more queues.

Each point is a server of its own under a load of its own, for a second or so. All points take turns, and each has its
turn several times (rounds.py says why). Server and load have their own halves of the machine, and a server has as many
cores of its half as it has processes (scalepoints.py). What a request costs is counted on either side (scalecosts.py).

Where each process of a server has a core to itself, throughput says how the server scales: against its own first point,
and by the Universal Scalability Law (scalefit.py). Where it has not, throughput says how processes take turns; what a
request costs still says what more queues cost. The result says which points are which."""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from usnet_framework.bench import machine, report, scaleplaces, scaleplot, scaletables
from usnet_framework.bench.load import Load
from usnet_framework.bench.scalecosts import Costs, Shards, Watch, costs, open_shards
from usnet_framework.bench.scaleload import Generators, generating
from usnet_framework.bench.scalepoints import Choice, Point, Sides
from usnet_framework.bench.scalesummary import Fitted, Sample, Summary, laws, summarise
from usnet_framework.bench.servers import Command, running, usnet_command
from usnet_framework.errors import StartupError
from usnet_framework.shards import control
from usnet_framework.shards.cgroup import listed

READY_DEADLINE_S = 60.0
LOOK_S = 0.01


@dataclass(frozen=True)
class Setup:
    """What all runs have in common; connections and size of the load are the point's."""

    sides: Sides
    load: Load
    rounds: int
    poll: str
    network: str  # scaleplaces.CHOICES


@dataclass(frozen=True)
class Scaling:
    machine: dict[str, str | int]
    setup: Setup
    notes: tuple[str, ...]
    summaries: tuple[Summary, ...]
    laws: tuple[Fitted, ...]
    samples: tuple[Sample, ...]

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        for one, fitted in zip(found["laws"], self.laws, strict=True):
            one["law"]["peak"] = fitted.law.peak
        return found

    def to_csv(self) -> str:
        """A line for each point; what cannot be told is nan."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        parts = [field.name for field in fields(Summary) if field.name not in ("point", "costs")]
        of_points, of_costs = ([field.name for field in fields(kind)] for kind in (Point, Costs))
        writer.writerow([*of_points, *parts, *of_costs])
        for row in self.summaries:
            wholes = ((row.point, of_points), (row, parts), (row.costs, of_costs))
            writer.writerow([getattr(whole, name) for whole, names in wholes for name in names])
        return text.getvalue()

    def to_text(self) -> str:
        load, sides = self.setup.load, self.setup.sides
        pace = f"{load.rate:,.0f} messages/s" if load.rate is not None else "closed loop"
        return "\n".join(
            [
                f"{self.setup.rounds} rounds of {load.duration_s:g} s, points in turn, {pace}, pipeline "
                f"{load.pipeline}, --poll {self.setup.poll}; a point: bytes (B), connections (c), queues (q), "
                "workers of each (w)",
                f"{self.machine['processor']}, {self.machine['cores']} cores, Linux {self.machine['kernel']}, "
                f"Python {self.machine['python']}",
                f"network: {self.setup.network}; server on cores {listed(sides.server)}, "
                f"load on cores {listed(sides.load)}",
                *self.notes,
                "",
                scaletables.throughput(self.summaries),
                "",
                "the server's CPU time per request in us, by its processes' accounts and by its cores'; context "
                "switches and wakes of a request:",
                "",
                scaletables.server_costs(self.summaries),
                "",
                "the load's CPU time per request in us, likewise:",
                "",
                scaletables.load_costs(self.summaries),
                *(["", *map(scaletables.law, self.laws)] if self.laws else []),
            ]
        )


@dataclass(frozen=True)
class Files:
    """Where else a result goes."""

    csv: str | None = None
    plot: str | None = None

    def check(self) -> None:
        """Before anything is measured. UsageError, StartupError: they could not be written."""
        if self.plot is not None:
            scaleplot.check(self.plot)
        for path in (self.csv, self.plot):
            if path is not None:
                with _writing(path), open(path, "a"):
                    pass

    def write(self, scaling: Scaling) -> None:
        """StartupError."""
        if self.csv is not None:
            with _writing(self.csv):
                Path(self.csv).write_text(scaling.to_csv())
        if self.plot is not None:
            with _writing(self.plot):
                scaleplot.draw(self.plot, _title(scaling), scaling.summaries, scaling.laws)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartupError(f"{path}: cannot be written: {error.strerror}") from None


def _title(scaling: Scaling) -> str:
    sides = scaling.setup.sides
    hollow = "" if all(row.has_room for row in scaling.summaries) else "; hollow: processes share cores"
    return (
        f"{scaling.machine['processor']}, cores of the server: {listed(sides.server)}, of the load: "
        f"{listed(sides.load)}{hollow}"
    )


def measure(setup: Setup, point: Point, number: int) -> Sample:
    """One run. StartupError."""
    load, sides = replace(setup.load, connections=point.connections, size=point.size), setup.sides.of(point)
    with (
        tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder,
        scaleplaces.open_place(setup.network, point.backend, point.queues, sides) as place,
    ):
        path = str(Path(folder, "control.sock"))
        command = _command(point, setup.poll, ["--control", path, *place.options])
        with running(place.network, command, set(sides.server)) as server:
            _wait_ready(path, point)
            place.receive_at_home()
            with (
                open_shards(server.pid) as shards,
                generating(place.network, load, server.target, sides.load) as generators,
            ):
                _wait_connected(shards, generators, point)
                watch = Watch(shards, server.pid, generators.pids)
                time.sleep(load.warmup_s)
                before = watch.look()
                time.sleep(load.duration_s)
                after = watch.look()
    return Sample(point, number, costs(before, after, point, sides, generators.percentiles_us))


def _command(point: Point, poll: str, options: Sequence[str]) -> Command:
    shape = ["--queues", str(point.queues), "--layout", point.layout, "--workers", str(point.workers), "--poll", poll]
    return lambda host, port: usnet_command("Echo", host, port, *shape, *options)


def _wait_ready(control_path: str, point: Point) -> None:
    """One shard answers; until all do."""
    deadline_s = time.monotonic() + READY_DEADLINE_S
    while control.request(control_path, "status")["state"] != "ready":
        if time.monotonic() > deadline_s:
            raise StartupError(f"{point.name}: not all shards serve after {READY_DEADLINE_S:g} s")
        time.sleep(LOOK_S)


def _wait_connected(shards: Shards, generators: Generators, point: Point) -> None:
    """Until all connections are open."""
    deadline_s = time.monotonic() + READY_DEADLINE_S
    while (found := shards.connections()) < point.connections:
        generators.check()
        if time.monotonic() > deadline_s:
            raise StartupError(f"{point.name}: only {found} connections after {READY_DEADLINE_S:g} s")
        time.sleep(LOOK_S)


def run(choice: Choice, setup: Setup) -> Scaling:
    """StartupError, UsageError."""
    scaleplaces.check(setup.network, choice.backends)
    turns = [(number, point) for number in range(setup.rounds) for point in choice.points()]
    samples: list[Sample] = []
    began_s = time.monotonic()
    for number, point in turns:
        samples.append(measure(setup, point, number))
        _tell(samples[-1], len(samples), len(turns), time.monotonic() - began_s)
    summaries = summarise(samples, setup.sides)
    fitted = laws(summaries)
    notes = scaletables.notes(summaries, samples, setup.sides, fitted)
    return Scaling(machine.describe(), setup, tuple(notes), tuple(summaries), tuple(fitted), tuple(samples))


def _tell(sample: Sample, done: int, turns: int, spent_s: float) -> None:
    minutes, seconds = divmod(round(spent_s / done * (turns - done)), 60)
    report.progress(
        f"{done}/{turns} {sample.point.name:40} {sample.costs.throughput:10,.0f}/s  "
        f"steal {sample.costs.steal:.0%}  {minutes}:{seconds:02} left"
    )
