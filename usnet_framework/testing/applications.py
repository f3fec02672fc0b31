"""Applications for simulated connections, well-behaved and otherwise, which verify what they read.

What an end sends is a function of the connection and the position in the stream (`content`), so that the other end
knows what has to come: a byte that is lost, doubled, misplaced, changed, or another connection's, is found where it is
read. Each has `sent`, `received`, `has_eof`, `is_over` and `reason`.

    Sender(n)             sends n bytes, ends its output, reads the peer's until its end
    Reader(…)             reads; slowly, or not at all for a while; may send n bytes after the peer's end (half-close)
    Echo()                sends back what it reads
    Quitter(n)            closes after n bytes, whatever still comes
    Resetter(n)           the same, with a reset
    Asker(…), Answerer(…) requests and responses

`Client` is for tests of what others serve: it sends what it is given and keeps what it gets.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from functools import cache

from usnet_framework._native_stack import Endpoint
from usnet_framework.testing.network import Application
from usnet_framework.testing.stations import SimulationFailed

PERIOD = 1_048_573  # of the content: a prime, so that no size that occurs divides it
PIECE_BYTES = 65536


@cache
def _pattern() -> bytes:
    drawn = random.Random("content").randbytes(PERIOD)
    return drawn + drawn[:PIECE_BYTES]


def stream_key(source: Endpoint, destination: Endpoint) -> int:
    """Of the stream from one end of a connection to the other."""
    return zlib.crc32(f"{source} {destination}".encode())


def content(key: int, position: int, length: int) -> bytes:
    """What stands at a position of a stream; at most PIECE_BYTES."""
    at = (key + position) % PERIOD
    return _pattern()[at : at + length]


class Peer(Application):
    """What all of them are: an end that counts, sends its stream and compares the other's."""

    is_rude = False
    """It may give up a connection that is in use; the other end is told so by a reset."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.has_eof = False
        self.is_ended = False  # our output
        self.is_over = False
        self.reason = ""
        self.options: dict[str, int] = {}
        """Of the connection: set when it opens."""
        self.on_over: Callable[[], None] = lambda: None
        self.sends = self.expects = 0  # keys of the streams

    def on_open(self) -> None:
        self.sends = stream_key(self.socket.local, self.socket.remote)
        self.expects = stream_key(self.socket.remote, self.socket.local)
        for option, value in self.options.items():
            self.socket.set_option(option, value)

    def on_close(self, reason: str) -> None:
        self._finish(reason)

    def close(self) -> None:
        self.socket.close()
        self._finish("close")

    def abort(self) -> None:
        self.socket.abort()
        self._finish("abort")

    def _finish(self, reason: str) -> None:
        self.is_over = True
        self.reason = reason
        self.on_over()

    def send(self, end: int, piece: int = PIECE_BYTES) -> bool:
        """Send the stream up to a position, in writes of so many bytes; whether all was taken."""
        while self.sent < end:
            length = min(piece, end - self.sent, PIECE_BYTES)
            taken = self.socket.write(content(self.sends, self.sent, length))
            self.sent += taken
            if taken < length:
                return False
        return True

    def receive(self, most: int = PIECE_BYTES) -> bytes | None:
        """Read and compare; b"" at the end, None when nothing is there."""
        data = self.socket.read(min(most, PIECE_BYTES))
        if data:
            if data != content(self.expects, self.received, len(data)):
                raise SimulationFailed(self._difference(data))
            self.received += len(data)
        elif data == b"":
            self.has_eof = True
        return data

    def _difference(self, data: bytes) -> str:
        expected = content(self.expects, self.received, len(data))
        at = next(index for index, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
        start = _pattern().find(data[at : at + 16])
        where = f"; it belongs to position {(start - self.expects) % PERIOD}" if start >= 0 else ""
        ends = f"{self.socket.local} from {self.socket.remote}"
        return f"{ends}: wrong at position {self.received + at} of {type(self).__name__}'s input{where}"

    def end_output(self) -> None:
        """Once."""
        if not self.is_ended:
            self.is_ended = True
            self.socket.shutdown()

    def close_at_the_end(self) -> None:
        """When both have ended."""
        if self.has_eof and self.is_ended and self.socket.is_open:
            self.close()


class Sender(Peer):
    """Sends `total` bytes in writes of `piece` and ends its output. echoed: the peer sends back what it gets."""

    def __init__(self, total: int, *, piece: int = PIECE_BYTES, echoed: bool = False) -> None:
        super().__init__()
        self.total = total
        self.piece = piece
        self.echoed = echoed

    def on_open(self) -> None:
        super().on_open()
        if self.echoed:
            self.expects = self.sends
        self.on_writable()

    def on_writable(self) -> None:
        if self.send(self.total, self.piece):
            self.end_output()
            self.close_at_the_end()

    def on_readable(self) -> None:
        while self.receive():
            pass
        self.close_at_the_end()

    on_eof = on_readable


class Reader(Peer):
    """Reads: at most `chunk` bytes each `pause_s` seconds, beginning after `hold_s`; at the peer's end, sends `answer`
    bytes."""

    def __init__(self, *, chunk: int = PIECE_BYTES, pause_s: float = 0.0, hold_s: float = 0.0, answer: int = 0) -> None:
        super().__init__()
        self.chunk = chunk
        self.pause_s = pause_s
        self.hold_s = hold_s
        self.answer = answer
        self._is_pausing = False

    def on_open(self) -> None:
        super().on_open()
        if self.hold_s:
            self._pause(self.hold_s)

    def _pause(self, seconds: float) -> None:
        self._is_pausing = True
        self.socket.later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._is_pausing = False
        self.on_readable()

    def on_readable(self) -> None:
        while not self._is_pausing and self.receive(self.chunk):
            if self.pause_s:
                self._pause(self.pause_s)
        if self.has_eof:
            self.on_writable()

    on_eof = on_readable

    def on_writable(self) -> None:
        if self.has_eof and self.send(self.answer):
            self.end_output()
            self.close_at_the_end()


class Echo(Peer):
    """Sends back what it reads; while that finds no room, it reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = b""

    def on_open(self) -> None:
        super().on_open()
        self.sends = self.expects

    def on_readable(self) -> None:
        while not self.waiting and (data := self.receive()):
            self.waiting = data
            self._flush()
        if self.has_eof and not self.waiting:
            self.end_output()
            self.close_at_the_end()

    on_eof = on_readable

    def on_writable(self) -> None:
        self._flush()
        if not self.waiting:
            self.on_readable()

    def _flush(self) -> None:
        taken = self.socket.write(self.waiting)
        self.sent += taken
        self.waiting = self.waiting[taken:]


