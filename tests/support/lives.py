"""A worker's life without a supervisor: `live` in a process of its own, with the test at the other end of its socket.

    with Life("class App(Handler): ...") as life:
        assert life.hears()["type"] == "ready"

The engine is a fake one: life.attach() gives its port to the worker, which takes events as soon as it has said so.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from typing import Any

from support.fake_engine import FakeEngine

from usnet_framework.shards.messages import hear, send

DEADLINE_S = 20
PATIENCE_S = 3600.0  # of the supervisor, where a test does not show what happens when it ends: longer than DEADLINE_S

_PROGRAM = """
import asyncio, contextvars, os, socket, sys, threading, time
from usnet_framework import Handler
from usnet_framework.shards.worker import live
{application}
load = {{"app": "app:App", "log_level": "info", "log_format": "text", "stack_fd": {stack_fd}}}
sys.exit(live(socket.socket(fileno={fd}), App, load))
"""


class Life:
    def __init__(self, application: str, stack_fd: int | None = None) -> None:
        self.engine = FakeEngine()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(DEADLINE_S)
        fds = [theirs.fileno()] + ([stack_fd] if stack_fd is not None else [])
        program = _PROGRAM.format(application=textwrap.dedent(application), fd=theirs.fileno(), stack_fd=stack_fd)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", program], pass_fds=fds, stderr=subprocess.PIPE, text=True
            )

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._control.close()
        self.engine.close()

    def hears(self) -> dict[str, Any] | None:
        """What the worker says next; None: its end of the socket is closed."""
        return hear(self._control)

    def tell(self, kind: str, fds: list[int] | None = None, **more: Any) -> None:
        send(self._control, {"type": kind, **more}, fds or [])

    def start(self) -> None:
        assert self.hears() == {"type": "ready", "resumes": False}
        self.tell("start", shard=0, seat=0, serial=1, layout="split", core=None, poll="sleep")

    def attach(self) -> None:
        assert self.hears() == {"type": "started"}
        segment, (to_engine, from_engine) = self.engine.segment, self.engine.wake_fds
        self.tell("attach", [segment.public_fd, segment.port_fds[0], to_engine, from_engine], port=0)
        assert self.hears() == {"type": "attached"}

    def serve(self) -> None:
        self.start()
        self.attach()

    def data(self, conn: int, payload: bytes) -> None:
        self.engine.data(conn, payload)
        self.engine.wake()

    def output(self, conn: int, length: int) -> bytes:
        """So many bytes that the worker sends on a connection."""
        deadline, output = time.monotonic() + DEADLINE_S, b""
        while len(output) < length and time.monotonic() < deadline:
            output += self.engine.sent().get(conn, b"")
            time.sleep(0.001)
        return output

    def leaves(self) -> tuple[int, str]:
        """Told to retire, it says that it has left, and ends: exit code and log."""
        self.tell("retire", timeout=PATIENCE_S)
        assert self.hears() == {"type": "left"}
        return self.ends()

    def ends(self) -> tuple[int, str]:
        """Exit code and log, when it has ended by itself."""
        _, log = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, log


def pipe() -> tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC)
