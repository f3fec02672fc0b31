"""The end of a server on a TAP interface, as the kernel's TCP sees it."""

from __future__ import annotations

import socket

from support.link import Link, connect
from support.privilege import needs_tap
from support.server import Server

pytestmark = needs_tap

CONNECTIONS = 300  # more than a stack's turn sends for


def test_a_stop_ends_idle_connections_in_order(link: Link) -> None:
    with Server("examples.echo:Echo", "--queues", "1", backend=link) as server:
        clients = [connect(4, server.address[1]) for _ in range(CONNECTIONS)]
        for client in clients:
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        assert server.stop() == 0
        for client in clients:
            assert client.recv(1) == b""
            client.close()
