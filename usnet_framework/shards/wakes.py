"""The pipes by which the network process of a shard and its workers wake each other: two for each port.

Each side gets one end of each pipe and never holds the other one (native/src/base/wake.h says why). The supervisor
keeps the workers' ends, since the next worker at a port gets them too; the others are closed once the network process
has them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

_PAGE = 4096  # four times what may be unread: UN_WAKES_PER_DRAIN


class Wakes:
    """Made for so many ports. OSError: there are no more descriptors."""

    def __init__(self, ports: int) -> None:
        self.from_workers: list[int] = []
        """Ends of the network process that it reads, by port …"""
        self.to_workers: list[int] = []
        """… and that it writes."""
        self._workers: list[tuple[int, int]] = []
        try:
            for _ in range(ports):
                from_worker, to_engine = _pipe()
                self.from_workers.append(from_worker)
                self._workers.append((to_engine, -1))
                from_engine, to_worker = _pipe()
                self.to_workers.append(to_worker)
                self._workers[-1] = (to_engine, from_engine)
        except OSError:
            self.close()
            raise

    def worker(self, port: int) -> tuple[int, int]:
        """A worker's ends: what it writes to wake the network process, and what it is woken by."""
        return self._workers[port]

    def handed_down(self) -> None:
        """The network process has its ends."""
        _close([*self.from_workers, *self.to_workers])
        self.from_workers.clear()
        self.to_workers.clear()

    def close(self) -> None:
        self.handed_down()
        _close([fd for ends in self._workers for fd in ends if fd >= 0])
        self._workers.clear()


def _pipe() -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(OSError):  # a smaller one counts less against what the user may have in pipes
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, _PAGE)
    return ends


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
