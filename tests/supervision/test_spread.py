"""A shard whose workers die too often gets no new connections, as long as there are others."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import Server

from usnet_framework.shards.handover import Handover
from usnet_framework.shards.listeners import Listener, Listeners, open_listeners, parse_bind
from usnet_framework.shards.spread import Spread

SHARDS = 4
MANY = 100  # so that a shard with a share gets one of them, but once in 10**12 times; queues are longer
HASTY = (sys.executable, str(Path(__file__).parents[1] / "support" / "hasty.py"))


class Shard:
    def __init__(self, number: int, listeners: Listeners) -> None:
        self.number = number
        self.in_service = True
        self.handover = Handover(listeners, lambda kind, number, listener: None)


class Stage:
    def __init__(self, listeners: Listeners) -> None:
        self.listeners = listeners
        self.shards = [Shard(number, listeners) for number in range(SHARDS)]
        self.spread = Spread(listeners, lambda: self.shards)

    def serves(self, *in_service: int) -> None:
        for shard in self.shards:
            shard.in_service = shard.number in in_service
        self.spread.follow()

    def connect(self, listener: Listener) -> set[int]:
        """Many, one after the other; the shards that get them."""
        clients = [socket.create_connection(listener.sockets[0].getsockname()) for _ in range(MANY)]
        shards = {number for number in range(SHARDS) for _ in accepted(listener.sockets[number])}
        for client in clients:
            client.close()
        return shards


def accepted(listener: socket.socket) -> Iterator[None]:
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return
        yield


@pytest.fixture
def stage() -> Iterator[Stage]:
    listeners = open_listeners([parse_bind("tcp://127.0.0.1:0")], SHARDS, MANY)
    yield Stage(listeners)
    listeners.close()


def test_who_is_out_of_service_gets_none(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = stage.listeners.open
    caplog.set_level(logging.WARNING)
    stage.serves(0, 2, 3)
    assert stage.connect(listener) == {0, 2, 3}
    stage.serves(3)
    assert stage.connect(listener) == {3}
    stage.serves(0, 1, 2, 3)
    assert stage.connect(listener) == {0, 1, 2, 3}
    assert [(record.getMessage()[:18], vars(record)["shard"]) for record in caplog.records] == [
        *[("shard is out of se", shard) for shard in (1, 0, 2)],
        *[("shard is in servic", shard) for shard in (0, 1, 2)],
    ]


def test_what_waits_at_a_shard_goes_on_waiting_there(stage: Stage) -> None:
    (listener,) = stage.listeners.open
    stage.serves(1)
    with socket.create_connection(listener.sockets[0].getsockname()) as client:
        stage.serves(0, 2, 3)
        served, _ = listener.sockets[1].accept()
        with served:
            served.sendall(b"late")
            assert client.recv(4) == b"late"


def test_when_none_is_in_service_all_listen(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = stage.listeners.open
    stage.serves()
    assert stage.connect(listener) == {0, 1, 2, 3}
    assert caplog.records == []


def test_an_address_that_is_added_meanwhile_is_spread_alike(stage: Stage) -> None:
    stage.serves(0, 1)
    stage.listeners.add(open_listeners([parse_bind("tcp://127.0.0.1:0")], SHARDS, MANY))
    stage.spread.follow()
    assert stage.connect(stage.listeners.open[1]) == {0, 1}


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_other_shards_serve_while_workers_of_one_die(layout: str, tmp_path: Path) -> None:
    """hasty.py: three deaths are too many."""
    ill, path = tmp_path / "ill", tmp_path / "socket"
    app = ("support.ailing:Ailing", "--app-dir", "tests", "--queues", "2", "--layout", layout)
    binds = ("--bind", f"unix:{path}", "--bind", "tcp://127.0.0.1:0")
    with Server(*app, *binds, prefix=HASTY, env={"ILL": str(ill)}) as server:
        address = next(one for one in server.status()["listeners"] if one.startswith("tcp://"))
        port = int(address.rpartition(":")[2])

        def shards(count: int) -> set[bytes]:
            found = set()
            for _ in range(count):
                with socket.create_connection(("127.0.0.1", port), 10) as tcp, socket.socket(socket.AF_UNIX) as unix:
                    unix.settimeout(10)
                    unix.connect(str(path))
                    found |= {tcp.recv(1), unix.recv(1)}
            return found

        def is_left_out() -> bool:
            """An engine may accept from a shared socket once more before it reads that it is not to."""
            try:
                return shards(1) == {b"0"}
            except TimeoutError:
                return False

        assert server.get("/readyz")[0] == 200
        ill.touch()
        (worker,) = (worker for worker in server.workers() if worker.shard == 1)
        os.kill(worker.pid, signal.SIGKILL)
        server.wait("it is out of service", lambda: "others get its new connections" in server.log)
        server.wait("it is left out", is_left_out)
        assert shards(40) == {b"0"}
        ill.unlink()
        server.wait("it is in service", lambda: "shard is in service again" in server.log)
        server.wait("it gets connections", lambda: shards(1) >= {b"1"})
