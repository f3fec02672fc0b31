"""A handler that does what its peer asks for: one command a line, for the socket suite.

echo TEXT     send TEXT back            big N       send N bytes of `pattern`
close         close in order            abort       reset
eof           half-close                late TEXT   send TEXT once the peer has half-closed, then close
pause S       stop reading for S seconds
count         send how many bytes came on this connection, after this line
who           send what the handler knows of both addresses
"""

from __future__ import annotations

import asyncio

from usnet_framework import CloseReason, Connection, Handler

PATTERN_STEP = bytes(range(251))  # a prime length: no power of two lines up with it


def pattern(length: int) -> bytes:
    return (PATTERN_STEP * (length // len(PATTERN_STEP) + 1))[:length]


class Obedient(Handler):
    closed: list[str]

    def on_start(self, shard: object) -> None:
        self.closed = []

    def on_connect(self, conn: Connection) -> None:
        conn.context = {"line": b"", "late": b"", "counting": None}

    def on_data(self, conn: Connection, data: memoryview) -> None:
        state = conn.context
        if state["counting"] is not None:
            self.counted(conn, len(data))
            return
        *lines, state["line"] = (state["line"] + data).split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"count"):
                state["counting"] = [0, int(line[6:])]
                rest = b"\n".join([*lines[number + 1 :], state["line"]])
                self.counted(conn, len(rest))
                return
            self.obey(conn, *line.split(b" ", 1))

    def counted(self, conn: Connection, length: int) -> None:
        counting = conn.context["counting"]
        counting[0] += length
        if counting[0] >= counting[1]:
            conn.send(b"%d\n" % counting[0])

    def obey(self, conn: Connection, verb: bytes, argument: bytes = b"") -> None:
        if verb == b"echo":
            conn.send(argument)
        elif verb == b"big":
            conn.send(pattern(int(argument)))
        elif verb == b"close":
            conn.close()
        elif verb == b"abort":
            conn.abort()
        elif verb == b"eof":
            conn.send_eof()
        elif verb == b"late":
            conn.context["late"] = argument
        elif verb == b"pause":
            conn.pause_reading()
            asyncio.get_running_loop().call_later(float(argument), conn.resume_reading)
        elif verb == b"who":
            conn.send(f"{conn.peer} {conn.local}\n".encode())
        elif verb == b"closed":
            conn.send(" ".join([*self.closed, "\n"]).encode())

    def on_eof(self, conn: Connection) -> None:
        if conn.context["late"]:
            conn.send(conn.context["late"])
        conn.close()

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.closed.append(reason.name)
