"""Connections outlive the code (P1, P2): workers are killed and reloaded under load, and clients notice nothing."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from support.clients import Clients, CounterDialogue, Dialogue, EchoDialogue
from support.everywhere import EVERYWHERE
from support.server import Serve, Server, Worker

CLIENTS = 64
KILLS = 100
RELOADS = 30
ROUNDS = 8
DIALOGUES = [("examples.echo:Echo", EchoDialogue), ("examples.counter:Counter", CounterDialogue)]


def kill_one(server: Server, worker: Worker) -> None:
    """Kill a worker, unless a reload was faster, and wait until another one serves on its seat."""
    with suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGKILL)
    server.wait("the seat has another worker", lambda: has_successor(server, worker))


def has_successor(server: Server, old: Worker) -> bool:
    return any(new[:2] == old[:2] and new.pid != old.pid for new in server.workers())


def all_seated(server: Server) -> list[Worker] | None:
    found, seats = server.workers(), sum(len(shard["workers"]) for shard in server.status()["shards"])
    return found if len(found) == seats else None


def kill_workers(server: Server, kills: int) -> None:
    for _ in range(kills):
        time.sleep(random.uniform(0, 0.02))  # the moment of a kill is random
        kill_one(server, random.choice(server.wait("there are workers", server.workers)))


def reload_workers(server: Server, reloads: int) -> None:
    """With every seat taken, and until each has another worker."""
    for _ in range(reloads):
        old = server.wait("every seat has a worker", lambda: all_seated(server))
        os.kill(server.pid, signal.SIGHUP)
        server.wait("every seat has a new worker", lambda: all(has_successor(server, worker) for worker in old))  # noqa: B023


def assert_undisturbed(clients: Clients, server: Server) -> None:
    assert not clients.incidents, "\n".join([*clients.incidents[:10], server.log])
    assert clients.answered > CLIENTS


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("app", "dialogue"), DIALOGUES)
def test_killed_workers_lose_nothing(serve: Serve, app: str, dialogue: type[Dialogue]) -> None:
    with serve(app, "--workers", "2", "--queues", "1") as server:
        with Clients(server.address, CLIENTS, dialogue) as clients:
            kill_workers(server, KILLS)
        assert_undisturbed(clients, server)
        assert server.metrics()["usnet_worker_restarts_total"] >= KILLS


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("app", "dialogue"), DIALOGUES)
def test_reloads_lose_nothing(serve: Serve, app: str, dialogue: type[Dialogue]) -> None:
    with serve(app, "--queues", "1") as server:
        with Clients(server.address, CLIENTS, dialogue) as clients:
            reload_workers(server, RELOADS)
        assert_undisturbed(clients, server)


@EVERYWHERE
@pytest.mark.timeout(240)
def test_kills_and_reloads_together_lose_nothing(serve: Serve) -> None:
    with serve("examples.counter:Counter", "--workers", "2", "--queues", "1") as server:
        with Clients(server.address, CLIENTS, CounterDialogue) as clients:
            for _ in range(ROUNDS):
                kill_workers(server, 5)
                reload_workers(server, 2)
        assert_undisturbed(clients, server)


def test_a_stopped_worker_loses_nothing(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--queues", "1") as server:
        with Clients(server.address, CLIENTS, EchoDialogue) as clients:
            (worker,) = server.workers()
            os.kill(worker.pid, signal.SIGSTOP)
            time.sleep(2)  # how long it stands still is the point of the test
            os.kill(worker.pid, signal.SIGCONT)
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + CLIENTS)
        assert_undisturbed(clients, server)
        assert server.workers() == [worker]


def test_without_on_resume_the_killed_workers_connections_are_reset_and_no_other(serve: Serve) -> None:
    with serve("support.handlers:Forgetful", "--app-dir", "tests", "--workers", "2", "--queues", "1") as server:
        with Clients(server.address, CLIENTS, EchoDialogue) as clients:
            worker, other = server.workers()
            server.wait("all are accepted", lambda: len(server.ask("conns")) == CLIENTS)
            seats = {conn["peer"][1]: conn["seat"] for conn in server.ask("conns")}
            owned = {client for client, port in clients.local_ports.items() if seats[port] == worker.seat}
            assert 0 < len(owned) < CLIENTS
            kill_one(server, worker)
            server.wait("its connections are reset", lambda: len(clients.ended) >= len(owned))
            before = clients.answered
            server.wait("the others go on", lambda: clients.answered > before + CLIENTS)
        assert clients.ended == owned
        assert other in server.workers()
