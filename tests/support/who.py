"""A handler that says who imported it: `support.who:Who --app-dir tests`."""

from __future__ import annotations

import os

from usnet_framework import Connection, Handler

IMPORTED_BY = " ".join([str(os.geteuid()), *(os.environ.get(name, "") for name in ("USER", "LOGNAME", "HOME"))])


class Who(Handler):
    def on_connect(self, conn: Connection) -> None:
        conn.send(IMPORTED_BY.encode())
        conn.close()
