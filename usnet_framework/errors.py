"""The exceptions of usnet_framework: one class for each kind of mistake, each saying whose mistake it was.

The command lines turn UsnetError into one line on stderr and the exit code of its class; code that embeds the server
sees the exceptions themselves. Messages are one line: what was asked, what was found, what to do.
"""

from __future__ import annotations


class UsnetError(Exception):
    """Anything that this package reports about itself; `exit_code` is what a command line exits with."""

    exit_code = 1


class UsageError(UsnetError):
    """The caller asked for something that has no meaning: an unknown option, a malformed value. Ask differently."""

    exit_code = 2


class StartupError(UsnetError):
    """What was asked for is well formed, but this machine refused: port in use, import error, no permission."""

    exit_code = 3


class InUse(StartupError):
    """The port, path or interface that was asked for is another process's, be it a server that runs already."""


class ControlError(UsnetError):
    """A running server could not be asked over its control socket, or it refused the request."""

    exit_code = 3


class ServerGone(ControlError):
    """No server answers at the control socket: there is none, or it has ended meanwhile. Start one, or use its path."""


class SendBufferFull(UsnetError):
    """`Connection.send` while too much waits already: more than 16 MiB of this connection, or more of all connections
    than the worker may put aside (`--buffer-limit`). Nothing was taken, and `on_drain` follows. Try again there; in the
    second case smaller pieces may go out at once."""


class WorkerForked(UsnetError):
    """A connection was used in a child that a fork of the worker made (`os.fork`, `multiprocessing`). Connections stay
    with the worker: give it the result, by a pipe or a queue. What was received stays readable in the child."""


class ConnectionClosed(UsnetError):
    """`Connection.send` after `close`, `abort` or `on_close`; nothing was taken."""
