"""A worker that scribbles over its memory hurts its own connections, and not for long (P3, P4)."""

from __future__ import annotations

import pytest
from support.clients import Clients, EchoDialogue
from support.server import Serve


@pytest.mark.parametrize("message", [b"scribble", b"scribble 320"])
def test_a_message_that_makes_workers_scribble_costs_their_connections_only(serve: Serve, message: bytes) -> None:
    with serve("support.handlers:Scribbler", "--app-dir", "tests", "--queues", "1", "--workers", "2") as server:
        with Clients(server.address, 16, EchoDialogue) as clients, server.connect() as victim:
            network = server.network_pids()
            victim.sendall(b"hello")
            assert victim.recv(5) == b"hello"
            seats = {conn["peer"][1]: conn["seat"] for conn in server.ctl("conns")}
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
