"""Counter: each line that a client sends is answered with how many lines it has sent, on this connection, so far.

    usnet-serve examples.counter:Counter
    printf 'a\\nb\\nc\\n' | nc -q 1 127.0.0.1 7000        # 1 2 3

The count is right whatever dies in between: it lives in `conn.state`, which is committed together with the input that
was consumed and the answers that were produced. Framing: a message ends with a newline, is of any length, and its text
does not matter. So a line that has arrived in part needs no memory at all: it counts when its newline comes, whichever
worker that is delivered to. Nothing is kept in Python.
"""

from usnet_framework import Connection, Handler

COUNT_BYTES = 8


class Counter(Handler):
    """Answers `<count>\\n` to each line."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        lines = bytes(data).count(b"\n")
        if not lines:
            return
        count = int.from_bytes(conn.state)  # empty on a new connection: 0
        conn.state = (count + lines).to_bytes(COUNT_BYTES)
        answer = b"".join(b"%d\n" % number for number in range(count + 1, count + lines + 1))
        if not conn.send(answer):
            conn.pause_reading()

    def on_drain(self, conn: Connection) -> None:
        conn.resume_reading()

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore: the count is in conn.state."""
