"""usnet-bench against usnet-serve: every measurement, as short as it can be, runs to its end and leaves nothing."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import psutil
import pytest
from support.privilege import may_look_into_processes, needs_tap
from support.server import command

SHORT = ["--duration", "0.3", "--warmup", "0.1", "--connections", "8", "--rounds", "1"]


def bench(*options: str) -> Any:
    done = subprocess.run([command("usnet-bench"), *options, "--json"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert _servers() == []
    return json.loads(done.stdout)


def _servers() -> list[str]:
    """Processes of servers that usnet-bench started."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if "usnet_framework.bench.handlers" in line]


def test_compare_in_all_layouts() -> None:
    servers = ["usnet-inline", "usnet-split", "usnet-split-2"]
    result = bench("compare", *SHORT, "--servers", ",".join(servers), "--base", "usnet-inline", "--verify")
    assert [row["name"] for row in result["samples"]] == servers
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert any(note.startswith("usnet-split-2 has cores ") for note in result["notes"])


@needs_tap
@pytest.mark.parametrize(
    "load", [[], ["--connect"], ["--connections", "2", "--size", "1048576"]], ids=["echo", "connect", "bulk"]
)
def test_compare_over_tap(load: list[str]) -> None:
    servers = ["epoll-c", "usnet-tap-inline", "usnet-tap-split"]
    options = ["--servers", ",".join(servers), "--base", "epoll-c", "--network", "veth", "--verify"]
    result = bench("compare", *SHORT, *options, *load)
    assert [row["name"] for row in result["samples"]] == servers
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert any("usnet-tap-split: over a TAP interface" in note for note in result["notes"])


@needs_tap
def test_the_ceiling_over_tap() -> None:
    options = ["--servers", "mirror-tap", "--base", "mirror-tap", "--network", "veth", "--verify"]
    result = bench("compare", *SHORT, *options)
    assert result["samples"][0]["throughput"] > 0


@pytest.mark.parametrize("process", ["worker", "network"])
def test_kill(process: str) -> None:
    result = bench("kill", "--process", process, "--kills", "3", "--pause", "0.2")
    assert len(result["milliseconds"]) == 3
    assert 0 < result["median_ms"] <= result["p99_ms"]


@may_look_into_processes
def test_memory() -> None:
    result = bench("memory", "--connections", "300", "--shards", "2")
    costs = {cost["part"]: cost for cost in result["costs"]}
    assert {"supervisor", "keeper", "network", "worker", "spare", "segments", "all"} <= costs.keys()
    assert costs["segments"]["loaded_bytes"] > 0
    assert costs["worker"]["idle_bytes"] > 2 * (1 << 20)  # two Python processes


@may_look_into_processes
def test_memory_without_the_permission_is_one_line() -> None:
    program = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", command("usnet-bench")]
    options = ["memory", "--connections", "300", "--shards", "1"]
    done = subprocess.run([*program, *options], capture_output=True, text=True, timeout=110)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith("processes are closed to others of their user; run it as root")
    assert _servers() == []


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_scrape(layout: str) -> None:
    result = bench("scrape", *SHORT, "--layout", layout)
    assert [row["name"] for row in result["samples"]] == ["not scraped", "scraped"]
    assert result["scrapes"] >= 1


@pytest.mark.parametrize("backend", ["kernel", pytest.param("tap", marks=needs_tap)])
def test_reload(backend: str) -> None:
    result = bench("reload", *SHORT, "--backend", backend, "--rate", "200", "--longest", "0.2")
    assert [one["name"] for one in result["windows"]] == ["quiet", "reloading"]
    assert result["seen"]["reloads"] >= 1
    assert result["seen"]["looks"] > 0
    assert result["companions"]["answers"]["wait"] > 0
    assert result["companions"]["incidents"] == []
