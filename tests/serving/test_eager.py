"""A handler whose loop begins tasks at once, within the callback that starts them."""

from __future__ import annotations

import socket
import sys

import pytest
from support.server import Server

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory came with Python 3.12")

EAGER = ("support.eager:Eager", "--app-dir", "tests", "--queues", "1")


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(100)


def test_each_connection_has_its_context_and_a_spawned_task_a_copy() -> None:
    with Server(*EAGER) as server, server.connect() as ann, server.connect() as bob:
        assert ask(ann, b"ann") == b"nothing, ann"
        assert ask(bob, b"bob") == b"nothing, bob"
        assert ask(ann, b"spawn") == b"ann, spawn"
        assert ask(bob, b"bob again") == b"bob, bob again"
        assert ask(ann, b"ann again") == b"spawn, ann again"


def test_a_stop_waits_for_what_was_spawned() -> None:
    with Server(*EAGER) as server:
        with server.connect() as client:
            ask(client, b"spawn")
        assert server.stop() == 0
        assert "spawn is done after 0.0 s" in server.log
        assert "spawn is done after 0.5 s" in server.log


def test_the_first_step_is_part_of_its_event() -> None:
    """So it is tried once more, and put aside when that kills a worker too (P3)."""
    with Server(*EAGER) as server:
        with server.connect() as other, server.connect() as client:
            assert ask(other, b"before") == b"nothing, before"
            client.sendall(b"die")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert ask(other, b"after") == b"nothing, after", "it is served by a third worker"
        server.wait("it is kept", lambda: [*(server.folder / "quarantine").glob("*.bin")])
        (kept,) = (server.folder / "quarantine").glob("*.bin")
        assert kept.read_bytes() == b"die"
        (seat,) = server.status()["shards"][0]["workers"]
        assert (seat["restarts"], seat["poisoned"]) == (2, 1)
        assert "handling=task" not in server.log


def test_later_steps_are_those_of_a_task() -> None:
    with Server(*EAGER) as server, server.connect() as other, server.connect() as client:
        assert ask(other, b"before") == b"nothing, before"
        client.sendall(b"die later")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert ask(other, b"after") == b"nothing, after"
        server.wait("it is told", lambda: "handling=task" in server.log)
        assert "handling=data" not in server.log
        assert server.metrics()["usnet_task_deaths_total"] == 1
