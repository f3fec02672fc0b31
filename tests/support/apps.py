"""An application that answers with its name, written into a folder again and again as a deployment does."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def write(folder: Path, answer: str, more: str = "", top: str = "", resume: str = "on_resume") -> None:
    """app.py with the class App; `more` are further methods, `top` what the import does first."""
    (folder / "app.py").write_text(
        f"{top}\n"
        "from usnet_framework import Handler\n"
        "class App(Handler):\n"
        f"    def on_data(self, conn, data): conn.send({answer.encode()!r})\n"
        f"    def {resume}(self, conn): pass\n" + more
    )
    # The compiled file is told from the source by its time in seconds and its size.
    os.utime(folder / "app.py", (answers := sum(answer.encode()) + len(more) + len(top), answers))


def ask(client: socket.socket) -> bytes:
    client.sendall(b"?")
    return client.recv(100)
