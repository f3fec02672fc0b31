"""Process 1 of a container: orphans of the application's children become its children, and stay zombies until it waits.

Which children are ours is not kept anywhere a second time: whoever waits for one has a pidfd of it, and the kernel says
of whom a pidfd is. A child of ours may have ended before its pidfd was opened (a worker that the zygote cloned is known
to the supervisor only by a message), so a zombie is reaped when it has been one for two looks in a row.

Only usnet-serve reaps. A program that calls serve() may wait for children of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

LOOK_S = 1.0
"""Between two looks. One is a system call while there is no zombie."""

Later = Callable[[float, Callable[[], None]], object]


def are_ours() -> bool:
    """Whether orphans come to this process."""
    return os.getpid() == 1


class Orphans:
    """`later(seconds, callback)` is the loop's. Orphans are reaped from `begin` on."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._suspects: set[int] = set()
        self.reaped = 0

    def begin(self) -> None:
        self.look()
        self._later(LOOK_S, self.begin)

    def look(self) -> None:
        zombies = _zombies() if _is_any_child_dead() else set()
        zombies -= _waited_for()
        for pid in zombies & self._suspects:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
                self.reaped += 1
        self._suspects = zombies


def _is_any_child_dead() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _zombies() -> set[int]:
    """Children that have ended and were not waited for."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def _waited_for() -> set[int]:
    """Of whom this process has pidfds."""
    found = set()
    for file in Path("/proc/self/fdinfo").iterdir():
        with suppress(OSError):  # the descriptor of the folder itself is closed by then
            for line in file.read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "Pid":
                    found.add(int(value))
    return found
