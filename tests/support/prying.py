"""A process of a user that looks which others of that user are open to it: `python -P prying.py UID PID ...`.

It prints a JSON list for each PID, of the ways into that process that are open. Started as root it becomes the user, by
which it loses all capabilities; what it needs is imported before.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

PIDFD_GETFD = 438  # the number of the system call, on every machine
PTRACE_SEIZE = 0x4206  # does not stop the process

WAYS = ("mem", "maps", "environ", "auxv", "fd/0", "exe", "process_vm_readv", "pidfd_getfd", "ptrace")


def ways_into(uid: int, pids: Iterable[int]) -> dict[int, list[str]]:
    """By process, for another one of the user."""
    program = [sys.executable, "-P", __file__, str(uid), *map(str, pids)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    return dict(zip(pids, map(json.loads, done.stdout.splitlines()), strict=True))


def _ways_into(pid: int) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    here = ctypes.create_string_buffer(1)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(here), 1)
    remote = (ctypes.c_size_t * 2)(8, 1)  # nothing is there: EFAULT says that it was looked for
    found = []
    for name in ("mem", "maps", "environ", "auxv"):
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb"):
            found.append(name)
    for name in ("fd/0", "exe"):
        with suppress(OSError):
            os.stat(f"/proc/{pid}/{name}")
            found.append(name)
    if libc.process_vm_readv(pid, local, 1, remote, 1, 0) >= 0 or ctypes.get_errno() == errno.EFAULT:
        found.append("process_vm_readv")
    if libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), 0, 0) >= 0:
        found.append("pidfd_getfd")
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) >= 0:
        found.append("ptrace")
    return found


if __name__ == "__main__":
    user, *others = map(int, sys.argv[1:])
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    for other in others:
        print(json.dumps(_ways_into(other)))
