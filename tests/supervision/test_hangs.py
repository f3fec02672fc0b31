"""Workers and network processes that hang are named, replaced, and passed by; those that wait are left alone."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from support.server import Server, Worker

IN_TESTS = ("--app-dir", "tests")
QUICK = ("--queues", "1", "--callback-timeout", "1")
SPIN = "while (x := 1 - x) < 2: pass  # noqa: E701"
SOURCE = Path(__file__).parents[1] / "support" / "hanging.py"


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(len(text))


def line_of(text: str) -> int:
    (line,) = (number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if line.strip() == text)
    return line


def hung(server: Server) -> float:
    return server.metrics()["usnet_workers_hung_total"]


@pytest.mark.parametrize(("word", "line"), [(b"spin", SPIN), (b"sleep", "time.sleep(3600)")])
def test_a_worker_that_hangs_is_named_and_replaced(word: bytes, line: str) -> None:
    with Server("support.hanging:Hangs", *IN_TESTS, *QUICK) as server:
        with server.connect() as other, server.connect() as client:
            assert ask(other, b"before") == b"before"
            client.sendall(word)
            server.wait("it is noticed", lambda: "worker 0.0 hangs" in server.log)
            assert ask(other, b"after") == b"after"  # P2
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert f"support/hanging.py:{line_of(line)} in " in server.log
            assert "on_data of connection" in server.log
            assert "Current thread" in server.log
            assert hung(server) == 1
        server.wait("another worker serves", lambda: server.get("/readyz")[0] == 200)


@pytest.mark.parametrize("word", [b"spin", b"sleep"])
def test_the_event_that_a_worker_hung_in_is_quarantined_at_once(word: bytes) -> None:
    with Server("support.hanging:Hangs", *IN_TESTS, *QUICK) as server, server.connect() as client:
        client.sendall(word)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        server.wait("it is kept", lambda: [*(server.folder / "quarantine").glob("*.json")])
        (kept,) = (server.folder / "quarantine").glob("*.bin")
        assert kept.read_bytes() == word
        assert (hung(server), server.metrics()["usnet_poisoned_total"]) == (1, 1)


def test_a_worker_that_is_stopped_hangs() -> None:
    with Server("support.hanging:Hangs", *IN_TESTS, *QUICK) as server, server.connect() as client:
        assert ask(client, b"before") == b"before"
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        assert ask(client, b"after") == b"after"
        assert "worker 0.0 hangs" in server.log
        assert "the process is stopped" in server.log


def test_a_task_that_hangs_is_named() -> None:
    with Server("support.hanging:HangsInTask", *IN_TESTS, *QUICK) as server, server.connect() as client:
        client.sendall(b"spin")
        server.wait("it is noticed", lambda: "worker 0.0 hangs" in server.log)
        assert f"support/hanging.py:{line_of(SPIN)} in spin" in server.log


def test_a_worker_that_hangs_as_it_leaves_is_named() -> None:
    with Server("support.hanging:HangsAsItLeaves", *IN_TESTS, *QUICK, "--graceful-timeout", "60") as server:
        (worker,) = server.workers()
        server.ask("reload")
        server.wait("it is noticed", lambda: "worker 0.0 hangs" in server.log)
        assert f"support/hanging.py:{line_of('time.sleep(7200)')} in on_stop" in server.log
        server.wait("it is gone", lambda: not psutil.pid_exists(worker.pid))
        assert hung(server) == 1


def test_what_waits_does_not_hang() -> None:
    with Server("support.hanging:Waits", *IN_TESTS, *QUICK) as server, server.connect() as client:
        assert ask(client, b"slowly") == b"slowly"
        assert hung(server) == 0


def test_one_that_hangs_is_reported_and_left_alone() -> None:
    options = ("--callback-kill", "off")
    with Server("support.hanging:Hangs", *IN_TESTS, *QUICK, *options) as server, server.connect() as client:
        (worker,) = server.workers()
        client.sendall(b"held")
        server.wait("it is not ready", lambda: server.get("/readyz")[0] == 503)
        assert "worker 0.0 hangs: on_data of connection" in server.get("/readyz")[1]
        assert server.get("/healthz")[0] == 200
        (shown,) = (row for row in server.ask("doctor") if not row["ok"] and row["what"] == "worker 0.0")
        assert shown["in_force"] == "hangs"
        assert server.status()["shards"][0]["workers"][0]["hangs"] >= 1
        assert server.metrics()["usnet_worker_hangs"] == 1
        os.kill(worker.pid, signal.SIGUSR1)
        assert client.recv(4) == b"held"
        server.wait("it is ready again", lambda: server.get("/readyz")[0] == 200)
        assert server.workers() == [worker]
        assert "worker goes on after it hung" in server.log


def test_zero_watches_no_worker() -> None:
    options = ("--queues", "1", "--callback-timeout", "0")
    with Server("support.hanging:Hangs", *IN_TESTS, *options) as server, server.connect() as client:
        assert ask(client, b"slow") == b"slow"
        assert hung(server) == 0


def test_new_connections_go_to_workers_that_make_progress() -> None:
    options = ("--queues", "1", "--workers", "2", "--callback-kill", "off", "--callback-timeout", "1")
    with Server("support.hanging:Hangs", *IN_TESTS, *options) as server, server.connect() as client:
        client.sendall(b"sleep")
        server.wait("it is noticed", lambda: "hangs" in server.log)
        for _ in range(40):
            with server.connect() as other:
                assert ask(other, b"served") == b"served"


def test_inline_a_worker_that_hangs_is_replaced() -> None:
    with Server("support.hanging:Hangs", *IN_TESTS, *QUICK, "--layout", "inline") as server:
        with server.connect() as client:
            client.sendall(b"spin")
            server.wait("it is noticed", lambda: "worker 0.0 hangs" in server.log)
        server.wait("another worker serves", lambda: server.get("/readyz")[0] == 200)
        with server.connect() as client:
            assert ask(client, b"served") == b"served"


def test_a_network_process_that_is_stopped_is_replaced() -> None:
    with Server("support.hanging:Echo", *IN_TESTS, "--queues", "1") as server, server.connect() as client:
        assert ask(client, b"before") == b"before"
        (engine,) = server.network_pids()
        os.kill(engine, signal.SIGSTOP)
        assert ask(client, b"after") == b"after"
        server.wait("another is told", lambda: server.network_pids() not in ([], [engine]))
        assert "network process makes no progress" in server.log


def test_a_stopped_keeper_keeps_nobody_waiting() -> None:
    with Server("support.hanging:Echo", *IN_TESTS, "--queues", "1") as server:
        keeper = server.status()["shards"][0]["keeper_pid"]
        (engine,) = server.network_pids()
        os.kill(keeper, signal.SIGSTOP)
        os.kill(engine, signal.SIGSTOP)
        server.wait("the shard is rebuilt", lambda: server.status()["shards"][0]["rebuilds"] == 1)
        server.wait("it serves", lambda: server.get("/readyz")[0] == 200)
        with server.connect() as client:
            assert ask(client, b"served") == b"served"
        assert engine not in [process.pid for process in server.processes()]


def test_idle_processes_do_not_hang() -> None:
    with Server("support.hanging:Echo", *IN_TESTS, *QUICK) as server:
        before: tuple[list[Worker], list[int]] = (server.workers(), server.network_pids())
        time.sleep(4)
        assert (server.workers(), server.network_pids()) == before


@pytest.mark.parametrize("layout", ["split", "inline"])
@pytest.mark.parametrize("poll", ["busy", "adaptive"])
def test_processes_that_never_sleep_do_not_hang(layout: str, poll: str) -> None:
    options = ("--poll", poll, "--layout", layout)
    with Server("support.hanging:Echo", *IN_TESTS, *QUICK, *options) as server, server.connect() as client:
        before = server.workers()
        assert ask(client, b"before") == b"before"
        time.sleep(2.5)
        assert ask(client, b"after") == b"after"
        assert server.workers() == before
