"""A server in a terminal whose `tostop` is set: nobody in the background may write to it, and workers are there."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import termios
from pathlib import Path

import psutil
from support.server import REPOSITORY, WITH_THE_TEST, command, title, wait

LINE = b"a line of the handler\n"


def test_workers_may_write_where_background_jobs_may_not(tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[3] |= termios.TOSTOP
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    options = ["--app-dir", "tests", "--queues", "1", "--metrics", "off", "--control", "off", "--log-level", "debug"]
    path = tmp_path / "s"
    with subprocess.Popen(
        [*WITH_THE_TEST, "setsid", "--ctty", "--wait", command("usnet-serve"), "support.handlers:Noisy",
         "--bind", f"unix:{path}", *options],
        cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs,
    ) as server:  # fmt: skip
        os.close(theirs)
        try:
            wait("it listens", path.exists)
            for _ in range(2):  # the second time a worker that was a spare
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(20)
                    client.connect(str(path))
                    client.sendall(LINE)
                    assert client.recv(len(LINE), socket.MSG_WAITALL) == LINE
                    assert not any(map(is_stopped, tree(server.pid)))
                    worker_of(server.pid).kill()
            shown = b""
            while shown.count(LINE.strip()) < 4:  # to stdout and to stderr
                shown += os.read(terminal, 65536)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
            os.close(terminal)


def tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def worker_of(pid: int) -> psutil.Process:
    (worker,) = [process for process in tree(pid) if title(process.pid).startswith("usnet: worker")]
    return worker
