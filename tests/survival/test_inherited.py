"""A server serves and survives whatever state its parent left it in."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from support.careless import careless
from support.privilege import may_look_into_processes
from support.server import REPOSITORY, STOP_SECONDS, WITH_THE_TEST, Server, run, wait

from usnet_framework import inherited
from usnet_framework.errors import ControlError, StartupError
from usnet_framework.shards import control

ECHO = "examples.echo:Echo"
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])
TESTS = REPOSITORY / "tests"
IN_TESTS = ("--app-dir", "tests")
EVERY_SIGNAL = sorted(number.name for number in signal.Signals if number not in (signal.SIGKILL, signal.SIGSTOP))


def exchange(server: Server, text: bytes = b"hello") -> None:
    with server.connect() as client:
        client.sendall(text)
        assert client.recv(len(text)) == text


def kill_engine(server: Server) -> None:
    (old,) = server.network_pids()
    os.kill(old, signal.SIGKILL)
    server.wait("another engine serves", lambda: server.network_pids() not in ([], [old]))


def kill_worker(server: Server) -> None:
    (old,) = server.workers()
    os.kill(old.pid, signal.SIGKILL)
    server.wait("another worker is there", lambda: server.workers() not in ([], [old]))
    server.wait("it serves", lambda: server.get("/readyz")[0] == 200)


# Signals.


def test_an_engine_is_replaced_when_sigchld_was_ignored() -> None:
    with Server(ECHO, "--queues", "1", prefix=careless(ignored=["SIGCHLD"])) as server, server.connect() as client:
        for _ in range(3):
            kill_engine(server)
        client.sendall(b"as before")
        assert client.recv(9) == b"as before"
        exchange(server)


def test_deaths_are_reported_as_they_were_when_sigchld_was_ignored() -> None:
    with Server(ECHO, "--queues", "1", prefix=careless(ignored=["SIGCHLD"])) as server:
        kill_worker(server)
        assert "was killed by SIGKILL" in server.log


@LAYOUTS
def test_it_stops_when_every_signal_was_blocked_and_ignored(layout: str) -> None:
    prefix = careless(ignored=EVERY_SIGNAL, blocked=EVERY_SIGNAL)
    with Server(ECHO, "--queues", "1", "--layout", layout, prefix=prefix) as server:
        exchange(server)
        kill_worker(server)
        exchange(server)  # and leaving the block stops it with SIGTERM


def test_children_end_with_a_supervisor_that_is_killed_when_every_signal_was_blocked() -> None:
    with Server(ECHO, "--queues", "1", stop=False, prefix=careless(blocked=EVERY_SIGNAL)) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(STOP_SECONDS)


def signal_numbers(status: str, field: str) -> set[int]:
    match = re.search(rf"^{field}:\t([0-9a-f]+)$", status, re.M)
    assert match, status
    return {number for number in range(1, 65) if int(match[1], 16) >> (number - 1) & 1}


@LAYOUTS
def test_children_of_a_handler_inherit_nothing_strange(layout: str) -> None:
    mess = careless(ignored=EVERY_SIGNAL, blocked=EVERY_SIGNAL, closed=[0, 1, 2], umask=0o777)
    parent = ("support.handlers:Parent", *IN_TESTS, "--layout", layout)
    with Server(*parent, prefix=mess) as server, server.connect() as client:
        client.sendall(b"?")
        seen = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    assert signal_numbers(seen, "SigBlk") == set()
    assert signal_numbers(seen, "SigIgn") <= {signal.SIGTTOU, 32, 33}  # of those the C library keeps two for itself
    assert "Umask:\t0077\n" in seen
    descriptors = {int(number) for number in re.findall(r" ([0-9]+) -> ", seen)}
    assert descriptors == {0, 1, 2, 3}  # the last is that of ls


# Descriptors.


def is_null(process: psutil.Process, fd: int) -> bool:
    """Or it has ended, as any but those that serve may."""
    try:
        return os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null"
    except FileNotFoundError:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@may_look_into_processes
@LAYOUTS
@pytest.mark.parametrize("closed", [each for count in (1, 2, 3) for each in combinations(range(3), count)])
def test_closed_descriptors_lead_nowhere(closed: tuple[int, ...], layout: str) -> None:
    noisy = ("support.handlers:Noisy", *IN_TESTS, "--queues", "1", "--layout", layout)
    with Server(*noisy, prefix=careless(closed=closed)) as server:
        exchange(server, b"before" * 100)
        for process in server.processes():
            assert [fd for fd in closed if not is_null(process, fd)] == [], process
        kill_worker(server)
        exchange(server, b"after" * 100)
        if layout == "split":
            kill_engine(server)
            exchange(server, b"at last" * 100)
        assert server.metrics()["usnet_workers_refused_total"] == 0


@pytest.mark.parametrize("program", [["usnet-ctl", "status", "--control", "/none"], ["usnet-serve", "nothing"]])
def test_programs_say_nothing_where_nobody_listens(program: list[str]) -> None:
    done = run(*program, prefix=careless(closed=[0, 1, 2]))
    assert (done.returncode, done.stdout, done.stderr) == (3 if program[0] == "usnet-ctl" else 2, "", "")


# The umask.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "listener"), [(0o777, 0o700), (0, 0o777), (0o027, 0o750)])
def test_files_have_the_modes_that_are_promised(umask: int, listener: int, tmp_path: Path) -> None:
    bound = tmp_path / "listener"
    (tmp_path / "new").mkdir(0o700)
    poisonable = ("support.handlers:Poisonable", *IN_TESTS, "--queues", "1", "--bind", f"unix:{bound}")
    with Server(*poisonable, "--control", str(tmp_path / "new" / "control"), prefix=careless(umask=umask)) as server:
        assert mode(bound) == listener
        assert mode(tmp_path / "new" / "control") == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(bound))
            client.sendall(b"poison")
            kept = server.folder / "quarantine"
            server.wait("the event is kept", lambda: kept.is_dir() and len(list(kept.iterdir())) == 2)
        assert mode(kept) == 0o700
        assert {mode(file) for file in kept.iterdir()} == {0o600}


# serve() in somebody else's program.

EMBEDDED = """
import signal, sys
from usnet_framework import serve
from support.handlers import Noisy

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    serve(Noisy, bind=sys.argv[1], control=sys.argv[2], layout=sys.argv[3], queues=1, metrics="off", log_level="error")
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        sys.exit("SIGCHLD was not left as it was found")
    if signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        sys.exit("the mask was not left as it was found")
