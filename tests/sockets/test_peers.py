"""What bounds the harm that one peer can do, on every backend: how many connections it has, how long it may not read,
and whether it is there at all."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest
from support.server import Serve, Server, wait

LAYOUTS = ["split", "inline"]
ECHO = ("examples.echo:Echo", "--queues", "1")
FLOOD = ("support.handlers:Flood", "--app-dir", "tests", "--queues", "1")


def echo(client: socket.socket, data: bytes = b"hello") -> bytes:
    client.sendall(data)
    return client.recv(65536)


def is_refused(server: Server) -> bool:
    try:
        with socket.create_connection(server.address, 10) as client:
            return echo(client) == b""
    except (ConnectionResetError, BrokenPipeError):  # by connect, send or recv
        return True


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_peer_has_no_more_connections_than_it_may(serve: Serve, layout: str) -> None:
    with serve(*ECHO, "--layout", layout, "--max-connections-per-peer", "3") as server:
        clients = [server.connect() for _ in range(3)]
        assert [echo(client) for client in clients] == [b"hello"] * 3
        assert is_refused(server)
        assert server.drops()["peer_limit"] >= 1
        clients.pop().close()
        server.wait("there is room again", lambda: not is_refused(server))
        assert [echo(client) for client in clients] == [b"hello"] * 2
        for client in clients:
            client.close()


def test_connections_of_a_peer_are_counted_anew_by_the_next_network_process(serve: Serve) -> None:
    with serve(*ECHO, "--max-connections-per-peer", "3") as server:
        clients = [server.connect() for _ in range(3)]
        assert [echo(client) for client in clients] == [b"hello"] * 3
        server.kill_network_process()
        assert [echo(client) for client in clients] == [b"hello"] * 3
        assert is_refused(server)
        clients.pop().close()
        server.wait("there is room again", lambda: not is_refused(server))
        for client in clients:
            client.close()


def read_on(client: socket.socket) -> None:
    while client.recv(1 << 20):
        pass


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_peer_that_does_not_read_is_reset(serve: Serve, layout: str) -> None:
    with (
        serve(*FLOOD, "--layout", layout, "--send-timeout", "1") as server,
        server.connect() as stuck,
        server.connect() as other,
    ):
        stuck.sendall(b"flood 16384")
        server.wait("it is reset", lambda: server.closed()["stalled"] == 1)
        with pytest.raises(ConnectionResetError):
            read_on(stuck)
        assert echo(other) == b"hello"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_peer_that_reads_slowly_is_not(serve: Serve, layout: str) -> None:
    """It takes longer than the timeout until there is room for more, but every second something arrives."""
    with serve(*FLOOD, "--layout", layout, "--send-timeout", "1") as server, server.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        slow.sendall(b"flood 16384")
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert slow.recv(65536)
            time.sleep(0.05)  # what a slow reader does
        assert server.closed()["stalled"] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_all_delivered_has_no_deadline(serve: Serve, layout: str) -> None:
    with serve(*ECHO, "--layout", layout, "--send-timeout", "0.2") as server, server.connect() as client:
        assert echo(client) == b"hello"
        sweeps = server.metrics()["usnet_polls_total"] + 5
        server.wait("deadlines were looked at", lambda: server.metrics()["usnet_polls_total"] > sweeps)
        assert echo(client) == b"hello"
        assert server.closed()["stalled"] == 0


def timers(port: int) -> str:
    """The timers of the server's side of connections, as the kernel shows them."""
    return subprocess.run(
        ["ss", "-tnoH", "state", "established", "sport", "=", f":{port}"], capture_output=True, text=True, check=True
    ).stdout


def test_peers_are_probed_unless_told_otherwise() -> None:
    with Server(*ECHO) as server, server.connect() as client:
        assert echo(client) == b"hello"
        wait("the timer is that of keepalive", lambda: "timer:(keepalive,1min" in timers(server.address[1]))
    with Server(*ECHO, "--keepalive", "0") as server, server.connect() as client:
        assert echo(client) == b"hello"
        assert "keepalive" not in timers(server.address[1])


def test_peers_of_a_listener_that_is_not_ours_are_probed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        with (
            Server(*ECHO, "--bind", f"fd:{fd}", pass_fds=(fd,)) as server,
            socket.create_connection(("127.0.0.1", port)) as client,
        ):
            assert echo(client) == b"hello"
            server.wait("the timer is that of keepalive", lambda: "timer:(keepalive,1min" in timers(port))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stack_of_our_own_probes_as_well(serve: Serve, layout: str, backend: object) -> None:
    with serve(*ECHO, "--layout", layout, "--keepalive", "1") as server, server.connect() as client:
        assert echo(client) == b"hello"
        if server.ask("doctor")[0]["in_force"] != "kernel":
            server.wait("it was probed", lambda: server.metrics().get("usnet_tcp_keepalives_total", 0) > 1)
        else:
            server.wait("the timer is that of keepalive", lambda: "timer:(keepalive" in timers(server.address[1]))
        assert echo(client) == b"hello"  # and it answered
