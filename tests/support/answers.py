"""An application whose workers answer what Python expressions are worth there, and the client that asks.

    write_answers(tmp_path, "import numpy")
    with Server("app:App", cwd=tmp_path) as server:
        assert ask(server, "os.getppid()") == server.pid
"""

from __future__ import annotations

import ast
import socket
from pathlib import Path
from typing import Any

from support.server import Server

APP = """
import os, sys
from usnet_framework import Handler, serve

{top}

class App(Handler):
    def on_data(self, conn, data):
        conn.send(repr(eval(bytes(data), globals())).encode() + b"\\n")
    def on_resume(self, conn):
        pass

{bottom}
"""


def write_answers(folder: Path, top: str = "", bottom: str = "", name: str = "app.py") -> Path:
    """The application in a file; `top` runs before its class is made, `bottom` at the end."""
    file = folder / name
    file.write_text(APP.format(top=top, bottom=bottom))
    return file


def answer(client: socket.socket, expression: str) -> Any:
    """ConnectionError: the connection ended instead."""
    client.sendall(expression.encode())
    line = b""
    while not line.endswith(b"\n"):
        part = client.recv(65536)
        if not part:
            raise ConnectionResetError("no answer")
        line += part
    return ast.literal_eval(line.decode())


def ask(server: Server, expression: str) -> Any:
    with server.connect() as client:
        return answer(client, expression)
