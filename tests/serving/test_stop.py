"""However a server ends, it ends in order and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.apps import write
from support.server import WITH_THE_TEST, Server, command, run, wait

from usnet_framework.shards import control

ECHO = "examples.echo:Echo"
TESTS = Path(__file__).resolve().parents[1]
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
        assert server.process.wait(10) == 0, "it waited for the one connection only"


@LAYOUTS
def test_connections_that_are_idle_do_not_hold_a_stop(layout: str) -> None:
    with Server(ECHO, "--layout", layout, "--graceful-timeout", "600") as server, server.connect() as client:
        exchange(client)
        began_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began_s < 5
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
        time.sleep(3)
        while left:
            got = len(client.recv(1 << 16))
            assert got, "cut short"
            left -= got
        assert server.process.wait(10) == 0


@LAYOUTS
def test_a_callback_that_runs_holds_a_stop(layout: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "from usnet_framework import Handler\n"
        "class Slow(Handler):\n"
        "    async def on_data(self, conn, data):\n"
        "        await asyncio.sleep(3)\n"
        "        conn.send(b'done')\n"
        "    def on_resume(self, conn): pass\n"
    )
    options = ["--layout", layout, "--queues", "1", "--graceful-timeout", "600"]
    with Server("slow:Slow", *options, cwd=tmp_path) as server, server.connect() as client:
        client.sendall(b"?")
        server.wait("the callback runs", lambda: any(conn["bytes_in"] for conn in server.ask("conns")))
        server.process.send_signal(signal.SIGTERM)
        assert client.recv(4, socket.MSG_WAITALL) == b"done"
        assert server.process.wait(10) == 0


WAITS = "    def on_start(self, shard):\n        import time; time.sleep(600)\n"


@pytest.mark.parametrize("stage", ["import", "on_start"])
@LAYOUTS
def test_a_stop_while_somebody_waits_for_a_reload_is_told_to_them(layout: str, stage: str, tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--layout", layout, "--queues", "1", cwd=tmp_path) as server:
        before = len(server.processes())
        write(tmp_path, "two", **({"top": "import time; time.sleep(600)"} if stage == "import" else {"more": WAITS}))
        pipe = subprocess.PIPE
        asks = [command("usnet-ctl"), "reload", "--control", str(server.control)]
        with subprocess.Popen(asks, stderr=pipe, text=True) as first, subprocess.Popen(
            asks, stderr=pipe, text=True
        ) as second:
            server.wait("new code is there", lambda: len(server.processes()) > before + (stage == "on_start"))
            time.sleep(0.5)  # the second one waits for the first
            assert server.stop() == 0
            for asked in (first, second):
                _, error = asked.communicate(timeout=10)
                assert asked.returncode == 3
                assert "the server is stopping" in error
        assert "Traceback" not in server.log


STAGES = ["listening", "imports", "starts", "serves", "reload imports", "reload starts", "hand-over"]


@pytest.mark.parametrize("stage", STAGES)
@LAYOUTS
def test_a_stop_is_obeyed_at_every_stage(layout: str, stage: str, tmp_path: Path) -> None:
    hangs = {"top": "import time; time.sleep(600)"}
    waits = {"more": WAITS}
    write(tmp_path, "one", **{"imports": hangs, "starts": waits}.get(stage, {}))
    control = tmp_path / "control"
    options = ["--layout", layout, "--queues", "1", "--bind", "unix:s", "--metrics", "off", "--control", str(control)]
    environment = os.environ | {"USNET_SYSCALLS": "kill"}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [command("usnet-serve"), "app:App", *options], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        wait("it is there", control.exists)
        if stage in ("imports", "starts"):
            time.sleep(1)
        if stage in STAGES[3:]:
            wait("it serves", lambda: "ready in" in (tmp_path / "log").read_text())
        if stage in STAGES[4:]:
            write(tmp_path, "two", **{"reload imports": hangs, "reload starts": waits}.get(stage, {}))
            server.send_signal(signal.SIGHUP)
            time.sleep(0.15 if stage == "hand-over" else 1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
        assert not (tmp_path / "s").exists()
    finally:
        server.kill()
        server.wait()


@LAYOUTS
def test_connections_that_stay_are_reset_after_the_graceful_timeout(layout: str) -> None:
    with Server(ECHO, "--layout", layout, "--graceful-timeout", "0.3") as server, server.connect() as client:
        exchange(client)
        assert server.stop() == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1)


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
        server.process.wait(10)
        server.wait("its socket files are gone", lambda: not path.exists() and not server.control.exists())


def test_ctrl_c_reaches_the_supervisor_alone() -> None:
    with Server(ECHO) as server:
        children = psutil.Process(server.pid).children(recursive=True)
        assert len(children) >= 3
        assert all(os.getpgid(child.pid) != os.getpgid(server.pid) for child in children)


def test_ctl_stops_it() -> None:
    with Server(ECHO) as server:
        server.ctl("stop")
        assert server.process.wait(10) == 0
        gone = run("usnet-ctl", "status", "--control", str(server.control))
        assert gone.returncode == 3
        assert "there is no server" in gone.stderr


@LAYOUTS
def test_ctl_waits_until_it_is_gone(layout: str) -> None:
    serves = Server(ECHO, "--layout", layout, "--queues", "1", "--graceful-timeout", "1", stop=False)
    with serves as server, server.connect() as client:
        exchange(client)
        began_s = time.monotonic()
        assert server.ctl("stop", "--wait") == "stopped"
        assert server.process.poll() == 0, "its process has ended, too"
        assert server.processes() == []
        assert time.monotonic() - began_s >= 1, "a connection got its time"
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.metrics_address)


BUSY = """
import asyncio
from usnet_framework import Handler

