"""A service manager as a server sees it: the socket of sd_notify(3), and descriptors as sd_listen_fds(3) has them.

    with Manager(f"{folder}/notify") as manager, Server(APP, env=manager.environment) as server:
        manager.wait("it is ready", lambda said: "READY=1" in said)
    with Server(APP, "--bind", "fd:3", prefix=activated(listener), pass_fds=[listener.fileno()]) as server: ...
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from types import TracebackType

from support.server import wait

_ACTIVATE = """
import os, sys
passed, *command = sys.argv[1:]
descriptors = [int(fd) for fd in passed.split(",")]
kept = [os.dup2(fd, 100 + at) for at, fd in enumerate(descriptors)]
for at, fd in enumerate(kept):
    os.dup2(fd, 3 + at)
os.environ |= {"LISTEN_FDS": str(len(descriptors)), "LISTEN_PID": str(os.getpid())}
os.execvp(command[0], command)
"""


def activated(*listeners: socket.socket) -> list[str]:
    """To be put in front of a command: they become descriptors 3 and following."""
    return [sys.executable, "-S", "-E", "-c", _ACTIVATE, ",".join(str(one.fileno()) for one in listeners)]


class Manager:
    """`name`: a path, or a name in the abstract namespace behind @. `said`: every assignment, in order."""

    def __init__(self, name: str) -> None:
        self.environment = {"NOTIFY_SOCKET": name}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self._socket.setblocking(False)
        self._said: list[str] = []

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def said(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._said += self._socket.recv(4096).decode().split("\n")
        return self._said

    def wait(self, what: str, predicate: Callable[[list[str]], bool]) -> None:
        wait(what, lambda: predicate(self.said()))

    def count(self, assignment: str, seconds: float) -> int:
        """How often it is said in that time."""
        before = self.said().count(assignment)
        time.sleep(seconds)
        return self.said().count(assignment) - before
