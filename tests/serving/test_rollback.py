"""The way back: by hand, or because new code dies again and again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.apps import ask, write
from support.server import Server

DIES = "    def on_connect(self, conn):\n        import os; os.abort()\n"


def test_rollback_goes_back_while_the_code_has_not_proven_itself(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        assert "there is no code to go back to" in server.refusal("rollback")
        write(tmp_path, "two")
        server.ask("reload")
        assert ask(client) == b"two"
        assert server.status()["can_roll_back"]
        write(tmp_path, "one")  # workers may be spawned
        assert server.ctl("rollback") == "rolled back 1 worker"
        assert ask(client) == b"one"
        assert server.status()["rollbacks"] == 1
        assert not server.status()["can_roll_back"]


def test_the_old_code_is_let_go_after_the_probation(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", "--reload-probation", "0.5", cwd=tmp_path) as server:
        write(tmp_path, "two")
        server.ask("reload")
        server.wait("it has proven itself", lambda: not server.status()["can_roll_back"])
        server.wait("one spare is left", lambda: len(server.status()["spares"]) == 1)
        assert "there is no code to go back to" in server.refusal("rollback")


def test_code_that_dies_again_and_again_is_rolled_back(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server:
        write(tmp_path, "bad", more=DIES)
        server.ask("reload")
        write(tmp_path, "one")
        for _ in range(2):  # poison takes two workers each
            with server.connect():
                pass
        server.wait("it is rolled back", lambda: server.status()["rollbacks"])
        server.wait("it serves again", lambda: server.get("/readyz")[0] == 200)
        with server.connect() as client:
            assert ask(client) == b"one"
        assert "workers of the new code died before they had done anything much: it is rolled back" in server.log


def test_code_that_has_proven_itself_is_not_rolled_back(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with Server("app:App", "--queues", "1", "--reload-probation", "0.2", cwd=tmp_path) as server:
        write(tmp_path, "two")
        server.ask("reload")
        server.wait("it has proven itself", lambda: not server.status()["can_roll_back"])
        for _ in range(4):
            (worker,) = server.workers()
            os.kill(worker.pid, signal.SIGKILL)
            server.wait("it is replaced", lambda pid=worker.pid: [w for w in server.workers() if w.pid != pid])
        with server.connect() as client:
            assert ask(client) == b"two"
        assert server.status()["rollbacks"] == 0
