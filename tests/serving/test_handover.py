"""A reload that nobody notices: the successor serves beside the worker before it, which finishes what it has."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from support.apps import ask, write
from support.prober import Prober
from support.server import Serve, Server

MANY = 9 << 20
MORE = """
    def on_connect(self, conn):
        pass
    def on_data(self, conn, data):
        what = bytes(data)
        if what == b'many':
            conn.send(bytes(9 << 20))
        elif what == b'slow':
            return self.later(conn)
        elif what == b'busy':
            import asyncio, time
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 30)
            conn.send(b'yes')
        elif what == b'exit':
            import atexit, time
            atexit.register(time.sleep, 30)
            conn.send(b'yes')
        else:
            conn.send(NAME)
    async def later(self, conn):
        import asyncio, os
        while not os.path.exists('finish'):
            await asyncio.sleep(0.01)
        conn.send(b'done by ' + NAME)
"""


def deploy(folder: Path, name: str, more: str = MORE, top: str = "") -> None:
    write(folder, name, more=more, top=f"{top}\nNAME = {name.encode()!r}")


def demand(client: socket.socket, what: bytes, answer: bytes | None = None) -> None:
    client.sendall(what)
    if answer is not None:
        assert client.recv(len(answer), socket.MSG_WAITALL) == answer


def worker_before(server: Server) -> int | None:
    (worker,) = server.status()["shards"][0]["workers"]
    return worker["leaving"]["pid"] if worker["leaving"] is not None else None


def test_a_slow_reader_holds_up_nobody_and_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with serve("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect(30) as slow:
        demand(slow, b"many")
        assert slow.recv(1) == b"\0"
        with Prober(server) as prober:
            server.wait("the first code answers", lambda: b"one" in prober.answers)
            deploy(tmp_path, "two")
            server.ask("reload")
            server.wait("new code answers", lambda: b"two" in prober.answers)
            assert worker_before(server) is not None, "it is held up"
        prober.assert_served()
        left = MANY - 1
        while left:
            got = slow.recv(min(left, 1 << 16))
            assert got == bytes(len(got))
            assert got, server.log
            left -= len(got)
        server.wait("the worker before has left", lambda: worker_before(server) is None)
        demand(slow, b"?", b"two")
        assert not server.closed()["reset"]
        assert not server.closed()["worker_lost"]


def test_a_coroutine_finishes_where_it_began(serve: Serve, tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with serve("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect(30) as slow:
        demand(slow, b"slow")
        server.wait("it runs", lambda: any(conn["bytes_in"] for conn in server.ask("conns")))
        with Prober(server) as prober:
            deploy(tmp_path, "two")
            server.ask("reload")
            server.wait("new code answers", lambda: b"two" in prober.answers)
            (tmp_path / "finish").touch()
            demand(slow, b"", b"done by one")
        prober.assert_served()
        server.wait("the worker before has left", lambda: worker_before(server) is None)
        demand(slow, b"?", b"two")


@pytest.mark.parametrize("what", [b"busy", b"exit"])
def test_threads_and_exit_hooks_delay_nobody(serve: Serve, tmp_path: Path, what: bytes) -> None:
    deploy(tmp_path, "one")
    with serve("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        demand(client, what, b"yes")
        (old,) = server.workers()
        with Prober(server) as prober:
            for name in ("two", "six"):
                deploy(tmp_path, name)
                server.ask("reload")
        prober.assert_served()
        demand(client, b"?", b"six")
        server.wait("it is killed in the end", lambda: old.pid not in {process.pid for process in server.processes()})
        before, killed, _ = server.log.partition("exit hooks or threads still ran")
        assert killed
        assert "reloaded 1 worker in " in before, "the first reload did not wait for them"


def test_a_successor_that_is_killed_is_followed_by_its_own_code(serve: Serve, tmp_path: Path) -> None:
    once = "    def on_start(self, shard):\n        import os\n        self.serial = shard.serial\n"
    dies = (
        "    def on_connect(self, conn):\n"
        "        import os, signal\n"
        "        if self.serial == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    deploy(tmp_path, "one")
    with serve("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        deploy(tmp_path, "two", more=MORE.replace("    def on_connect(self, conn):\n        pass\n", "") + once + dies)
        server.ask("reload")
        with server.connect() as other:
            assert ask(other) == b"two"
        assert ask(client) == b"two"
        assert server.workers()[0].serial == 3
        assert server.status()["rollbacks"] == 0


def test_the_worker_before_may_be_killed_while_it_finishes(serve: Serve, tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    serves = serve("app:App", "--queues", "1", cwd=tmp_path)
    with serves as server, server.connect() as slow, server.connect() as client:
        assert ask(client) == b"one"
        demand(slow, b"slow")
        server.wait("it runs", lambda: any(conn["bytes_in"] == 4 for conn in server.ask("conns")))
        deploy(tmp_path, "two")
        with Prober(server) as prober:
            server.ask("reload")
            old = server.wait("it finishes", lambda: worker_before(server))
            os.kill(old, signal.SIGKILL)
            assert ask(client) == b"two"
            with pytest.raises(ConnectionResetError):
                slow.recv(1)  # its callback is gone (P1)
        prober.assert_served()
        assert "worker was killed by SIGKILL before it had left" in server.log


def test_an_overlap_ends_in_time(serve: Serve, tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    options = ["--queues", "1", "--reload-overlap", "1", "--graceful-timeout", "1"]
    with serve("app:App", *options, cwd=tmp_path) as server, server.connect() as slow:
        demand(slow, b"slow")
        server.wait("it runs", lambda: any(conn["bytes_in"] for conn in server.ask("conns")))
        deploy(tmp_path, "two")
        with Prober(server) as prober:
            server.ask("reload")
            server.wait("it leaves", lambda: worker_before(server) is None)
        prober.assert_served()
        with pytest.raises(ConnectionResetError):
            slow.recv(1)
        assert "(--reload-overlap is over)" in server.log


def test_reloads_follow_each_other_while_nobody_waits(serve: Serve, tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with serve("app:App", "--queues", "1", "--workers", "2", cwd=tmp_path) as server:
        with Prober(server) as prober:
            for turn in range(4):
                deploy(tmp_path, f"number {turn}")
                assert server.ask("reload") == "reloaded 2 workers"
        prober.assert_served()
        assert not server.closed()["reset"]


def test_connections_of_a_handler_that_cannot_resume_stay_where_they_are(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path, "one", resume="another")
    options = ["--queues", "1", "--reload-overlap", "3"]
    with serve("app:App", *options, cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        write(tmp_path, "two", resume="another")
        server.ask("reload")
        assert ask(client) == b"one"
        with server.connect() as other:
            assert ask(other) == b"two"
        assert ask(client) == b"one"
        server.wait("it leaves", lambda: worker_before(server) is None)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
