"""Callbacks that never return, for the watchdog: `support.hanging:NAME --app-dir tests`."""

from __future__ import annotations

import asyncio
import signal
import time

from usnet_framework import Connection, Handler, Shard


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""


class Hangs(Echo):
    """An echo that hangs where it is told to: "spin", "sleep", "slow" (two seconds), "held" (until SIGUSR1 comes)."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        word = bytes(data)
        if word == b"spin":
            spin()
        elif word == b"sleep":
            time.sleep(3600)
        elif word == b"slow":
            time.sleep(2)
        elif word == b"held":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            signal.sigwait([signal.SIGUSR1])
        conn.send(data)


class Waits(Echo):
    """Answers after two seconds, in which nothing else hangs."""

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        await asyncio.sleep(2)
        conn.send(data)


class HangsAsItLeaves(Echo):
    """The first worker waits for two seconds in on_stop, and hangs then."""

    def on_start(self, shard: Shard) -> None:
        self.is_first = shard.serial == 1

    async def on_stop(self) -> None:
        if self.is_first:
            await asyncio.sleep(2)
            time.sleep(7200)


class HangsInTask(Echo):
    """Hangs in a coroutine, behind an await."""

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        if bytes(data) == b"spin":
            spin()
        conn.send(data)


def spin() -> None:
    """On one line, whatever instant it is looked at."""
    x = 0
    while (x := 1 - x) < 2: pass  # noqa: E701
