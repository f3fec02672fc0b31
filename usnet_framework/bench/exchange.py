"""Messages and answers of different lengths, as native/bench/exchange.h has them, for servers in Python."""

from __future__ import annotations

import struct

HEADER = struct.Struct("=QQ")  # of the message, of its answer; host order

PIECE = bytes(64 * 1024)
"""What answers consist of; the last piece of one is a part of it."""


class Reader:
    """The server's side of one connection: what came, and how many bytes are `owed` for it."""

    __slots__ = ("_header", "_left", "owed")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0  # bytes of the message that are still to come, its header not included
        self.owed = 0

    def take(self, data: bytes | memoryview) -> None:
        while len(data) > self._left:
            data = self._begin(data[self._left :])
        self._left -= len(data)

    def _begin(self, data: bytes | memoryview) -> bytes | memoryview:
        """A message begins with these bytes; what is behind its header."""
        missing = HEADER.size - len(self._header)
        self._header += bytes(data[:missing])
        self._left = 0
        if len(self._header) == HEADER.size:
            message, answer = HEADER.unpack(self._header)
            self._header = b""
            self._left = max(0, message - HEADER.size)
            self.owed += answer
        return data[missing:]

    def next(self, piece: bytes) -> bytes:
        """The next bytes that are owed, as many as the piece has at most; they are settled with that."""
        if self.owed < len(piece):
            piece = piece[: self.owed]
        self.owed -= len(piece)
        return piece
