"""Echo servers for tests of the load generator: sound ones as programs, and ones that misbehave in one known way.

    with Misbehaving(60, lambda number, message: b"" if number == 5 else message) as address: ...

A Misbehaving server reads messages of a fixed size, numbers them per connection from 0, and sends whatever its `twist`
makes of each.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from support.server import WITH_THE_TEST

from usnet_framework.bench.load import program

Twist = Callable[[int, bytes], bytes]

C_ECHO = ("usnet-echo-epoll", "127.0.0.1:0")
C_EXCHANGE = (*C_ECHO, "--exchange")
_PEERS = (sys.executable, "-P", "-m", "usnet_framework.bench.peers")
ASYNCIO_ECHO = (*_PEERS, "asyncio", "Echo", "127.0.0.1", "0")
UVLOOP_ECHO = (*_PEERS, "uvloop", "Echo", "127.0.0.1", "0")
UVLOOP_EXCHANGE = (*_PEERS, "uvloop", "Exchange", "127.0.0.1", "0")


@contextmanager
def echo_server(command: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """One of the commands above: its address once it listens, and its process."""
    first = command[0] if command[0] == sys.executable else program(command[0])
    with subprocess.Popen([*WITH_THE_TEST, first, *command[1:]], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), line
            yield line.split()[-1], process
        finally:
            process.kill()


def load(address: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and result of usnet-load; short, unmeasured warm-up, little patience."""
    command = [program("usnet-load"), "--target", address, "--json", "--warmup", "0", "--drain", "0.5", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


class Misbehaving:
    def __init__(self, size: int, twist: Twist) -> None:
        self._size = size
        self._twist = twist
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.connections: list[socket.socket] = []

    def __enter__(self) -> str:
        self._threads[0].start()
        return "{}:{}".format(*self._listener.getsockname())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        number = 0
        with connection, suppress(OSError):
            while message := connection.recv(self._size, socket.MSG_WAITALL):
                connection.sendall(self._twist(number, message))
                number += 1
