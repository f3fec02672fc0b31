"""What a server may listen on and what it is started with; refusals of the command line are in tests/cli."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.backends import network_namespace
from support.privilege import needs_network_namespaces
from support.server import REPOSITORY, WITH_THE_TEST, Server, command, free_port, run, wait

ECHO = "examples.echo:Echo"
SILENT = ("--metrics", "off", "--control", "off")
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])


def hello(client: socket.socket) -> bytes:
    with client:
        client.settimeout(10)
        client.sendall(b"hello")
        return client.recv(5, socket.MSG_WAITALL)


def connect_unix(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def refused(*args: str, **options: object) -> str:
    """The one line of a server that does not start."""
    done = run("usnet-serve", *args, *SILENT, "--bind", f"tcp://127.0.0.1:{free_port()}", **options)  # type: ignore[arg-type]
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@LAYOUTS
def test_several_addresses_of_every_kind(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    four, six = free_port(), free_port()
    binds = (f"tcp://127.0.0.1:{four}", f"tcp://[::1]:{six}", f"unix:{path}")
    flags = [word for bind in binds for word in ("--bind", bind)]
    with Server(ECHO, "--layout", layout, "--queues", "2", *flags) as server:
        assert server.status()["listeners"] == list(binds)
        for _ in range(8):  # whichever shard accepts
            assert hello(socket.create_connection(("127.0.0.1", four))) == b"hello"
            assert hello(socket.create_connection(("::1", six))) == b"hello"
            assert hello(connect_unix(path)) == b"hello"
    assert not path.exists()


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@LAYOUTS
def test_sockets_by_systemd_activation(layout: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        serve = [command("usnet-serve"), ECHO, "--layout", layout, "--bind", "fd:3", *SILENT]
        activate = [*WITH_THE_TEST, sys.executable, "-c", ACTIVATE, str(listener.fileno()), *serve]
        with subprocess.Popen(activate, close_fds=False, cwd=REPOSITORY, start_new_session=True) as server:
            try:
                assert hello(socket.create_connection(("127.0.0.1", port))) == b"hello"
            finally:
                server.send_signal(signal.SIGTERM)
                assert server.wait(30) == 0
        # The socket is not ours to close: connections wait in it for the next start.
        socket.create_connection(("127.0.0.1", port)).close()


@needs_network_namespaces
def test_a_name_whose_first_address_the_machine_lacks(tmp_path: Path) -> None:
    """As in most containers: /etc/hosts says ::1, and the loopback has none."""
    (tmp_path / "hosts").write_text("::1 localhost\n127.0.0.1 localhost\n")
    script = f'mount --bind {tmp_path}/hosts /etc/hosts; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    bind, metrics = f"tcp://localhost:{free_port()}", free_port()
    with network_namespace():
        subprocess.run(["ip", "-6", "address", "flush", "dev", "lo"], check=True)
        listens = ("--bind", bind, "--metrics", f"localhost:{metrics}")
        with Server(ECHO, "--queues", "2", *listens, prefix=prefix) as server:
            port = int(bind.rpartition(":")[2])
            assert hello(socket.create_connection(("127.0.0.1", port))) == b"hello"
            assert server.status()["listeners"] == [f"tcp://127.0.0.1:{port}"]
            findings = server.findings()
            assert findings["addresses of localhost"]["in_force"] == f"127.0.0.1:{port}"
            assert not findings["addresses of localhost"]["ok"]
            assert findings["metrics"]["in_force"] == f"127.0.0.1:{metrics}"
            assert server.log.count(f"this machine has no address for [::1]:{port}; ") == 1


def test_a_stale_control_socket_is_replaced_and_only_the_owner_may_use_the_new_one() -> None:
    server = Server(ECHO)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(server.control))
    with server:
        assert stat.S_IMODE(server.control.stat().st_mode) == 0o600
        assert server.status()["pid"] == server.pid


def affinity(process: psutil.Process) -> list[int] | None:
    """None: it has ended."""
    try:
        return process.cpu_affinity()
    except psutil.NoSuchProcess:
        return None


def test_processes_stay_on_the_cores_that_were_named() -> None:
    core = min(psutil.Process().cpu_affinity())
    with Server(ECHO, "--cores", str(core), "--queues", "1") as server:
        for process in server.processes():
            if process.pid != server.pid:
                assert affinity(process) in ([core], None), process
        assert "no process is pinned" in server.log
        (pinning,) = [finding for finding in server.ask("doctor") if finding["what"] == "pinning"]
        assert pinning["ok"] is False
        assert pinning["fix"]


def test_on_start_that_raises_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from usnet_framework import Handler\n"
        "class App(Handler):\n"
        "    def on_start(self, shard):\n"
        "        raise RuntimeError('no database')\n"
    )
    line = refused("app:App", cwd=tmp_path)
    assert line == f"usnet-serve: app:App: on_start failed: RuntimeError: no database ({tmp_path}/app.py:4)"


@LAYOUTS
def test_plain_on_start_and_on_stop_have_the_running_loop(layout: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio\n"
        "from usnet_framework import Handler\n"
        "class App(Handler):\n"
        "    def on_start(self, shard): self.beat = asyncio.create_task(asyncio.sleep(3600))\n"
        "    def on_stop(self): asyncio.get_running_loop(); self.beat.cancel(); open('left', 'w').close()\n"
        "    def on_data(self, conn, data): conn.send(b'dead' if self.beat.done() else b'beats')\n"
    )
    with Server("app:App", "--layout", layout, "--queues", "1", cwd=tmp_path) as server:
        assert hello(server.connect()) == b"beats"
    assert (tmp_path / "left").exists()


def test_a_module_that_ends_its_process_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os; os._exit(9)\n")
    line = refused("app:App", cwd=tmp_path)
    assert line == "usnet-serve: a worker exited with 9 while it imported the application, or in on_warm"


@pytest.mark.parametrize(
    ("limit", "args", "line"),
    [
        (200, ["--queues", "1", "--workers", "60"], "--workers 60: 1 shards of so many need 589 descriptors"),
        (200, ["--queues", "1", "--max-connections", "1000"], "--max-connections 1000: each of 1 shards needs"),
    ],
)
def test_more_than_descriptors_allow(limit: int, args: list[str], line: str) -> None:
    serve = [command("usnet-serve"), ECHO, "--bind", f"tcp://127.0.0.1:{free_port()}", *SILENT, *args]
    script = f"ulimit -n {limit}; exec {' '.join(serve)}"
    done = subprocess.run(["sh", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(f"usnet-serve: {line}")
    assert f"the limit is {limit}" in done.stderr
    assert done.stderr.count("\n") == 1


SCRIPT = """
from usnet_framework import Handler, serve

