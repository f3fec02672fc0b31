"""Addresses that come and go while the server runs: served at once, through deaths and reloads, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.server import Serve, Server, free_port

BINDS = 200
KILLS = 20
LAYOUTS = ["split", "inline"]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("--layout", request.param)


def address(server: Server, port: int) -> str:
    return f"tcp://{server.address[0]}:{port}"


def connect(server: Server, port: int) -> socket.socket:
    return socket.create_connection((server.address[0], port), 10)


def echoes(client: socket.socket, message: bytes = b"hello") -> bool:
    client.sendall(message)
    return client.recv(len(message), socket.MSG_WAITALL) == message


def is_served(server: Server, port: int) -> bool:
    with connect(server, port) as client:
        return echoes(client)


def is_refused(server: Server, port: int) -> bool:
    with suppress(ConnectionRefusedError):
        connect(server, port).close()
        return False
    return True


def bind(server: Server, where: str) -> str:
    return str(server.ctl("bind", where))


def unbind(server: Server, where: str) -> str:
    return str(server.ctl("unbind", where))


def test_an_address_is_served_at_once_and_by_every_shard(serve: Serve, layout: tuple[str, ...]) -> None:
    with serve("examples.echo:Echo", "--queues", "2", *layout) as server:
        port = free_port()
        assert is_refused(server, port)
        said = bind(server, address(server, port))
        assert said == f"listening on {address(server, port)} until the server is restarted; --bind keeps it"
        clients = [connect(server, port) for _ in range(32)]
        assert all(echoes(client) for client in clients)
        conns = [conn for conn in server.ask("conns") if conn["local"][1] == port]
        assert {conn["shard"] for conn in conns} == {0, 1}
        for client in clients:
            client.close()


def test_open_connections_stay_when_it_goes(serve: Serve, layout: tuple[str, ...]) -> None:
    with serve("examples.echo:Echo", *layout) as server:
        port = free_port()
        bind(server, address(server, port))
        with connect(server, port) as client:
            assert echoes(client)
            assert unbind(server, address(server, port)) == f"no longer listening on {address(server, port)}"
            assert is_refused(server, port)
            assert echoes(client, b"still here")
        bind(server, address(server, port))
        assert is_served(server, port)


def test_the_last_one_may_go(serve: Serve, layout: tuple[str, ...]) -> None:
    with serve("examples.echo:Echo", *layout) as server:
        (at_start,) = server.status()["listeners"]
        with server.connect() as client:
            assert echoes(client)
            unbind(server, at_start)
            assert server.status()["listeners"] == []
            assert is_refused(server, server.address[1])
            assert echoes(client)
        bind(server, address(server, server.address[1]))
        assert is_served(server, server.address[1])


def test_it_is_shown(serve: Serve) -> None:
    with serve("examples.echo:Echo") as server:
        added = address(server, free_port())
        bind(server, added)
        assert added in server.status()["listeners"]
        assert f'usnet_listener{{address="{added}"}} 1.0' in server.get("/metrics")[1]
        findings = {finding["asked"]: finding for finding in server.ask("doctor") if finding["what"] == "listener"}
        assert findings[f"{added}, by usnet-ctl bind"]["reason"] == "until the server is restarted"
        unbind(server, added)
        assert added not in server.status()["listeners"]
        assert added not in server.get("/metrics")[1]


def test_it_survives_a_reload_and_a_worker(serve: Serve, layout: tuple[str, ...]) -> None:
    with serve("examples.echo:Echo", "--queues", "1", *layout) as server:
        port = free_port()
        (at_start,) = server.status()["listeners"]
        bind(server, address(server, port))
        unbind(server, at_start)
        server.ask("reload")
        assert is_served(server, port)
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGKILL)
        server.wait("another worker serves", lambda: any(new.serial > worker.serial for new in server.workers()))
        assert is_served(server, port)
        server.wait("all serve", lambda: server.status()["state"] == "ready")
        assert is_refused(server, server.address[1])


def kill_engine(server: Server) -> None:
    (pid,) = server.network_pids()
    os.kill(pid, signal.SIGKILL)


def kill_keeper(server: Server) -> None:
    os.kill(server.status()["shards"][0]["keeper_pid"], signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_engine, kill_keeper])
def test_it_survives_who_owns_the_connections(serve: Serve, kill: Callable[[Server], None]) -> None:
    """Killed right after a bind, and between an unbind and the next connection."""
    with serve("examples.echo:Echo", "--queues", "1") as server:
        port, other = free_port(), free_port()
        bind(server, address(server, other))
        bind(server, address(server, port))
        kill(server)
        server.wait("it is served", lambda: is_served_by_now(server, port))
        server.wait("all serve", lambda: server.status()["state"] == "ready" and server.network_pids() != [])
        unbind(server, address(server, other))
        kill(server)
        server.wait("it is served", lambda: is_served_by_now(server, port))
        assert is_refused(server, other)


def test_engines_may_die_at_any_moment_of_it(serve: Serve) -> None:
    """What was asked for is so afterwards, whether the dead engine had heard of it or not, and nothing is left open."""
    with serve("examples.echo:Echo", "--queues", "1") as server:
        where = address(server, free_port())
        port = int(where.rpartition(":")[2])
        server.ask("bind", address=where)
        server.ask("unbind", address=where)
        before = open_descriptors(server)
        for _ in range(KILLS):
            for command in ("bind", "unbind"):
                (old,) = server.network_pids()
                asking = threading.Thread(target=server.ask, args=(command,), kwargs={"address": where})
                asking.start()
                time.sleep(random.uniform(0, 0.005))  # the moment of a kill is random
                os.kill(old, signal.SIGKILL)
                asking.join()
                server.wait("another one serves", lambda old=old: server.network_pids() not in ([], [old]))
                if command == "bind":
                    assert is_served(server, port)
            assert is_refused(server, port)
        server.wait("no more than before", lambda: open_descriptors(server) <= before)


def is_served_by_now(server: Server, port: int) -> bool:
    """A shard that is rebuilt has reset, or refused, what came meanwhile."""
    with suppress(OSError):
        return is_served(server, port)
    return False


def open_descriptors(server: Server) -> int:
    count = 0
    for process in server.processes():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            count += process.num_fds()
    return count


def test_descriptors_do_not_pile_up(serve: Serve, layout: tuple[str, ...]) -> None:
    with serve("examples.echo:Echo", "--queues", "2", *layout) as server:
        where = [address(server, free_port()) for _ in range(4)]
        for one in where:  # threads, and whatever is made once
            server.ask("bind", address=one)
            server.ask("unbind", address=one)
        before = open_descriptors(server)
        for number in range(BINDS):
            server.ask("bind", address=where[number % len(where)])
            server.ask("unbind", address=where[number % len(where)])
        server.wait("no more than before", lambda: open_descriptors(server) <= before)
        assert is_served(server, server.address[1])


def test_what_cannot_be_is_refused_in_one_line(serve: Serve) -> None:
    with serve("examples.echo:Echo") as server:
        (at_start,) = server.status()["listeners"]
        for where in ("fd:3", "7000", "tcp://127.0.0.1:70000"):
            assert where in server.refusal("bind", where)
        absent = address(server, free_port())
        assert server.refusal("unbind", absent) == (
            f"usnet-ctl: unbind: {absent}: is not listened on; there is {at_start}\n"
        )
        assert server.status()["listeners"] == [at_start]
        assert is_served(server, server.address[1])


def test_a_port_in_use_is_refused() -> None:
    with Server("examples.echo:Echo", "--queues", "2") as server, socket.create_server(("127.0.0.1", 0)) as other:
        taken = address(server, other.getsockname()[1])
        assert server.refusal("bind", taken) == (
            f"usnet-ctl: bind: {taken}: the port is in use; stop who listens there or use another port\n"
        )
        assert is_served(server, server.address[1])


def test_what_was_added_is_not_added_again(serve: Serve) -> None:
    with serve("examples.echo:Echo") as server:
        added = address(server, free_port())
        bind(server, added)
        for there in server.status()["listeners"]:
            why = f"{there}: is listened on already; unbind it first, or use another address"
            assert server.refusal("bind", there) == f"usnet-ctl: bind: {why}\n"
        assert server.status()["listeners"].count(added) == 1


def test_a_socket_file_comes_and_goes(layout: tuple[str, ...]) -> None:
    with Server("examples.echo:Echo", "--queues", "2", *layout) as server:
        path = server.folder / "added.sock"
        bind(server, f"unix:{os.path.relpath(path, server.cwd)}")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            assert echoes(client)
            assert "is listened on already" in server.refusal("bind", f"unix:{path}")
            unbind(server, f"unix:{path}")
            assert not path.exists()
            assert echoes(client)


def test_an_added_socket_file_goes_with_the_server(layout: tuple[str, ...]) -> None:
    with Server("examples.echo:Echo", *layout) as server:
        path = server.folder / "added.sock"
        bind(server, f"unix:{path}")
        assert server.stop() == 0
        assert not path.exists()


def test_an_added_socket_file_goes_with_a_supervisor_that_is_killed(layout: tuple[str, ...]) -> None:
    with Server("examples.echo:Echo", *layout, stop=False) as server:
        path: Path = server.folder / "added.sock"
        bind(server, f"unix:{path}")
        server.stop(signal.SIGKILL)
        server.wait("the file is gone", lambda: not path.exists())
