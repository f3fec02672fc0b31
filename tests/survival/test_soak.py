"""Everything that may happen to a server, in random order, for minutes, on each backend: `make soak`.

USNET_SOAK_SECONDS says how long (600), USNET_SOAK_SEED repeats the order of an earlier run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from support.clients import Clients, CounterDialogue
from support.server import Serve, Server

SECONDS = float(os.environ.get("USNET_SOAK_SECONDS", "600"))
SEED = int(os.environ.get("USNET_SOAK_SEED", str(random.randrange(1 << 32))))
CLIENTS = 64

Act = Callable[[Server, random.Random], None]


def kill_worker(server: Server, chance: random.Random) -> None:
    old = chance.choice(server.workers())
    os.kill(old.pid, signal.SIGKILL)
    server.wait(
        "the seat has another worker",
        lambda: any(new[:2] == old[:2] and new.serial > old.serial for new in server.workers()),
    )


def kill_network_process(server: Server, chance: random.Random) -> None:
    server.kill_network_process(chance.randrange(len(server.status()["shards"])))


def stop_a_process(server: Server, chance: random.Random) -> None:
    pid = chance.choice([*server.network_pids(), *(worker.pid for worker in server.workers())])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(chance.uniform(0, 0.5))  # how long it stands still is part of the script
    os.kill(pid, signal.SIGCONT)


def reload(server: Server, chance: random.Random) -> None:
    server.ask("reload")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_connections_outlive_everything(serve: Serve) -> None:
    print(f"USNET_SOAK_SEED={SEED}")
    chance = random.Random(SEED)
    acts: list[Act] = [kill_worker, kill_worker, kill_worker, kill_network_process, stop_a_process, reload]
    network_kills = 0
    with serve("examples.counter:Counter", "--queues", "2", "--workers", "2") as server:
        with Clients(server.address, CLIENTS, CounterDialogue) as clients:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                act = chance.choice(acts)
                network_kills += act is kill_network_process
                act(server, chance)
                time.sleep(chance.uniform(0, 0.1))
                if len(clients.ended) == CLIENTS:
                    break
        print(
            f"{clients.answered} messages, {network_kills} network processes killed, {len(clients.ended)} connections"
        )
        assert not clients.incidents, clients.incidents
        assert clients.answered > CLIENTS
