"""A child process and the news of its end.

Spawned with the descriptors that it is told of and no others, in a process group of its own, so that Ctrl-C in a
terminal reaches the supervisor alone; its end arrives as a readable pidfd. Children ask the kernel to be killed when
the thread that spawned them ends (PR_SET_PDEATHSIG), so everything here belongs to the thread of the loop.

    Child   was spawned
    Clone   was made by a child, as a child of this process (zygoteprocess.py): what that one says of it is checked"""

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

NOT_KNOWN = 255  # the status of a process that somebody else has waited for


class Process:
    """`on_exit(status)` is called once, in the loop: status is the exit code, or minus the number of the signal."""

    def __init__(self, pid: int, pidfd: int, on_exit: Callable[[int], None]) -> None:
        self.pid = pid
        self.on_exit = on_exit
        self._pidfd = pidfd
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
        status = self._reap()
        os.close(self._pidfd)
        self._exited.set_result(status)
        self.on_exit(status)

    def _reap(self) -> int:
        """It has ended: take its status from the kernel."""
        try:
            ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            return NOT_KNOWN
        assert ended is not None, "waitid without WNOHANG"
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


class Child(Process):
    """`leads`: whoever is left in its process group when it ends is ended, too."""

    def __init__(
        self, arguments: Sequence[str], fds: Sequence[int], on_exit: Callable[[int], None], leads: bool = False
    ) -> None:
        """OSError when the program cannot be started."""
        environment = {name: value for name, value in os.environ.items() if name not in SUPERVISOR_ALONE}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, pass_fds=fds, process_group=0, env=environment
        )
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise
        self.leads = leads
        super().__init__(self._process.pid, pidfd, on_exit)

    def _reap(self) -> int:
        if self.leads:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # before its number can be another's
        return self._process.wait()


class Clone(Process):
    """A process that `maker` has made as our child and given this descriptor for."""

    def __init__(self, pidfd: int, maker: Process, on_exit: Callable[[int], None]) -> None:
        """It gets a process group of its own. ValueError: it is no process, not our child, or not in the group of the
        maker, where what that one makes begins. OSError: there is no descriptor to look it up with. In either case
        the one that was given is closed."""
        try:
            pid = _process_of(pidfd)
            _set_apart(pid, pidfd, maker)
        except (ValueError, OSError):
            os.close(pidfd)
            raise
        super().__init__(pid, pidfd, on_exit)


def reap_group(leader: int) -> bool:
    """Take the ends of our children in the group of a process that is gone; whether none is left."""
    try:
        while os.waitid(os.P_PGID, leader, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        return True
    return False


def reap_lost(leader: int) -> None:
    """Take the ends of our children in the group of a process that goes on, but not its own."""
    ended, look = os.WEXITED | os.WNOHANG, os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):
        while (child := os.waitid(os.P_PGID, leader, look)) is not None and child.si_pid != leader:
            os.waitid(os.P_PID, child.si_pid, ended)


def _set_apart(pid: int, pidfd: int, maker: Process) -> None:
    """ValueError: see Clone."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if pid == maker.pid or os.getpgid(pid) != maker.pid:
            raise ValueError(f"process {pid} is not of its making")
        os.setpgid(pid, pid)
    except OSError as error:
        raise ValueError(f"no child of this process: {error.strerror}") from None


def _process_of(pidfd: int) -> int:
    """Its number. ValueError when the descriptor is of no process. OSError."""
    with open(f"/proc/self/fdinfo/{pidfd}") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name == "Pid":
                return int(value)
    raise ValueError("no descriptor of a process")


def describe_exit(status: int) -> str:
    """In words, for a log line."""
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
