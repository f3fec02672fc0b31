"""Who asks for a stop, how, and when: it is obeyed at every stage of a server's life, and who waits is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.apps import write
from support.server import STOP_SECONDS, WITH_THE_TEST, Server, command, run, wait

from usnet_framework.shards import control

ECHO = "examples.echo:Echo"
TESTS = Path(__file__).resolve().parents[1]
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])
HANGS = "open('begun', 'w').close(); import time; time.sleep(600)"
IN_IMPORT = {"top": HANGS}
IN_START = {"more": f"    def on_start(self, shard): {HANGS}\n"}


def exchange(client: socket.socket, text: bytes = b"hello") -> None:
    client.sendall(text)
    assert client.recv(len(text), socket.MSG_WAITALL) == text


STAGES = ["listening", "imports", "starts", "serves", "reload imports", "reload starts", "hand-over"]


@pytest.mark.parametrize("stage", STAGES)
@LAYOUTS
def test_a_stop_is_obeyed_at_every_stage(layout: str, stage: str, tmp_path: Path) -> None:
    write(tmp_path, "one", **{"imports": IN_IMPORT, "starts": IN_START}.get(stage, {}))
    control, begun = tmp_path / "control", tmp_path / "begun"
    options = ["--layout", layout, "--queues", "1", "--bind", "unix:s", "--metrics", "off", "--control", str(control)]
    environment = os.environ | {"USNET_SYSCALLS": "kill"}
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [command("usnet-serve"), "app:App", *options], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        wait("it is there", control.exists)
        if stage in ("imports", "starts"):
            wait("it has come so far", begun.exists)
        if stage in STAGES[3:]:
            wait("it serves", lambda: "ready in" in (tmp_path / "log").read_text())
        if stage in STAGES[4:]:
            write(tmp_path, "two", **{"reload imports": IN_IMPORT, "reload starts": IN_START}.get(stage, {}))
            server.send_signal(signal.SIGHUP)
            if stage == "hand-over":
                time.sleep(0.15)  # about as long as it takes
            else:
                wait("it has come so far", begun.exists)
        server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_SECONDS) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
        assert not (tmp_path / "s").exists()
    finally:
        server.kill()
        server.wait()


def test_ctrl_c_reaches_the_supervisor_alone() -> None:
    with Server(ECHO) as server:
        children = psutil.Process(server.pid).children(recursive=True)
        assert len(children) >= 3
        for child in children:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                assert os.getpgid(child.pid) != os.getpgid(server.pid)


def test_ctl_stops_it() -> None:
    with Server(ECHO) as server:
        server.ctl("stop")
        assert server.process.wait(STOP_SECONDS) == 0
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


@pytest.mark.parametrize("hangs", [IN_IMPORT, IN_START], ids=["import", "on_start"])
@LAYOUTS
def test_who_waits_for_a_reload_is_told_that_the_server_stops(
    layout: str, hangs: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--layout", layout, "--queues", "1", cwd=tmp_path) as server:
        write(tmp_path, "two", **hangs)
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
