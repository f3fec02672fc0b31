"""Serving on netmap: shards on a card and on a switch, deaths of network processes and of all, an interface that goes.
The module is played (support/netmap.py), and says when a rule of it was broken."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import psutil
import pytest
from sockets.test_afxdp_hostile import SEED, assert_unharmed, talk
from support.backends import Netmap, network_namespace, switch
from support.bulk import give_to, take_from
from support.cflags import compiled
from support.clients import Clients, EchoDialogue, hello
from support.flood import Hostile, Wire, recorded
from support.link import ip
from support.netmap import StandIn, tap_wire, wired
from support.privilege import needs_tap
from support.server import Server, wait

from usnet_framework.testing.farends import PacketSocket

pytestmark = needs_tap

ECHO = "examples.echo:Echo"
BULK = ("support.bulk:Bulk", "--app-dir", "tests")
CARD = "usnet0"


class OnACard(Netmap):
    """With two ring pairs; the interface is there for its name, and what comes to it is played."""

    port = CARD
    kernel: socket.socket
    """What its stack receives from the card, and sends to it."""

    def connect(self) -> None:
        queues = ("numrxqueues", "2", "numtxqueues", "2")
        ip("link", "add", CARD, *queues, "type", "veth", "peer", "name", "far0", *queues)
        ip("link", "set", CARD, "up")
        ip("link", "set", "far0", "up")


@pytest.fixture
def on_a_switch() -> Iterator[Netmap]:
    with network_namespace(), switch() as netmap:
        yield Netmap(netmap)


@pytest.fixture
def on_a_card(tmp_path: Path) -> Iterator[OnACard]:
    with network_namespace(), wired() as (behind, kernel):
        wire = tap_wire(OnACard.peer, ["10.77.0.2/24"])
        with StandIn(tmp_path, wire, {CARD: 2}, slots=1024, kernel=behind) as netmap:
            backend = OnACard(netmap)
            backend.kernel = kernel
            backend.connect()
            yield backend


@pytest.fixture(params=["on_a_switch", "on_a_card"])
def on_either(request: pytest.FixtureRequest) -> Netmap:
    found: Netmap = request.getfixturevalue(request.param)
    return found


def frames_by_shard(server: Server) -> list[int]:
    lines = server.get("/metrics")[1].splitlines()
    samples = [line for line in lines if line.startswith("usnet_device_rx_packets_total{")]
    return [int(float(sample.rpartition(" ")[2])) for sample in samples]


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_each_shard_has_a_ring_pair_of_the_card(on_a_card: OnACard, layout: str) -> None:
    with Server(ECHO, "--queues", "2", "--layout", layout, backend=on_a_card) as server:
        with Clients(server.address, 64, EchoDialogue) as clients:
            server.wait("all are answered", lambda: clients.answered > 1000)
            assert sorted(on_a_card.netmap.pairs()) == [(CARD, 0), (CARD, 1), (CARD, 2)]  # the last is the kernel's
        assert not clients.incidents, clients.incidents
        assert all(frames > 100 for frames in frames_by_shard(server))
        found = server.findings()
        assert found["interface"]["ok"]
        assert found["ring pairs"]["in_force"] == "2 pairs, 1024 slots to send, 1024 to receive"
        assert "tx-tcp-segmentation off" in str(found["the kernel's packets"]["fix"])


def segment(target: bytes, sender: bytes, port: int) -> bytes:
    """The beginning of a TCP segment; `port` decides which queue it comes through."""
    ip_header = b"\x45\0\0\x28" + bytes(5) + b"\x06" + bytes(2) + bytes([10, 77, 0, 2, 10, 77, 0, 3])
    return target + sender + b"\x08\0" + ip_header + port.to_bytes(2, "big") + b"\0\x16" + bytes(16)


def test_what_is_the_kernels_goes_on_beside(on_a_card: OnACard) -> None:
    """What comes for it through either queue, and what it sends."""
    kernels, clients_own = b"\x02\0\0\0\0\x66", b"\x02\0\0\0\0\x77"
    to_kernel = [segment(kernels, clients_own, port) for port in range(2000, 2100)]
    from_kernel = [segment(clients_own, kernels, port) for port in range(3000, 3100)]
    with Server(ECHO, "--queues", "2", backend=on_a_card) as server:
        wire = PacketSocket(OnACard.peer, kernels)
        with Clients(server.address, 8, EchoDialogue) as clients:
            server.wait("all are answered", lambda: clients.answered > 100)
            for number in range(100):
                assert wire.send(to_kernel[number])
                on_a_card.kernel.sendall(from_kernel[number])
            assert [wire.receive(10) for _ in from_kernel] == from_kernel
            got = set()
            while len(got) < len(to_kernel):
                assert select.select([on_a_card.kernel], [], [], 10)[0]
                got.add(on_a_card.kernel.recv(2048))
                got -= {one for one in got if one[:6] == b"\xff" * 6 or one[:2] == b"\x33\x33"}  # for all stations
            assert got == set(to_kernel)
        assert not clients.incidents, clients.incidents
        wire.close()
        assert server.metrics()["usnet_device_tx_passed_total"] == len(from_kernel)
        assert server.metrics()["usnet_device_rx_passed_total"] >= len(to_kernel)


def test_each_shard_has_a_port_of_the_switch(on_a_switch: Netmap) -> None:
    """What is for ours comes to the port that sent last, and is handed to the owner of its flow."""
    with Server(ECHO, "--queues", "3", backend=on_a_switch) as server:
        with Clients(server.address, 64, EchoDialogue) as clients:
            server.wait("all are answered", lambda: clients.answered > 1000)
        assert on_a_switch.netmap.ports() == ["vale0:us", "vale0:us_1", "vale0:us_2"]
        assert not clients.incidents, clients.incidents
        assert server.findings()["interface"]["ok"]


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_content_comes_whole_both_ways(on_a_switch: Netmap, layout: str) -> None:
    with Server(*BULK, "--queues", "1", "--layout", layout, backend=on_a_switch) as server:
        with server.connect(60) as client:
            give_to(client, 8 << 20)
        with server.connect(60) as client:
            take_from(client, 8 << 20)


def test_connections_go_on_with_the_next_network_process(on_either: Netmap) -> None:
    with Server(ECHO, "--queues", "2", backend=on_either) as server:
        with Clients(server.address, 32, EchoDialogue) as clients:
            for number in range(10):
                server.kill_network_process(number % 2)
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + 64)
        assert not clients.incidents, "\n".join(clients.incidents[:10])
        assert server.metrics()["usnet_takeovers_total"] == 10


def test_random_and_changed_frames_hurt_nobody(on_a_switch: Netmap) -> None:
    with Server(ECHO, "--queues", "1", backend=on_a_switch) as server, Wire(on_a_switch.peer) as wire:
        frames = Hostile(random.Random(SEED), recorded(on_a_switch.peer, lambda: talk(server))).frames()
        with Clients(server.address, 8, EchoDialogue) as clients:
            for frame in islice(frames, 5000):
                wire.send(frame)
            assert_unharmed(server, clients)


def test_the_card_is_the_kernels_again_when_all_were_killed(on_a_card: OnACard) -> None:
    """Its last descriptor is closed."""
    with Server(ECHO, "--queues", "2", backend=on_a_card, stop=False) as server:
        assert hello(server.address) == b"hello"
        for process in server.processes():
            with suppress(psutil.NoSuchProcess):  # it may have ended with its parent
                process.kill()
        server.process.wait(30)
        assert on_a_card.netmap.is_left()
        server.control.unlink(missing_ok=True)  # by its keeper, if that lived a moment longer


def test_a_card_that_was_removed_is_joined_when_it_is_back(on_a_card: OnACard) -> None:
    with Server(ECHO, "--queues", "2", backend=on_a_card) as server:
        assert hello(server.address) == b"hello"
        ip("link", "delete", CARD)
        on_a_card.netmap.remove(CARD)
        server.wait("it says so", lambda: "interface usnet0 was removed" in server.get("/readyz")[1])
        on_a_card.connect()
        server.wait("it is ready", lambda: server.get("/readyz")[0] == 200)
        assert hello(server.address) == b"hello"
        assert "interface usnet0 was removed; it is joined again" in server.log


@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="a library with a sanitizer links with programs that have it")
def test_a_c_program_takes_a_port_as_its_device(on_a_switch: Netmap, tmp_path: Path) -> None:
    """examples/c/echo.c"""
    command = [compiled("echo", tmp_path), "netmap:vale0:us", f"{on_a_switch.ipv4}/24", "7000"]
    with subprocess.Popen(command, env=os.environ | on_a_switch.env) as program:
        wait("it has its port", lambda: on_a_switch.netmap.ports() == ["vale0:us"])
        with Clients((on_a_switch.ipv4, 7000), 8, EchoDialogue) as clients:
            wait("all are answered", lambda: clients.answered > 200)
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
    assert not clients.incidents, clients.incidents
    assert on_a_switch.netmap.is_left()
    assert on_a_switch.netmap.exchanged > 200  # what came was not copied
