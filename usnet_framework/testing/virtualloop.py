"""The loop of a worker under test: asyncio in the time of a simulated network."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any

from usnet_framework.testing import death
from usnet_framework.testing.links import SECOND_NS, Clock


def _nothing() -> None:
    pass


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio in the time of a `Clock`. wake: called when there is something to do, now or later."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._virtual = clock
        self._tell = wake
        self._called = 0
        self._looking = _LookingSelector()
        super().__init__(self._looking)

    def serve(self, look: Callable[[], None]) -> None:
        """From now on there is something to be looked at."""
        self._looking.look = look

    def turn(self) -> int:
        """One round of the loop: how many callbacks became ready since the last one."""
        super().call_soon(self.stop)
        self.run_forever()
        called, self._called = self._called, 0
        return called

    def die(self) -> None:
        """Nothing that was scheduled runs any more, and nothing of it is cleaned up either."""
        self._looking.look = _nothing
        death.bury(self, *asyncio.all_tasks(self), *getattr(self, "_ready", ()), *getattr(self, "_scheduled", ()))
        if self.is_running():  # for ever, in a thread that has stopped
            self._looking.close()
        else:
            self.close()

    def time(self) -> float:
        return self._virtual.now_ns / SECOND_NS

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self._called += 1
        if not self.is_running():
            self._tell()
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._virtual.at(math.ceil(when * SECOND_NS), self._tell)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _LookingSelector(selectors.SelectSelector):
    """It never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.look()
        return super().select(0)
