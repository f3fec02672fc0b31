"""A server that is process 1, as in a container: nobody waits for orphans but it, and a signal without a handler is
lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.privilege import needs_pid_namespaces
from support.server import REPOSITORY, WITH_THE_TEST, Server, command, title, wait
from support.tree import ROOT

pytestmark = needs_pid_namespaces

ECHO = "examples.echo:Echo"
CONTAINED = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
HANDLED = {signal.SIGTERM, signal.SIGINT}

ORPHANING = """
import subprocess
from usnet_framework import Handler

class Orphaning(Handler):
    def on_data(self, conn, data):
        for _ in data:
            subprocess.run(["sh", "-c", "sleep 0.01 & sleep 0.02 &"], check=True)
        conn.send(data)

    def on_resume(self, conn):
        pass
"""


class Contained(Server):
    """A server that is process 1 of a PID namespace, which ends with the block."""

    def __init__(self, app: str, *args: str, cwd: Path = REPOSITORY) -> None:
        super().__init__(app, *args, prefix=CONTAINED, cwd=cwd)

    @property
    def first(self) -> psutil.Process:
        """Process 1, by its number out here."""
        (child,) = psutil.Process(self.pid).children()
        return child

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.first.send_signal(number)
        return self.process.wait(30)


def worker_of(first: psutil.Process) -> psutil.Process:
    (worker,) = [child for child in first.children() if title(child.pid).startswith("usnet: worker")]
    return worker


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False  # it has been waited for just now


def test_orphans_are_waited_for_and_workers_as_before(tmp_path: Path) -> None:
    (tmp_path / "orphaning.py").write_text(ORPHANING)
    with Contained("orphaning:Orphaning", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        for deaths in range(1, 4):
            client.sendall(b"x" * 10)
            assert client.recv(10, socket.MSG_WAITALL) == b"x" * 10
            worker_of(server.first).kill()
            server.wait("its end is known", lambda: server.log.count("was killed by SIGKILL") == deaths)  # noqa: B023
            server.wait("the server is ready", lambda: server.get("/readyz")[0] == 200)
        server.wait("nobody waits to be waited for", lambda: not any(map(is_zombie, server.first.children())))


def test_only_process_one_waits_for_others(tmp_path: Path) -> None:
    """What is tested above does not come from somewhere else."""
    (tmp_path / "orphaning.py").write_text(ORPHANING)
    with Server("orphaning:Orphaning", "--queues", "1", cwd=tmp_path) as server, server.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert not [child for child in psutil.Process(server.pid).children() if title(child.pid).startswith("sleep")]


def entry_point() -> list[str]:
    """Of the container: what is in front of usnet-serve."""
    text = (ROOT / "deploy/container/Containerfile").read_text()
    (line,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, flags=re.M)
    *before, program = json.loads(line)
    assert program == "usnet-serve"
    return before


@contextmanager
def contained(prefix: Sequence[str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A server that starts: the parent of process 1, and process 1 as soon as it is there."""
    arguments = [ECHO, "--bind", f"unix:{folder}/s", "--metrics", "off", "--control", "off"]
    with subprocess.Popen(
        [*WITH_THE_TEST, *CONTAINED, *prefix, command("usnet-serve"), *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
    ) as parent:
        try:
            yield parent, wait("there is process 1", lambda: psutil.Process(parent.pid).children())[0]
        finally:
            parent.kill()


def signals(process: psutil.Process, field: str) -> set[int]:
    status = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(rf"^{field}:\t([0-9a-f]+)$", status, re.M)
    assert match, status
    return {number for number in range(1, 65) if int(match[1], 16) >> (number - 1) & 1}


def hears(first: psutil.Process) -> bool:
    """Nothing is lost from now on. (unshare(1) blocks the first two as well, and lets go of them before it executes
    anything.)"""
    return signals(first, "SigBlk") | signals(first, "SigCgt") >= {*HANDLED, signal.SIGHUP}


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_in_the_first_moments_of_a_container_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    """By what it starts with: its interpreter needs a while to have any handler."""
    for milliseconds in (0, 5, 10, 20, 40, 60, 80, 100, 150, 200):
        with contained(entry_point(), tmp_path) as (parent, first):
            wait("it hears", lambda: hears(first))
            time.sleep(milliseconds / 1e3)
            first.send_signal(number)
            assert parent.wait(20) == 0, f"after {milliseconds} ms\n{(tmp_path / 'log').read_text()}"
        assert not (tmp_path / "s").exists()


def test_the_server_alone_hears_before_it_imports_what_takes_long(tmp_path: Path) -> None:
    with contained([], tmp_path) as (parent, first):
        wait("it hears", lambda: signals(first, "SigCgt") >= HANDLED)
        assert "asyncio" not in (maps := Path(f"/proc/{first.pid}/maps").read_text()), maps
        assert "_dispatch" not in maps
        first.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 0


def test_a_reload_that_is_asked_for_while_it_starts_ends_nothing(tmp_path: Path) -> None:
    with contained(entry_point(), tmp_path) as (parent, first):
        wait("it hears", lambda: hears(first))
        for _ in range(100):
            os.kill(first.pid, signal.SIGHUP)
            time.sleep(0.002)
        wait("it serves", lambda: (tmp_path / "s").exists())
        first.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 0
