"""Network namespaces, by numbers: which one this thread is in, and a way into another one.

The kernel gives each of them a cookie, which no other one gets before the next boot, but tells it only to those inside.
From outside there is the number of its file in nsfs, which may be given again once the namespace is gone."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from usnet_framework.shards.privileges import capabilities

SO_NETNS_COOKIE = 71
CAP_SYS_PTRACE = 19
ENDED = (errno.ENOENT, errno.ESRCH, errno.EINVAL)
"""What a look into a process that has ended, or is a zombie, meets."""
FIRST_PIDS = "pid:[4026531836]"
"""The namespace of all processes (PROC_PID_INIT_INO)."""


def cookie() -> int:
    """Of this thread's. A kernel before 5.14 has but the number of its file."""
    with socket.socket(socket.AF_UNIX) as query, suppress(OSError):
        return int.from_bytes(query.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
    return file_number()


def file_number() -> int:
    """Of this thread's."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def way_into(number: int) -> str | None:
    """A path of the namespace with this file, for nsenter(1); "": it is gone. None: it may be there, and this process
    does not see where."""
    link, sees_all = f"net:[{number}]", _sees_all()
    if (path := _mounted(Path("/proc/thread-self"), link)) is not None:
        return path
    seen: set[str] = set()  # namespaces of mounts
    for process in _processes():
        try:
            for file in _files_of(process):
                if _leads_to(file, link):
                    return str(file)
            mounts = os.readlink(process / "ns/mnt")
            if mounts not in seen and (path := _mounted(process, link)) is not None:
                return f"{process}/root{path}"
            seen.add(mounts)
        except OSError as error:
            sees_all = sees_all and error.errno in ENDED
    return "" if sees_all else None


def _sees_all() -> bool:
    """Whether there is no process that this one does not see, or may not look into."""
    return bool(capabilities() >> CAP_SYS_PTRACE & 1) and os.readlink("/proc/self/ns/pid") == FIRST_PIDS


def _processes() -> list[Path]:
    return [Path("/proc", name) for name in os.listdir("/proc") if name.isdigit()]


def _mounted(process: Path, link: str) -> str | None:
    """Where it is mounted, as this process sees it. OSError."""
    mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"^\S+ \S+ \S+ {re.escape(link)} (\S+) .* - nsfs ", mounts, flags=re.M)
    return found and found[1]


def _files_of(process: Path) -> Iterator[Path]:
    """Of the namespaces that its threads are in, and all else that it holds."""
    for thread in os.listdir(process / "task"):
        yield process / "task" / thread / "ns/net"
    for fd in os.listdir(process / "fd"):
        yield process / "fd" / fd


def _leads_to(file: Path, link: str) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, or was closed
        return os.readlink(file) == link
    return False
