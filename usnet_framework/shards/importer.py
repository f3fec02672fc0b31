"""The first steps of a process that imports the application: a zygote (zygote.py), or a spawned worker (worker.py).

It puts in order what it inherited, asks the kernel to end it with the supervisor, gives up privileges, imports. What
fails on the way is told to the supervisor."""

from __future__ import annotations

import gc
import os
import signal
import socket

from setproctitle import setproctitle

from usnet_framework import inherited
from usnet_framework._native import die_with_parent, drop_privileges
from usnet_framework.app import load_release
from usnet_framework.errors import StartupError, UsnetError
from usnet_framework.handler import Handler
from usnet_framework.shards.messages import Message, tell

FAILED = 3
"""The exit code when the supervisor was told why."""


def begin(arguments: list[str]) -> tuple[socket.socket, int] | None:
    """The control socket and the supervisor's pid, from [control descriptor, pid]; None: the supervisor has died."""
    inherited.reset(terminal=True)  # the terminal is the supervisor's
    control_fd, supervisor_pid = map(int, arguments)
    os.set_inheritable(control_fd, False)  # for the application's children
    try:
        die_with_parent(signal.SIGKILL, supervisor_pid)
    except ProcessLookupError:
        return None
    return socket.socket(fileno=control_fd), supervisor_pid


def import_application(control: socket.socket, supervisor_pid: int, load: Message, title: str) -> type[Handler] | None:
    """As the message `load` says (messages.py). None: it failed, and the supervisor was told."""
    try:
        _drop(load["privileges"], supervisor_pid)
        setproctitle(title)
        handler_class = load_release(load)
    except UsnetError as error:
        tell(control, {"type": "failed", "error": str(error)})
        return None
    gc.collect()
    gc.freeze()  # what the import made stays for good: collections need not look at it, and its pages stay shared
    return handler_class


def _drop(asked: Message, supervisor_pid: int) -> None:
    """Give up what privileges.py says, for good. StartupError.

    The user's files and settings are looked for where that user has them.
    """
    os.environ.update(asked["environment"])
    try:
        drop_privileges(
            signal.SIGKILL,
            supervisor_pid,
            user=asked["change"],
            capabilities=asked["user"] is not None,
            debuggable=asked["debuggable"],
        )
    except OSError as error:  # that the supervisor is gone among them: then nobody reads it
        raise StartupError(f"--user {asked['user']}: cannot give up privileges: {error.strerror}") from None
