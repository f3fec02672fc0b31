"""Work that may take forever, such as a question to a driver that hangs: nobody has to wait for it.

It is done in a thread of its own, once at a time however often it is asked for. The thread is a daemon: the end of the
process does not wait for it either, as it does for those of asyncio.to_thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

Outcome = asyncio.Future[Exception | None]


class Background:
    """`work`, again whenever it is asked for. Everything else is called in the loop that runs."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._running: Outcome | None = None
        self._next: Outcome | None = None
        self._began_s = 0.0

    def ask(self) -> Outcome:
        """Done when work that begins from now on is over: what it raised, or why there was no thread for it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        asked = self._next
        if self._running is None:
            self._begin()
        return asked

    @property
    def runs_for_s(self) -> float:
        return 0.0 if self._running is None else time.monotonic() - self._began_s

    def _begin(self) -> None:
        self._running, self._next = self._next, None
        self._began_s = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            Thread(target=self._run, args=(loop,), name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system gives none
            self._over(error)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        raised = None
        try:
            self._work()
        except Exception as error:
            raised = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._over, raised)

    def _over(self, raised: Exception | None) -> None:
        running, self._running = self._running, None
        if running is not None and not running.done():
            running.set_result(raised)
        if self._next is not None:
            self._begin()
