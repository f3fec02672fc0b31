"""`usnet-bench timeline`: its figures, and the peer's process manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import psutil
import pytest
from support.server import WITH_THE_TEST, wait

from usnet_framework.bench import manager as bench_manager
from usnet_framework.bench import timeline
from usnet_framework.bench.machine import core_times
from usnet_framework.bench.manager import Worker
from usnet_framework.bench.timeline import Run
from usnet_framework.errors import StartupError


def run_of(answers: tuple[int, ...], event_ms: float) -> Run:
    return Run("usnet", "worker", 0, event_ms, 0, 0, 1.0, 0.0, answers)


@pytest.mark.parametrize(
    ("answers", "silent_ms"),
    [
        ((9, 9, 9, 9, 9, 9), 0),
        ((0, 0, 0, 9, 9, 9), 0),  # before it happened
        ((9, 9, 9, 0, 9, 9), 10),  # in the stretch in which it happened
        ((9, 9, 9, 4, 0, 0), 20),
        ((9, 9, 9, 0, 1, 0), 10),
    ],
)
def test_silence_is_counted_from_when_it_happened(answers: tuple[int, ...], silent_ms: int) -> None:
    assert run_of(answers, 35.0).silent_ms(10) == silent_ms


def load_result(start_ns: int) -> dict[str, Any]:
    return {
        "timeline": {"every_ms": 10, "start_ns": start_ns, "answers": [5, 0, 7]},
        "connections": {"reset": 2, "closed_by_peer": 1},
        "messages": {"unanswered": 4},
        "latency_ns": {"max": 3_500_000},
    }


def test_it_happened_at_a_time_of_the_load() -> None:
    found = timeline._run("usnet", "worker", 1, 25_000_000, load_result(10_000_000), core_times())
    assert (found.event_ms, found.connections_lost, found.messages_lost, found.worst_ms) == (15, 3, 4, 3.5)
    assert found.answers == (5, 0, 7)


@pytest.mark.parametrize("event_ns", [9_999_999, 40_000_000])
def test_what_happened_before_or_after_the_load_is_no_result(event_ns: int) -> None:
    with pytest.raises(StartupError, match="the load was not running when it happened"):
        timeline._run("usnet", "worker", 1, event_ns, load_result(10_000_000), core_times())


# The process manager.


@contextmanager
def manager() -> Iterator[tuple[psutil.Process, tuple[str, int]]]:
    line = [*WITH_THE_TEST, sys.executable, "-P", "-m", "usnet_framework.bench.manager", "127.0.0.1", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            yield psutil.Process(process.pid), ("127.0.0.1", int(address.rpartition(":")[2]))
        finally:
            children = psutil.Process(process.pid).children()
            process.terminate()
            assert process.wait(30) == 0
            assert not psutil.wait_procs(children, timeout=30)[1]


def ask(client: socket.socket) -> bytes:
    client.settimeout(30)
    client.sendall(b"ping")
    return client.recv(4, socket.MSG_WAITALL)


def ended(client: socket.socket) -> bool:
    """By a reset or in order."""
    try:
        return client.recv(4) == b""
    except ConnectionError:
        return True


def test_a_worker_that_dies_is_replaced_and_takes_its_connections_with_it() -> None:
    with manager() as (process, address), socket.create_connection(address) as client:
        assert ask(client) == b"ping"
        (worker,) = process.children()
        os.kill(worker.pid, signal.SIGKILL)
        assert ended(client)
        with socket.create_connection(address) as other:
            assert ask(other) == b"ping"
        assert [child.pid for child in process.children()] != [worker.pid]


def test_at_a_reload_a_new_worker_serves_before_the_old_one_closes() -> None:
    with manager() as (process, address), socket.create_connection(address) as client:
        assert ask(client) == b"ping"
        (worker,) = process.children()
        process.send_signal(signal.SIGHUP)
        assert client.recv(4) == b""  # in order, and only when the new one is there
        with socket.create_connection(address) as other:
            assert ask(other) == b"ping"
            wait("the old one has gone", lambda: [one.pid for one in process.children() if one == worker] == [])
            assert ask(other) == b"ping"


def test_a_worker_that_does_not_come_to_listen_is_no_reason_to_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(worker: Worker, ready: int) -> NoReturn:
        while True:
            signal.pause()

    monkeypatch.setattr(bench_manager, "START_S", 0.0)
    monkeypatch.setattr(bench_manager, "_become", hang)
    before = psutil.Process().children()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(StartupError, match="did not come to listen"),
    ):
        bench_manager.Manager(listener)._start()
    assert psutil.Process().children() == before


def test_wrong_usage_is_one_line() -> None:
    line = [sys.executable, "-P", "-m", "usnet_framework.bench.manager", "127.0.0.1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["usage: python -m usnet_framework.bench.manager HOST PORT"]
