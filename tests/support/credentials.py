"""What a process may do, as the kernel says in /proc/PID/status."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple

OTHER = pwd.getpwnam("nobody")
"""Whom a server that was started as root can run its processes as."""

AS_OTHER = ["--user", OTHER.pw_name] if os.geteuid() == 0 else []
"""Options of a server whose workers and network processes are of one user, and have no capabilities."""

USER = OTHER.pw_uid if AS_OTHER else os.geteuid()


class Credentials(NamedTuple):
    users: set[int]  # real, effective, saved, of files
    groups: set[int]  # the same, and all others
    capabilities: int  # of all sets but the bounding one
    no_new_privileges: bool
    seccomp: int


def credentials(pid: int) -> Credentials:
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {name: text.split() for name, text in lines}
    capabilities = 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        capabilities |= int(status[name][0], 16)
    return Credentials(
        users=set(map(int, status["Uid"])),
        groups=set(map(int, status["Gid"] + status["Groups"])),
        capabilities=capabilities,
        no_new_privileges=status["NoNewPrivs"] == ["1"],
        seccomp=int(status["Seccomp"][0]),
    )


def is_closed(pid: int) -> bool:
    """To others of its user. What such a process has in /proc belongs to root."""
    assert USER != 0
    return os.stat(f"/proc/{pid}/fd").st_uid == 0
