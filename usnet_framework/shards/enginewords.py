"""What an engine or its keeper says to the supervisor over a SOCK_SEQPACKET: fixed messages, some with words for people
behind them (native/src/engine/control.h).

An inline engine speaks over such a socket too, and shares its process with the application, which may write what it
likes: whatever makes no sense is left out."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from usnet_framework.shards.addressbook import News, plain

MESSAGE = struct.Struct("<IIIIQQ")  # type, seat, serial, flags, two arguments
TEXT_MAX = 256  # UN_CONTROL_TEXT_MAX
MESSAGES_AT_ONCE = 16
"""Whoever writes without end holds up the supervisor no longer than so many take."""


class Kind(IntEnum):
    """enum un_control_type"""

    ATTACH = 1
    LOST = 2
    DRAIN = 3
    QUIT = 4
    READY = 16
    DIED = 17
    BAD = 18
    LIMIT = 19
    ADDRESS = 20
    SAYS = 21


class Listener(Protocol):
    """Who hears what engines of both layouts say."""

    def accepting_paused(self, error: int) -> None: ...
    def address_news(self, address: str, news: News, mac: str) -> None: ...
    def engine_says(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    seat: int
    serial: int
    flags: int
    first: int
    second: int
    packet: bytes

    @classmethod
    def read(cls, packet: bytes) -> Message | None:
        """None: it makes no sense."""
        with suppress(struct.error, ValueError):
            kind, seat, serial, flags, first, second = MESSAGE.unpack_from(packet)
            return cls(Kind(kind), seat, serial, flags, first, second, packet)
        return None

    def tell(self, listener: Listener) -> None:
        """What is said in both layouts."""
        if self.kind is Kind.LIMIT:
            listener.accepting_paused(self.first)
        elif self.kind is Kind.ADDRESS and self.seat in set(News):
            mac = self.packet[8:14].hex(":")
            listener.address_news(plain(self.packet[16:32]), News(self.seat), mac)
        elif self.kind is Kind.SAYS:
            text = self.packet[MESSAGE.size :].decode(errors="backslashreplace")
            listener.engine_says("".join(char if char.isprintable() else "?" for char in text))


def receive(control: socket.socket) -> bytes:
    """The next packet; empty at the end. BlockingIOError."""
    return control.recv(MESSAGE.size + TEXT_MAX)


class InlineWords:
    """The supervisor's end of an inline engine's socket; `theirs` goes to the worker."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._ours, self._readable)

    def close(self) -> None:
        """Once its last words have been heard."""
        self._readable()
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self.theirs.close()

    def _readable(self) -> None:
        with suppress(BlockingIOError, ConnectionResetError):
            for _ in range(MESSAGES_AT_ONCE):
                if (message := Message.read(receive(self._ours))) is not None:
                    message.tell(self._listener)
