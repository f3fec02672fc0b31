"""However a server ends, its connections end in order and nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from support.server import STOP_SECONDS, Server

ECHO = "examples.echo:Echo"
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])


def exchange(client: socket.socket, text: bytes = b"hello") -> None:
    client.sendall(text)
    assert client.recv(len(text), socket.MSG_WAITALL) == text


def refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it stood in the queue when the listener closed
    return False


@LAYOUTS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_draining_server_serves_who_is_there_and_refuses_who_comes(layout: str, number: signal.Signals) -> None:
    with Server(ECHO, "--layout", layout, "--graceful-timeout", "60") as server, server.connect() as client:
        exchange(client)
        server.process.send_signal(number)
        server.wait("new connections are refused", lambda: refuses(server))
        assert server.get("/readyz")[0] == 503
        exchange(client)
        client.close()
        assert server.process.wait(STOP_SECONDS) == 0, "it waited for the one connection only"


@LAYOUTS
def test_connections_that_are_idle_do_not_hold_a_stop(layout: str) -> None:
    with Server(ECHO, "--layout", layout, "--graceful-timeout", "600") as server, server.connect() as client:
        exchange(client)
        assert server.stop() == 0
        assert "the connections that are left are idle connections=1" in server.log


@LAYOUTS
def test_a_peer_that_reads_slowly_holds_a_stop(layout: str, tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text(
        "from usnet_framework import Handler\n"
        "class Many(Handler):\n"
        "    def on_data(self, conn, data): conn.send(bytes(9 << 20))\n"
        "    def on_resume(self, conn): pass\n"
    )
    options = ["--layout", layout, "--queues", "1", "--graceful-timeout", "600"]
    with Server("many:Many", *options, cwd=tmp_path) as server, server.connect() as client:
        client.sendall(b"?")
        left = 9 << 20
        while left > 1 << 20:  # the rest is in the kernel's buffers then
            left -= len(client.recv(1 << 16))
        server.process.send_signal(signal.SIGTERM)
        server.wait("it drains", lambda: server.get("/readyz")[0] == 503)
        time.sleep(1.5)  # longer than a connection may be silent that has nothing left to do
        while left:
            got = len(client.recv(1 << 16))
            assert got, "cut short"
            left -= got
        assert server.process.wait(STOP_SECONDS) == 0


@LAYOUTS
def test_a_callback_that_runs_holds_a_stop(layout: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "from usnet_framework import Handler\n"
        "class Slow(Handler):\n"
        "    async def on_data(self, conn, data):\n"
        "        await asyncio.sleep(2)\n"
        "        conn.send(b'done')\n"
        "    def on_resume(self, conn): pass\n"
    )
    options = ["--layout", layout, "--queues", "1", "--graceful-timeout", "600"]
    with Server("slow:Slow", *options, cwd=tmp_path) as server, server.connect() as client:
        client.sendall(b"?")
        server.wait("the callback runs", lambda: any(conn["bytes_in"] for conn in server.ask("conns")))
        server.process.send_signal(signal.SIGTERM)
        assert client.recv(4, socket.MSG_WAITALL) == b"done"
        assert server.process.wait(STOP_SECONDS) == 0


STAYING = """
import asyncio
from usnet_framework import Handler

class Forgetful(Handler):
    async def on_data(self, conn, data):
        conn.send(data)
        await asyncio.sleep(600 if bytes(data) == b"work" else 0)

class Resuming(Forgetful):
    def on_resume(self, conn): pass
