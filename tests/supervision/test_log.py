"""Whoever reads the log, or does not, holds up nobody; and a record is shown once."""

from __future__ import annotations

import os
import signal

import pytest
from support.server import Server
from support.stalled import unread_pipe

ECHO = "examples.echo:Echo"
IN_TESTS = ("--app-dir", "tests")
DEATHS = 31


def exchange(server: Server, text: bytes = b"hello") -> None:
    with server.connect() as client:
        client.sendall(text)
        assert client.recv(len(text)) == text


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_a_log_that_nobody_reads_stops_nothing(layout: str) -> None:
    options = ("--queues", "1", "--layout", layout, "--log-level", "debug")
    with Server(ECHO, *options, prefix=unread_pipe(), stop=False) as server:
        for _ in range(DEATHS):
            exchange(server)  # one that did nothing is replaced later each time
            (worker,) = server.workers()
            os.kill(worker.pid, signal.SIGKILL)
            server.wait("it is replaced", lambda: server.workers() not in ([], [worker]))  # noqa: B023
            server.wait("it serves", lambda: server.get("/readyz")[0] == 200)
        assert server.get("/healthz")[0] == 200
        assert server.status()["shards"][0]["workers"][0]["restarts"] == DEATHS
        assert server.stop() == 0


def test_a_worker_whose_log_nobody_reads_goes_on() -> None:
    app = ("support.handlers:Raises", *IN_TESTS, "--queues", "1", "--log-level", "debug")
    with Server(*app, prefix=unread_pipe()) as server:
        (worker,) = server.workers()
        for _ in range(200):
            with server.connect() as client:
                client.sendall(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        assert server.workers() == [worker]


def test_a_traceback_is_shown_a_few_times_and_then_counted() -> None:
    with Server("support.handlers:Raises", *IN_TESTS, "--queues", "1") as server:
        for _ in range(20):
            with server.connect() as client:
                client.sendall(b"x")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        server.wait("all have raised", lambda: server.metrics()["usnet_handler_errors_total"] == 20)
        assert server.log.count("LookupError: bad") == 5
        server.wait("the rest is counted", lambda: "10 more like it: LookupError at " in server.log)
        assert server.stop() == 0
        assert "15 more like it: LookupError at " in server.log


def test_an_application_that_configures_logging_has_each_record_once() -> None:
    with Server("support.ownlogs:Tells", *IN_TESTS, "--queues", "1") as server:
        exchange(server, b"one word")
        with server.connect() as client:
            client.sendall(b"bad")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        server.wait("the error is shown", lambda: "LookupError: bad" in server.log)
        assert server.log.count("heard one word") == 1
        assert "MINE shop heard one word" in server.log
        assert server.log.count("LookupError: bad") == 1
