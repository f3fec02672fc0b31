"""Network namespaces, by numbers: which one this thread is in, and a way into another one.

The kernel gives each of them a cookie, which no other one gets before the next boot, but tells it only to those inside.
From outside there is the number of its file in nsfs, which may be given again once the namespace is gone."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SO_NETNS_COOKIE = 71


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
    may not see where. Root sees it, but for what processes hold that not even root may look into."""
    link = f"net:[{number}]"
    mounts = Path("/proc/thread-self/mountinfo").read_text(encoding="utf-8", errors="replace")
    mounted = re.search(rf"^\S+ \S+ \S+ {re.escape(link)} (\S+) .* - nsfs ", mounts, flags=re.M)
    if mounted is not None:
        return mounted[1]
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is not ours to see
            for file in _files_of(Path("/proc", process)):
                if _leads_to(file, link):
                    return str(file)
    return "" if os.geteuid() == 0 else None


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
