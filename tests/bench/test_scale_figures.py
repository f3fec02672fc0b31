"""The figures of usnet-bench scale, from invented machines, looks and runs."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from usnet_framework.bench import scalecosts, scaleplot, scaletables
from usnet_framework.bench.load import Load
from usnet_framework.bench.scale import Files, Scaling, Setup
from usnet_framework.bench.scalecosts import TICKS_PER_S, CoreWork, Costs, Look, ShardWork, ThreadWork
from usnet_framework.bench.scaleload import shares
from usnet_framework.bench.scalepoints import Choice, Point, Sides, choose_sides, plan_sides
from usnet_framework.bench.scalesummary import Sample, laws, summarise
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.topology import Core

ROOMY = Sides((0, 1, 2, 3, 4, 5, 6, 7), (8, 9, 10, 11, 12, 13, 14, 15))
NARROW = Sides((0,), (1,))


def point(queues: int, layout: str = "inline", workers: int = 1) -> Point:
    return Point("tap", layout, workers, 60, 128, queues)


# Points and sides.


def test_a_point_for_each_combination_queues_last() -> None:
    points = Choice(queues=(2, 1), backends=("kernel", "tap"), layouts=("inline", "split"), workers=(1, 2)).points()
    assert [one.queues for one in points[:2]] == [1, 2]
    assert [one.series for one in points[::2]] == [
        f"{backend} {shape}, 60 B, 128 c"
        for backend in ("kernel", "tap")
        for shape in ("inline", "split 1w", "split 2w")
    ]


def test_processes_of_a_point() -> None:
    assert (point(4).processes, point(4, "split").processes, point(4, "split", 3).processes) == (4, 8, 16)


def cores(*physical: int) -> list[Core]:
    return [Core(number, one, 0) for number, one in enumerate(physical)]


@pytest.mark.parametrize(
    ("machine", "sides"),
    [
        (cores(0), Sides((0,), (0,))),
        (cores(0, 1), Sides((0,), (1,))),
        (cores(0, 0), Sides((0,), (1,))),  # two siblings, and no other core
        (cores(0, 1, 2), Sides((0, 1), (2,))),
        (cores(0, 1, 0, 1), Sides((0, 2), (1, 3))),  # siblings stay on one side …
        (cores(0, 1, 2, 3, 0, 1, 2, 3), Sides((0, 1, 4, 5), (2, 3, 6, 7))),  # … and come last there
        ([Core(number, number, 0, 1 - number % 2) for number in range(4)], Sides((1, 3), (0, 2))),  # so do nodes
    ],
)
def test_half_of_the_machine_for_each_side(machine: list[Core], sides: Sides) -> None:
    assert plan_sides(machine) == sides


def test_a_server_has_no_more_cores_than_processes() -> None:
    assert ROOMY.of(point(2, "split")) == Sides((0, 1, 2, 3), ROOMY.load)
    assert NARROW.of(point(8, "split")) == NARROW


@pytest.mark.parametrize(
    ("server", "load", "sides"),
    [
        (None, None, Sides((0, 1), (2, 3))),
        ((3,), None, Sides((3,), (0, 1, 2))),
        (None, (0, 3), Sides((1, 2), (0, 3))),
        ((1,), (1,), Sides((1,), (1,))),
        ((0, 1, 2, 3), None, Sides((0, 1, 2, 3), (0, 1, 2, 3))),
    ],
)
def test_cores_that_were_asked_for(
    server: tuple[int, ...] | None, load: tuple[int, ...] | None, sides: Sides
) -> None:
    assert choose_sides(cores(0, 1, 2, 3), server, load) == sides


def test_cores_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"core 9 may not be used here; available: \[0, 1\]"):
        choose_sides(cores(0, 1), None, (1, 9))


def test_connections_and_rate_are_dealt_out() -> None:
    dealt = shares(Load(10, rate=1000.0), (4, 5, 6))
    assert [(load.connections, core) for load, core in dealt] == [(4, 4), (3, 5), (3, 6)]
    assert [load.rate for load, _ in dealt] == [400, 300, 300]
    assert [(load.connections, load.rate) for load, _ in shares(Load(2), (4, 5, 6))] == [(1, None), (1, None)]


# What a request costs.


STAT = """\
cpu  300 0 100 500 100 0 0 0 0 0
cpu0 100 10 50 200 50 3 7 100 9 9
cpu11 200 0 50 300 50 0 0 0 0 0
intr 12345
"""


def test_time_of_cores_by_what_it_went_into() -> None:
    found = scalecosts.core_work(STAT)
    ticks = CoreWork(user=110, system=50, softirq=10, stolen=100, total=520)
    assert found[0] == CoreWork(*(getattr(ticks, field.name) / TICKS_PER_S for field in fields(CoreWork)))
    assert set(found) == {0, 11}


def test_threads_of_a_process_are_added_up(tmp_path: Path) -> None:
    for number, run_ns in ((7, 1_500_000_000), (8, 250_000_000)):
        folder = tmp_path / "7" / "task" / str(number)
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(f"{run_ns} 99 5\n")
        (folder / "status").write_text("Name:\tx\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t2\n")
    assert scalecosts.thread_work(7, tmp_path) == ThreadWork(1.75, 64)
    assert scalecosts.thread_work(8, tmp_path) == ThreadWork()


BEFORE = Look(
    10.0,
    {0: CoreWork(), 1: CoreWork()},
    {1: ("network", ThreadWork(5.0, 100)), 2: ("worker", ThreadWork()), 3: ("spare", ThreadWork()),
     4: ("load", ThreadWork()), 5: ("zygote", ThreadWork(1.0, 1))},
    [ShardWork(600, 1, 2, 3), ShardWork()],
)  # fmt: skip
AFTER = Look(
    12.0,
    {0: CoreWork(0.2, 0.4, 0.1, 0.25, 1.0), 1: CoreWork(0.3, 0.6, 0.2, 0.0, 1.25)},
    {1: ("network", ThreadWork(5.3, 5100)), 2: ("worker", ThreadWork(0.2, 3000)), 3: ("spare", ThreadWork(0.01, 2)),
     4: ("load", ThreadWork(0.5, 7)), 5: ("zygote", ThreadWork())},
    [ShardWork(600 + 7500 * 60, 1001, 10_002, 103), ShardWork(2500 * 60, 500, 10_000, 300)],
)  # fmt: skip


def test_costs_are_of_what_lies_between_two_looks() -> None:
    found = scalecosts.costs(BEFORE, AFTER, point(2, "split"), NARROW, (20.0, 90.0))
    expected = {
        "throughput": 5000,
        "p50_us": 20,
        "p99_us": 90,
        "server_user": 20, "server_system": 40, "server_softirq": 10, "server": 70,
        "load_user": 30, "load_system": 60, "load_softirq": 20, "load": 110,
        "network": 30, "worker": 20, "rest": 1, "processes": 51, "generator": 50,
        "switches": 0.8002,
        "wakes": 0.15,
        "crossed": 20_000,
        "spread": 1.5,
        "server_busy": 0.95, "load_busy": 0.88,
        "steal": 0.25,
        "others": 0.49 / 2.25,
    }  # fmt: skip
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_on_one_core_the_sides_are_told_apart_by_their_processes_alone() -> None:
    found = scalecosts.costs(BEFORE, AFTER, point(2, "split"), Sides((0,), (0,)), (20.0, 90.0))
    assert math.isnan(found.server_user)
    assert math.isnan(found.load)
    assert (found.network, found.generator) == (pytest.approx(30), pytest.approx(50))


def test_kernel_sockets_see_no_packets() -> None:
    shards = [replace(shard, packets=0, crossed=0) for shard in AFTER.shards]
    before = replace(BEFORE, shards=[ShardWork(600, 1), ShardWork()])
    found = scalecosts.costs(before, replace(AFTER, shards=shards), point(2), NARROW, (20.0, 90.0))
    assert math.isnan(found.crossed)


def test_no_answer_is_no_measurement() -> None:
    with pytest.raises(StartupError, match=r"tap inline, 60 B, 128 c, 2 q: no request was answered in 2\.0 s"):
        scalecosts.costs(BEFORE, replace(AFTER, shards=BEFORE.shards), point(2), NARROW, (20.0, 90.0))


# What many runs say.


def run_of(one: Point, throughput: float, worker: float = 10.0, steal: float = 0.0, number: int = 0) -> Sample:
    nothing = dict.fromkeys((field.name for field in fields(Costs)), 1.0)
    return Sample(one, number, Costs(**nothing | {
        "throughput": throughput, "network": 0.0, "worker": worker, "rest": 0.0, "steal": steal, "load_busy": 0.5,
    }))  # fmt: skip


def test_medians_growth_and_efficiency_along_a_series() -> None:
    samples = [run_of(point(1), 100, 10), run_of(point(1), 300, 30), run_of(point(1), 200, 20)]
    samples += [run_of(point(2), 9000, 1, steal=0.31), run_of(point(2), 300, 24)]
    first, second = summarise(samples, ROOMY)
    assert (first.costs.throughput, first.growth, first.efficiency, first.runs, first.dropped) == (200, 1, 1, 3, 0)
    assert (second.costs.throughput, second.growth, second.efficiency) == (300, 1.2, 0.75)
    assert (second.runs, second.dropped) == (1, 1)


def test_where_processes_share_cores_throughput_says_nothing() -> None:
    samples = [run_of(point(queues), 100.0) for queues in (1, 2, 4)]
    rows = summarise(samples, NARROW)
    assert [row.has_room for row in rows] == [True, False, False]
    assert math.isnan(rows[1].efficiency)
    assert rows[1].growth == 1
    assert laws(rows) == []
    notes = list(scaletables.notes(rows, samples, NARROW, []))
    assert any(note.startswith("* more processes than the server has cores (1)") for note in notes)
    assert any(note.startswith("no scaling law") for note in notes)


def test_where_the_load_is_what_is_full_it_says_so() -> None:
    samples = [run_of(point(queues), 100.0) for queues in (1, 2)]
    samples[1] = replace(samples[1], costs=replace(samples[1].costs, load_busy=0.97))
    notes = list(scaletables.notes(summarise(samples, ROOMY), samples, ROOMY, []))
    assert [note for note in notes if note.endswith("whatever the server does: tap inline, 60 B, 128 c, 2 q")]


def test_a_law_for_each_series_with_room() -> None:
    samples = [run_of(point(queues), 1000 * queues / (1 + 0.1 * (queues - 1))) for queues in (1, 2, 4, 8)]
    samples += [run_of(point(queues, "split"), 100.0) for queues in (1, 2, 8)]
    (fitted,) = laws(summarise(samples, ROOMY))
    assert fitted.series == point(1).series
    assert fitted.law.contention == pytest.approx(0.1)
    text = scaletables.law(fitted)
    assert text.startswith("tap inline, 60 B, 128 c: one queue 1,000/s, contention 10.00%, coherence 0.000%")
    assert "more queues carry more" in text


def scaling(sides: Sides = ROOMY) -> Scaling:
    samples = [run_of(point(queues), 1000 * queues / (1 + 0.02 * queues * (queues - 1))) for queues in (1, 2, 4, 8)]
    samples += [run_of(point(queues, "split"), 700.0 * queues) for queues in (1, 2, 4, 8)]
    rows = summarise(samples, sides)
    machine: dict[str, str | int] = {"processor": "Invented", "cores": 16, "kernel": "6.0", "python": "3.11"}
    setup = Setup(sides, Load(1, 1, 1.0, 0.5), 1, "sleep", "veth")
    return Scaling(machine, setup, ("a note",), tuple(rows), tuple(laws(rows)), tuple(samples))


def test_the_report() -> None:
    lines = scaling().to_text().splitlines()
    assert "server on cores 0-7, load on cores 8-15" in lines[2]
    assert lines[3] == "a note"
    (row,) = (line for line in lines if line.startswith("tap split 1w, 60 B, 128 c, 8 q  ") and "*" in line)
    assert "5,600" in row
    (found,) = (line for line in lines if line.startswith("tap inline, 60 B, 128 c: one queue"))
    assert "most is predicted with 7.1 queues" in found


def test_a_line_of_the_table_for_each_point() -> None:
    rows = list(csv.DictReader(io.StringIO(scaling().to_csv())))
    assert [(row["layout"], row["queues"]) for row in rows][:5] == [
        ("inline", "1"), ("inline", "2"), ("inline", "4"), ("inline", "8"), ("split", "1")
    ]  # fmt: skip
    assert float(rows[1]["throughput"]) == pytest.approx(2000 / 1.04)
    assert rows[7]["has_room"] == "False"
    assert rows[7]["efficiency"] == "nan"


def test_every_point_is_in_the_picture() -> None:
    result = scaling()
    drawn = scaleplot.picture("title", result.summaries, result.laws)
    assert len(drawn.axes) == len(scaleplot.PANELS)
    for panel, (_, of) in zip(drawn.axes, scaleplot.PANELS, strict=True):
        least, most = panel.get_ylim()
        assert least == 0
        assert most > max(of(row.costs) for row in result.summaries)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [point(1).series, point(1, "split").series]
    curves = [line for line in drawn.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert len(curves) == len(result.laws) == 2


def test_picture_and_table_are_written(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "table.csv"), str(tmp_path / "picture.png"))
    files.check()
    files.write(scaling())
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.csv").read_text() == scaling().to_csv()


def test_files_that_could_not_be_written_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the name of the file says its format: \.png"):
        Files(plot=str(tmp_path / "picture.jpeg")).check()
    with pytest.raises(StartupError, match="cannot be written: No such file or directory"):
        Files(csv=str(tmp_path / "none" / "table.csv")).check()