class Busy(Handler):
    async def on_data(self, conn, data):
        conn.send(data)
        await asyncio.sleep(600)
"""


def test_ctl_does_not_wait_for_ever(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    serves = Server("busy:Busy", "--queues", "1", "--graceful-timeout", "600", cwd=tmp_path)
    with serves as server, server.connect() as client:
        exchange(client)
        done = run("usnet-ctl", "stop", "--wait", "--timeout", "0.5", "--control", str(server.control))
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "usnet-ctl: stop: the server is not gone after 0.5 s; it is stopping\n"
        assert server.process.poll() is None
        assert server.ctl("stop", "--wait") == "stopped", "asked a second time it stops at once"


EMBEDDING = """
import sys, time
from usnet_framework import Handler, serve

class Silent(Handler):
    pass

if __name__ == "__main__":
    serve(Silent, bind=f"unix:{sys.argv[1]}", control=sys.argv[2], queues=1, metrics="off", log_level="error")
    print("after the server", flush=True)
    time.sleep(600)
"""


def test_ctl_waits_for_the_server_and_not_for_the_program_around_it(tmp_path: Path) -> None:
    (tmp_path / "embedding.py").write_text(EMBEDDING)
    path, asked = tmp_path / "s", tmp_path / "control"
    program = [*WITH_THE_TEST, sys.executable, str(tmp_path / "embedding.py"), str(path), str(asked)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait("it serves", lambda: path.exists() and asked.exists())
            done = run("usnet-ctl", "stop", "--wait", "--timeout", "20", "--control", str(asked))
            assert (done.returncode, done.stdout) == (0, "stopped\n")
            assert not path.exists()
            assert process.stdout is not None
            assert process.stdout.readline() == "after the server\n"
            assert process.poll() is None
        finally:
            process.kill()


def ask(server: Server, command: str) -> socket.socket:
    """Of a client that reads the answer later."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(server.control))
    client.sendall(control._frame({"command": command}))
    return client


def test_who_waits_for_a_reload_is_told_that_the_server_stops(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from usnet_framework import Handler\nclass Silent(Handler): pass\n")
    with Server("app:Silent", "--queues", "1", cwd=tmp_path) as server:
        slow = "from pathlib import Path\nPath('begun').touch()\nimport time\ntime.sleep(600)"
        (tmp_path / "app.py").write_text(slow)
        with ask(server, "reload") as done, ask(server, "reload") as in_line:
            server.wait("it reloads", (tmp_path / "begun").exists)
            with ask(server, "reload") as late:
                assert server.status()["state"] == "ready", "and all have been heard"
                assert server.stop() == 0
                for client in (done, in_line, late):
                    reply = client.recv(65536, socket.MSG_WAITALL)
                    said = control.unpack(reply[control.LENGTH.size :])
                    assert said == {"ok": False, "error": "the server is stopping"}
        assert "Traceback" not in server.log


def test_who_only_waits_is_no_traceback() -> None:
    with Server(ECHO, "--queues", "1") as server, ask(server, "stopped") as client:
        assert server.status()["state"] == "ready", "and it has been heard"
        assert server.stop() == 0
        assert client.recv(1) == b""
        assert "Traceback" not in server.log


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


RUN_OF_TESTS = """
from support.server import Server
with Server("examples.echo:Echo") as server:
    print(server.pid, flush=True)
    input()
"""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # nobody may be there who waits for orphans
    except psutil.NoSuchProcess:
        return False


def test_a_run_of_the_tests_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    run = [sys.executable, "-c", RUN_OF_TESTS]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(run, cwd=TESTS, env=environment, stdin=pipe, stdout=pipe, text=True) as tests:
        assert tests.stdout is not None
        supervisor = psutil.Process(int(tests.stdout.readline()))
        processes = [supervisor, *supervisor.children(recursive=True)]
        assert len(processes) > 2
        tests.kill()
    try:
        wait("every process is gone", lambda: not any(map(_runs, processes)))
    finally:
        for process in filter(_runs, processes):
            process.kill()
