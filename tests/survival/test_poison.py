"""A message that kills workers is delivered twice, not three times (P3)."""

from __future__ import annotations

import json

import pytest
from support.clients import Clients, EchoDialogue
from support.server import Serve


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
