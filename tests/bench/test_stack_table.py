"""tools/stack_bench.py: the table of what a benchmark printed, with aims beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

BOTH = "segment\\tusnet\\t100.0\\tns\\nsegment\\tlwip\\t400.0\\tns\\nbulk in both\\tusnet\\t12.5\\tGbit/s\\n"
ALONE = "segment\\tusnet\\t100.0\\tns\\nmemory 1000000\\tusnet\\t2000.0\\tMiB\\n"


def table(folder: Path, lines: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Of a benchmark that prints these lines in its first part, on a machine without valgrind."""
    bench = folder / "bench"
    bench.write_text(f"#!/bin/sh\n[ $1 != segment ] || printf '{lines}'\n")
    bench.chmod(0o755)
    command = [sys.executable, ROOT / "tools/stack_bench.py", *options, bench]
    environment = {"PATH": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_figures_of_both_ratios_and_bars(tmp_path: Path) -> None:
    done = table(tmp_path, BOTH)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["ns", "100", "400", "0.25"] in rows
    assert any("12.5" in row and row[-3:] == [">=", "10:", "met"] for row in rows)
    assert "a list" in done.stdout
    assert "valgrind is not installed" in done.stderr


def test_without_lwip_it_says_so(tmp_path: Path) -> None:
    done = table(tmp_path, ALONE)
    assert "built without lwIP" in done.stderr
    assert "<= 1,024: missed" in done.stdout
    assert "a list" not in done.stdout


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_usage(arguments: list[str]) -> None:
    command = [sys.executable, ROOT / "tools/stack_bench.py", *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_a_part_of_a_report(tmp_path: Path) -> None:
    done = table(tmp_path, ALONE, "--save", str(tmp_path / "stack.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "stack.json").read_text())
    assert found["figures"] == {"segment.usnet.ns": 100, "memory 1000000.usnet.MiB": 2000}
    assert found["text"] + "\n" == done.stdout
    (aim,) = found["aims"]
    assert (aim["figure"], aim["found"], aim["sign"], aim["bar"]) == (
        "memory of 1,000,000, both ends, MiB", 2000, "at most", 1024)  # fmt: skip
    assert not aim["is_reached"]
