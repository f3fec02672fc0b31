"""Reads that stop short: at urgent data, and where descriptors came with the bytes. What lies behind is read as well.

The handler answers when the line is whole, as an answer's way to the peer may make the kernel signal the socket anew.
Everything is sent while the process that receives is stopped, so that it finds all of it at once.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.server import Server

LINES = ("support.obedient:Obedient", "--app-dir", "tests", "--queues", "1")
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The process that has the sockets."""
    (pid,) = server.network_pids() or [worker.pid for worker in server.workers()]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def receive(client: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        piece = client.recv(length - len(received))
        assert piece, received
        received += piece
    return received


def served(server: Server, client: socket.socket) -> None:
    client.settimeout(10)
    client.sendall(b"echo begin\n")
    assert receive(client, 5) == b"begin"


@LAYOUTS
def test_what_follows_urgent_data_is_read(layout: str) -> None:
    with Server(*LINES, "--layout", layout) as server, server.connect() as client:
        served(server, client)
        with stopped(server):
            client.sendall(b"echo abc")
            client.send(b"!", socket.MSG_OOB)
            client.sendall(b"def\n")
        assert receive(client, 7) == b"abc!def"
        client.sendall(b"echo later\n")
        assert receive(client, 5) == b"later"


def test_urgent_data_for_a_listener_that_is_not_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        with (
            Server(*LINES, "--bind", f"fd:{fd}", pass_fds=(fd,)) as server,
            socket.create_connection(listener.getsockname()) as client,
        ):
            served(server, client)
            with stopped(server):
                client.sendall(b"echo abc")
                client.send(b"!", socket.MSG_OOB)
                client.sendall(b"def\n")
            assert receive(client, 7) == b"abc!def"


@LAYOUTS
def test_what_follows_a_descriptor_is_read_and_the_descriptor_closed(tmp_path: Path, layout: str) -> None:
    bind = f"unix:{tmp_path / 's'}"
    with Server(*LINES, "--bind", bind, "--layout", layout) as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        served(server, client)
        held, given = os.pipe()
        with stopped(server):
            socket.send_fds(client, [b"echo abc"], [given])
            os.close(given)
            client.sendall(b"def\n")
        assert receive(client, 6) == b"abcdef"
        assert select.select([held], [], [], 10)[0], "the server kept the descriptor"
        assert os.read(held, 1) == b""
        os.close(held)