"""


@pytest.mark.parametrize("handler", ["Forgetful", "Resuming"])
@LAYOUTS
def test_connections_that_stay_are_ended_in_order_unless_something_of_them_is_unfinished(
    layout: str, handler: str, tmp_path: Path
) -> None:
    (tmp_path / "staying.py").write_text(STAYING)
    options = ["--layout", layout, "--queues", "1", "--graceful-timeout", "0.3"]
    serves = Server(f"staying:{handler}", *options, cwd=tmp_path)
    with serves as server, server.connect() as idle, server.connect() as busy:
        exchange(idle, b"rest")
        exchange(busy, b"work")
        assert server.stop() == 0
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionResetError):
            busy.recv(1)


@LAYOUTS
def test_a_second_signal_stops_at_once(layout: str) -> None:
    with Server(ECHO, "--layout", layout, "--graceful-timeout", "600") as server, server.connect() as client:
        exchange(client)
        server.process.send_signal(signal.SIGTERM)
        server.wait("it drains", lambda: server.get("/readyz")[0] == 503)
        assert server.stop(signal.SIGTERM) == 0


@LAYOUTS
def test_a_killed_supervisor_leaves_nothing(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    serves = Server(ECHO, "--layout", layout, "--bind", f"unix:{path}", stop=False)
    with serves as server, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        exchange(client)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(STOP_SECONDS)
        server.wait("its socket files are gone", lambda: not path.exists() and not server.control.exists())


def test_a_stopped_worker_is_killed_when_it_does_not_leave() -> None:
    with Server(ECHO, "--queues", "1", "--graceful-timeout", "0.1") as server:
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        assert server.stop() == 0
        assert "did not leave in time" in server.log


HOOKS = """
import asyncio
from usnet_framework import Handler

class Hooked(Handler):
    async def on_start(self, shard):
        print("starting", shard.shard, shard.seat, shard.serial, shard.layout, flush=True)
        await asyncio.sleep(0.05)
        self.ready = b"started"

    def on_data(self, conn, data):
        conn.send(self.ready)

    async def on_stop(self):
        await asyncio.sleep(0.05)
        print("stopped in order", flush=True)
"""


@LAYOUTS
def test_start_and_stop_may_be_coroutines(layout: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    with Server("hooks:Hooked", "--layout", layout, "--queues", "1", cwd=tmp_path) as server:
        with server.connect() as client:
            client.sendall(b"?")
            assert client.recv(7, socket.MSG_WAITALL) == b"started"
        assert server.stop() == 0
        assert f"starting 0 0 1 {layout}" in server.log
        assert "stopped in order" in server.log


def test_what_the_handler_still_owes_is_sent_before_a_worker_leaves(tmp_path: Path) -> None:
    (tmp_path / "owing.py").write_text(
        "import asyncio\n"
        "from usnet_framework import Handler\n"
        "class Owing(Handler):\n"
        "    async def on_data(self, conn, data):\n"
        "        await asyncio.sleep(0.5)\n"
        "        conn.send(bytes(8 << 20))\n"
        "    def on_resume(self, conn): pass\n"
    )
    with Server("owing:Owing", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        (old,) = server.workers()
        client.sendall(b"?")
        server.wait("the callback runs", lambda: any(conn["bytes_in"] for conn in server.ask("conns")))
        server.process.send_signal(signal.SIGHUP)
        left = 8 << 20
        while left:
            got = len(client.recv(1 << 20))
            assert got, "cut short"
            left -= got
        server.wait("the worker was replaced", lambda: any(new.serial > old.serial for new in server.workers()))
        client.sendall(b"?")
        assert client.recv(1) == b"\0"


FAREWELL = """
from usnet_framework import Handler

class Farewell(Handler):
    def on_start(self, shard):
        self.conns = set()

    def on_connect(self, conn):
        self.conns.add(conn)
        conn.send(b"hello")

    def on_stop(self):
        for conn in self.conns:
            conn.send(b"good bye")
            conn.close()
"""


@LAYOUTS
def test_what_on_stop_sends_arrives(layout: str, tmp_path: Path) -> None:
    (tmp_path / "farewell.py").write_text(FAREWELL)
    options = ["--layout", layout, "--queues", "1", "--graceful-timeout", "0.2"]
    with Server("farewell:Farewell", *options, cwd=tmp_path) as server, server.connect() as client:
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        assert server.stop() == 0
        assert client.recv(100) == b"good bye"
        assert client.recv(1) == b""
