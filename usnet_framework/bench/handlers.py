"""The handlers that usnet-bench serves. Echo and Signed keep nothing per connection, so it survives its worker."""

from __future__ import annotations

import asyncio
import os
import time

from usnet_framework import Connection, Handler
from usnet_framework.bench.companions import ASK, patterned
from usnet_framework.bench.exchange import PIECE, Reader
from usnet_framework.bench.signature import sign
from usnet_framework.handler import Result, Shard

HEAVY_MIB = 50  # of what heavy.py imports


class Echo(Handler):
    """Sends back what comes."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)

    def on_resume(self, conn: Connection) -> None:
        pass


class Signed(Handler):
    """Sends back what comes, each piece behind the process id of the worker that handled it."""

    def on_start(self, shard: Shard) -> None:
        self._signature = sign(os.getpid())

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send([self._signature, data])

    def on_resume(self, conn: Connection) -> None:
        pass


class Exchange(Handler):
    """Answers as native/bench/exchange.h says."""

    def on_connect(self, conn: Connection) -> None:
        conn.context = Reader()

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.context.take(data)
        self.on_drain(conn)

    def on_drain(self, conn: Connection) -> None:
        reader: Reader = conn.context
        while reader.owed and conn.send(reader.next(PIECE)):
            pass


WARM_S = 2.0
"""As long as it takes to fill a pool of connections to a database."""


class Occupied(Handler):
    """Sends back what comes, and does what companions.py asks for."""

    async def on_warm(self) -> None:
        await asyncio.sleep(WARM_S)

    def on_data(self, conn: Connection, data: memoryview) -> Result:
        if data[: len(ASK)] == ASK:
            return self._keep_busy(conn, bytes(data[len(ASK) :]))
        conn.send(data)
        return None

    def on_resume(self, conn: Connection) -> None:
        pass

    async def _keep_busy(self, conn: Connection, line: bytes) -> None:
        what, _, argument = line.partition(b" ")
        if what == b"send":
            conn.send(patterned(0, int(argument)))
            return
        if what == b"wait":
            await asyncio.sleep(float(argument))
        else:
            await asyncio.get_running_loop().run_in_executor(None, _tick, float(argument))
        conn.send(line)


def _tick(seconds: float) -> None:
    """On a thread of its own, which takes the interpreter from the loop's thread a thousand times a second, and gives
    it back at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)
