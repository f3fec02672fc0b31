"""What a process inherits from whoever started it, put in order; native/src/base/inherited.h is the same in C.

Ignored signals, the signal mask, closed descriptors and the umask survive exec. With SIGCHLD ignored no child can be
waited for; with descriptor 2 closed the next memory file gets number 2, and messages are written into it.

    end_on_signals()   in a server, before anything else
    reset()            first thing in a program of ours
    serving()          around a server within another program: what a library may change, and changes back

A process is deaf while it has no handler, if it is process 1 of a container: the kernel drops what would end it by
default. A signal that is blocked is kept, though. So handlers come before heavy imports and before `reset` unblocks,
and whoever starts the server with signals blocked (`env --block-signal=TERM`) loses none.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from usnet_framework.errors import StartupError

OWNER = 0o700
TERMINAL = frozenset(
    (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)
"""nohup and the & of a shell ignore them on purpose."""

PYTHON = frozenset((signal.SIGPIPE, signal.SIGXFSZ))
"""Python ignores them itself, and subprocess gives children their defaults."""

HANDLED = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
"""What a server acts on."""


def end_on_signals() -> None:
    """Until a loop takes them, SIGTERM and SIGINT end this program with 0: nothing has been made yet that would have to
    be undone. SIGHUP asks for new code, which is going to be imported anyway."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGHUP, _nothing)


def ignore_signals() -> None:
    """The server is gone, and this program ends with the exit code that it has."""
    for number in HANDLED:
        signal.signal(number, _nothing)


def _end(number: int, frame: object) -> None:
    os._exit(0)


def _nothing(number: int, frame: object) -> None:
    pass


def reset(*, terminal: bool = False) -> None:
    """Call it first in main. StartupError when /dev/null cannot be opened.

    Signals: no signal stays blocked, ignored ones get their default action; those of a terminal only with `terminal`,
    in a process that the terminal has no business with. That one ignores SIGTTOU, which would stop it where it writes
    to a terminal whose `tostop` is set: it is in the background for good, and so are its children.
    Descriptors and sys.stdin, stdout and stderr: /dev/null for those of 0 to 2 that are closed.
    umask: it takes no rights from the owner. What it takes from others is the administrator's choice.
    """
    _open_standard_descriptors()
    _open_standard_streams()
    kept = PYTHON if terminal else PYTHON | TERMINAL
    for number in signal.valid_signals() - kept:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if terminal:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(os.umask(0o777 & ~OWNER) & ~OWNER)


@contextmanager
def serving() -> Iterator[None]:
    """Children can be waited for, and signals that stop a server arrive where they are handled. StartupError when that
    takes the main thread, and this is another."""
    _open_standard_descriptors()
    is_main = threading.current_thread() is threading.main_thread()
    if (forgets := signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN) and not is_main:
        raise StartupError(
            "SIGCHLD is ignored in this program, so no child can be waited for; call "
            "signal.signal(signal.SIGCHLD, signal.SIG_DFL) in its main thread before serve()"
        )
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED if is_main else ())
    try:
        if forgets:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield
    finally:
        if forgets:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _open_standard_descriptors() -> None:
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            _open_null(fd)


def _open_null(fd: int) -> None:
    """At the lowest free number, which is `fd` unless another thread took that just now."""
    try:
        opened = os.open(os.devnull, os.O_RDWR)
    except OSError as error:
        raise StartupError(
            f"descriptor {fd} is closed and {os.devnull} cannot be opened instead: {error.strerror}; "
            f"start with descriptors 0 to 2 open"
        ) from None
    if opened == fd:
        os.set_inheritable(fd, True)  # for children, as the other two
    else:
        os.close(opened)


def _open_standard_streams() -> None:
    """Python has None for those that were closed when it started."""
    if sys.stdin is None:
        sys.stdin = _stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _stream(2, "w")


def _stream(fd: int, mode: str) -> TextIO:
    return open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[return-value]
