"""A message that kills workers is delivered twice, not three times (P3)."""

from __future__ import annotations

import json

import pytest
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.server import Serve, Server


def is_refused(server: Server) -> bool:
    try:
        with server.connect() as client:
            client.sendall(b"good morning")
            return client.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


@EVERYWHERE
@pytest.mark.parametrize("poison", [b"poison: do not drink", b"exit: this way"])
def test_a_poisoned_message_costs_its_own_connection_only(serve: Serve, poison: bytes) -> None:
    with serve("support.handlers:Poisonable", "--app-dir", "tests", "--queues", "1") as server:
        with Clients(server.address, 16, EchoDialogue) as clients, server.connect() as victim:
            victim.sendall(poison)
            with pytest.raises(ConnectionResetError):
                victim.recv(1)
            server.wait("the message is put aside", lambda: list(server.folder.glob("quarantine/*.bin")))
            before = clients.answered
            server.wait("the others go on", lambda: clients.answered > before + 16)
        assert not clients.incidents, clients.incidents
        (record,) = server.folder.glob("quarantine/*.bin")
        assert record.read_bytes() == poison
        metrics = server.metrics()
        assert metrics["usnet_poisoned_total"] == 1
        assert metrics["usnet_worker_restarts_total"] == 2
        assert json.dumps(server.status())  # the supervisor is well


def test_a_death_after_a_wait_costs_its_own_connection_only(serve: Serve) -> None:
    with serve("support.handlers:PoisonableLater", "--app-dir", "tests", "--queues", "1") as server:
        with server.connect() as idle, server.connect() as victim:
            idle.sendall(b"before")
            assert idle.recv(6) == b"before"
            victim.sendall(b"poison: do not drink")
            with pytest.raises(ConnectionResetError):
                victim.recv(1)
            idle.sendall(b"after")
            assert idle.recv(5) == b"after"
        metrics = server.metrics()
        assert metrics["usnet_task_deaths_total"] == 1
        assert metrics["usnet_worker_restarts_total"] == 1
        assert "usnet_poisoned_total" not in metrics or metrics["usnet_poisoned_total"] == 0


def test_a_peer_that_poisons_again_and_again_is_refused_where_that_is_asked_for(serve: Serve) -> None:
    poisonable = ("support.handlers:Poisonable", "--app-dir", "tests", "--queues", "1")
    with serve(*poisonable, "--refuse-poisoners") as server, server.connect() as friend:
        for _ in range(3):
            with server.connect() as victim:
                victim.sendall(b"poison: do not drink")
                with pytest.raises(ConnectionResetError):
                    victim.recv(1)
        assert is_refused(server)
        assert server.drops()["refused_poisoner"] >= 1
        friend.sendall(b"we are connected")
        assert friend.recv(100) == b"we are connected"
