"""Waiting for something to become true, woken by whoever changes things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Belongs to the thread of the loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Return once the predicate holds; it is asked again after every change."""
        while not predicate():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)
