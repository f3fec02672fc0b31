"""A handler that writes down what it was called for."""

from __future__ import annotations

from typing import Any

from usnet_framework import CloseReason, Connection, Handler


class Recorder(Handler):
    """`calls` holds (callback, connection id, bytes or reason) in order; `conns` the connections by id."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.conns: dict[int, Connection] = {}
        self.errors: list[BaseException] = []

    def note(self, name: str, conn: Connection, *value: object) -> None:
        self.conns[conn.id] = conn
        self.calls.append((name, conn.id, *value))

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]

    def on_connect(self, conn: Connection) -> None:
        self.note("connect", conn)

    def on_data(self, conn: Connection, data: memoryview) -> None:
        self.note("data", conn, bytes(data))

    def on_eof(self, conn: Connection) -> None:
        self.note("eof", conn)

    def on_drain(self, conn: Connection) -> None:
        self.note("drain", conn)

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.note("close", conn, reason)

    def on_resume(self, conn: Connection) -> None:
        self.note("resume", conn)

    def on_error(self, conn: Connection, exception: BaseException) -> bool | None:
        self.errors.append(exception)
        return None
