"""usnet-bench compare as a program: what it prints, and what it leaves."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import suppress

import psutil
import pytest
from support.privilege import needs_network_namespaces
from support.server import WITH_THE_TEST, command, wait

from usnet_framework.bench.netns import PREFIX, namespaces

SHORT = ["--duration", "0.2", "--warmup", "0.1", "--connections", "8"]


def compare(*options: str) -> subprocess.CompletedProcess[str]:
    line = [command("usnet-bench"), "compare", *SHORT, *options]
    return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)


def test_one_round_of_two_peers_over_loopback() -> None:
    done = compare(
        "--servers", "asyncio,epoll-c", "--base", "asyncio", "--rounds", "1", "--network", "loopback", "--json",
        *("--duration", "1"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["network"] == "loopback"
    assert [row["name"] for row in result["summaries"]] == ["asyncio", "epoll-c"]
    assert [row["name"] for row in result["samples"]] == ["asyncio", "epoll-c"]
    assert all(row["throughput"] > 0 for row in result["samples"])
    assert result["machine"]["processor"]


@needs_network_namespaces
def test_the_table_over_a_veth_pair() -> None:
    done = compare("--servers", "epoll-c", "--base", "epoll-c", "--rounds", "2", "--network", "veth", "--verify")
    assert done.returncode == 0, done.stderr
    assert "veth pair between two network namespaces" in done.stdout
    assert "steal:" in done.stdout
    header, row = done.stdout.splitlines()[-2:]
    assert header.split()[:2] == ["server", "median/s"]
    assert row.startswith("epoll-c")
    assert "1.000" in row


def test_a_new_connection_for_each_message() -> None:
    done = compare(
        "--servers", "epoll-c", "--base", "epoll-c", "--rounds", "1", "--network", "loopback", "--connect", "--verify"
    )
    assert done.returncode == 0, done.stderr
    assert "a new connection for each message" in done.stdout


def test_a_bar_and_whether_it_was_reached() -> None:
    servers = ["--servers", "asyncio,epoll-c", "--base", "asyncio", "--rounds", "1", "--network", "loopback"]
    done = compare(*servers, "--aim", "epoll-c:rate:1", "--aim", "epoll-c:ratio:1000")
    assert done.returncode == 0, done.stderr
    reached, missed = done.stdout.splitlines()[-2:]
    assert reached.startswith("aim: epoll-c, messages/s: ")
    assert reached.endswith("at least 1: reached")
    assert missed.endswith("at least 1,000: missed")


def test_what_a_message_takes_at_a_fixed_rate() -> None:
    servers = ["--servers", "epoll-c,asyncio", "--base", "epoll-c", "--rounds", "1", "--network", "loopback"]
    done = compare(*servers, "--fixed", "--duration", "1", "--aim", "epoll-c:cpu/asyncio:1000")
    assert done.returncode == 0, done.stderr
    *_, title, _, header, first, second, aim = done.stdout.splitlines()
    assert title.startswith("what a message takes at ")
    assert header.split()[:5] == ["server", "messages/s", "server", "core", "us"]
    assert [row.split()[0] for row in (first, second)] == ["epoll-c", "asyncio"]
    assert aim.startswith("aim: epoll-c, server core per message at the fixed rate, x asyncio: ")


@pytest.mark.parametrize("way", ["up", "down"])
def test_bytes_that_go_one_way(way: str) -> None:
    servers = ["--servers", "usnet-inline,asyncio,epoll-c", "--base", "epoll-c"]
    done = compare(*servers, "--rounds", "1", "--network", "loopback", "--way", way, "--size", "100000")
    assert done.returncode == 0, done.stderr
    assert f"8 connections, 100000 bytes, {way}, pipeline 1" in done.stdout
    assert f"Gbit/s {way}" in done.stdout


def _command_lines(parent: int) -> list[list[str]]:
    lines = []
    for child in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            lines.append(child.cmdline())
    return lines


@needs_network_namespaces
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(number: signal.Signals) -> None:
    options = ["--servers", "epoll-c", "--base", "epoll-c", "--network", "veth"]
    line = [*WITH_THE_TEST, command("usnet-bench"), "compare", *options]
    with subprocess.Popen([*line, "--duration", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait("the load runs", lambda: any("--connections" in line for line in _command_lines(process.pid)))
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == b""
    assert not [name for name in namespaces() if name.startswith(f"{PREFIX}{process.pid}-")]
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--servers", "nginx"], 2, "unknown server 'nginx'"),
        (["--servers", "epoll-c", "--base", "uvloop"], 2, "not one of the servers compared"),
        (["--servers", "uvloop,lwip-tap", "--size", "65536", "--connections", "12"], 2, "overflow the interface"),
        (["--load-core", "4000"], 2, "core 4000 may not be used here"),
        (["--rounds", "0"], 2, "--rounds"),
        (["--connect", "--rate", "10"], 2, "not allowed with"),
        (["--aim", "uvloop:speed:1"], 2, "it is SERVER:FIGURE:BAR"),
        (["--aim", "nobody:rate:1"], 2, "'nobody' is not one of the servers compared"),
        (["--rps", "--network", "loopback"], 2, "--rps needs network namespaces"),
        (["--no-segmentation", "--network", "loopback"], 2, "--no-segmentation needs network namespaces"),
        (["--fixed", "--rate", "10"], 2, "--fixed: chooses its rate"),
        (["--aim", "uvloop:cpu:1"], 2, "with --fixed alone"),
        (["--way", "down", "--size", "8"], 2, "messages have 16 bytes at least"),
        (["--servers", "usnet-tap-inline", "--base", "usnet-tap-inline", "--network", "loopback"], 2, "not loopback"),
        (["--servers", "mirror-afxdp", "--base", "mirror-afxdp", "--network", "loopback"], 2, "not loopback"),
    ],
)
def test_wrong_usage(options: list[str], code: int, text: str) -> None:
    done = compare(*options)
    assert done.returncode == code
    assert text in done.stderr.splitlines()[-1]


def test_the_help_says_what_cannot_be_compared() -> None:
    text = " ".join(compare("--help").stdout.split())
    assert "with a stack of their own, as root: usnet-tap-inline, usnet-tap-split, usnet-afxdp-inline" in text
    assert "A server on kernel sockets cannot be measured there" in text


def test_echo_hands_over_to_the_load_generator() -> None:
    line = [command("usnet-bench"), "echo", "tcp://127.0.0.1:1", "--connections", "2"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("usnet-load: 127.0.0.1:1: no connection could be opened")
