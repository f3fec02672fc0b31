"""Handlers may fork: connections and worker go on, whatever the child does with what it has of them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.forks import ENDS, STATUS
from support.privilege import may_look_into_processes
from support.server import Serve, Server

TIMES = 2


def ask(server: Server, message: bytes) -> bytes:
    with server.connect(timeout=30) as client:
        client.sendall(message)
        return client.recv(4096)


def assert_nobody_died(server: Server, worker: int) -> None:
    assert [worker.pid for worker in server.workers()] == [worker], server.log
    metrics = server.metrics()
    assert metrics["usnet_worker_restarts_total"] == 0, server.log
    assert metrics["usnet_workers_refused_total"] == 0
    assert metrics.get("usnet_network_restarts_total", 0) == 0


@pytest.mark.parametrize("layout", ["split", "inline"])
@pytest.mark.parametrize("where", ["now", "later"])
def test_forks_while_others_are_served(serve: Serve, layout: str, where: str, tmp_path: Path) -> None:
    env = {"FORK_COUNT": str(tmp_path / "count")}
    options = ("--app-dir", "tests", "--queues", "1", "--layout", layout)
    with serve("support.forks:Forks", *options, env=env) as server, server.connect(timeout=30) as old:
        (worker,) = server.workers()
        with Clients(server.address, 8, EchoDialogue) as others:
            for number in range(TIMES * len(ENDS)):
                message = f"{where} {ENDS[number % len(ENDS)]}".encode()
                expected = message + b" %d" % STATUS[ENDS[number % len(ENDS)]]
                assert ask(server, message) == expected, server.log
                before = others.answered
                server.wait("the others go on", lambda before=before: others.answered > before + 8)
            old.sendall(message)  # the same connection several times
            assert old.recv(4096) == expected
            old.sendall(b"echo")
            assert old.recv(4096) == b"echo"
        assert not others.incidents, others.incidents
        assert_nobody_died(server, worker.pid)
        if where == "later":
            assert (tmp_path / "count").read_text() == "once\n" * (TIMES * len(ENDS) + 1)
        came_back = server.log.count("a fork of this worker came back from its callback")
        assert came_back >= 2 * TIMES


@pytest.mark.parametrize("layout", ["split", "inline"])
@pytest.mark.parametrize("how", ["return", "exit", "process"])
def test_a_fork_in_on_start(serve: Serve, layout: str, how: str) -> None:
    options = ("--app-dir", "tests", "--queues", "1", "--layout", layout)
    with serve("support.forks:Forks", *options, env={"FORK_IN_START": how}) as server:
        (worker,) = server.workers()
        assert ask(server, b"start") == b"%d" % STATUS[how]
        assert ask(server, b"echo") == b"echo"
        assert_nobody_died(server, worker.pid)


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_a_child_says_nothing_of_the_workers_tasks(serve: Serve, layout: str, tmp_path: Path) -> None:
    """They are pending there as well, and nothing but the child's end is to come of it."""
    options = ("--app-dir", "tests", "--queues", "1", "--layout", layout)
    with serve("support.forks:Forks", *options, env={"FORK_COUNT": str(tmp_path / "count")}) as server:
        assert ask(server, b"tasks") == b"tasks"
        for later, how in enumerate(("return", "exit", "_exit", "process"), 1):
            for where in ("now", "later"):
                assert ask(server, f"{where} {how}".encode()) == f"{where} {how} {STATUS[how]}".encode(), server.log
            assert "Task was destroyed" not in server.log, how
            ended = (tmp_path / "count").read_text()
            assert ended == "once\n" * later, "what stood behind the fork has run, and no task of the worker has ended"


def shared(pid: int) -> list[str]:
    """Descriptors of a process that are a shard's or a connection's, and rings; its loop keeps a pair of sockets."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    sockets = [link for link in links if link.startswith("socket:")][2:]
    sockets += [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "socket:" in line]
    return sockets + [link for link in links if link.startswith("/memfd:usnet") or link == "/dev/net/tun"]


@EVERYWHERE
@may_look_into_processes
@pytest.mark.parametrize("layout", ["split", "inline"])
def test_a_child_that_lives_on_holds_nothing(serve: Serve, layout: str) -> None:
    """Connections that the worker closes are closed, and the server may end and begin again on its address."""
    options = ("--app-dir", "tests", "--queues", "1", "--layout", layout)
    with serve("support.forks:Forks", *options) as server, server.connect() as client:
        child = int(ask(server, b"stay"))
        try:
            client.sendall(b"close")
            assert client.recv(10) == b""
            server.wait("the child has given up what is shared", lambda: not shared(child))
            (worker,) = server.workers()
            os.kill(worker.pid, signal.SIGKILL)
            server.wait("another worker serves", lambda: {w.pid for w in server.workers()} - {worker.pid})
            assert ask(server, b"echo") == b"echo"
        finally:
            os.kill(child, signal.SIGKILL)
