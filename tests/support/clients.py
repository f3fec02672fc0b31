"""Clients that notice everything: each message is numbered, and the answer to it is known beforehand.

    with Clients(server.address, 64, EchoDialogue) as clients:
        ...
    assert clients.answered > 0

Each client keeps one message outstanding. A lost, repeated, reordered or changed answer, and a connection that ends, is
an incident; `Clients.incidents` has them as text, with the client's number. Clients run in a thread of their own with
their own event loop, so that a test can kill processes meanwhile. `hello` is one client that says one word.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import zlib
from types import TracebackType
from typing import Protocol

ANSWER_SECONDS = 30.0


class Dialogue(Protocol):
    """What one client says, and what it must hear."""

    def __init__(self, client: int) -> None: ...
    def message(self, number: int) -> tuple[bytes, bytes]:
        """The `number`-th message and its whole answer."""


class EchoDialogue:
    """Numbered, checksummed messages of 30 bytes to 20 KB (SIZES and a head) that come back as they are."""

    SIZES: tuple[int, ...] = (20, 60, 60, 1500, 20000)

    def __init__(self, client: int) -> None:
        self._client = client
        self._random = random.Random(client)

    def message(self, number: int) -> tuple[bytes, bytes]:
        body = b"%d:%d:" % (self._client, number) + self._random.randbytes(self._random.choice(self.SIZES))
        text = b"%08x" % zlib.crc32(body) + body
        return text, text


class CounterDialogue:
    """Lines, in one piece or several, answered with how many there have been."""

    def __init__(self, client: int) -> None:
        self._random = random.Random(client)
        self._lines = 0

    def message(self, number: int) -> tuple[bytes, bytes]:
        first, self._lines = self._lines + 1, self._lines + self._random.randint(1, 5)
        lines = b"".join(b"line of %d\n" % number for _ in range(first, self._lines + 1))
        return lines, b"".join(b"%d\n" % count for count in range(first, self._lines + 1))


def _difference(answer: bytes, expected: bytes) -> str:
    """Of two texts of one length."""
    wrong = [at for at, (one, other) in enumerate(zip(answer, expected, strict=True)) if one != other]
    first, last = wrong[0], wrong[-1]
    there = slice(first, min(last + 1, first + 60))
    return (
        f"{len(wrong)} of {len(answer)} bytes differ, from {first} to {last}: "
        f"{answer[there]!r}, not {expected[there]!r}; where that stands: {expected.find(answer[first : first + 16])}"
    )


class Clients:
    def __init__(self, address: tuple[str, int], count: int, dialogue: type[Dialogue]) -> None:
        self.answered = 0
        self.incidents: list[str] = []
        self.ended: set[int] = set()
        self.local_ports: dict[int, int] = {}
        self._address = address
        self._count = count
        self._dialogue = dialogue
        self._stopping = False
        self._connected = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Clients:
        self._thread.start()
        assert self._connected.wait(30), "the clients could not connect"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping = True
        self._thread.join(ANSWER_SECONDS + 10)
        assert not self._thread.is_alive(), "the clients did not end"

    async def _run(self) -> None:
        streams = []
        for client in range(self._count):
            reader, writer = await asyncio.open_connection(*self._address)
            self.local_ports[client] = writer.get_extra_info("sockname")[1]
            streams.append((client, reader, writer))
        self._connected.set()
        await asyncio.gather(*(self._talk(*stream) for stream in streams))

    async def _talk(self, client: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialogue, number = self._dialogue(client), 0
        try:
            while not self._stopping:
                message, expected = dialogue.message(number)
                writer.write(message)
                answer = await asyncio.wait_for(reader.readexactly(len(expected)), ANSWER_SECONDS)
                if answer != expected:
                    self.incidents.append(f"client {client}, message {number}: {_difference(answer, expected)}")
                    return
                number += 1
                self.answered += 1
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.ended.add(client)
            self.incidents.append(f"client {client}, message {number}: connection ended: {error!r}")
        except TimeoutError:
            self.incidents.append(f"client {client}, message {number}: no answer within {ANSWER_SECONDS:g} s")
        finally:
            writer.close()


def hello(address: tuple[str, int]) -> bytes:
    """What comes back over a connection of its own."""
    with socket.create_connection(address, 10) as client:
        client.sendall(b"hello")
        return client.recv(5, socket.MSG_WAITALL)
