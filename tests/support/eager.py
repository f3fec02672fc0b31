"""Tasks that begin at once (asyncio.eager_task_factory, Python 3.12): `support.eager:Eager --app-dir tests`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextvars import ContextVar

from usnet_framework import Connection, Handler

log = logging.getLogger("shop")
word: ContextVar[bytes] = ContextVar("word", default=b"nothing")


class Eager(Handler):
    """Answers with the word before, as this connection's context has it, and the word now, after an await."""

    def on_warm(self) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        before, now = word.get(), bytes(data)
        word.set(now)
        if now == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        if now == b"spawn":
            self.spawn(self.finish(0.0))
            self.spawn(self.finish(0.5))
        await asyncio.sleep(0)
        if now == b"die later":
            os.kill(os.getpid(), signal.SIGKILL)
        conn.send(before + b", " + word.get())

    async def finish(self, seconds: float) -> None:
        began = word.get()
        word.set(b"spawned")
        if seconds:
            await asyncio.sleep(seconds)
        log.info("%s is done after %s s", began.decode(), seconds)
