"""Every wait for new code has an end: what hangs as it is imported, started or seated is found out, and the code that
works goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.apps import ask, write
from support.server import Server, run, title

HANGS_IN_IMPORT = {"top": "import time; time.sleep(600)"}
HANGS_IN_WARM = {"more": "    async def on_warm(self):\n        import asyncio; await asyncio.sleep(600)\n"}
HANGS_IN_START = {"more": "    def on_start(self, shard):\n        import time; time.sleep(600)\n"}
WAITS_IN_START = {"more": "    async def on_start(self, shard):\n        import asyncio; await asyncio.sleep(600)\n"}
ENOUGH = "4"  # seconds for code that does not hang, also on a busy machine


@pytest.mark.parametrize(
    ("layout", "code", "line"),
    [
        ("split", HANGS_IN_IMPORT, "importing the application took longer than 4 s (--start-timeout)"),
        ("split", HANGS_IN_WARM, "importing the application, on_warm included, took longer than 4 s (--start-timeout)"),
        ("split", HANGS_IN_START, "worker 0.0: on_start took longer than 4 s (--start-timeout)"),
        ("inline", HANGS_IN_START, "worker 0.0: on_start took longer than 4 s (--start-timeout)"),
        ("split", WAITS_IN_START, "worker 0.0: on_start took longer than 4 s (--start-timeout)"),
    ],
)
def test_new_code_that_hangs_is_refused_and_nobody_notices(
    layout: str, code: dict[str, str], line: str, tmp_path: Path
) -> None:
    write(tmp_path, "one")
    options = ["--queues", "1", "--layout", layout, "--start-timeout", ENOUGH]
    with Server("app:App", *options, cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        before = server.workers()
        write(tmp_path, "bad", **code)
        assert line in server.refusal("reload")
        assert server.workers() == before
        assert server.get("/readyz")[0] == 200
        assert ask(client) == b"one"
        write(tmp_path, "three")
        assert server.ask("reload") == "reloaded 1 worker", "it does not queue behind the one that hung"
        with server.connect() as other:
            assert ask(other) == b"three"


def test_a_server_whose_code_hangs_as_it_starts_says_so(tmp_path: Path) -> None:
    write(tmp_path, "one", **HANGS_IN_START)
    options = ["--start-timeout", ENOUGH, "--bind", "unix:s", "--metrics", "off", "--control", "off"]
    refused = run("usnet-serve", "app:App", *options, cwd=tmp_path)
    assert refused.returncode == 3
    assert "on_start took longer than 4 s (--start-timeout)" in refused.stderr


def test_a_spare_that_is_stopped_does_not_get_the_seat(tmp_path: Path) -> None:
    write(tmp_path, "one")
    options = ["--queues", "1", "--start-timeout", "5"]
    with Server("app:App", *options, cwd=tmp_path) as server, server.connect(30) as client:
        assert ask(client) == b"one"

        def ready() -> int | None:
            return next((pid for pid in server.status()["spares"] if title(pid) == "usnet: spare"), None)

        spare = server.wait("there is a spare", ready) or 0
        os.kill(spare, signal.SIGSTOP)  # in the moment before it says so it would be ended by --start-timeout
        (old,) = server.workers()
        os.kill(old.pid, signal.SIGKILL)
        assert ask(client) == b"one"
        (new,) = server.workers()
        assert new.pid != spare


def test_a_worker_that_is_stopped_in_on_start_is_ended(tmp_path: Path) -> None:
    once = (
        "    def on_start(self, shard):\n"
        "        import os, signal\n"
        "        if shard.serial == 2: os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    write(tmp_path, "one", more=once)
    options = ["--queues", "1", "--start-timeout", ENOUGH]
    with Server("app:App", *options, cwd=tmp_path) as server, server.connect(30) as client:
        assert ask(client) == b"one"
        os.kill(server.workers()[0].pid, signal.SIGKILL)
        assert ask(client) == b"one"
        assert server.workers()[0].serial == 3
        assert "worker 0.0: on_start took longer than 4 s (--start-timeout)" in server.log


def test_300_hangups_during_a_reload_are_one_more(tmp_path: Path) -> None:
    write(tmp_path, "one")
    begun, goes_on = tmp_path / "begun", tmp_path / "goes-on"
    waits = (
        "import os, time\n"
        f"open({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(goes_on)!r}): time.sleep(0.01)"
    )
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        assert ask(client) == b"one"
        write(tmp_path, "two", top=waits)
        server.process.send_signal(signal.SIGHUP)
        server.wait("the new code is imported", begun.exists)
        for _ in range(300):
            server.process.send_signal(signal.SIGHUP)
            assert server.status()["reloads"] == 0
        goes_on.touch()
        server.wait("the second one is done", lambda: server.status()["reloads"] == 2)
        assert ask(client) == b"two"
        assert server.ask("reload") == "reloaded 1 worker", "no others are before it"
        assert server.status()["reloads"] == 3
        assert server.status()["reloads_refused"] == 0
        assert not any(server.closed().values())