class Quitter(Peer):
    """Closes once it has read `after` bytes, or at the peer's end. What comes then is refused."""

    is_rude = True

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.after = after

    def on_open(self) -> None:
        super().on_open()
        if self.after == 0:
            self.leave()

    def on_readable(self) -> None:
        while self.socket.is_open and self.receive(max(self.after - self.received, 1)):
            if self.received >= self.after:
                self.leave()
        if self.has_eof and self.socket.is_open:
            self.close()

    on_eof = on_readable

    def leave(self) -> None:
        self.close()


class Resetter(Quitter):
    """Resets the connection once it has read `after` bytes."""

    def leave(self) -> None:
        self.abort()


class Asker(Peer):
    """Sends requests of `request` bytes, each after the response of `response` bytes to the one before, `rounds` times;
    thinks for `think_s` in between."""

    def __init__(self, rounds: int, request: int, response: int, think_s: float = 0.0) -> None:
        super().__init__()
        self.rounds = rounds
        self.request = request
        self.response = response
        self.think_s = think_s
        self.asked = 0

    def on_open(self) -> None:
        super().on_open()
        self._ask()

    def _ask(self) -> None:
        self.asked += 1
        self.on_writable()

    def on_writable(self) -> None:
        self.send(self.asked * self.request)

    def on_readable(self) -> None:
        while self.receive():
            pass
        if self.received == self.asked * self.response and self.sent == self.asked * self.request:
            self._next()
        self.close_at_the_end()

    on_eof = on_readable

    def _next(self) -> None:
        if self.asked == self.rounds:
            self.end_output()
        elif self.think_s:
            self.socket.later(self.think_s, self._ask_again)
        else:
            self._ask()

    def _ask_again(self) -> None:
        if self.received == self.asked * self.response:
            self._ask()


class Answerer(Peer):
    """The other end of an `Asker`."""

    def __init__(self, request: int, response: int) -> None:
        super().__init__()
        self.request = request
        self.response = response

    def on_readable(self) -> None:
        while self.receive():
            pass
        self.on_writable()

    on_eof = on_readable

    def on_writable(self) -> None:
        if self.send(self.received // self.request * self.response) and self.has_eof:
            self.end_output()
            self.close_at_the_end()


class Client(Application):
    """For tests of a handler: sends what it is given, and keeps what it gets in `received`, which grows in place.

    close_at_eof: when the peer ends its output, close; otherwise the connection stays half-open.
    """

    def __init__(self, data: bytes = b"", *, close_at_eof: bool = True) -> None:
        self.received = bytearray()
        self.has_eof = False
        self.is_open = False
        self.is_over = False
        self.reason = ""
        """Why it is over: "close", it was closed here, be it at the peer's end of output; "reset", the peer gave it
        up; or what the stack gave it up for: "refused", "timeout", "unreachable"."""
        self.close_at_eof = close_at_eof
        self._waiting = data

    def on_open(self) -> None:
        self.is_open = True
        self.on_writable()

    def send(self, data: bytes) -> None:
        """As soon as there is room."""
        self._waiting += data
        if self.is_open:
            self.on_writable()

    def on_writable(self) -> None:
        if self._waiting:
            taken = self.socket.write(self._waiting)
            self._waiting = self._waiting[taken:]

    def on_readable(self) -> None:
        while data := self.socket.read():
            self.received += data

    def on_eof(self) -> None:
        self.on_readable()
        self.has_eof = True
        if self.close_at_eof:
            self.close()

    def close(self) -> None:
        """What was not sent yet is not sent any more."""
        if self.is_open:
            self.socket.close()
            self.on_close("close")

    def on_close(self, reason: str) -> None:
        self.is_open = False
        self.is_over = True
        self.reason = reason
