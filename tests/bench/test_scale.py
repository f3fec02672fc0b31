"""usnet-bench scale as a program: short runs on this machine, whatever it is, and what they leave."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.privilege import needs_network_namespaces, needs_tap, needs_xdp
from support.server import WITH_THE_TEST, command, wait

from usnet_framework.bench.netns import PREFIX, namespaces

SHORT = ["--rounds", "1", "--duration", "1", "--warmup", "0.1", "--connections", "16"]
POINT = {"backend", "layout", "workers", "size", "connections", "queues"}
COSTS = {
    "throughput", "p50_us", "p99_us", "server_user", "server_system", "server_softirq", "load_user", "load_system",
    "load_softirq", "network", "worker", "rest", "generator", "switches", "wakes", "crossed", "spread", "steal",
    "others", "server_busy", "load_busy",
}  # fmt: skip


def scale(*options: str) -> subprocess.CompletedProcess[str]:
    """It has ended, and so have its namespaces."""
    line = [command("usnet-bench"), "scale", *SHORT, *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        output, errors = process.communicate(timeout=110)
    assert not [name for name in namespaces() if name.startswith(f"{PREFIX}{process.pid}-")]
    return subprocess.CompletedProcess(line, process.returncode, output, errors)


def measured(*options: str) -> Any:
    done = scale(*options, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_schema(result: Any) -> None:
    assert result.keys() == {"machine", "setup", "notes", "summaries", "laws", "samples"}
    assert result["setup"].keys() == {"sides", "load", "rounds", "poll", "network"}
    assert result["setup"]["sides"].keys() == {"server", "load"}
    for sample in result["samples"]:
        assert sample.keys() == {"point", "round", "costs"}
    for row in result["summaries"]:
        assert row.keys() == {"point", "has_room", "runs", "dropped", "costs", "growth", "efficiency"}
        assert row["runs"] + row["dropped"] == 1
    for one in (*result["samples"], *result["summaries"]):
        assert one["point"].keys() == POINT
        assert one["costs"].keys() == COSTS


def test_kernel_sockets_over_loopback() -> None:
    result = measured("--network", "loopback", "--backends", "kernel", "--queues", "2", "--workers", "2")
    check_schema(result)
    points = [(one["point"]["layout"], one["point"]["workers"], one["point"]["queues"]) for one in result["samples"]]
    assert points == [("inline", 1, 2), ("split", 2, 2)]
    for one in result["samples"]:
        costs = one["costs"]
        assert costs["throughput"] > 0
        assert costs["worker"] > 0
        assert (costs["network"] > 0) == (one["point"]["layout"] == "split")
        assert costs["generator"] > 0
        assert 1 <= costs["spread"] <= 2
        assert costs["crossed"] is None  # the kernel's packets are not ours to count


@needs_network_namespaces
@pytest.mark.parametrize(
    ("backend", "layout"),
    [
        ("kernel", "inline"),
        pytest.param("tap", "split", marks=needs_tap),
        pytest.param("afxdp", "inline", marks=needs_xdp),
    ],
)
def test_one_and_two_queues(backend: str, layout: str) -> None:
    result = measured("--backends", backend, "--layouts", layout, "--queues", "1,2")
    check_schema(result)
    assert all(sample["costs"]["throughput"] > 0 for sample in result["samples"])
    one, two = (sample["costs"]["crossed"] for sample in result["samples"])
    assert one == (None if backend == "kernel" else 0)
    if backend == "afxdp":  # a packet has one chance in two to come on the queue of its owner
        assert two > 10_000


def test_text_table_and_picture(tmp_path: Path) -> None:
    files = ["--csv", str(tmp_path / "table.csv"), "--plot", str(tmp_path / "picture.svg")]
    done = scale("--network", "loopback", "--backends", "kernel", "--layouts", "inline", "--queues", "1", *files)
    assert done.returncode == 0, done.stderr
    assert "1/1 kernel inline, 60 B, 16 c, 1 q" in done.stderr
    assert "0:00 left" in done.stderr
    headers = [line.split() for line in done.stdout.splitlines() if line.startswith("point ")]
    assert [header[1] for header in headers] == ["processes", "processes", "processes"]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 2
    assert (tmp_path / "picture.svg").read_text().startswith("<?xml")


@needs_network_namespaces
def test_a_signal_leaves_nothing_behind() -> None:
    line = [command("usnet-bench"), "scale", "--backends", "kernel", "--duration", "60"]
    with subprocess.Popen([*WITH_THE_TEST, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait("the load runs", lambda: any("--core" in line for line in command_lines(process.pid)))
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, b""), errors
    assert not [name for name in namespaces() if name.startswith(f"{PREFIX}{process.pid}-")]
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive


def command_lines(process: int) -> list[list[str]]:
    """Of all that it started."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found.append(child.cmdline())
    return found


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--backends", "netmap"], 2, "'netmap' is none of kernel, tap, afxdp"),
        (["--queues", "1,0"], 2, "--queues"),
        (["--server-cores", "4000"], 2, "core 4000 may not be used here"),
        (["--network", "loopback"], 2, "tap needs an interface; use --backends kernel"),
        (["--plot", "picture"], 2, "the name of the file says its format"),
        (["--csv", "/nowhere/table.csv"], 3, "/nowhere/table.csv: cannot be written"),
    ],
)
def test_bad_input_is_one_line(options: list[str], code: int, text: str) -> None:
    done = scale(*options)
    assert done.returncode == code
    assert done.stdout == ""
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
