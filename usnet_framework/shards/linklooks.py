"""Looks at an interface, in the background: why packets do not come.

The kernel answers most questions about an interface under the lock of all network settings, which others may hold for
long: a loop that serves others does not wait for that. It has what was seen last, and asks for another look at each
news (linknews.py), when somebody wants to know and the last look is a second old, and every ten seconds."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from usnet_framework.shards.background import Background, Outcome

log = logging.getLogger("usnet.supervisor")

LOOK_AGAIN_S, LOOK_EVERY_S = 1.0, 10.0

Trouble = tuple[str, str]
"""Why, and what to do."""


@dataclass(frozen=True)
class Seen:
    """Of the interface with this number. `mtu` None: not known."""

    index: int
    began_s: float
    trouble: Trouble | None = None
    mtu: int | None = None


class LinkLooks:
    """`find` asks, in any thread, also while it is asked in another one; an OSError with ENODEV says that there is no
    such interface any more, or that it has another name. `looked` is called in the loop after each look that was asked
    for."""

    def __init__(self, find: Callable[[], tuple[Trouble | None, int | None]], looked: Callable[[], None]) -> None:
        self._find = find
        self._looked = looked
        self._background = Background("usnet-link", self.look)
        self._lock = Lock()
        self._asked_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.begin(0)

    def begin(self, index: int) -> None:
        """It is another interface now, of which nothing is known."""
        with self._lock:
            self.seen = Seen(index, time.monotonic())

    def look(self) -> None:
        """In any thread. Of several at once, the one that began last is in force."""
        seen = Seen(self.seen.index, time.monotonic())
        try:
            trouble, mtu = self._find()
            seen = replace(seen, trouble=trouble, mtu=mtu)
        except OSError as error:
            if error.errno != errno.ENODEV:
                seen = replace(seen, trouble=unreadable(error))
        with self._lock:
            if seen.index == self.seen.index and seen.began_s >= self.seen.began_s:
                self.seen = seen

    def follow(self) -> None:
        """From now on, in the loop that runs."""
        if self._timer is None:
            self._look_at_times()

    def ask(self) -> Outcome:
        """Something has changed."""
        self._asked_s = time.monotonic()
        asked = self._background.ask()
        asked.add_done_callback(self._over)
        return asked

    def ask_again(self) -> None:
        """Somebody wants to know."""
        if self._timer is not None and time.monotonic() - self._asked_s >= LOOK_AGAIN_S:
            self.ask()

    def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _look_at_times(self) -> None:
        self.ask()
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_at_times)

    def _over(self, outcome: Outcome) -> None:
        if (error := outcome.result()) is not None:
            log.error("the interface cannot be looked at: %s", error)
        if not self._is_closed:
            self._looked()


def unreadable(error: OSError) -> Trouble:
    return f"the settings of the interface cannot be read: {error.strerror}", "look at the kernel's log"
