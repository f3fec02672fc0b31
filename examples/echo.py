"""Echo: what a client sends comes back. The handler keeps no state, so its connections survive any worker.

usnet-serve examples.echo:Echo
echo hello | nc -q 1 127.0.0.1 7000
"""

from usnet_framework import Connection, Handler


class Echo(Handler):
    """Sends every byte back. A client that does not read what it caused is not read from either, until it does."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if not conn.send(data):
            conn.pause_reading()

    def on_drain(self, conn: Connection) -> None:
        conn.resume_reading()

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""
