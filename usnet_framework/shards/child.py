"""A child process and the news of its end.

Spawned with the descriptors that it is told of and no others, in a process group of its own, so that Ctrl-C in a
terminal reaches the supervisor alone; its end arrives as a readable pidfd. Children ask the kernel to be killed when
the thread that spawned them ends (PR_SET_PDEATHSIG), so everything here belongs to the thread of the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

from usnet_framework.shards import notify

SOCKET_ACTIVATION = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
SUPERVISOR_ALONE = (*SOCKET_ACTIVATION, *notify.VARIABLES)
"""Variables that are meant for the process that the service manager started (sd_listen_fds(3), sd_notify(3))."""


class Child:
    """`on_exit(status)` is called once, in the loop: status is the exit code, or minus the number of the signal."""

    def __init__(self, arguments: Sequence[str], fds: Sequence[int], on_exit: Callable[[int], None]) -> None:
        """OSError when the program cannot be started."""
        environment = {name: value for name, value in os.environ.items() if name not in SUPERVISOR_ALONE}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, pass_fds=fds, process_group=0, env=environment
        )
        self.pid = self._process.pid
        self._on_exit = on_exit
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._ended)
        self._exited: asyncio.Future[int] = self._loop.create_future()

    @property
    def running(self) -> bool:
        return not self._exited.done()

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.running:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> int:
        """The status that `on_exit` gets."""
        return await asyncio.shield(self._exited)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self._exited.set_result(status)
        self._on_exit(status)


def describe_exit(status: int) -> str:
    """In words, for a log line."""
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
