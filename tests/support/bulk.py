"""Much content whose every byte is checked: a stream known to both ends, and a handler that gives and takes it.

    give N\\n    N bytes of the stream come, then the end
    take N\\n    N bytes that follow are hashed; the answer is their digest in hex and a newline, then the end
"""

from __future__ import annotations

import functools
import hashlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from usnet_framework import Connection, Handler

MEBIBYTE = 1 << 20
_BLOCK = random.Random(7).randbytes(1_000_003)  # a prime length: what is lost, repeated or moved shows
_PIECE = 1 << 16


def stream(length: int, piece: int = _PIECE) -> Iterator[memoryview]:
    """The first bytes of the content, in pieces."""
    block = memoryview(_BLOCK)
    at = 0
    while length > 0:
        part = block[at : at + min(piece, length)]
        yield part
        length -= len(part)
        at = (at + len(part)) % len(block)


@functools.cache
def digest(length: int) -> str:
    found = hashlib.blake2b()
    for part in stream(length, MEBIBYTE):
        found.update(part)
    return found.hexdigest()


def digest_of(receive: Callable[[], bytes]) -> tuple[int, str]:
    """How much comes until the end, and its digest."""
    found, length = hashlib.blake2b(), 0
    while part := receive():
        found.update(part)
        length += len(part)
    return length, found.hexdigest()


@contextmanager
def told(what: str, length: int) -> Iterator[None]:
    """Prints how fast it was, which `make soak` shows."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    print(f"{what}: {length / MEBIBYTE:g} MiB in {took:.2f} s, {length * 8 / took / 1e6:.0f} Mbit/s")


def take_from(client: socket.socket, length: int) -> None:
    """Have the handler give so much, and check it."""
    client.sendall(b"give %d\n" % length)
    assert digest_of(lambda: client.recv(MEBIBYTE)) == (length, digest(length))


def give_to(client: socket.socket, length: int) -> None:
    """Have the handler take so much, and check what it found."""
    client.sendall(b"take %d\n" % length)
    for part in stream(length, MEBIBYTE):
        client.sendall(part)
    answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.decode() == digest(length) + "\n"


class Bulk(Handler):
    def on_connect(self, conn: Connection) -> None:
        conn.context = _Command(conn)

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.context.data(data)

    def on_drain(self, conn: Connection) -> None:
        conn.context.give()


class _Command:
    """What one connection was asked for."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._line = b""
        self._missing = 0
        self._found = hashlib.blake2b()
        self._parts: Iterator[memoryview] = iter(())
        self._busy = False

    def data(self, data: memoryview) -> None:
        if not self._busy:
            self._line += data
            line, newline, rest = self._line.partition(b"\n")
            if not newline:
                return
            data = memoryview(rest)
            self._start(*line.split())
        if self._missing:
            self._take(data)

    def _start(self, verb: bytes, length: bytes) -> None:
        self._busy = True
        if verb == b"take":
            self._missing = int(length)
        else:
            self._parts = stream(int(length))
            self.give()

    def _take(self, data: memoryview) -> None:
        self._found.update(data)
        self._missing -= len(data)
        if self._missing == 0:
            self._conn.send(self._found.hexdigest().encode() + b"\n")
            self._conn.close()

    def give(self) -> None:
        if not self._busy or self._missing:
            return
        for part in self._parts:
            if not self._conn.send(part):
                return
        self._conn.close()
