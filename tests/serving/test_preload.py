"""A generation's workers are forked from the process that imported its application, or spawned where that cannot be."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.answers import ask, write_answers
from support.server import Server, run, title

LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])


def start(folder: Path, *args: str, **options: Any) -> Server:
    return Server("app:App", "--queues", "1", *args, cwd=folder, **options)


def zygote(server: Server) -> int:
    """Its number, once there is one that is ready."""

    def found() -> int | None:
        pids = server.status()["zygotes"]
        return pids[0] if pids and title(pids[0]) == "usnet: zygote" else None

    return server.wait("there is a zygote", found) or 0


def kill_worker(server: Server) -> None:
    """And wait for another one."""
    (worker,) = server.workers()
    os.kill(worker.pid, signal.SIGKILL)
    server.wait("it is replaced", lambda: {found.pid for found in server.workers()} - {worker.pid})


def preload(server: Server) -> dict[str, Any]:
    (finding,) = [finding for finding in server.ask("doctor") if finding["what"] == "preload"]
    return dict(finding)


@LAYOUTS
def test_workers_are_forked_and_are_the_supervisors_children(tmp_path: Path, layout: str) -> None:
    write_answers(tmp_path, "imported_by = os.getpid()")
    with start(tmp_path, "--layout", layout) as server:
        made_by = zygote(server)
        for _ in range(2):
            assert ask(server, "imported_by") == made_by
            assert ask(server, "os.getppid()") == server.pid
            assert ask(server, "os.getpgid(0) == os.getpid()"), "no signal of a terminal reaches it"
            kill_worker(server)
        assert preload(server)["in_force"] == "workers are forked"


def test_a_worker_has_nothing_of_the_zygote_open(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with start(tmp_path) as server:
        sockets = {link for link in links(zygote(server)) if link.startswith("socket:")}
        assert len(sockets) == 1, "to the supervisor"
        (worker,) = server.workers()
        assert not links(worker.pid) & sockets


def links(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


def test_workers_die_with_the_supervisor_not_with_the_zygote(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with start(tmp_path, stop=False) as server:
        worker = ask(server, "os.getpid()")
        os.kill(zygote(server), signal.SIGKILL)
        server.wait("it is told", lambda: "the zygote was killed by SIGKILL; another one imports" in server.log)
        assert ask(server, "os.getpid()") == worker
        os.kill(server.pid, signal.SIGKILL)
        server.wait("the worker is gone", lambda: not psutil.pid_exists(worker))


def test_another_zygote_goes_on(tmp_path: Path) -> None:
    write_answers(tmp_path, "imported_by = os.getpid()")
    with start(tmp_path, "--spares", "0") as server:
        first = zygote(server)
        os.kill(first, signal.SIGKILL)
        server.wait("another one", lambda: server.status()["zygotes"] not in ([], [first]))
        kill_worker(server)
        assert ask(server, "imported_by") == zygote(server) != first


REASONS = {
    "import threading; threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()": (
        "the import left threads (poller)"
    ),
    "import socket; pair = socket.socketpair()": "the import left open socket (descriptor",
    "import select; poll = select.epoll()": "the import left open epoll (descriptor",
    "import asyncio; loop = asyncio.new_event_loop()": "the import left open epoll (descriptor",
    "pipe = os.pipe()": "the import left open pipe (descriptor",
    "file = open('data', 'w+')": "/data (descriptor",
    "import subprocess; child = subprocess.Popen(['sleep', '60'])": "the import left processes (",
}


@pytest.mark.parametrize("top", REASONS)
def test_what_cannot_be_shared_is_served_by_workers_that_are_spawned(tmp_path: Path, top: str) -> None:
    write_answers(tmp_path, f"{top}\nimported_by = os.getpid()")
    with start(tmp_path, "--workers", "2") as server:
        for _ in range(4):
            assert ask(server, "imported_by == os.getpid()")
        assert server.status()["zygotes"] == []
        finding = preload(server)
        assert finding["in_force"] == "workers are spawned"
        assert REASONS[top] in finding["reason"]
        assert "workers are spawned, not forked: the import left" in server.log
        os.kill(server.workers()[0].pid, signal.SIGKILL)
        server.wait("it is replaced", lambda: len(server.workers()) == 2)
        assert ask(server, "imported_by == os.getpid()")
        for child in server.processes():  # of the application, and its business
            if title(child.pid).startswith("sleep"):
                child.kill()


SHARED = """
import atexit, threading
log = open('log', 'a')
null = open(os.devnull)
done = threading.Thread(target=lambda: None)
done.start()
done.join()
"""


def test_what_can_be_shared_does_not_matter(tmp_path: Path) -> None:
    write_answers(tmp_path, SHARED)
    with start(tmp_path) as server:
        assert preload(server)["reason"] == ""
        assert preload(server)["in_force"] == "workers are forked"


def test_preload_off(tmp_path: Path) -> None:
    write_answers(tmp_path, "imported_by = os.getpid()")
    with start(tmp_path, "--preload", "off") as server:
        assert ask(server, "imported_by == os.getpid()")
        assert server.status()["zygotes"] == []


def test_an_application_is_imported_once(tmp_path: Path) -> None:
    """Also when workers are spawned in the end, the first of them is the process that has imported it."""
    for top in ("", "pipe = os.pipe()"):
        write_answers(tmp_path, f"open('imports', 'a').write('x')\n{top}")
        (tmp_path / "imports").unlink(missing_ok=True)
        with start(tmp_path, "--spares", "0"):
            assert (tmp_path / "imports").read_text() == "x"


RANDOM = """
import random, secrets, ssl, tempfile, uuid
random.random(); ssl.RAND_bytes(1); tempfile.mktemp(); uuid.uuid1()
def draw():
    ids = [uuid.uuid4().hex, uuid.uuid1().hex]
    return [random.random(), secrets.token_hex(), ssl.RAND_bytes(8), tempfile.mktemp(), *ids]
