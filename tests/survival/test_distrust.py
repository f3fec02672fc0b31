"""A worker that scribbles over its memory, or babbles, hurts its own connections, and not for long (P3, P4)."""

from __future__ import annotations

import os

import msgpack  # type: ignore[import-untyped]
import pytest
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.privilege import may_look_into_processes
from support.server import Serve, Server


@EVERYWHERE
@pytest.mark.parametrize("message", [b"scribble", b"scribble 320"])
def test_a_message_that_makes_workers_scribble_costs_their_connections_only(serve: Serve, message: bytes) -> None:
    with serve("support.handlers:Scribbler", "--app-dir", "tests", "--queues", "1", "--workers", "2") as server:
        with Clients(server.address, 16, EchoDialogue) as clients, server.connect() as victim:
            network = server.network_pids()
            victim.sendall(b"hello")
            assert victim.recv(5) == b"hello"
            server.wait("all are accepted", lambda: len(server.ask("conns")) == 17)
            seats = {conn["peer"][1]: conn["seat"] for conn in server.ask("conns")}
            seat = seats[victim.getsockname()[1]]
            (other,) = (worker for worker in server.workers() if worker.seat != seat)
            victim.sendall(message)
            with pytest.raises(ConnectionResetError):
                victim.recv(1)
            server.wait("both seats serve", lambda: len(server.workers()) == 2 and server.get("/readyz")[0] == 200)
            before = clients.answered
            server.wait("the others go on", lambda: clients.answered > before + 8)
        assert all(seats[clients.local_ports[client]] == seat for client in clients.ended)
        assert len(clients.incidents) == len(clients.ended)  # ended, and nothing changed or lost
        assert server.network_pids() == network
        assert other in server.workers()
        assert server.metrics()["usnet_worker_restarts_total"] <= 4


def test_a_worker_that_jams_what_wakes_its_engine_stops_no_other(serve: Serve) -> None:
    options = ("--app-dir", "tests", "--queues", "1", "--workers", "2", "--poll", "sleep", "--graceful-timeout", "1")
    with (
        serve("support.handlers:Jammer", *options) as server,
        server.connect() as mad,
        server.connect() as honest,
    ):
        for conn in (mad, honest):
            conn.sendall(b"hello")
            assert conn.recv(5) == b"hello"
        assert len({conn["seat"] for conn in server.ask("conns")}) == 2
        mad.sendall(b"jam")
        server.wait("it was told to", lambda: any(conn["bytes_in"] == 8 for conn in server.ask("conns")))
        for _ in range(100):  # each of them takes a wake-up of the engine
            honest.sendall(b"still there?")
            assert honest.recv(12) == b"still there?"


@may_look_into_processes
@pytest.mark.parametrize(
    "said",
    [
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb({"type": ["ready"]}),
        msgpack.packb({"type": "failed"}),
        msgpack.packb({"type": "ready", "resumes": True}),  # a second time: it would be handed out twice
    ],
)
def test_a_worker_that_babbles_to_the_supervisor_is_replaced(said: bytes) -> None:
    with Server("support.handlers:Babbler", "--app-dir", "tests", "--queues", "1") as server:
        with Clients(server.address, 4, EchoDialogue) as clients, server.connect() as client:
            before = len(os.listdir(f"/proc/{server.pid}/fd"))
            client.sendall(b"babble " + said.hex().encode())
            server.wait("it is replaced", lambda: any(worker.serial > 1 for worker in server.workers()))
            answered = clients.answered
            server.wait("clients go on", lambda: clients.answered > answered)
            server.wait("spares are there", lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= before + 2)
        assert not clients.incidents, clients.incidents
        assert "spoke nonsense to the supervisor" in server.log
        assert "Traceback" not in server.log
