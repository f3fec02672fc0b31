"""A parent that leaves a mess behind and becomes another program: what signals, masks, descriptors and umask survive.

    Server(APP, prefix=careless(ignored=["SIGCHLD"], closed=[1, 2], umask=0o777))
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_PROGRAM = """
import os, signal, sys
ignored, blocked, closed, umask, *command = sys.argv[1:]
for name in ignored.split():
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in blocked.split()])
for fd in closed.split():
    os.close(int(fd))
if umask:
    os.umask(int(umask))
os.execvp(command[0], command)
"""


def careless(
    ignored: Sequence[str] = (), blocked: Sequence[str] = (), closed: Sequence[int] = (), umask: int | None = None
) -> list[str]:
    """The command to put in front of another: signals by name, descriptors by number."""
    mess = (" ".join(ignored), " ".join(blocked), " ".join(map(str, closed)), "" if umask is None else str(umask))
    return [sys.executable, "-S", "-E", "-c", _PROGRAM, *mess]
