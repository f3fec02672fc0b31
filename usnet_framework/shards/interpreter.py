"""Start one of our programs in Python, with what the interpreter of this process was started with.

As multiprocessing does for its children: flags (`-O -X dev -W …`) and sys.path are handed on, so vendored packages,
archives and changes that a script made to sys.path are there before the first import. The current folder is no part of
the path (`-P`) unless it is one of this process."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

from usnet_framework.shards.child import Child
from usnet_framework.shards.release import Release

BOOT = """import sys
module, control, parent, *sys.path[:] = sys.argv[1:]
from importlib import import_module
sys.exit(import_module(module).main([control, parent]))"""


def start(
    module: str, release: Release, on_exit: Callable[[int], None], leads: bool = False
) -> tuple[Child, socket.socket]:
    """`module.main([control descriptor, our pid])` in a process of its own, and our end of its control socket. `leads`
    as in child.py. OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        fd = theirs.fileno()
        arguments = [release.python, *flags, "-P", "-c", BOOT, module, str(fd), str(os.getpid()), *release.path]
        try:
            child = Child(arguments, [fd], on_exit, leads)
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)
    return child, ours
