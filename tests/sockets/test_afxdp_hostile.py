"""Frames that mean harm, into a served interface: connections go on, processes live, and none of them grows.

`pytest -m slow` goes on for USNET_HOSTILE_SECONDS (600), and prints what a flood of SYNs costs others."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from support.backends import Afxdp
from support.clients import Clients, EchoDialogue
from support.flood import Hostile, Wire, recorded
from support.link import ip
from support.privilege import may_look_into_processes, needs_xdp
from support.server import WITH_THE_TEST, Server, title

from usnet_framework.bench.memory import own_bytes

pytestmark = needs_xdp
ECHO = ("examples.echo:Echo", "--queues", "1", "--max-connections", "256")
"""A pool of 8,192 frames, the smallest."""

SEED = int(os.environ.get("USNET_HOSTILE_SEED", str(random.randrange(1 << 32))))
SECONDS = float(os.environ.get("USNET_HOSTILE_SECONDS", "600"))
FRAMES = 30_000
LEAK_BYTES = 2 << 20
"""Of a process, which is 70 for each of FRAMES. What it needs for the first time is not counted."""

memory_shows = pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a sanitizer keeps for a while what was freed")

FLOOD_S = 10.0
NOBODYS = "10.77.0.99"


class SmallMessages(EchoDialogue):
    SIZES = (60,)


@pytest.fixture
def server(interface: Afxdp) -> Iterator[Server]:
    """It may answer anybody: the other end is its router."""
    with Server(*ECHO, "--gateway", "10.77.0.2", backend=interface) as server:
        yield server


def talk(server: Server) -> None:
    """As many kinds of frames as a connection has, by both families."""
    for host in (Afxdp.ipv4, Afxdp.ipv6):
        with socket.create_connection((host, server.address[1]), 10) as client:
            for length in (1, 100, 1400, 5000):
                client.sendall(bytes(length))
                client.recv(length, socket.MSG_WAITALL)


def memory(server: Server) -> dict[int, int]:
    """Its own, of each process that has to do with connections."""
    keepers = [shard["keeper_pid"] for shard in server.status()["shards"]]
    pids = [server.pid, *keepers, *server.network_pids(), *(worker.pid for worker in server.workers())]
    return {pid: own_bytes(Path(f"/proc/{pid}/smaps").read_text()) for pid in pids}


def assert_no_leak(server: Server, before: dict[int, int]) -> None:
    grown = {f"{title(pid)} ({pid})": now - before[pid] for pid, now in memory(server).items()}
    print(", ".join(f"{name}: {size >> 10:+} KiB" for name, size in grown.items()))
    assert max(grown.values()) < LEAK_BYTES, f"USNET_HOSTILE_SEED={SEED}: {grown}"


def assert_unharmed(server: Server, clients: Clients) -> None:
    """When the last frame of a pool is lost, everything stops."""
    before = clients.answered
    server.wait("answers go on", lambda: clients.answered > before + 64)
    assert not clients.incidents, f"USNET_HOSTILE_SEED={SEED}: {clients.incidents[:5]}"
    assert {shard["network_restarts"] for shard in server.status()["shards"]} == {0}


@pytest.fixture
def hostile(interface: Afxdp, server: Server) -> Iterator[bytes]:
    """Of connections that are over: whoever knows the numbers of one that goes on can put bytes into it."""
    return Hostile(random.Random(SEED), recorded(interface.peer, lambda: talk(server))).frames()


def send_hostile(interface: Afxdp, frames: Iterator[bytes], rounds: Iterator[object]) -> int:
    """So many a round; how many in all."""
    sent = 0
    with Wire(interface.peer) as wire:
        for _ in rounds:
            for frame in islice(frames, FRAMES // 10):
                wire.send(frame)
            sent += FRAMES // 10
    return sent


def test_random_and_changed_frames_hurt_nobody(
    interface: Afxdp, server: Server, hostile: Iterator[bytes]
) -> None:
    with Clients(server.address, 16, EchoDialogue) as clients:
        before = server.drops()
        send_hostile(interface, hostile, iter(range(10)))
        assert_unharmed(server, clients)
        refused = [reason for reason, count in server.drops().items() if count > before.get(reason, 0)]
        assert len(refused) > 5, refused  # they came, and for many reasons


@memory_shows
@may_look_into_processes
def test_no_process_grows_by_them(
    interface: Afxdp, server: Server, hostile: Iterator[bytes]
) -> None:
    with Clients(server.address, 16, EchoDialogue) as clients:
        send_hostile(interface, hostile, iter(range(3)))
        before = memory(server)
        send_hostile(interface, hostile, iter(range(10)))
        assert_unharmed(server, clients)
        assert_no_leak(server, before)


@memory_shows
@may_look_into_processes
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_random_and_changed_frames_hurt_nobody_in_the_long_run(
    interface: Afxdp, server: Server, hostile: Iterator[bytes]
) -> None:
    def rounds() -> Iterator[float]:
        end_s = time.monotonic() + SECONDS
        while (now_s := time.monotonic()) < end_s and not clients.incidents:
            yield now_s

    with Clients(server.address, 16, EchoDialogue) as clients:
        send_hostile(interface, hostile, iter(range(10)))
        before = memory(server)
        sent = send_hostile(interface, hostile, rounds())
        assert_unharmed(server, clients)
        assert_no_leak(server, before)
    print(f"USNET_HOSTILE_SEED={SEED}: {sent} hostile frames, {clients.answered} answers")


def station(interface: str) -> str:
    """The kernel's MAC address there."""
    return ip("link", "show", "dev", interface).partition("link/ether ")[2].split()[0]


def stack_station(server: Server) -> str:
    (found,) = (finding["in_force"] for finding in server.ask("doctor") if finding["what"] == "interface")
    return str(found).rpartition(" ")[2]


class Flood:
    """From a process of its own, which begins at once."""

    def __init__(self, interface: Afxdp, mac: str, address: str, port: int, seconds: float) -> None:
        program = str(Path(__file__).parents[1] / "support/flood.py")
        where = [interface.peer, mac, address, str(port), str(seconds)]
        command = [*WITH_THE_TEST, sys.executable, "-P", program, *where]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "begins\n"

    def sent(self) -> int:
        """At its end."""
        return int(self._process.communicate()[0])


def test_a_flood_of_connections_that_nobody_wants_stops_no_other(interface: Afxdp, server: Server) -> None:
    with Clients(server.address, 100, SmallMessages) as clients:
        flood = Flood(interface, stack_station(server), *server.address, 1.0)
        before = clients.answered
        server.wait("answers go on", lambda: clients.answered > before + 200)
        with server.connect(30) as client:
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        assert flood.sent() >= 1000
        assert_unharmed(server, clients)
        assert server.metrics()["usnet_tcp_syn_cookies_sent_total"] > 0


@pytest.mark.slow
def test_what_a_flood_of_connections_costs_others(interface: Afxdp, server: Server) -> None:
    """Beside the same flood at an address that nobody serves, which the kernel gets."""
    answers = []
    for mac, address in ((station(interface.interface), NOBODYS), (stack_station(server), Afxdp.ipv4)):
        with Clients(server.address, 100, SmallMessages) as clients:
            flood = Flood(interface, mac, address, server.address[1], FLOOD_S)
            before = clients.answered
            sent = flood.sent()
            answers.append(clients.answered - before)
            print(f"{sent / FLOOD_S:,.0f} SYNs/s at {address}: {answers[-1] / FLOOD_S:,.0f} answers/s")
            assert_unharmed(server, clients)
    print(f"served: {answers[1] / answers[0]:.2f} of unserved")
    assert answers[1] > 0
