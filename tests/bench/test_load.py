"""The load generator against servers that do it right, and against none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from support.echoes import (
    ASYNCIO_ECHO,
    C_ECHO,
    C_EXCHANGE,
    UVLOOP_ECHO,
    UVLOOP_EXCHANGE,
    Misbehaving,
    echo_server,
    load,
)
from support.server import free_port, wait

from usnet_framework.bench.load import program


@pytest.fixture
def c_echo() -> Iterator[str]:
    with echo_server(C_ECHO) as (address, _):
        yield address


@pytest.mark.parametrize("command", [C_ECHO, ASYNCIO_ECHO, UVLOOP_ECHO], ids=["c", "asyncio", "uvloop"])
@pytest.mark.parametrize("size", [16, 60, 5000, 300_000], ids=str)
def test_every_peer_echoes(command: Sequence[str], size: int) -> None:
    """Small ones, ones that come in pieces, ones that no socket buffer holds."""
    with echo_server(command) as (address, _):
        options = ["--verify", "--connections", "8", "--pipeline", "4", "--duration", "0.2", "--drain", "20"]
        code, result = load(address, *options, "--size", str(size))
    messages = result["messages"]
    assert code == 0, result["incidents"]
    assert messages["answered"] == messages["sent"] >= 32
    assert result["bytes_received"] == result["bytes_sent"] == messages["sent"] * size
    assert result["connections"]["open"] == 8


@pytest.mark.parametrize("command", [C_EXCHANGE, UVLOOP_EXCHANGE], ids=["c", "uvloop"])
@pytest.mark.parametrize(("size", "answer"), [(16, 16), (16, 3_000_000), (3_000_000, 16), (70_000, 40)], ids=str)
def test_a_load_that_goes_one_way(command: Sequence[str], size: int, answer: int) -> None:
    seconds = "1" if max(size, answer) > 1_000_000 else "0.2"  # in which each connection has filled its pipeline
    with echo_server(command) as (address, _):
        options = ["--connections", "4", "--pipeline", "3", "--duration", seconds, "--drain", "20"]
        code, result = load(address, *options, "--size", str(size), "--answer", str(answer))
    messages = result["messages"]
    assert code == 0, result["incidents"]
    assert messages["answered"] == messages["sent"] >= 12
    assert messages["surplus"] == 0
    assert result["bytes_sent"] == messages["sent"] * size
    assert result["bytes_received"] == messages["sent"] * answer


def test_closed_loop_measures_without_warm_up(c_echo: str) -> None:
    code, result = load(c_echo, "--connections", "4", "--duration", "0.2", "--warmup", "0.2")
    measured = round(result["throughput"] * result["duration_s"])
    assert code == 0
    assert 0 < measured < result["messages"]["answered"]
    assert result["latency_ns"]["count"] == measured
    assert 0 < result["latency_ns"]["p50"] <= result["latency_ns"]["p99"] <= result["latency_ns"]["max"]


def test_rate_mode_keeps_its_timetable(c_echo: str) -> None:
    options = ["--mode", "rate", "--rate", "2000", "--connections", "3", "--duration", "0.5", "--verify"]
    code, result = load(c_echo, *options, "--drain", "20")
    assert code == 0, result["incidents"]
    assert abs(result["messages"]["sent"] - 1000) <= 1
    assert abs(result["latency_ns"]["count"] - 1000) <= 1


def test_answers_by_time_and_latencies_by_bucket_are_those_that_were_measured(c_echo: str) -> None:
    before_ns = time.monotonic_ns()
    options = ["--connections", "3", "--duration", "0.25", "--warmup", "0.1", "--every", "20", "--histogram"]
    code, result = load(c_echo, *options)
    timeline, buckets = result["timeline"], result["histogram_ns"]
    assert code == 0
    assert timeline["every_ms"] == 20
    assert before_ns + 100_000_000 <= timeline["start_ns"] <= time.monotonic_ns() - 250_000_000
    assert len(timeline["answers"]) == 13  # the last one is half as long
    assert sum(timeline["answers"]) == sum(count for _, count in buckets) == result["latency_ns"]["count"] > 0
    edges = [edge for edge, _ in buckets]
    assert edges == sorted(set(edges))
    assert edges[-1] >= result["latency_ns"]["max"]


def test_nobody_gets_what_was_not_asked_for(c_echo: str) -> None:
    _, result = load(c_echo, "--duration", "0.1")
    assert not {"timeline", "histogram_ns"} & result.keys()


@pytest.mark.parametrize("mode", [["--mode", "closed"], ["--mode", "rate", "--rate", "2000"]], ids=["closed", "rate"])
def test_a_connection_that_ends_is_opened_anew(mode: list[str]) -> None:
    """The server resets the first after two answers, and the next at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())

        def serve() -> None:
            for answers in (2, 0, sys.maxsize):
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with connection, contextlib.suppress(ConnectionError):
                    for _ in range(answers):
                        if not (data := connection.recv(60)):
                            break
                        connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        code, result = load(address, "--duration", "1", "--reconnect", *mode)
        thread.join()
    assert code == 0
    assert result["connections"]["opened"] in (2, 3)  # one that is reset before it is looked at was never open
    assert result["connections"]["open"] == 1
    assert result["messages"]["answered"] > 2