"""


def test_workers_draw_random_numbers_of_their_own(tmp_path: Path) -> None:
    write_answers(tmp_path, RANDOM)
    with start(tmp_path) as server:
        drawn = []
        for _ in range(3):
            drawn.append(ask(server, "draw()"))
            kill_worker(server)
        for kind in zip(*drawn, strict=True):
            assert len(set(kind)) == 3


FOLDER = """
import atexit, tempfile
folder = tempfile.TemporaryDirectory(dir=os.getcwd())
atexit.register(lambda: open('exits', 'a').write(f'{os.getpid()}\\n'))
"""


def test_a_temporary_folder_of_the_import_stays_while_a_worker_does(tmp_path: Path) -> None:
    write_answers(tmp_path, FOLDER)
    with start(tmp_path) as server:
        folder = ask(server, "folder.name")
        first = ask(server, "os.getpid()")
        os.kill(first, signal.SIGINT)  # it ends as a program does, not by the kernel
        server.wait("it is replaced", lambda: ask_or_none(server) not in (None, first))
        assert ask(server, "os.path.isdir(folder.name)")
        last = ask(server, "os.getpid()")
    assert not os.path.exists(folder), "the zygote removes it"
    exits = (tmp_path / "exits").read_text().split()
    assert str(last) in exits, "what is registered with atexit runs in every worker"


def ask_or_none(server: Server) -> int | None:
    try:
        return int(ask(server, "os.getpid()"))
    except OSError:
        return None


def test_an_import_that_hangs_is_ended(tmp_path: Path) -> None:
    write_answers(tmp_path, "import time; time.sleep(600)")
    args = ("--start-timeout", "1", "--metrics", "off", "--control", "off", "--bind", f"unix:{tmp_path}/s")
    done = run("usnet-serve", "app:App", *args, cwd=tmp_path)
    assert done.returncode == 3
    assert "importing the application took longer than 1 s (--start-timeout)" in done.stderr


def test_an_import_that_dies_says_how(tmp_path: Path) -> None:
    write_answers(tmp_path, "os._exit(7)")
    args = ("--metrics", "off", "--control", "off", "--bind", f"unix:{tmp_path}/s")
    done = run("usnet-serve", "app:App", *args, cwd=tmp_path)
    assert done.returncode == 3
    assert re.search(r"exited with 7 while it imported the application", done.stderr)
