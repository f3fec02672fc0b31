"""usnet-ctl and the metrics against a server that runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from support.server import REPOSITORY, STOP_SECONDS, WITH_THE_TEST, Server, run, title, wait

ECHO = "examples.echo:Echo"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ECHO, "--queues", "2", "--workers", "2") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[socket.socket]:
    """A connection over which 5 bytes have gone there and back."""
    with server.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        yield client


def readings(server: Server) -> dict[str, float]:
    """All counters of the server, by name and labels."""
    text = server.get("/metrics")[1]
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if re.search(r"_(total|count|sum|bucket)(\{|$)", name)}


def test_status_names_the_processes_as_ps_does(server: Server) -> None:
    status = server.ctl("status")
    assert (status["pid"], status["state"], status["app"]) == (server.pid, "ready", ECHO)
    pids = [*status["spares"], *(worker.pid for worker in server.workers())]

    def titles() -> list[str]:
        return sorted(map(title, pids))

    expected = ["usnet: spare", *(f"usnet: worker {s}.{w}" for s in (0, 1) for w in (0, 1))]
    wait("each process has said what it is", lambda: titles() == expected)
    text = run("usnet-ctl", "status", "--control", str(server.control)).stdout
    for pid in pids:
        assert f" {pid} " in text


def test_conns_show_what_a_connection_did(server: Server, client: socket.socket) -> None:
    (conn,) = [conn for conn in server.ctl("conns") if conn["peer"] == list(client.getsockname())]
    assert (conn["state"], conn["bytes_in"], conn["bytes_out"]) == ("open", 5, 5)
    assert conn["local"] == list(server.address)
    text = run("usnet-ctl", "conns", "--control", str(server.control)).stdout
    assert f"127.0.0.1:{client.getsockname()[1]}" in text
    assert "in:5 out:5 queued:0" in text


def test_doctor_says_what_is_in_force(server: Server) -> None:
    findings = {finding["what"]: finding for finding in server.ctl("doctor")}
    assert (findings["shards"]["asked"], findings["shards"]["in_force"]) == ("2", "2")
    assert findings["backend"]["in_force"] == "kernel"


def test_reload_replaces_every_worker_and_keeps_connections(server: Server, client: socket.socket) -> None:
    before = {worker.pid for worker in server.workers()}
    server.ctl("reload")
    assert len(server.workers()) == 4
    assert not before & {worker.pid for worker in server.workers()}
    client.sendall(b"again")
    assert client.recv(5, socket.MSG_WAITALL) == b"again"


def test_metrics_count_by_shard_and_worker(server: Server, client: socket.socket) -> None:
    before = server.metrics()
    client.sendall(b"x" * 1000)
    assert len(client.recv(1000, socket.MSG_WAITALL)) == 1000
    out = "usnet_bytes_out_total"
    after = server.wait("a scrape sees them", lambda: (now := server.metrics())[out] > before[out] and now)
    for name in ("usnet_bytes_in_total", "usnet_bytes_out_total", "usnet_worker_bytes_out_total"):
        assert after[name] - before[name] == 1000
    assert after["usnet_connections_active"] >= 1
    assert after["usnet_event_wait_seconds_count"] > before["usnet_event_wait_seconds_count"]
    assert after["usnet_handler_seconds_total"] > before["usnet_handler_seconds_total"]
    for role in ("supervisor", "network", "keeper", "worker", "spare"):
        assert f'role="{role}"' in server.get("/metrics")[1]


def test_counters_do_not_go_back_when_processes_die(server: Server, client: socket.socket) -> None:
    victims = [*(worker.pid for worker in server.workers()), *server.network_pids()]
    before = readings(server)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    server.wait("all are replaced", lambda: len({*(w.pid for w in server.workers())} - {*victims}) == 4)
    server.wait("also the network", lambda: len({*server.network_pids()} - {*victims}) == 2)
    server.wait("the server is ready again", lambda: server.get("/readyz")[0] == 200)
    after = readings(server)
    for name, value in before.items():
        assert after[name] >= value, name
    assert sum(v for name, v in after.items() if name.startswith("usnet_worker_restarts_total")) >= 4
    assert sum(v for name, v in after.items() if name.startswith("usnet_network_restarts_total")) >= 2


def test_an_unknown_variable_is_reported_and_ignored() -> None:
    with Server(ECHO, env={"USNET_WROKERS": "2"}) as server:
        assert "USNET_WROKERS: unknown variable, ignored; did you mean USNET_WORKERS?" in server.log
        assert len(server.workers()) == 1
    plan = run("usnet-serve", ECHO, "--check", env={"USNET_WROKERS": "2"}).stdout
    assert "note         USNET_WROKERS: unknown variable, ignored; did you mean USNET_WORKERS?" in plan


def test_stop_ends_the_server_cleanly() -> None:
    with Server(ECHO, stop=False) as server:
        assert server.ctl("stop") == "stopping"
        assert server.process.wait(STOP_SECONDS) == 0


def test_make_serve_finds_free_ports_and_says_how_to_try_it() -> None:
    """Its script: another server, or this test twice, may have the usual ports and the usual control socket."""
    with subprocess.Popen(
        [*WITH_THE_TEST, sys.executable, str(REPOSITORY / "tools/serve.py"), ECHO],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("USNET_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if line.startswith("Serving on "))
            port = int(re.match(r"Serving on 127\.0\.0\.1:(\d+)\.", line)[1])
            snippet = re.search(r"python3 -c '(.*)'", line)[1]
            done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, timeout=30, check=True)
            assert (port >= 7000, done.stdout) == (True, b"b'hello'\n")
        finally:
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0
    wait("its processes are gone", lambda: not [p for p in psutil.pids() if _session(p) == process.pid])


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
