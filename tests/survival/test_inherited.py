"""A server serves and survives whatever state its parent left it in."""

from __future__ import annotations

import os
import signal

from support.careless import careless
from support.server import Server

ECHO = "examples.echo:Echo"


def exchange(server: Server, text: bytes = b"hello") -> None:
    with server.connect() as client:
        client.sendall(text)
        assert client.recv(len(text)) == text


def test_an_engine_is_replaced_when_sigchld_was_ignored() -> None:
    with Server(ECHO, "--queues", "1", prefix=careless(ignored=["SIGCHLD"])) as server, server.connect() as client:
        for _ in range(3):
            (old,) = server.network_pids()
            os.kill(old, signal.SIGKILL)
            server.wait("another engine serves", lambda old=old: server.network_pids() not in ([], [old]))
        client.sendall(b"as before")
        assert client.recv(9) == b"as before"
        exchange(server)
