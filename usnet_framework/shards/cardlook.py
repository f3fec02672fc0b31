"""A look at all that a card tells of itself, for `status` and `doctor`: they wait for it, but not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from usnet_framework.shards.background import Background
from usnet_framework.shards.findings import Finding

LOOK_S = 2.0
"""What it gets to be over: a driver may hang, and others may hold the kernel's lock of network settings."""


class CardLook:
    """`look` is called in a thread."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._background = Background("usnet-look", look)
        self._failed: Exception | None = None

    async def look(self) -> None:
        """Again, or the one that begins when that which runs is over."""
        looked = self._background.ask()
        await asyncio.wait([looked], timeout=LOOK_S)
        if looked.done():
            self._failed = looked.result()

    def findings(self) -> list[Finding]:
        """None when what is told is as it was at the last `look`."""
        if (seconds := self._background.runs_for_s) >= LOOK_S:
            reason = f"for {seconds:.0f} s its driver, or the kernel, has not answered"
        elif self._failed is not None:
            reason = f"they cannot be read: {self._failed}"
        else:
            return []
        what, asked, in_force = "interface's settings", "as they are now", "as they were at the last look"
        return [Finding(what, asked, in_force, reason, "look at the kernel's log", ok=False)]
