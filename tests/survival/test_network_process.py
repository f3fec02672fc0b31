"""A killed network process disturbs its own shard alone, and there at most the connection that it was changing."""

from __future__ import annotations

import os
import random
import signal
import time

from support.clients import Clients, EchoDialogue
from support.server import Serve, Server

KILLS = 30


def network_pid(server: Server, shard: int) -> int | None:
    """None while there is none."""
    pid: int | None = server.status()["shards"][shard]["network_pid"]
    return pid


def kill_network_process(server: Server, shard: int) -> None:
    old = network_pid(server, shard)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    server.wait("another network process serves", lambda: network_pid(server, shard) not in (None, old))


def test_connections_go_on_with_the_next_network_process(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--queues", "2") as server:
        with Clients(server.address, 64, EchoDialogue) as clients:
            shards = {conn["peer"][1]: conn["shard"] for conn in server.ctl("conns")}
            for _ in range(KILLS):
                time.sleep(random.uniform(0, 0.05))  # the moment of a kill is random
                kill_network_process(server, 0)
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + 64)
        ended_shards = {shards[clients.local_ports[client]] for client in clients.ended}
        assert ended_shards <= {0}
        assert len(clients.ended) <= KILLS
        assert len(clients.incidents) == len(clients.ended), clients.incidents
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
        assert len(clients.ended) <= 20
        assert len(clients.incidents) == len(clients.ended), clients.incidents