class Shout(Handler):
    def on_data(self, conn, data):
        conn.send(bytes(data).upper())

if __name__ == "__main__":
    {call}
"""


def served_by_script(script: Path, port: int) -> None:
    with subprocess.Popen([*WITH_THE_TEST, sys.executable, str(script)], start_new_session=True) as process:
        try:
            answer = wait("it answers", lambda: shout(port))
            assert answer == b"HELLO"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def shout(port: int) -> bytes | None:
    try:
        return hello(socket.create_connection(("127.0.0.1", port)))
    except ConnectionRefusedError:
        return None


@LAYOUTS
def test_serve_from_a_script(layout: str, tmp_path: Path) -> None:
    port = free_port()
    call = f'serve(Shout, bind="tcp://127.0.0.1:{port}", metrics="off", control="off", layout="{layout}")'
    (tmp_path / "shout.py").write_text(SCRIPT.format(call=call))
    served_by_script(tmp_path / "shout.py", port)


def test_an_interrupt_while_the_server_starts_in_its_thread_stops_it(tmp_path: Path) -> None:
    """The thread that called `serve` may be the last to run again."""
    call = f"""import asyncio, signal, threading
    start = threading.Thread.start
    def interrupted(thread):
        start(thread)
        if thread.name == "usnet supervisor":
            signal.raise_signal(signal.SIGINT)
    threading.Thread.start = interrupted
    async def cell():
        serve(Shout, bind="tcp://127.0.0.1:{free_port()}", metrics="off", control="off")
    asyncio.new_event_loop().run_until_complete(cell())
"""
    (tmp_path / "cell.py").write_text(SCRIPT.format(call=call))
    subprocess.run([*WITH_THE_TEST, sys.executable, tmp_path / "cell.py"], timeout=60, check=True)


def test_serve_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "shout.py"
    call = f'serve(Shout, bind="tcp://127.0.0.1:{free_port()}", metrics="off", control="off")'
    script.write_text(SCRIPT.format(call=call).replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert 'put it below if __name__ == "__main__":' in done.stderr.splitlines()[-1]


def test_serve_where_a_loop_runs_already(tmp_path: Path) -> None:
    port = free_port()
    call = f"""import asyncio
    async def cell():
        serve(Shout, bind="tcp://127.0.0.1:{port}", metrics="off", control="off")
    try:
        asyncio.get_event_loop_policy().new_event_loop().run_until_complete(cell())
    except KeyboardInterrupt:
        pass
"""
    (tmp_path / "cell.py").write_text(SCRIPT.format(call=call))
    served_by_script(tmp_path / "cell.py", port)


@LAYOUTS
@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("def __init__(self): raise ValueError('no\\nway')", "making the handler failed: ValueError: no way"),
        ("def on_start(self, shard): raise SystemExit(9)", "on_start failed: SystemExit: 9"),
        ("def on_start(self, shard): import os; os._exit(9)", "worker 0.0 exited with 9 before it served"),
        (
            "def on_start(self, shard): import os, time; os.closerange(3, 256); time.sleep(600)",  # it can say nothing
            "worker 0.0 was killed by SIGKILL before it served",
        ),
    ],
)
def test_a_handler_that_ends_its_worker_before_it_serves_is_refused(
    layout: str, body: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(f"from usnet_framework import Handler\nclass App(Handler):\n    {body}\n")
    assert line in refused("app:App", "--layout", layout, "--queues", "1", cwd=tmp_path)


def test_a_misspelt_callback_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from usnet_framework import Handler\nclass App(Handler):\n    def on_date(self, conn, data): pass\n"
    )
    with Server("app:App", "--queues", "2", "--workers", "2", cwd=tmp_path) as server:
        assert server.log.count("app:App: on_date is no callback and not called; is on_data meant?") == 1
