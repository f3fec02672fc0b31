"""The zygote of a generation: it imports the application once, and forks workers that have it.

`main` gives up privileges, imports, and looks at what the import left behind. With one thread, and no descriptor that
processes cannot share, it waits until the supervisor wants a worker (zygoteprocess.py):

    to the zygote     load    as a worker's (messages.py)
                      fork    a worker, with its control socket; the child is the supervisor's (native/dispatch/clone.c)
    to the supervisor ready   imported
                      unfit   imported, but no worker can be forked: `reasons`
                      forked  with a descriptor of the process (pidfd)
                      unforked  `error`
                      failed  `error`: not imported; it leaves

A worker goes on where one that was spawned has imported (worker.py: live), with the message `load` of its own. An unfit
zygote may become a worker itself: it gets that message on its own socket. A zygote ends when the supervisor closes its
socket, and by the kernel when the supervisor dies.

What a fork shares and what not: random numbers of Python and of OpenSSL, names of temporary files and uuids are made
anew; the secret of str hashes is the same in all workers of a generation. Functions registered with atexit run in every
worker. Finalizers (weakref.finalize, tempfile.TemporaryDirectory) that the import made run in the zygote alone, which
outlives its workers. Of a generator that the application seeds itself every worker has the same state."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import sys
import threading
import time
import weakref
from contextlib import suppress

from usnet_framework import logs
from usnet_framework._dispatch import check_clone, clone_sibling
from usnet_framework._native import die_with_parent
from usnet_framework.shards.importer import FAILED, begin, import_application
from usnet_framework.shards.messages import CANNOT_FORK, NO_DESCRIPTOR, receive, tell
from usnet_framework.shards.worker import live

SHARED_DEVICES = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
KINDS = {"socket:[": "socket", "pipe:[": "pipe", "anon_inode:[eventpoll]": "epoll", "anon_inode:[eventfd]": "eventfd"}
SETTLE_S = 0.2  # what threads that were joined get until they are gone
NAMED_MAX = 4  # of many threads or descriptors

Descriptors = dict[int, str]
"""What /proc/self/fd says of each number."""


def main(arguments: list[str]) -> int:
    begun = begin(arguments)
    if begun is None:
        return 0
    control, supervisor_pid = begun
    with control:
        loaded = receive(control)
        if loaded is None:
            return 0
        load, _ = loaded
        logs.configure(load["log_level"], load["log_format"], "zygote", may_start_thread=False)
        before = descriptors()
        handler_class = import_application(control, supervisor_pid, load, "usnet: zygote")
        if handler_class is None:
            return FAILED
        reasons = reasons_against_forks(before)
        tell(control, {"type": "unfit", "reasons": reasons} if reasons else {"type": "ready"})
        worker = control if reasons else forks(control)
        return 0 if worker is None else become_worker(worker, handler_class, supervisor_pid)


def forks(control: socket.socket) -> socket.socket | None:
    """Fork as often as is asked. None when that is over; in a worker, its control socket."""
    while (asked := receive(control)) is not None:
        if not asked[1]:  # the kernel leaves out what this process has no number for
            tell(control, {"type": "unforked", "error": NO_DESCRIPTOR})
            continue
        (worker_fd,) = asked[1]
        for stream in (sys.stdout, sys.stderr):  # or the worker would write what waits there once more
            with suppress(OSError, ValueError):
                stream.flush()
        try:
            pid, pidfd = clone_sibling()
        except OSError as error:
            os.close(worker_fd)
            tell(control, {"type": "unforked", "error": f"{CANNOT_FORK}: {error.strerror}"})
            continue
        if pid == 0:
            control.close()
            leave_finalizers_to_zygote()
            return socket.socket(fileno=worker_fd)
        os.close(worker_fd)
        tell(control, {"type": "forked"}, [pidfd])
        os.close(pidfd)
    return None


def become_worker(control: socket.socket, handler_class: type, supervisor_pid: int) -> int:
    """The exit code."""
    try:
        die_with_parent(signal.SIGKILL, supervisor_pid)
    except ProcessLookupError:
        return 0
    with control:
        loaded = receive(control)
        if loaded is None:
            return 0  # nobody needs it
        load, fds = loaded
        if fds:
            load["stack_fd"] = fds[0]
        return live(control, handler_class, load)


def leave_finalizers_to_zygote() -> None:
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False


# What the import left.


def descriptors() -> Descriptors:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the folder itself is closed again
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def reasons_against_forks(before: Descriptors) -> list[str]:
    """Why no worker can be forked from this process; descriptors of `before` are ours."""
    reasons = []
    try:
        check_clone()
    except NotImplementedError as error:
        reasons.append(str(error))
    if threads := other_threads():
        reasons.append(f"the import left threads ({_named(threads)})")
    if opened := unshareable(before):
        reasons.append(f"the import left open {_named(opened)}")
    if children := _children():
        reasons.append(f"the import left processes ({_named(children)})")
    return reasons


def other_threads() -> list[str]:
    """Names of all threads but this one, also those that Python does not know. A thread that was joined may take a
    moment to be gone."""
    deadline_s = time.monotonic() + SETTLE_S
    while (threads := _threads()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return threads


def _threads() -> list[str]:
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = []
    for number in os.listdir("/proc/self/task"):
        if int(number) != threading.get_native_id():
            with suppress(OSError):
                names.append(known.get(int(number)) or _read(f"/proc/self/task/{number}/comm"))
    return names


def unshareable(before: Descriptors) -> list[str]:
    """Descriptors that were opened meanwhile and that workers cannot have in common: they would get each other's input,
    or move each other's place in a file."""
    return [
        f"{_kind(link)} (descriptor {fd})"
        for fd, link in sorted(descriptors().items())
        if before.get(fd) != link and not _can_be_shared(fd, link)
    ]


def _kind(link: str) -> str:
    """What "socket:[1234]", "anon_inode:[eventfd]" or the path of a file is."""
    return next((kind for start, kind in KINDS.items() if link.startswith(start)), link)


def _can_be_shared(fd: int, link: str) -> bool:
    try:
        mode = os.fstat(fd).st_mode
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    except OSError:
        return True  # it was closed meanwhile
    return stat.S_ISDIR(mode) or link in SHARED_DEVICES or bool(stat.S_ISREG(mode) and appends)


def _children() -> list[str]:
    try:
        numbers = _read(f"/proc/self/task/{threading.get_native_id()}/children").split()
    except OSError:
        return []  # the kernel was built without
    return [_read_or(f"/proc/{number}/comm", number) for number in numbers]


def _read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read().strip()


def _read_or(path: str, otherwise: str) -> str:
    try:
        return _read(path)
    except OSError:
        return otherwise


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
