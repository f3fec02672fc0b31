"""Workers of shard 1 die in on_start while there is a file, whose path is in ILL: `support.ailing:Ailing`."""

from __future__ import annotations

import os

from usnet_framework import Connection, Handler, Shard


class Ailing(Handler):
    """Says the number of its shard."""

    def on_start(self, shard: Shard) -> None:
        if shard.shard == 1 and os.path.exists(os.environ["ILL"]):
            os._exit(9)
        self.said = str(shard.shard).encode()

    def on_connect(self, conn: Connection) -> None:
        conn.send(self.said)
        conn.close()

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""
