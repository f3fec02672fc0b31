"""Sockets that systemd has passed (sd_listen_fds(3)), beside those that `--bind fd:N` names.

Who connects to a socket that is listened on and not served waits for ever. So it is wrong usage when no bind names any
of them: the unit has a socket, and the command line does not know of it. When some are named and others not, a finding
names the others. Descriptors that are no listening stream sockets (of a FileDescriptorStore=, say) are not counted.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence

from usnet_framework.errors import UsageError
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.listeners import SYSTEMD_FIRST_FD, Bind

DESCRIPTORS_MAX = 1 << 20  # what the kernel lets anybody open


def passed(environ: Mapping[str, str] = os.environ) -> list[int]:
    """Descriptors of listening stream sockets that were passed to this process."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    last = min(int(count), DESCRIPTORS_MAX)
    return [fd for fd in range(SYSTEMD_FIRST_FD, SYSTEMD_FIRST_FD + last) if _listens(fd)]


def unserved(binds: Sequence[Bind], environ: Mapping[str, str] = os.environ) -> list[int]:
    """Those that no bind names. UsageError when none is named at all."""
    there = passed(environ)
    named = {bind.fd for bind in binds if bind.kind == "fd"}
    left = [fd for fd in there if fd not in named]
    if left and len(left) == len(there):
        asked = " ".join(f"--bind fd:{fd}" for fd in there)
        raise UsageError(
            f"LISTEN_FDS: systemd passed {_sockets(len(there))}, and no --bind names one: its clients would wait for "
            f"ever; add {asked}"
        )
    return left


def finding(left: Sequence[int]) -> list[Finding]:
    """Of sockets that were passed and are not served."""
    if not left:
        return []
    names = ", ".join(f"fd:{fd}" for fd in left)
    fix = f"add {' '.join(f'--bind fd:{fd}' for fd in left)}, or take what is not meant out of the socket unit"
    return [Finding("sockets of systemd", names, "not served", "no --bind names them; clients wait", fix, ok=False)]


def _listens(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as copy:
            return copy.type == socket.SOCK_STREAM and bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _sockets(count: int) -> str:
    return "a socket" if count == 1 else f"{count} sockets"
