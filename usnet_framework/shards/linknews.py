"""What happens to interfaces, as rtnetlink(7) tells it, and how much of that a log takes.

`LinkNews` hears of changes: down, up, no carrier, removed, renamed, another MTU or MAC address. It lives in a loop and
costs nothing while nothing happens. Of changes that the kernel does not tell, such as of the number of queues, whoever
looks may say so.

`Told` writes trouble into the log when it begins and when it is over. What comes and goes all the time is looked at
again only after a while, which grows up to a minute: an interface that flaps costs a few lines a minute."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from usnet_framework.shards.rtnetlink import messages_in

log = logging.getLogger("usnet.supervisor")

RTMGRP_LINK = 1
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_INDEX = struct.Struct("=4xi")  # of struct ifinfomsg
_PACKET_BYTES_MAX = 1 << 16
_PACKETS_AT_ONCE = 16

SETTLE_S = 0.2
"""A link that comes up has its carrier a moment later, and its address."""

HOLD_S, HOLD_MAX_S = 1.0, 60.0
"""What is said stands for so long before anything else is said: at first, and of an interface that flaps."""


class LinkNews:
    """`changed` is called, in the loop that runs, with the number of each interface that has changed; with None when
    news were lost."""

    def __init__(self, changed: Callable[[int | None], None]) -> None:
        """OSError."""
        self._changed = changed
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, RTMGRP_LINK))
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._readable)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = self._socket.recv(_PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: there was no room for some
                self._changed(None)
                return
            for kind, _, _, rest in messages_in(packet):
                if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                    self._changed(_INDEX.unpack_from(rest)[0])


class Timer(Protocol):
    def cancel(self) -> None: ...


class Told:
    """`find` says what is the matter with an interface now, None: nothing; `later(seconds, callback)` is a loop's."""

    def __init__(self, find: Callable[[], str | None], later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self._find = find
        self._later = later
        self._said: str | None = None
        self._hold_s = HOLD_S
        self._held: Timer | None = None
        self._is_restless = False  # something has changed meanwhile

    def look(self) -> None:
        """Something has changed: what is so in a moment is said."""
        if self._held is None:
            self._held = self._later(SETTLE_S, self._settled)
        else:
            self._is_restless = True

    def hear(self, found: str | None) -> None:
        """It is so now: it is said at once, or if it still is so when what was said last has stood long enough."""
        if self._held is not None:
            self._is_restless |= found != self._said
        elif found != self._said:
            self._say(found)

    def close(self) -> None:
        if self._held is not None:
            self._held.cancel()

    def _say(self, found: str | None) -> None:
        if found is not None:
            log.warning("%s", found)
        else:
            log.warning("no longer: %s", self._said)
        self._said = found
        self._hold()

    def _hold(self) -> None:
        self._is_restless = False
        self._held = self._later(self._hold_s, self._look_again)

    def _settled(self) -> None:
        self._held = None
        self._is_restless = False
        self.hear(self._find())

    def _look_again(self) -> None:
        self._held = None
        found = self._find()
        if found == self._said and not self._is_restless:
            self._hold_s = HOLD_S
            return
        self._hold_s = min(2 * self._hold_s, HOLD_MAX_S)
        if found == self._said:
            self._hold()
        else:
            self._say(found)