"""


@LAYOUTS
def test_serve_from_a_careless_program(layout: str, tmp_path: Path) -> None:
    (tmp_path / "embedded.py").write_text(EMBEDDED)
    bound, asked = tmp_path / "listener", str(tmp_path / "control")
    script = [sys.executable, str(tmp_path / "embedded.py"), f"unix:{bound}", asked, layout]
    program = [*WITH_THE_TEST, *careless(closed=[0, 1, 2]), *script]
    with subprocess.Popen(program, env=os.environ | {"PYTHONPATH": str(TESTS)}) as process:
        try:
            before = wait("it serves", lambda: serving_worker(asked))
            assert echoed_by(bound) == b"hello"
            os.kill(before, signal.SIGKILL)
            wait("another worker serves", lambda: serving_worker(asked) not in (None, before))
            assert echoed_by(bound) == b"hello"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def serving_worker(path: str) -> int | None:
    """The only worker, None while there is none."""
    try:
        ((worker,),) = (shard["workers"] for shard in control.request(path, "status")["shards"])
    except (ControlError, ValueError):
        return None
    return worker["pid"] if worker["state"] == "serving" else None


def echoed_by(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"hello")
        return client.recv(5, socket.MSG_WAITALL)


def test_serve_in_a_thread_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[str] = []

    def call() -> None:
        try:
            with inherited.serving():
                pass
        except StartupError as refusal:
            refusals.append(str(refusal))

    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert refusals[0].startswith("SIGCHLD is ignored in this program")
