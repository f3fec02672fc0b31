"""SIGHUP: new code for all seats, or no change at all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.apps import ask, write
from support.server import Server


def test_new_code_answers_on_old_connections(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", "--workers", "2", cwd=tmp_path) as server:
        clients = [server.connect() for _ in range(8)]
        assert {ask(client) for client in clients} == {b"one"}
        write(tmp_path, "two")
        assert server.ask("reload") == "reloaded 2 workers"
        assert {ask(client) for client in clients} == {b"two"}
        assert [worker.serial for worker in server.workers()] == [2, 2]
        assert server.status()["reloads"] == 1
        assert server.metrics()["usnet_worker_restarts_total"] == 0
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ("import no_such_library\n", "importing app failed: ModuleNotFoundError: No module named 'no_such_library'"),
        ("import os; os.abort()\n", "was killed by SIGABRT while it imported the application"),
    ],
)
def test_code_that_cannot_be_imported_changes_nothing(tmp_path: Path, broken: str, line: str) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        before = server.workers()
        write(tmp_path, "bad", more=broken)
        server.process.send_signal(signal.SIGHUP)
        server.wait("the reload is refused", lambda: "reload refused" in server.log)
        assert line in server.log
        assert server.workers() == before
        assert ask(client) == b"one"
        assert line in server.refusal("reload")
        write(tmp_path, "three")
        assert server.ask("reload") == "reloaded 1 worker"
        assert ask(client) == b"three"


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (
            "    def on_start(self, shard): raise RuntimeError('no database')\n",
            "on_start failed: RuntimeError: no database",
        ),
        (
            "    def on_start(self, shard): raise SystemExit('no database')\n",
            "on_start failed: SystemExit: no database",
        ),
        ("    def on_start(self, shard): import os; os._exit(9)\n", " exited with 9 before it served"),
        (
            "    def __init__(self): raise RuntimeError('no database')\n",
            "making the handler failed: RuntimeError: no data",
        ),
    ],
)
def test_code_that_cannot_start_changes_nothing(tmp_path: Path, broken: str, line: str) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", "--workers", "2", cwd=tmp_path) as server, server.connect() as client:
        before = server.workers()
        write(tmp_path, "bad", more=broken)
        assert line in server.refusal("reload")
        assert server.workers() == before
        assert server.get("/readyz")[0] == 200
        assert ask(client) == b"one"
        write(tmp_path, "four")
        assert server.ask("reload") == "reloaded 2 workers"
        assert ask(client) == b"four"


def test_what_on_stop_raises_is_logged_and_its_connections_have_moved(tmp_path: Path) -> None:
    farewell = (
        "    def on_connect(self, conn): self.conn = conn\n"
        "    def on_stop(self):\n"
        "        self.conn.send(b'farewell')\n"
        "        raise RuntimeError('too late')\n"
    )
    write(tmp_path, "one", more=farewell)
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        write(tmp_path, "two")
        assert server.ask("reload") == "reloaded 1 worker"
        server.wait("the old worker has stopped", lambda: "on_stop raised" in server.log)
        assert ask(client) == b"two", "nothing else came: it was another worker's by then"
        assert server.metrics()["usnet_worker_restarts_total"] == 0


def test_inline_workers_are_reloaded_too(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--layout", "inline", "--queues", "2", cwd=tmp_path) as server:
        write(tmp_path, "two")
        assert server.ask("reload") == "reloaded 2 workers"
        with server.connect() as client:
            assert ask(client) == b"two"


@pytest.mark.parametrize(
    ("app", "layout", "in_force", "fix"),
    [
        ("examples.echo:Echo", "split", "yes", ""),
        ("examples.echo:Echo", "inline", "no", "use --layout split"),
        ("support.handlers:Forgetful", "split", "no", "define it"),
    ],
)
def test_who_loses_connections_by_a_reload_is_told(app: str, layout: str, in_force: str, fix: str) -> None:
    with Server(app, "--app-dir", "tests" if "support" in app else ".", "--layout", layout, "--queues", "1") as server:
        findings = server.findings()
        assert findings["connections outlive workers"]["in_force"] == in_force
        assert findings["connections outlive workers"]["fix"] == fix
        server.ask("reload")
        assert ("connections do not outlive the reload" in server.log) == (in_force == "no")


def test_new_code_that_takes_no_connections_over_says_so(tmp_path: Path) -> None:
    write(tmp_path, "one")
    options = ["--queues", "1", "--reload-overlap", "1", "--graceful-timeout", "1"]
    with Server("app:App", *options, cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        write(tmp_path, "two", resume="another")
        server.ask("reload")
        assert server.log.count("do not outlive the reload: the handler class does not define on_resume") == 1
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_who_is_not_finished_in_time_is_counted(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio\n"
        "from usnet_framework import Handler\n"
        "class App(Handler):\n"
        "    async def on_data(self, conn, data):\n"
        "        conn.send(b'!')\n"
        "        await asyncio.sleep(600)\n"
        "    def on_resume(self, conn): pass\n"
    )
    options = ["--queues", "1", "--reload-overlap", "0.5", "--graceful-timeout", "1"]
    with Server("app:App", *options, cwd=tmp_path) as server:
        clients = [server.connect() for _ in range(3)]
        for client in clients[1:]:
            assert ask(client) == b"!"
        server.ask("reload")
        line = "connections reset, not finished in time (--graceful-timeout): 2"
        server.wait("the old worker gives up", lambda: line in server.log)
        for client in clients[1:]:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        for client in clients:
            client.close()
