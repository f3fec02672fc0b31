"""Where a server listens, whom it lets in, and how long they may be silent."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.manager import activated
from support.server import Serve, Server, free_port, wait

LAYOUTS = ["split", "inline"]


def echo(client: socket.socket, text: bytes = b"hello") -> bytes:
    client.settimeout(10)
    client.sendall(text)
    return client.recv(len(text))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unix_socket_shared_by_shards(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with Server("examples.echo:Echo", "--bind", f"unix:{path}", "--layout", layout, "--queues", "2") as server:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                assert echo(client) == b"hello"
        server.wait("they are gone", lambda: server.ask("conns") == [])
    assert not path.exists()


def test_logs_say_that_a_peer_came_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "raises.sock"
    with Server("support.handlers:Raises", "--app-dir", "tests", "--bind", f"unix:{path}") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"hello")
            assert client.recv(1) == b""
        assert server.wait("it is logged", lambda: "from unix: a callback raised" in server.log)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dual_stack(layout: str) -> None:
    port = free_port()
    with Server("examples.echo:Echo", "--bind", f"tcp://[::]:{port}", "--layout", layout, "--queues", "1") as server:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                client.connect((host, port))
                assert echo(client) == b"hello"
                (conn,) = server.ask("conns")
                assert conn["peer"][:2] == list(client.getsockname()[:2])
                server.wait("all was taken", lambda: [conn["bytes_queued"] for conn in server.ask("conns")] == [0])
            server.wait("it is gone", lambda: server.ask("conns") == [])


def test_several_binds(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    binds = [word for port in ports for word in ("--bind", f"tcp://127.0.0.1:{port}")]
    with Server("examples.echo:Echo", *binds, "--bind", f"unix:{tmp_path / 's'}"):
        for port in ports:
            with socket.create_connection(("127.0.0.1", port)) as client:
                assert echo(client) == b"hello"


def test_an_inherited_descriptor_as_systemd_hands_it_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handed_down = [listener.fileno()]
        serves = Server("examples.echo:Echo", "--bind", "fd:3", prefix=activated(listener), pass_fds=handed_down)
        with socket.create_connection(listener.getsockname()) as client, serves:  # it waits in the backlog meanwhile
            assert echo(client) == b"hello"
            client.close()
        with socket.create_connection(listener.getsockname(), 10):
            pass  # the socket is still the owner's: it goes on listening


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_connections_than_allowed_wait_their_turn(serve: Serve, layout: str) -> None:
    options = ["--max-connections", "4", "--layout", layout, "--queues", "1"]
    with serve("examples.echo:Echo", *options) as server:
        inside = [server.connect() for _ in range(4)]
        assert all(echo(client) == b"hello" for client in inside)
        late = server.connect()
        late.sendall(b"me too")
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(1)
        inside[0].close()
        late.settimeout(10)
        assert late.recv(6) == b"me too"
        assert server.metrics()["usnet_accepts_paused_total"] >= 1
        for client in [*inside[1:], late]:
            client.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_idle_connections_are_closed(serve: Serve, layout: str) -> None:
    options = ["--idle-timeout", "1", "--layout", layout, "--queues", "1"]
    with serve("examples.echo:Echo", *options) as server, server.connect() as idle, server.connect() as busy:

        def idle_is_closed() -> bool:
            assert echo(busy, b"x") == b"x"
            return len(server.ask("conns")) == 1  # metrics take longer to read, and the busy one may not be idle

        wait("the idle one is closed", idle_is_closed)
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
        assert echo(busy) == b"hello"