def test_a_server_that_is_gone_is_tried_again(tmp_path: Path) -> None:
    """Nobody listens between the two servers."""
    with echo_server(C_ECHO) as (address, first):
        command = [program("usnet-load"), "--target", address, "--json", "--reconnect", "--connections", "2"]
        with subprocess.Popen([*command, "--duration", "60"], stdout=subprocess.PIPE, text=True) as generator:
            wait("it has connected", lambda: _sockets(generator.pid) == 2)
            first.kill()
            first.wait()
            with echo_server(("usnet-echo-epoll", address)) as (_, second):
                wait("it has connected again", lambda: _sockets(second.pid) == 3)
                generator.send_signal(signal.SIGTERM)
                output, _ = generator.communicate(timeout=30)
    connections = json.loads(output)["connections"]
    assert generator.returncode == 0
    assert connections["open"] == 2
    assert connections["opened"] >= 4  # a process that is killed may take connections until its last socket is closed


def test_a_refused_connection_is_tried_again_while_another_is_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        command = [program("usnet-load"), "--target", "{}:{}".format(*address), "--json", "--reconnect"]
        command += ["--connections", "2", "--duration", "60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
            busy, other = (listener.accept()[0] for _ in range(2))

            def echo() -> None:
                with busy, contextlib.suppress(ConnectionError):
                    while data := busy.recv(60):
                        busy.sendall(data)

            thread = threading.Thread(target=echo)
            thread.start()
            listener.close()
            other.close()
            wait("it was refused", lambda: _sockets(generator.pid) == 1)
            with socket.create_server(address) as again:
                again.settimeout(30)
                again.accept()[0].close()
            generator.send_signal(signal.SIGTERM)
            output, _ = generator.communicate(timeout=30)
            thread.join()
    assert json.loads(output)["connections"]["opened"] >= 3


def test_connect_mode_opens_a_connection_per_echo(c_echo: str) -> None:
    code, result = load(c_echo, "--mode", "connect", "--connections", "4", "--duration", "0.2", "--verify")
    assert code == 0, result["incidents"]
    assert result["connections"]["opened"] == result["messages"]["answered"] > 4


def test_connect_rate_and_source_addresses() -> None:
    seen: set[str] = set()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with listener:
            for _ in range(12):
                connection, peer = listener.accept()
                seen.add(peer[0])
                connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    address = "{}:{}".format(*listener.getsockname())
    _, result = load(address, "--connections", "12", "--duration", "0.1", "--idle", "--source-ips", "127.9.0.0/29")
    thread.join()
    assert seen == {f"127.9.0.{host}" for host in range(1, 7)}
    assert result["connections"]["opened"] == 12


def test_connections_are_opened_at_the_rate_asked_for(c_echo: str) -> None:
    """20 connections at 100 per second: the last is not opened before 190 ms have gone."""
    before = time.monotonic()
    _, result = load(c_echo, "--connections", "20", "--connect-rate", "100", "--duration", "0")
    assert result["connections"]["opened"] == 20
    assert time.monotonic() - before >= 0.19


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "echo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def echo() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        code, result = load(f"unix:{path}", "--verify", "--duration", "0.1")
        thread.join()
    assert code == 0
    assert result["target"] == f"unix:{path}"
    assert result["messages"]["answered"] > 0


def test_idle_holds_until_told_and_counts_what_is_left() -> None:
    """One of three connections is closed by the peer."""
    server = Misbehaving(60, lambda number, message: message)
    with server as address:
        command = [program("usnet-load"), "--idle", "--target", address, "--connections", "3"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding      3 connections\n"
            wait("three connections were accepted", lambda: len(server.connections) == 3)
            server.connections[1].shutdown(socket.SHUT_RDWR)
            wait("the load generator noticed", lambda: _sockets(process.pid) == 2)
            process.send_signal(signal.SIGTERM)
            report = process.stdout.read()
        assert process.returncode == 0
    assert "3 opened, 0 failed, 0 reset, 1 closed by the peer, 2 open at the end" in report


def _sockets(process: int) -> int:
    """A descriptor may be closed while we look."""
    links = []
    for entry in os.scandir(f"/proc/{process}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry.path))
    return sum(link.startswith("socket:") for link in links)


def test_a_peer_that_dies_resets_every_connection() -> None:
    with echo_server(C_ECHO) as (address, process):
        command = [program("usnet-load"), "--target", address, "--json", "--verify", "--connections", "5"]
        with subprocess.Popen([*command, "--duration", "30"], stdout=subprocess.PIPE, text=True) as generator:
            wait("it has connected", lambda: _sockets(generator.pid) == 5)
            process.kill()
            process.wait()
            generator.send_signal(signal.SIGTERM)
            output, _ = generator.communicate(timeout=30)
    assert generator.returncode == 1
    connections = json.loads(output)["connections"]
    assert connections["reset"] + connections["closed_by_peer"] == connections["opened"]
    assert connections["open"] == 0


def test_nobody_listens() -> None:
    command = [program("usnet-load"), "--target", f"127.0.0.1:{free_port()}", "--duration", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "Connection refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_waits_for_a_server_that_comes_up_late() -> None:
    port = free_port()
    command = [program("usnet-load"), "--target", f"127.0.0.1:{port}", "--wait", "30", "--duration", "0.01", "--idle"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait("it was refused and waits", lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING)
        with socket.create_server(("127.0.0.1", port)) as listener:
            connection, _ = listener.accept()
            process.wait(30)
            connection.close()
    assert process.returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--target", "127.0.0.1"],
        ["--target", "127.0.0.1:99999"],
        ["--target", "127.0.0.1:1", "--size", "0"],
        ["--target", "127.0.0.1:1", "--connections", "1.5"],
        ["--target", "127.0.0.1:1", "--mode", "open"],
        ["--target", "127.0.0.1:1", "--mode", "rate"],
        ["--target", "127.0.0.1:1", "--verify", "--size", "15"],
        ["--target", "127.0.0.1:1", "--source-ips", "127.0.0.1"],
        ["--target", "127.0.0.1:1", "--no-such-option"],
        ["--target", "127.0.0.1:1", "stray"],
        ["--target", "127.0.0.1:1", "--core", "4000"],
        ["--target", "127.0.0.1:1", "--reconnect", "--verify"],
        ["--target", "127.0.0.1:1", "--reconnect", "--mode", "connect"],
        ["--target", "127.0.0.1:1", "--every", "1", "--duration", "2000"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(options: list[str]) -> None:
    done = subprocess.run([program("usnet-load"), *options], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
