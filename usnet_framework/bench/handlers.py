"""The handlers that usnet-bench serves. Echo and Signed keep nothing per connection, so it survives its worker."""

from __future__ import annotations

import os

from usnet_framework import Connection, Handler
from usnet_framework.bench.exchange import PIECE, Reader
from usnet_framework.bench.signature import sign
from usnet_framework.handler import Shard

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
