"""The handlers that usnet-bench serves. Neither keeps anything per connection, so connections survive their worker."""

from __future__ import annotations

import os

from usnet_framework import Connection, Handler
from usnet_framework.bench.signature import sign
from usnet_framework.handler import Shard


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
