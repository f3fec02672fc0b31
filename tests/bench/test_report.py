"""`usnet-bench report`: the plan, the rows, the pictures and the page, from invented results; and a short one that is
measured."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.server import command

from usnet_framework.bench import reportdraw, reportfigures, reportpage, reportplan, reportrows, reportrun, servers
from usnet_framework.bench.reportdraw import DARK, LIGHT, PICTURES, VARIABLES
from usnet_framework.bench.reportplan import FULL, QUICK, Part
from usnet_framework.bench.reportrun import Report
from usnet_framework.cli import bench
from usnet_framework.errors import StartupError, UsageError, UsnetError

LONGEST_S = 25 * 60  # that a person has a quiet machine for

# The plan.


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("extent", [FULL, QUICK])
def test_every_part_is_a_command_that_can_be_given(extent: reportplan.Extent, root: bool) -> None:
    parts = reportplan.plan(extent, root, lwip=True)
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert bench._parser().parse_args(part.arguments).run


def test_the_whole_takes_no_longer_than_it_may() -> None:
    assert sum(part.seconds for part in reportplan.plan(FULL, root=True, lwip=True)) <= LONGEST_S
    assert sum(part.seconds for part in reportplan.plan(QUICK, root=True, lwip=True)) <= 120


def test_without_namespaces_there_are_kernel_sockets_alone() -> None:
    words = " ".join(part.command for part in reportplan.plan(FULL, root=False, lwip=True))
    assert not re.search("tap|afxdp|--rps|flood", words)


@pytest.mark.parametrize("extent", [FULL, QUICK])
def test_every_picture_has_a_part_of_the_plan(extent: reportplan.Extent) -> None:
    parts = {part.name: {} for part in reportplan.plan(extent, root=True, lwip=True)}
    shown = {picture.name for picture in PICTURES if reportpage.parts_of(picture, parts)}
    assert shown == {picture.name for picture in PICTURES} - ({"bars", "cost"} if extent is QUICK else set())


# Invented results.


MACHINE = {"processor": "Invented <i>", "cores": 2, "kernel": "7.0", "python": "3.12"}
SERVERS = ("epoll-c", "uvloop", "usnet-inline", "usnet-split", "usnet-tap-inline", "usnet-afxdp-split")


def summary(name: str, throughput: float, server_us: float | None = None) -> dict[str, Any]:
    cost = {"server_us": server_us, "user_us": 1.0, "system_us": 4.0, "softirq_us": 0.5, "load_us": 3.0, "wakes": 0.25}
    return {
        "name": name, "runs": 3, "dropped": 0, "throughput": throughput, "lower": throughput, "upper": throughput,
        "ratio": 1.0, "p50_us": 20.0, "p99_us": 90.0, "cost": cost,
    }  # fmt: skip


def comparison(connections: int, **more: Any) -> dict[str, Any]:
    rows = [summary(name, 1000.0 * connections + number) for number, name in enumerate(SERVERS)]
    return {"load": {"connections": connections, "size": 1000}, "summaries": rows, "fixed": None, "aims": []} | more


def aim(found: float | None, sign: str, bar: float, is_reached: bool) -> dict[str, Any]:
    return {"server": "usnet-tap-inline", "figure": "p50, x epoll-c", "found": found, "sign": sign, "bar": bar,
            "is_reached": is_reached}  # fmt: skip


def point(queues: int, backend: str, layout: str, network: float | None = 2.0) -> dict[str, Any]:
    costs = {"network": network, "worker": 5.0, "rest": 0.5, "server_user": 3.0, "server_system": 6.0,
             "server_softirq": 1.0, "switches": 0.5, "wakes": 0.1, "crossed": None, "throughput": 9e4}  # fmt: skip
    shape = {"backend": backend, "layout": layout, "workers": 1, "size": 60, "connections": 128, "queues": queues}
    return {"point": shape, "costs": costs, "has_room": queues == 1}


def happening(server: str, event: str, number: int, worst_ms: float) -> dict[str, Any]:
    return {"server": server, "event": event, "round": number, "event_ms": 1005.0, "connections_lost": 3 * number,
            "messages_lost": 0, "worst_ms": worst_ms, "silent_ms": 10, "steal": 0.0,
            "answers": [100] * 100 + [0, 200] + [100] * 198}  # fmt: skip


RESULTS: dict[str, Any] = {
    "modes": {"facts": {"memory": "8 GiB"}, "servers": {"usnet-inline": [
        {"what": "layout", "asked": "inline", "in_force": "inline", "reason": "", "fix": "", "ok": True},
        {"what": "huge pages", "asked": "yes", "in_force": "no", "reason": "no <free> ones", "fix": "", "ok": False}]}},
    "connections-128": comparison(128),
    "connections-1": comparison(1),
    "afxdp-rps": comparison(128, fixed={"rate": 5e4, "summaries": [
        summary("epoll-c", 5e4, 12.0), summary("uvloop", 5e4, 16.0), summary("usnet-split-2", 5e4)]}),
    "tap-1": comparison(1, aims=[aim(0.65, "at most", 0.8, True), aim(0.9, "at most", 0.8, False)]),
    "tap": comparison(128, aims=[aim(1.2, "at least", 1.5, False), aim(None, "at least", 1.0, False)]),
    "scale": {"summaries": [point(1, "tap", "inline"), point(2, "tap", "inline"), point(1, "kernel", "split", None)]},
    "latency": {"distributions": [{"name": "usnet-tap-inline", "answers": 10, "p50_us": 11.0, "p99_us": 50.0,
                                   "p999_us": 50.0, "buckets": [[10.1, 4], [11.0, 5], [50.0, 1]]}]},
    "timeline": {"every_ms": 10, "runs": [happening("usnet", "worker", 0, 4.0), happening("usnet", "worker", 1, 9.0),
                                          happening("usnet", "worker", 2, 5.0), happening("usnet", "network", 0, 2.0),
                                          happening("uvloop", "worker", 1, 30.0)]},
    "kill": {"milliseconds": [1.0, 2.0], "median_ms": 1.5, "p99_ms": 2.0},
}  # fmt: skip
KINDS = {"tap": "compare", "tap-1": "compare", "afxdp-rps": "compare", "connections-1": "compare",
         "connections-128": "compare"}  # fmt: skip


def data() -> dict[str, Any]:
    parts = {
        name: {"kind": KINDS.get(name, name), "command": f"usnet-bench {name} --a <b>", "seconds": 1.0,
               "result": result, "text": f"table of {name}\naim: it: 1, at least 2: missed\n"}
        for name, result in RESULTS.items()
    }  # fmt: skip
    parts["flood"] = {"kind": "flood", "command": "usnet-bench flood", "missing": "servers need <root>"}
    return {"made": "2026-01-01 00:00 UTC", "quick": False, "seconds": 60.0, "machine": MACHINE,
            "figures": reportfigures.figures(parts), "parts": parts}  # fmt: skip


# Rows.


def test_a_line_for_each_server_over_connections() -> None:
    rows = reportrows.over_connections(RESULTS)
    found = [(row["server"], row["connections"], row["throughput"]) for row in rows]
    assert found[:3] == [("epoll-c", 1, 1000), ("epoll-c", 128, 128_000), ("uvloop", 1, 1001)]


def test_costs_are_of_those_that_have_them() -> None:
    rows = reportrows.cost_of_a_message(RESULTS)
    found = [(row["server"], row["server_us"], row["rate"]) for row in rows]
    assert found == [("epoll-c", 12, 5e4), ("uvloop", 16, 5e4)]


def test_time_of_a_request_is_that_of_all_processes() -> None:
    rows = reportrows.over_shards(RESULTS)
    assert [(row["processes_us"], row["cores_us"]) for row in rows] == [(7.5, 10), (7.5, 10), (None, 10)]


def test_latencies_are_put_into_bins_and_none_is_lost() -> None:
    rows = reportrows.latencies(RESULTS)
    assert [row["answers"] for row in rows] == [9, 1]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    for row, latency in zip(rows, (10.5, 50.0), strict=True):
        assert row["from_us"] <= latency < row["to_us"]
        assert row["to_us"] / row["from_us"] == pytest.approx(10 ** (1 / 20))


def test_time_is_counted_from_when_it_happened_and_the_median_run_is_typical() -> None:
    rows = reportrows.around_events(RESULTS)
    ours = [row for row in rows if (row["server"], row["event"]) == ("usnet", "worker")]
    assert {row["worst_ms"] for row in ours if row["typical"]} == {5.0}
    assert [row["after_ms"] for row in ours[:2]] == [-1005, -995]
    (silent,) = (row["after_ms"] for row in ours if row["typical"] and row["answers"] == 0)
    assert silent == -5


def test_how_far_a_bar_was_reached() -> None:
    found = [row["reach"] for row in reportrows.bars(RESULTS)]
    assert found == [pytest.approx(0.8 / 0.65), pytest.approx(0.8 / 0.9), pytest.approx(0.8), None]


def test_a_part_that_is_missing_has_no_rows() -> None:
    assert [picture.rows({}) for picture in PICTURES] == [[] for _ in PICTURES]


def test_figures_have_names() -> None:
    found = data()["figures"]
    assert found["connections-128.epoll-c.throughput"] == 128_000
    assert found["connections-1.epoll-c.gbit"] == pytest.approx(1000 * 8000 / 1e9)
    assert (found["afxdp-rps.fixed_rate"], found["afxdp-rps.uvloop.server_us"]) == (5e4, 16)
    assert "afxdp-rps.usnet-split-2.server_us" not in found
    assert (found["kill.kills"], found["kill.median_ms"], found["latency.usnet-tap-inline.p99_us"]) == (2, 1.5, 50)


# Pictures and page.


def test_every_server_has_a_colour_on_either_paper() -> None:
    assert {reportrows.family(name) for name in servers.KINDS} <= LIGHT.keys()
    assert LIGHT.keys() == DARK.keys()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_are_drawn_in_colours_of_the_page(picture: reportdraw.Picture) -> None:
    rows = picture.rows(RESULTS)
    found = reportdraw.svg(picture, rows)
    assert re.match(r'<svg [^>]*role="img" aria-label="[^"]+" viewBox=', found)
    assert "var(--ink)" in found
    assert not re.search(r"#0000[0-9a-f]{2}|#ffffff|#000000", found)
    names = re.findall(r'\bid="([^"]*)"', found)
    assert names
    assert all(name.startswith(f"{picture.name}-") for name in names)
    assert set(re.findall(r'href="#([^"]*)"', found)) <= set(names)


def test_stand_ins_for_colours_are_no_colours() -> None:
    assert len(VARIABLES) <= 255
    assert not {*VARIABLES.values()} & {*LIGHT.values(), *DARK.values()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("report")
    reportrun.write(Report(data(), str(folder)))
    return folder


def test_the_page_needs_nothing_else_and_marks_what_was_missed(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r"<script|<link|<img|src=|@import|url\((?!#)", page)
    assert page.count("<svg") == len(PICTURES)
    assert "1 of 4 bars reached, 3 missed" in page
    assert '<span class="missed">aim: it: 1, at least 2: missed' in page
    assert "prefers-color-scheme: dark" in page
    assert "Invented &lt;i&gt;" in page
    assert "servers need &lt;root&gt;" in page
    assert "usnet-bench tap --a &lt;b&gt;" in page
    assert "no &lt;free&gt; ones" in page


def test_what_is_missing_and_missed_is_said() -> None:
    said = Report(data(), "folder").to_text().splitlines()
    assert said[0] == "flood: left out: servers need <root>"
    assert said[1:-1] == ["missed: usnet-tap-inline: p50, x epoll-c"] * 3
    assert said[-1] == "folder/report.html"


def test_rows_go_into_files_beside_the_page(written: Path) -> None:
    for picture in PICTURES:
        with (written / f"{picture.name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(picture.rows(RESULTS))
        light, dark = ((written / name).read_bytes() for name in (f"{picture.name}.png", f"{picture.name}-dark.png"))
        assert light.startswith(b"\x89PNG")
        assert dark.startswith(b"\x89PNG")
        assert light != dark
    assert json.loads((written / "report.json").read_text()) == data()


def test_a_picture_without_its_parts_is_left_out_with_the_reason() -> None:
    made = data()
    made["parts"]["scale"] = {"kind": "scale", "command": "usnet-bench scale", "missing": "not root"}
    page = reportpage.page(made, {picture.name: "<svg/>" for picture in PICTURES if picture.name != "shards"}, [])
    assert page.count("<svg") == len(PICTURES) - 1
    assert "Left out: not root" in page


# Measuring.


def test_parts_are_measured_in_turn_and_one_that_cannot_be_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    kills = Part("kill", ("kill", "--kills", "2", "--pause", "0"), 3.0)
    found = reportrun._measure_all([Part("wrong", ("compare", "--servers", "nobody"), 3.0), kills])
    assert found["wrong"]["missing"].startswith("--servers: unknown server 'nobody'")
    assert found["kill"]["command"] == "usnet-bench kill --kills 2 --pause 0"
    assert len(found["kill"]["result"]["milliseconds"]) == 2
    assert found["kill"]["text"].startswith("first reply after SIGKILL of the only worker, 2 kills")
    said = capfd.readouterr().err
    assert "[1/2, 0:06 left] usnet-bench compare --servers nobody" in said
    assert re.search(r"\[2/2, \d+:\d\d left\] usnet-bench kill", said)


def test_a_part_that_does_not_come_to_an_end_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = tmp_path / "usnet-bench"
    bench.write_text("#!/bin/sh\necho begins >&2\nexec tail -f /dev/null\n")
    bench.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(reportrun, "LATE_S", 0.0)
    found = reportrun._measure_all([Part("endless", ("tap",), 0.0)])["endless"]
    assert found == {"kind": "tap", "command": "usnet-bench tap", "missing": "it was not over after 0 minutes"}


def test_nothing_that_could_be_measured_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reportrun, "plan", lambda *_, **__: [Part("wrong", ("compare", "--servers", "nobody"), 1.0)])
    with pytest.raises(StartupError, match="nothing could be measured: --servers: unknown server 'nobody'"):
        reportrun.run(str(tmp_path), quick=True, added=[])


def test_a_part_that_another_program_has_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"name": "stack", "command": "make bench-stack", "figures": {"echo.ns": 177}, "text": "a table", "aims": []}
    (tmp_path / "stack.json").write_text(json.dumps(part))
    monkeypatch.setattr(reportrun, "plan", lambda *_, **__: [])
    found = reportrun.run(str(tmp_path / "made"), quick=True, added=[str(tmp_path / "stack.json")])
    assert found.data["figures"] == {"stack.echo.ns": 177}
    assert "a table" in (tmp_path / "made" / "report.html").read_text()


def test_a_report_is_written_anew_from_its_figures(tmp_path: Path) -> None:
    made = data()
    made["parts"] = {name: made["parts"][name] for name in ("kill", "latency")}
    (tmp_path / "old.json").write_text(json.dumps(made))
    line = [command("usnet-bench"), "report", "--from", str(tmp_path / "old.json"), "--output", str(tmp_path / "new")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text().count("<svg") == 1


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (None, StartupError, "cannot be read: No such file or directory"),
        ("[1]", UsageError, "it is no JSON object"),
        ("nothing", UsageError, "it is no JSON object"),
        ('{"made": 1}', UsageError, "it is no report.json of this command"),
        (
            '{"made": 1, "quick": 1, "seconds": 1, "machine": {}, "figures": 1, "parts": {"tap": 1}}',
            UsageError,
            "it is not of this version",
        ),
    ],
)
def test_what_is_no_report_is_refused(content: str | None, kind: type[UsnetError], text: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "old.json").write_text(content)
    with pytest.raises(kind, match=text):
        reportrun.again(str(tmp_path / "old.json"), str(tmp_path / "new"))


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot be made: Not a directory"):
        reportrun.run(str(tmp_path / "file" / "folder"), quick=False, added=[])


def test_without_matplotlib_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StartupError) as error:
        reportrun.run("nowhere", quick=True, added=[])
    assert str(error.value) == "report: matplotlib is not installed: pip install 'usnet_framework[bench]'"
    assert not Path("nowhere").exists()


def test_results_that_cannot_be_saved_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    line = [command("usnet-bench"), "kill", "--kills", "9999", "--save", str(tmp_path / "none" / "kill.json")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()  # "9999 kills, about …" would be before it
    assert said.endswith("kill.json: cannot be written: No such file or directory")


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part.json").write_text('{"name": "stack"}')
    with pytest.raises(UsageError, match="it needs name, command, figures and text"):
        reportrun.run(str(tmp_path), quick=True, added=[str(tmp_path / "part.json")])
