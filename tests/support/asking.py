"""A handler that asks somebody else: `support.asking:Asking --app-dir tests`. To "HOST PORT" it answers with the port
that it asked from, once the other side has said what was said to it."""

from __future__ import annotations

import asyncio

from usnet_framework import Connection, Handler


class Asking(Handler):
    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        host, port = bytes(data).decode().split()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        conn.send(str(writer.get_extra_info("sockname")[1]).encode())
        writer.close()
