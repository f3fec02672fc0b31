"""usnet-bench against usnet-serve: every measurement, as short as it can be, runs to its end and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from typing import Any

import psutil
import pytest
from support.privilege import may_look_into_processes, needs_network_namespaces, needs_tap, needs_xdp
from support.server import command

SHORT = ["--duration", "1", "--warmup", "0.1", "--connections", "8", "--rounds", "1"]


def bench(*options: str) -> Any:
    done = finished(command("usnet-bench"), *options, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def finished(*line: str) -> subprocess.CompletedProcess[str]:
    """A program that has ended, as has everything that it started."""
    mark = {"STARTED_BY": uuid.uuid4().hex}  # others may run it as well
    done = subprocess.run(line, env=os.environ | mark, capture_output=True, text=True, timeout=110)
    assert _marked(mark) == []
    return done


def _marked(mark: dict[str, str]) -> list[str]:
    """Processes that show it in their environment: network processes and peers, not those that set their title."""
    found = psutil.process_iter(["cmdline", "environ"])
    return [" ".join(one.info["cmdline"]) for one in found if mark.items() <= (one.info["environ"] or {}).items()]


def test_compare_in_all_layouts() -> None:
    servers = ["usnet-inline", "usnet-split", "usnet-split-2"]
    result = bench("compare", *SHORT, "--servers", ",".join(servers), "--base", "usnet-inline", "--verify")
    assert [row["name"] for row in result["samples"]] == servers
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert any(note.startswith("usnet-split-2 has cores ") for note in result["notes"])


@needs_tap
@pytest.mark.parametrize(
    "load", [[], ["--connect"], ["--connections", "2", "--size", "65536"]], ids=["echo", "connect", "bulk"]
)
def test_compare_over_tap(load: list[str]) -> None:
    servers = ["epoll-c", "usnet-tap-inline", "usnet-tap-split"]
    options = ["--servers", ",".join(servers), "--base", "epoll-c", "--network", "veth", "--verify"]
    result = bench("compare", *SHORT, *options, *load)
    assert [row["name"] for row in result["samples"]] == servers
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert any("usnet-tap-split: over a TAP interface" in note for note in result["notes"])


@needs_network_namespaces
@needs_xdp
def test_compare_over_afxdp_with_what_a_message_takes() -> None:
    servers = ["epoll-c", "mirror-afxdp", "usnet-afxdp-inline", "usnet-afxdp-split"]
    options = ["--servers", ",".join(servers), "--base", "epoll-c", "--network", "veth", "--verify", "--fixed", "--rps"]
    result = bench("compare", *SHORT, *options, "--duration", "0.5")
    assert [row["name"] for row in result["samples"]] == servers
    assert [row["name"] for row in result["fixed"]["samples"]] == servers
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert all(row["cost"]["wakes"] > 0 for row in result["fixed"]["samples"])
    (note,) = (note for note in result["notes"] if "on an AF_XDP socket" in note)
    assert note.startswith(", ".join(servers[1:]))
    assert note.endswith("by a thread of the kernel on the server's core")


@needs_network_namespaces
@needs_xdp
@pytest.mark.parametrize("load", [["--connect"], ["--connections", "2", "--size", "65536", "--no-segmentation"]])
def test_other_loads_over_afxdp(load: list[str]) -> None:
    servers = ["--servers", "usnet-afxdp-inline", "--base", "usnet-afxdp-inline"]
    result = bench("compare", *SHORT, *servers, "--network", "veth", "--verify", *load)
    assert result["samples"][0]["throughput"] > 0


@needs_network_namespaces
@needs_xdp
def test_flood() -> None:
    result = bench("flood", *SHORT, "--duration", "0.5", "--syns", "2000")
    assert [row["name"] for row in result["samples"]] == ["no flood", "flood past it", "flood at it"]
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert all(one["sent"] > 0 for one in result["floods"].values())


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


def test_latency() -> None:
    result = bench("latency", *SHORT, "--servers", "usnet-inline,epoll-c", "--rate", "500", "--network", "loopback")
    assert [one["name"] for one in result["distributions"]] == ["usnet-inline", "epoll-c"]
    for one in result["distributions"]:
        assert 0 < one["answers"] == sum(count for _, count in one["buckets"])
        assert 0 < one["p50_us"] <= one["p99_us"]


def test_timeline_of_ours_and_of_a_peer() -> None:
    options = ["--network", "loopback", "--rate", "2000", "--duration", "3", "--events", "worker,reload"]
    runs = bench("timeline", *SHORT, *options)["runs"]
    assert [(run["event"], run["server"]) for run in runs] == [
        (event, server) for event in ("worker", "reload") for server in ("usnet", "uvloop")
    ]
    for run in runs:
        assert len(run["answers"]) == 300
        assert run["connections_lost"] == (0 if run["server"] == "usnet" else 8)
        assert any(run["answers"][-100:])
    assert [run["messages_lost"] for run in runs if run["server"] == "usnet"] == [0, 0]


def test_timeline_around_the_death_of_a_network_process() -> None:
    options = ["--network", "loopback", "--rate", "2000", "--events", "network"]
    (run,) = bench("timeline", *SHORT, *options)["runs"]
    assert (run["connections_lost"], run["messages_lost"]) == (0, 0)


def test_modes() -> None:
    result = bench("modes", "--servers", "usnet-inline", "--network", "loopback")
    assert result["facts"]["memory"].endswith(" GiB")
    (layout,) = (one for one in result["servers"]["usnet-inline"] if one["what"] == "layout")
    assert layout["in_force"] == "inline"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["latency", "--connect"], "no --connect, no --verify"),
        (["timeline", "--verify"], "no --connect, no --verify"),
        (["timeline", "--events", "flood"], "'flood' is none of worker, network, reload"),
        (["modes", "--servers", "uvloop"], "uvloop is not ours"),
    ],
)
def test_what_does_not_go_together_is_one_line(options: list[str], text: str) -> None:
    done = finished(command("usnet-bench"), *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert text in line


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
    done = finished(*program, "memory", "--connections", "300", "--shards", "1")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith("processes are closed to others of their user; run it as root")


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
