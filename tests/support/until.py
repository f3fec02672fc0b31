"""`await until(...)` lets the event loop live until something is so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SECONDS = 20.0
POLL_SECONDS = 0.001


async def until(what: Callable[[], object], found: Callable[[], object] = lambda: "") -> None:
    """AssertionError, with what is `found` instead, after the deadline."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, found()
        await asyncio.sleep(POLL_SECONDS)
