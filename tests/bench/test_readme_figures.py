"""The figures of the README are those of docs/figures.json, and those are taken from a report."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import pytest
from support.tree import ROOT

from usnet_framework.bench import reportplan


def tool() -> ModuleType:
    spec = spec_from_file_location("figures", ROOT / "tools/figures.py")
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


FIGURES = tool()
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("number", range(len(FIGURES.TABLES)))
def test_the_tables_of_figures_are_current(number: int) -> None:
    assert f"\n{FIGURES.tables(FIGURES.read())[number]}\n" in README, "run: make docs"


def test_a_table_takes_the_place_of_the_one_with_its_header() -> None:
    text = "before\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\nafter | a | b |\n"
    changed = FIGURES.put(text, "| a | b |\n| --- | --- |\n| \\5 | 6 |")
    assert changed == "before\n\n| a | b |\n| --- | --- |\n| \\5 | 6 |\n\nafter | a | b |\n"
    with pytest.raises(ValueError, match="0 tables begin with"):
        FIGURES.put(text, "| c |\n| --- |\n| 1 |")


def report(**figures: float) -> dict[str, Any]:
    machine = {"processor": "Invented", "cores": 4, "kernel": "7.0.1-of-the-machine", "python": "3.12"}
    parts = {name.partition(".")[0]: {"command": "usnet-bench it"} for name in figures}
    return {"made": "today", "quick": False, "machine": machine, "figures": figures, "parts": parts}


def test_what_a_report_has_replaces_what_was_there_and_nothing_else() -> None:
    before = FIGURES.read()
    found = {"kill.median_ms": 1.23456, "kill.p99_ms": 2.0, "kill.kills": 7, "kill.x": 1}
    after = FIGURES.take(before, report(**found))
    assert after["kill"] == {
        "command": "usnet-bench it",
        "machine": "Invented, 4 cores, Linux 7.0, Python 3.12",
        "made": "today",
        "figures": {"kills": 7, "median_ms": 1.235, "p99_ms": 2.0},
    }
    assert {name: part for name, part in after.items() if name != "kill"} == {
        name: part for name, part in before.items() if name != "kill"
    }
    assert "| median 1.2 ms, p99 2.0 ms | `usnet-bench it` |" in FIGURES.tables(after)[-1]


def test_a_part_that_a_report_has_in_halves_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = FIGURES.read()
    assert FIGURES.take(before, report(**{"kill.median_ms": 1.0, "kill.kills": 7})) == before
    said = capsys.readouterr().err.splitlines()
    assert "kill: left as it was: no p99_ms" in said
    assert "sharing: left as it was: no forked_mib, spawned_mib" in said


def test_a_figure_that_need_not_be_there_may_be_missing() -> None:
    before = FIGURES.read()
    ours = {f"stack.{name}": value for name, value in before["stack"]["figures"].items() if ".lwip." not in name}
    table = FIGURES.tables(FIGURES.take(before, report(**ours)))[FIGURES.TABLES.index(FIGURES._stack)]
    assert re.search(r"\| the same, one of 10,000 connections, ns \| [\d,]+ \| \N{EN DASH} \|", table)


def test_what_the_readme_needs_is_in_the_plan() -> None:
    """But for what other programs measure, and what takes too long."""
    planned = {part.name for part in reportplan.plan(reportplan.FULL, root=True, lwip=True)}
    others = {"stack", "dispatch", "ring", "poison", "backpressure", "reload-long", "reload-tap"}
    assert {FIGURES.ALIASES.get(name, name) for name in FIGURES.read()} - others <= planned


def test_a_quick_report_has_no_figures(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text('{"quick": true}')
    monkeypatch.setattr(FIGURES, "FIGURES", tmp_path / "figures.json")
    assert FIGURES.main(["take", str(tmp_path / "report.json")]) == 2
    assert "--quick" in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()
