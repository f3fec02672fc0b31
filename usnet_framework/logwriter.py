"""Writes lines to a descriptor and never waits for whoever reads it.

stderr may be a pipe that nobody reads, a terminal that is stopped, a full disk. A process that serves others must not
wait for any of them (a pipe holds 64 KiB; then `write` blocks), and other processes share the open file, so it must not
be made non-blocking for them. So a pipe or terminal is opened once more by its name in /proc, non-blocking; a socket is
written to with MSG_DONTWAIT; a file takes what it is given at once. What finds no room waits in memory, up to
BACKLOG_BYTES; a thread, which lives while something waits, writes it when the reader goes on. What finds no room there
is lost, counted, and said as soon as writing works again.

A line is written by its caller unless others wait already, so a process killed just afterwards has said it. Where the
pipe cannot be opened again (it belongs to another user) the thread writes everything, since a write there may block.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

BACKLOG_BYTES = 1 << 20
"""Of lines that wait for a reader: some 10,000, minutes of a busy server's log."""

POLL_MS = 1000  # of the thread; another look costs nothing
RETRY_S = 0.05  # after the descriptor was said to have room, and had none

Identity = tuple[int, int, int]


class LineWriter:
    """Of a descriptor that somebody else owns. Any thread may call it. `told(count)`: the line that says how many were
    lost. `may_start_thread=False`: what waits is tried again with the next line only."""

    def __init__(self, fd: int, told: Callable[[int], str], may_start_thread: bool = True) -> None:
        self.may_start_thread = may_start_thread
        self._fd = fd
        self._told = told
        self._identity: Identity | None = None  # of the open file that `_own` or `_socket` belongs to
        self._own = -1  # the same file, opened once more
        self._socket: socket.socket | None = None
        self._begin()
        self._look()  # now: a process that gives up privileges could not open it later
        _writers.add(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._waiting: deque[tuple[bytes, int]] = deque()  # a line, and how many are lost with it
        self._bytes = 0
        self._lost = 0
        self._busy = False  # below `_drain`: a finalizer that runs there may log
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Returns at once."""
        with self._lock:
            if self._bytes < BACKLOG_BYTES // 2:  # else that line is the next one to be lost
                self._tell_lost()
            self._queue(line, 1)
            self._go_on()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits, but no longer than that."""
        deadline_s = time.monotonic() + seconds
        while True:
            with self._lock:
                self._go_on()
                if not self._waiting:
                    return True
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(min(RETRY_S, seconds))

    def leave_to_parent(self) -> None:
        """In a child of a fork: what waits is the parent's to write, and its thread is not here."""
        self._begin()

    # With the lock held.

    def _queue(self, line: str, lost_with_it: int) -> None:
        packet = line.encode(errors="backslashreplace") + b"\n"
        if self._bytes + len(packet) > BACKLOG_BYTES:
            self._lost += lost_with_it
            return
        self._waiting.append((packet, lost_with_it))
        self._bytes += len(packet)

    def _tell_lost(self) -> None:
        if self._lost:
            count, self._lost = self._lost, 0
            self._queue(self._told(count), count)

    def _go_on(self) -> None:
        if not self._busy:
            self._busy = True
            try:
                self._drain()
            finally:
                self._busy = False
        if self._waiting and self._thread is None and self.may_start_thread:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system gives none, or the interpreter ends
                self._thread = None

    def _drain(self) -> None:
        """As much as there is room for."""
        if self._look() and self.may_start_thread:
            return  # the thread may wait
        while self._waiting:
            line, lost_with_it = self._waiting[0]
            try:
                written = self._put(line)
            except BlockingIOError:
                return
            except OSError:  # nobody will read it, or the disk is full
                self._lost += lost_with_it
                written = len(line)
            else:
                if len(self._waiting) == 1 and written == len(line):
                    self._tell_lost()
            self._written(written)

    def _written(self, count: int) -> None:
        line, lost_with_it = self._waiting.popleft()
        self._bytes -= count
        if count < len(line):
            self._waiting.appendleft((line[count:], lost_with_it))

    def _look(self) -> bool:
        """Whether the descriptor is the file that it was; the answer is whether `_put` may block."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False  # it is closed: `_put` says so
        identity = (found.st_dev, found.st_ino, found.st_mode)
        if identity != self._identity:
            self._open(found.st_mode)
            self._identity = identity
        return self._own < 0 and (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode))

    def _open(self, mode: int) -> None:
        if self._own >= 0:
            os.close(self._own)
            self._own = -1
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        with suppress(OSError):
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(self._fd))
            elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._own = os.open(f"/proc/self/fd/{self._fd}", flags)

    def _put(self, line: bytes) -> int:
        """BlockingIOError: there is no room. OSError."""
        if self._socket is not None:
            return self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._own if self._own >= 0 else self._fd, line)

    # The thread.

    def _run(self) -> None:
        while True:
            self._await_room()
            with self._lock:
                before = self._bytes
                self._busy = True
                try:
                    self._drain()
                finally:
                    self._busy = False
                if not self._waiting:
                    self._thread = None
                    return
                line = self._waiting[0][0] if self._look() else b""
                stuck = self._bytes == before
            if line:
                self._put_blocking(line)
            elif stuck:
                time.sleep(RETRY_S)

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._own if self._own >= 0 else self._fd, select.POLLOUT)
        with suppress(OSError):
            poll.poll(POLL_MS)

    def _put_blocking(self, line: bytes) -> None:
        """Nobody else takes lines off meanwhile."""
        try:
            written = os.write(self._fd, line)
        except OSError:
            written = -1
        with self._lock:
            if written < 0:
                self._lost += self._waiting[0][1]
                self._written(len(line))
            else:
                self._written(written)
                if not self._waiting:
                    self._tell_lost()


_writers: weakref.WeakSet[LineWriter] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for writer in list(_writers):
        writer.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)
