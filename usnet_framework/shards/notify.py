"""What the service manager is told: the datagrams of sd_notify(3), to the socket that NOTIFY_SOCKET names.

    READY=1       all seats are served; again when a reload is over, whether it was done or refused
    RELOADING=1   with the time of CLOCK_MONOTONIC, as Type=notify-reload asks for
    STOPPING=1    with how long that may take, so that TimeoutStopSec= need not know --graceful-timeout
    STATUS=…      a line for `systemctl status`, when it has changed
    WATCHDOG=1    every half of WATCHDOG_USEC, from the supervisor's loop: when that is stuck, none comes

Without NOTIFY_SOCKET nothing is sent and no timer runs. Sending never waits: a datagram that the manager has no room
for is sent before the next one, at the latest when STATUS is looked at again. Of more than UNSENT_MAX the oldest are
lost; a WATCHDOG=1 is not kept, since the next one says the same. The variables are the supervisor's; children do not
get them (child.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping

from usnet_framework import logs

log = logging.getLogger("usnet.supervisor")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
STATUS_S = 5.0
"""Between two looks at what STATUS says. Each is a few reads of shared memory."""
UNSENT_MAX = 32
"""Datagrams: of sixteen reloads. A socket's queue has room for ten of them by default (net.unix.max_dgram_qlen)."""
STOP_MARGIN_S = 10.0
"""What ending processes may take beyond the time that connections get."""


class Notifier:
    """Made and used in the thread of the supervisor's loop."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """A socket that cannot be used is one line in the log, and nobody is told anything."""
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address is not None else None
        self._period_s = _watchdog_s(environ) / 2
        self._describe: Callable[[], str] = str
        self._said = ""
        self._unsent: deque[bytes] = deque(maxlen=UNSENT_MAX)
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    def begin(self, describe: Callable[[], str]) -> None:
        """From now on the manager is told that the running loop turns, and what `describe` says."""
        self._describe = describe
        if self._socket is None:
            return
        if self._period_s:
            self._every(self._period_s, self._beat)
        self._every(STATUS_S, self._tell_status)

    def ready(self) -> None:
        self._send("READY=1", self._status())

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, timeout_s: float) -> None:
        """`timeout_s`: how long connections get."""
        extend_us = round((timeout_s + STOP_MARGIN_S) * 1e6)
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={extend_us}", self._status())

    def failed(self, why: str) -> None:
        """It could not start: one line."""
        self._send(f"STATUS={why}")

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _every(self, seconds: float, tell: Callable[[], None]) -> None:
        self._timers[tell] = asyncio.get_running_loop().call_later(seconds, self._every, seconds, tell)
        self._send_unsent()
        tell()

    def _beat(self) -> None:
        if not self._unsent:
            self._send("WATCHDOG=1")
            self._unsent.clear()  # there was no room: one that comes late would speak of another moment

    def _tell_status(self) -> None:
        before, status = self._said, self._status()
        if self._said != before:
            self._send(status)

    def _status(self) -> str:
        self._said = self._describe()
        return f"STATUS={self._said}"

    def _send(self, *assignments: str) -> None:
        if self._socket is not None:
            self._unsent.append("\n".join(logs.one_line(assignment) for assignment in assignments).encode())
            self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._socket is not None and self._address is not None:
            try:
                self._socket.sendto(self._unsent[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
            except BlockingIOError:
                return
            except OSError as error:  # it may come back, with another socket of that name
                log.debug("the service manager was not told %s: %s", self._unsent[0].decode(), error.strerror)
            self._unsent.popleft()


def _address(name: str) -> bytes | None:
    """Of a socket that is named by a path or, behind @, in the abstract namespace."""
    if not name:
        return None
    if name[0] not in "/@" or len(name) < 2:
        log.warning("NOTIFY_SOCKET=%s: neither a path nor an abstract name; the service manager is told nothing", name)
        return None
    return os.fsencode(f"\0{name[1:]}" if name[0] == "@" else name)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """How often the manager wants to hear something; 0: it does not ask, or asks another process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", str(os.getpid()))
    asks = microseconds.isascii() and microseconds.isdigit() and pid == str(os.getpid())
    return int(microseconds) / 1e6 if asks else 0.0
