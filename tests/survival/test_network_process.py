"""Network processes are killed under load, and clients notice nothing (P10)."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.server import Serve

pytestmark = EVERYWHERE

KILLS = 30
SOAKED_KILLS = 1000


def test_connections_go_on_with_the_next_network_process(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--queues", "2") as server:
        with Clients(server.address, 64, EchoDialogue) as clients:
            for _ in range(KILLS):
                time.sleep(random.uniform(0, 0.05))  # the moment of a kill is random
                server.kill_network_process(0)
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + 64)
        assert not clients.incidents, "\n".join(clients.incidents[:10])
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        assert server.metrics()["usnet_takeovers_total"] == KILLS


def test_both_processes_of_a_shard_may_die_together(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--queues", "1") as server:
        with Clients(server.address, 16, EchoDialogue) as clients:
            for _ in range(20):
                (worker,) = server.workers()
                (network,) = server.network_pids()
                os.kill(network, signal.SIGKILL)
                os.kill(worker.pid, signal.SIGKILL)
                server.wait(
                    "both are replaced",
                    lambda worker=worker, network=network: (
                        server.network_pids() not in ([], [network])
                        and any(new.serial > worker.serial for new in server.workers())
                    ),
                )
        assert not clients.incidents, "\n".join(clients.incidents[:10])


class SmallMessages(EchoDialogue):
    SIZES = (60,)


class LargeMessages(EchoDialogue):
    SIZES = (65536,)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dialogue", [SmallMessages, LargeMessages])
def test_a_thousand_killed_network_processes_lose_nothing(serve: Serve, dialogue: type[EchoDialogue]) -> None:
    with serve("examples.echo:Echo", "--queues", "1") as server:
        with Clients(server.address, 32, dialogue) as clients:
            for _ in range(SOAKED_KILLS):
                time.sleep(random.uniform(0, 0.03))
                server.kill_network_process(0)
        assert not clients.incidents, "\n".join(clients.incidents[:10])
        assert server.metrics()["usnet_takeovers_total"] == SOAKED_KILLS
        print(f"{SOAKED_KILLS} killed, {clients.answered} messages of {dialogue.SIZES[0]} bytes answered")
