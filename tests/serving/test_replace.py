"""What dies is replaced, and what cannot be carried over is made anew."""

from __future__ import annotations

import os
import signal
import socket

from support.server import Server, Worker

ECHO = "examples.echo:Echo"


def exchange(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def is_over(client: socket.socket) -> bool:
    """The kernel closes what a killed process had open: in order, or by a reset when something was unread."""
    try:
        client.sendall(b"hello")
        return client.recv(5) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def test_an_inline_worker_takes_its_connections_with_it_and_another_one_serves() -> None:
    with Server(ECHO, "--layout", "inline", "--queues", "2") as server:
        clients = [server.connect() for _ in range(16)]
        for client in clients:
            exchange(client)
        victim, other = server.workers()
        shards = {conn["peer"][1]: conn["shard"] for conn in server.ask("conns")}
        os.kill(victim.pid, signal.SIGKILL)
        server.wait("it is replaced", lambda: server.workers()[0].serial == 2 and server.get("/readyz")[0] == 200)
        for client in clients:
            if shards[client.getsockname()[1]] == victim.shard:
                assert is_over(client)
            else:
                exchange(client)
            client.close()
        assert other in server.workers()
        for _ in range(16):
            with server.connect() as client:
                exchange(client)


def test_a_shard_whose_keeper_died_is_rebuilt_and_the_others_do_not_notice() -> None:
    with Server(ECHO, "--queues", "2") as server:
        clients = [server.connect() for _ in range(16)]
        for client in clients:
            exchange(client)
        shards = {conn["peer"][1]: conn["shard"] for conn in server.ask("conns")}
        keeper = server.status()["shards"][0]["keeper_pid"]
        os.kill(keeper, signal.SIGKILL)
        server.wait("the shard is rebuilt", lambda: server.status()["shards"][0]["rebuilds"] == 1)
        server.wait("it serves", lambda: server.get("/readyz")[0] == 200)
        for client in clients:
            if shards[client.getsockname()[1]] == 0:
                assert is_over(client)
            else:
                exchange(client)
            client.close()
        for _ in range(16):
            with server.connect() as client:
                exchange(client)


def test_workers_that_die_again_and_again_are_all_replaced() -> None:
    with Server(ECHO, "--queues", "1", "--spares", "2") as server, server.connect() as client:
        for _ in range(10):
            exchange(client)
            (worker,) = server.workers()
            os.kill(worker.pid, signal.SIGKILL)
            server.wait("it is replaced", lambda worker=worker: serial(server.workers()) > worker.serial)
        exchange(client)
        (status,) = server.status()["shards"][0]["workers"]
        assert status["restarts"] == 10
        assert status["replaced_ms"] > 0


def serial(workers: list[Worker]) -> int:
    return workers[0].serial if workers else 0


def test_a_seat_waits_while_the_code_on_disk_is_broken(tmp_path) -> None:  # type: ignore[no-untyped-def]
    app = tmp_path / "app.py"
    good = (
        "from usnet_framework import Handler\n"
        "class App(Handler):\n"
        "    def on_data(self, conn, data): conn.send(data)\n"
        "    def on_resume(self, conn): pass\n"
    )
    app.write_text(good)
    options = ("--queues", "1", "--spares", "0", "--preload", "off")
    with Server("app:App", *options, cwd=tmp_path) as server, server.connect() as client:
        exchange(client)
        app.write_text("broken(\n")
        os.kill(server.workers()[0].pid, signal.SIGKILL)
        server.wait("it cannot be replaced", lambda: server.log.count("SyntaxError") >= 2)
        assert server.get("/readyz")[0] == 503
        client.sendall(b"hello")
        app.write_text(good + "# repaired\n")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello", "the connection waited"
