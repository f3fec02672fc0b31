"""What the service manager is told (sd_notify), and what a child knows of it: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.manager import Manager
from support.server import Server, run
from support.until import until

from usnet_framework.shards.notify import Notifier

ECHO = "examples.echo:Echo"


@pytest.mark.parametrize("abstract", [False, True])
def test_a_life_is_told(abstract: bool, tmp_path: Path) -> None:
    name = f"@usnet-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with Manager(name) as manager, Server(ECHO, "--queues", "1", env=manager.environment) as server:
        manager.wait("it is ready", lambda said: "READY=1" in said)
        assert "STATUS=ready: 1 of 1 workers serve, 0 connections" in manager.said()
        began_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.ask("reload")
        manager.wait("it is ready again", lambda said: said.count("READY=1") == 2)
        said = manager.said()
        at = said.index("RELOADING=1")
        assert said.index("READY=1") < at < len(said) - 1 - said[::-1].index("READY=1")
        name, _, value = said[at + 1].partition("=")
        assert name == "MONOTONIC_USEC"
        assert began_us <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert "STOPPING=1" not in said
        assert server.stop() == 0
        said = manager.said()
        assert "EXTEND_TIMEOUT_USEC=15000000" in said[said.index("STOPPING=1") :]
        assert "WATCHDOG=1" not in said


def test_a_reload_that_is_refused_is_over_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from usnet_framework import Handler\nclass Silent(Handler): pass\n")
    manager = Manager(str(tmp_path / "notify"))
    with manager, Server("app:Silent", "--queues", "1", cwd=tmp_path, env=manager.environment) as server:
        manager.wait("it is ready", lambda said: "READY=1" in said)
        (tmp_path / "app.py").write_text("an error of syntax")
        assert "SyntaxError" in server.refusal("reload")
        manager.wait("it is over", lambda said: "RELOADING=1" in said and said.count("READY=1") == 2)


def test_connections_are_in_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(manager: Manager) -> None:
        texts = iter(["starting", "starting", "ready"])
        text = next(texts)

        def describe() -> str:
            nonlocal text
            text = next(texts, text)
            return text

        notifier = Notifier(manager.environment)
        notifier.begin(describe)
        async with asyncio.timeout(20):
            while "STATUS=ready" not in manager.said():
                await asyncio.sleep(0.01)
        notifier.close()
        count = len(manager.said())
        await asyncio.sleep(0.1)
        assert len(manager.said()) == count, "closed, and goes on"

    monkeypatch.setattr("usnet_framework.shards.notify.STATUS_S", 0.02)
    with Manager(str(tmp_path / "notify")) as manager:
        asyncio.run(scenario(manager))
        assert manager.said() == ["STATUS=starting", "STATUS=ready"], "said when it has changed"


def test_a_watchdog_hears_the_loop_and_not_a_stopped_one(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        environment = manager.environment | {"WATCHDOG_USEC": "400000"}
        with Server(ECHO, "--queues", "1", env=environment) as server:
            manager.wait("it is ready", lambda said: "READY=1" in said)
            began_s, before = time.monotonic(), manager.said().count("WATCHDOG=1")
            manager.wait("it is heard again and again", lambda said: said.count("WATCHDOG=1") >= before + 5)
            heard = manager.said().count("WATCHDOG=1") - before
            assert heard <= 1 + (time.monotonic() - began_s) / 0.2, "every 200 ms"
            server.process.send_signal(signal.SIGSTOP)
            manager.count("WATCHDOG=1", 0.3)  # what was on its way
            assert manager.count("WATCHDOG=1", 1) == 0
            server.process.send_signal(signal.SIGCONT)
            heard = manager.said().count("WATCHDOG=1")
            manager.wait("it is heard again", lambda said: said.count("WATCHDOG=1") > heard)


@pytest.mark.parametrize(
    ("environment", "asks"),
    [
        ({"WATCHDOG_USEC": "20000"}, True),
        ({"WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_a_watchdog_of_somebody_else_hears_nothing(environment: dict[str, str], asks: bool, tmp_path: Path) -> None:
    async def scenario(manager: Manager) -> None:
        notifier = Notifier(manager.environment | environment)
        notifier.begin(lambda: "here")
        await asyncio.sleep(0.1)
        notifier.close()

    with Manager(str(tmp_path / "notify")) as manager:
        asyncio.run(scenario(manager))
        assert ("WATCHDOG=1" in manager.said()) is asks


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        arguments = ["no_such_module:App", "--bind", f"unix:{tmp_path}/s", "--metrics", "off", "--control", "off"]
        assert run("usnet-serve", *arguments, env=manager.environment).returncode == 3
        assert [text for text in manager.said() if text.startswith("STATUS=no_such_module:App: ")]
        assert "READY=1" not in manager.said()


@pytest.mark.parametrize("name", ["/no/such/socket", "vsock:2:1", "nothing", "@"])
def test_a_manager_that_cannot_be_told_stops_nobody(name: str) -> None:
    with Server(ECHO, "--queues", "1", env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000"}) as server:
        assert ("the service manager is told nothing" in server.log) is (name[0] != "/")
        assert "Traceback" not in server.log
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_a_manager_that_does_not_read_stops_nobody(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        notifier = Notifier(manager.environment)
        for _ in range(5000):  # the queue of a socket has a few hundred places
            notifier.ready()
        assert 0 < manager.said().count("READY=1") < 5000
        notifier.close()


def test_what_the_manager_had_no_room_for_is_told_when_it_has(tmp_path: Path) -> None:
    async def scenario(manager: Manager) -> None:
        notifier = Notifier(manager.environment | {"WATCHDOG_USEC": "20000"})
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            while True:
                other.sendto(b"of somebody else", socket.MSG_DONTWAIT, manager.environment["NOTIFY_SOCKET"])
        notifier.begin(lambda: "here")
        notifier.reloading()
        notifier.ready()
        await until(lambda: "WATCHDOG=1" in manager.said())
        notifier.close()

    with Manager(str(tmp_path / "notify")) as manager:
        asyncio.run(scenario(manager))
        said = [text for text in manager.said() if text in ("RELOADING=1", "READY=1", "STATUS=here", "WATCHDOG=1")]
        assert said[:5] == ["STATUS=here", "RELOADING=1", "READY=1", "STATUS=here", "WATCHDOG=1"]


TELLTALE = """
import os
from usnet_framework import Handler

class Telltale(Handler):
    def on_data(self, conn, data):
        conn.send(" ".join(os.environ).encode())
        conn.close()
"""


def test_children_are_not_told_of_it(tmp_path: Path) -> None:
    (tmp_path / "telltale.py").write_text(TELLTALE)
    with Manager(str(tmp_path / "notify")) as manager:
        environment = manager.environment | {"WATCHDOG_USEC": "10000000", "OTHER": "kept"}
        with Server("telltale:Telltale", "--queues", "1", cwd=tmp_path, env=environment) as server:
            with server.connect() as client:
                client.sendall(b"?")
                names = set(b"".join(iter(lambda: client.recv(65536), b"")).decode().split())
            assert "OTHER" in names
            assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
