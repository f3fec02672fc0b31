"""An application that configures logging itself when it is imported: `support.ownlogs:NAME --app-dir tests`."""

from __future__ import annotations

import logging
import logging.config

from usnet_framework import Connection, Handler

logging.config.dictConfig(
    {
        "version": 1,
        "formatters": {"plain": {"format": "MINE %(name)s %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "INFO", "handlers": ["console"]},
    }
)


class Tells(Handler):
    """Logs what it is sent, and raises for "bad"."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        logging.getLogger("shop").warning("heard %s", bytes(data).decode())
        if data == b"bad":
            raise LookupError("bad")
        conn.send(data)

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""
