"""Follows what the kernel knows of an interface (kernelview.py), for as long as a server shares its addresses.

One socket of rtnetlink(7): news come by themselves, dumps are asked for one after the other. News for which the socket
had no room are lost; the kernel says so (ENOBUFS), and everything is dumped again.

It lives in the supervisor's loop and does not hold it up. A turn reads a few packets. What has changed is passed on
after a pause of ten times what the last change has cost, so that a machine whose routes or neighbours never come to
rest costs the supervisor a tenth of its time."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from usnet_framework.shards.kernelview import KernelView, use_request
from usnet_framework.shards.rtnetlink import messages_in

log = logging.getLogger("usnet.supervisor")

SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE"""

PACKET_BYTES_MAX = 1 << 16  # the kernel's are of half of that at most
PACKETS_AT_ONCE = 4  # a thousand messages: 10 ms
REPLY_S = 1.0  # the kernel answers at once
PAUSE_MIN_S, PAUSE_TIMES = 0.001, 10
TELL_AGAIN_S = 1.0  # what could not be passed on, such as for want of memory

ASK_AGAIN_S = 1.0
ASKED_MAX = 256
"""Neighbours that are asked for within ASK_AGAIN_S: engines may want any number, and each is a broadcast."""


class KernelFollower:
    """`publish` gets what there is after each change."""

    def __init__(self, index: int, publish: Callable[[KernelView], None]) -> None:
        """OSError."""
        self._view = KernelView(index)
        self._publish = publish
        self._failure = ""  # why it could not be passed on the last time
        self._asked: dict[bytes, float] = {}
        self._spent_s = 0.0  # since the last time that something was passed on
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
            self._socket.bind((0, GROUPS))
        except BaseException:
            self._socket.close()
            raise

    def catch_up(self) -> None:
        """Learn what there is, before there is a loop. OSError: the kernel does not answer."""
        self._socket.settimeout(REPLY_S)
        deadline_s = time.monotonic() + REPLY_S
        while (self._view.dirty or self._view.is_dumping) and time.monotonic() < deadline_s:
            if not self._view.is_dumping:
                self._socket.send(self._view.begin())
            self._receive()

    def publish(self) -> None:
        """What there is. OSError: whoever gets it cannot take it."""
        self._publish(self._view)
        self._view.changed = False

    def start(self) -> None:
        """Go on in the loop that runs."""
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)
        if self._view.waits:
            self._soon()

    def ask(self, neighbours: Iterable[bytes]) -> None:
        """Have the kernel find out who has these addresses (addresses.mapped); the answer is news. What is asked for
        too often is left out: whoever needs it asks again."""
        now_s = time.monotonic()
        self._asked = {ip: asked_s for ip, asked_s in self._asked.items() if now_s - asked_s < ASK_AGAIN_S}
        for ip in neighbours:
            if ip not in self._asked and len(self._asked) < ASKED_MAX:
                self._asked[ip] = now_s
                with suppress(OSError):  # no room at the moment
                    self._socket.send(use_request(ip, self._view.index))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        began_s = time.monotonic()
        with suppress(BlockingIOError):
            for _ in range(PACKETS_AT_ONCE):
                self._receive()
        self._spent_s += time.monotonic() - began_s
        if self._view.waits:
            self._soon()

    def _receive(self) -> None:
        """BlockingIOError."""
        try:
            packet = self._socket.recv(PACKET_BYTES_MAX)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._view.missed()
            return
        for message in messages_in(packet):
            self._view.take(message)

    def _soon(self, pause_min_s: float = PAUSE_MIN_S) -> None:
        if self._timer is None and self._loop is not None:
            pause_s = max(pause_min_s, PAUSE_TIMES * self._spent_s)
            self._timer = self._loop.call_later(pause_s, self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        began_s = time.monotonic()
        is_done = not self._view.changed or self._tell()
        if self._view.dirty and not self._view.is_dumping:
            self._begin()
        self._spent_s = time.monotonic() - began_s
        if self._view.waits:
            self._soon(PAUSE_MIN_S if is_done else TELL_AGAIN_S)

    def _tell(self) -> bool:
        """Whether it could be passed on; else there is still something that waits for it."""
        try:
            self.publish()
        except OSError as error:
            if str(error) != self._failure:
                log.warning("what the kernel knows of the interface is not passed on: %s", error)
            self._failure = str(error)
            return False
        if self._failure:
            log.info("what the kernel knows of the interface is passed on again")
        self._failure = ""
        return True

    def _begin(self) -> None:
        """A dump, whose end is a change. The kernel may have no room for the request at the moment."""
        try:
            self._socket.send(self._view.begin())
        except OSError:
            self._view.put_off()
