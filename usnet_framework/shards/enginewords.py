"""What an engine or its keeper says to the supervisor over a SOCK_SEQPACKET: fixed messages, some with words for people
behind them (native/src/engine/control.h).

An inline engine speaks over such a socket too, and shares its process with the application, which may write what it
likes: whatever makes no sense is left out."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from usnet_framework._native import mapped_ip
from usnet_framework.shards.addressbook import News, plain
from usnet_framework.shards.listeners import Listener

MESSAGE = struct.Struct("<IIIIQQ")  # type, port, serial, flags, two arguments
TEXT_MAX = 256  # UN_CONTROL_TEXT_MAX
MESSAGES_AT_ONCE = 16
"""Whoever writes without end holds up the supervisor no longer than so many take."""


class Kind(IntEnum):
    """enum un_control_type"""

    ATTACH = 1
    LOST = 2
    DRAIN = 3
    QUIT = 4
    LISTEN = 5
    UNLISTEN = 6
    UPGRADE = 7
    DIVERT = 8
    LOOK = 9
    CAPTURE = 10
    READY = 16
    DIED = 17
    BAD = 18
    LIMIT = 19
    ADDRESS = 20
    SAYS = 21
    VACANT = 22
    ASKS = 23


OWES = 16  # flag of DRAIN, confirmed
ERRNO_MAX = 4095  # of the kernel


class Hearer(Protocol):
    """Who hears what engines of both layouts say."""

    def drain_confirmed(self, owes: bool) -> None: ...
    def accepting_paused(self, error: int) -> None: ...
    def address_news(self, address: str, news: News, mac: str) -> None: ...
    def neighbour_wanted(self, ip: bytes) -> None: ...
    def engine_says(self, text: str) -> None: ...
    def listen_confirmed(self, number: int, error: int) -> None: ...
    def unlisten_confirmed(self, number: int) -> None: ...
    def look_answered(self, serial: int, count: int, error: int, position: int) -> None: ...
    def capture_confirmed(self, number: int, error: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    port: int
    serial: int
    flags: int
    first: int
    second: int
    packet: bytes

    @classmethod
    def read(cls, packet: bytes) -> Message | None:
        """None: it makes no sense."""
        with suppress(struct.error, ValueError):
            kind, port, serial, flags, first, second = MESSAGE.unpack_from(packet)
            return cls(Kind(kind), port, serial, flags, first, second, packet)
        return None

    @property
    def error(self) -> int:
        """The first argument of those that say how something went; EPROTO if it is no error number."""
        return self.first if self.first <= ERRNO_MAX else errno.EPROTO

    def tell(self, hearer: Hearer) -> None:
        """What is said in both layouts."""
        if self.kind is Kind.LIMIT:
            hearer.accepting_paused(self.error)
        elif self.kind is Kind.ADDRESS and self.port in set(News):
            mac = self.packet[8:14].hex(":")
            hearer.address_news(plain(self.packet[16:32]), News(self.port), mac)
        elif self.kind is Kind.ASKS:
            hearer.neighbour_wanted(self.packet[16:32])
        elif self.kind is Kind.SAYS:
            text = self.packet[MESSAGE.size :].decode(errors="backslashreplace")
            hearer.engine_says("".join(char if char.isprintable() else "?" for char in text))
        elif self.kind is Kind.DRAIN:
            hearer.drain_confirmed(bool(self.flags & OWES))
        elif self.kind is Kind.LISTEN:
            hearer.listen_confirmed(self.port, self.error)
        elif self.kind is Kind.UNLISTEN:
            hearer.unlisten_confirmed(self.port)
        elif self.kind is Kind.LOOK:
            hearer.look_answered(self.serial, self.flags, self.error, self.second)
        elif self.kind is Kind.CAPTURE:
            hearer.capture_confirmed(self.serial, self.error)


def listener_request(kind: Kind, number: int, listener: Listener, shard: int) -> tuple[bytes, list[int]]:
    """LISTEN or UNLISTEN, and the descriptors that go with it."""
    if kind is Kind.UNLISTEN:
        return MESSAGE.pack(kind, number, 0, 0, 0, 0), []
    if listener.endpoint is None:
        return MESSAGE.pack(kind, number, 0, 0, 0, 0), [listener.sockets[shard].fileno()]
    host, port = listener.endpoint
    return MESSAGE.pack(kind, number, 0, port, *struct.unpack("<QQ", mapped_ip(host))), []


def receive(control: socket.socket) -> bytes:
    """The next packet; empty at the end. BlockingIOError."""
    return control.recv(MESSAGE.size + TEXT_MAX)


class InlineWords:
    """The supervisor's end of an inline engine's socket; `theirs` goes to the worker."""

    def __init__(self, hearer: Hearer) -> None:
        self._hearer = hearer
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._ours, self._readable)

    def ask(self, packet: bytes, fds: Sequence[int]) -> bool:
        """A request of control.h; the engine answers by the same way. Was it sent?"""
        with suppress(OSError):  # it does not read: its end is noticed
            socket.send_fds(self._ours, [packet], fds)
            return True
        return False

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
                    message.tell(self._hearer)
