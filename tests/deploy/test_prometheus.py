"""deploy/prometheus: rules that promtool takes, that fire when they should, and that ask for what the exporter has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from support.observed import MemoryServer
from support.privilege import needs_program
from support.tree import ROOT

from usnet_framework.collector import ServerCollector

FOLDER = ROOT / "deploy/prometheus"
RULES, CASES = FOLDER / "usnet.rules.yml", FOLDER / "usnet.tests.yml"
TOOLS = ROOT / "build/tools"  # of tools/setup.sh


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = TOOLS / "promtool" if (TOOLS / "promtool").exists() else Path("promtool")
    return subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)


@needs_program("promtool", str(TOOLS))
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", RULES.name), ("check", "config", "prometheus.yml"), ("test", "rules", CASES.name)],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def alerts() -> dict[str, str]:
    """The expression of each."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def exported() -> dict[str, set[str]]:
    """The labels of each sample that a server exports."""
    registry = CollectorRegistry()
    registry.register(ServerCollector(MemoryServer(), lambda question: question()))
    found: dict[str, set[str]] = {}
    for line in generate_latest(registry).decode().splitlines():
        if match := re.match(r"(usnet_\w+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def test_alerts_ask_for_what_is_exported() -> None:
    known = exported()
    assert "usnet_ready" in known
    for alert, expression in alerts().items():
        asked = set(re.findall(r"\busnet_\w+", expression))
        assert asked or alert == "UsnetDown"
        assert not asked - known.keys(), f"{alert}: no such metric"
        for labels in re.findall(r"by \((.*?)\)", expression):
            known_labels = set().union(*(known[name] for name in asked)) | {"instance", "job"}
            assert not set(re.findall(r"\w+", labels)) - known_labels, f"{alert}: no such label"


def test_cases_are_about_what_is_exported_and_about_every_alert() -> None:
    text = CASES.read_text()
    series = set(re.findall(r"series: '(usnet_\w+)", text))
    assert series
    assert not series - exported().keys()
    assert {name for name in alerts() if f'alertname="{name}"' in text} == alerts().keys()


def test_dead_rules_are_found() -> None:
    """The check above would see a name that has changed."""
    assert "usnet_reedy" not in exported()
    assert exported()["usnet_worker_restarts_total"] == {"shard", "worker"}
