"""A TCP connection as a script: what the peer sends, what the stack is to answer, what the application does.

    def test_data_is_acknowledged(established: Scenario) -> None:
        established.send("P. 1:101(100) ack 1")
        established.expect(". 1:1(0) ack 101", within=0.5)
        assert len(established.read()) == 100

The texts are those of `language`. Sequence numbers count from the initial one of their sender, timestamps from the
first one; windows are as on the wire. The peer's payload is a pattern by position, so that what the application reads
is verified without being written down, and so is what the stack sends of what the application wrote.

What a text leaves out is filled in when it is sent: the next sequence number, an acknowledgment of everything, the
window of the segment before, timestamps once they are agreed on. When it is expected, an omitted sequence number is the
stack's next one; an omitted window or acknowledgment may be any, and so may the options of a SYN; P may be set on a
segment with payload; SACK blocks and ECN bits have to be written down.

A segment that nobody expects fails the test, at the next step or at its end.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from operator import methodcaller
from typing import Any

from usnet_framework._native_stack import Stack, StackEvent, TcpInfo
from usnet_framework.testing import language, packets
from usnet_framework.testing.compare import Seen, differences
from usnet_framework.testing.host import LOCAL, PEER, SECOND_NS, Host, ScenarioFailed, Sent, family_of
from usnet_framework.testing.packets import Icmp, Ip
from usnet_framework.testing.peer import Peer, pattern, quote
from usnet_framework.testing.segments import Tcp

__tracebackhide__ = methodcaller("errisinstance", ScenarioFailed)

TOLERANCE_S = 0.002
"""How exactly a moment has to be met: timers have a resolution."""

INPUT_FLAGS = ("checksum_good", "checksum_partial", "segment_bytes")


class Scenario:
    """One TCP connection of a host under test, seen from the wire and from the application.

    remote: the peer's (address, port), one of its own unless given; local_port: the host's. peer_iss: the peer's
    initial sequence number.
    """

    def __init__(
        self, host: Host, *, local_port: int = 80, remote: tuple[str, int] | None = None, peer_iss: int | None = None
    ) -> None:
        self.host = host
        self.remote = remote or (PEER[host.family], next(host.ports))
        self.local = (LOCAL[family_of(self.remote[0])], local_port)
        self.peer = Peer(self.local, self.remote, peer_iss, lambda: host.now_s, host.fail)
        self.shard = host.shard_of(self.remote, self.local)
        self.conn = 0
        self._read = 0
        self._seen: dict[int, tuple[Sent, Seen]] = {}
        host.conversations[*self.remote, local_port] = self._see

    @property
    def stack(self) -> Stack:
        """The one that owns the connection."""
        return self.host.stacks[self.shard]

    # What the peer sends.

    def send(self, text: str, *, data: bytes | None = None, ip: dict[str, Any] | None = None, **fields: Any) -> None:
        """The peer sends a segment. data: other payload than the pattern. `ip` and `fields` are put into the headers as
        they are (fields of `Ipv4` or `Ipv6`, and of `Tcp`); flags of `Stack.input` are taken as well."""
        flags = {name: fields.pop(name) for name in INPUT_FLAGS if name in fields}
        packet = self.packet(text, data=data, **fields)
        self.host.send_ip(replace(packet, **ip or {}), self._label(text), **flags)

    def packet(self, text: str, *, data: bytes | None = None, **fields: Any) -> Ip:
        """The IP packet that `send` would send, for a test that does something to it first."""
        tcp = replace(self.peer.segment(language.parse(text), data), **fields)
        source, destination = self.remote[0], self.local[0]
        return packets.ip_packet(source, destination, Tcp.PROTOCOL, tcp.build(source, destination))

    def send_icmp(self, type: int, code: int, *, about: int, mtu: int = 0, source: str | None = None) -> None:
        """An ICMP error about the segment of the stack that began at `about`, from the peer or a router."""
        quoted = quote(self.local, self.remote, self.peer.of_stack(about))
        icmp = Icmp(type, code, mtu.to_bytes(4, "big"), quoted)
        self.host.send_body(icmp, source or self.remote[0], self.local[0])

    # What the stack sends.

    def _see(self, sent: Sent, tcp: Tcp) -> str:
        """The host hands over what belongs to this connection; the text of it."""
        seen = self.peer.study(sent, tcp)
        self._seen[id(sent)] = sent, seen
        return self._label(seen.text)

    def _pending(self) -> list[Sent]:
        return [sent for sent in self.host.sent if self._seen.get(id(sent), (None,))[0] is sent]

    def _take(self, sent: Sent) -> Seen:
        self.host.sent.remove(sent)
        return self._seen.pop(id(sent))[1]

    def expect(self, text: str, *, after: float | None = None, within: float = 0.0) -> Seen:
        """The next segment of the stack is this one.

        after: it is sent so many seconds from now, exactly. within: so many seconds from now at the latest. Time passes
        until it comes, and no longer.
        """
        line = language.parse(text)
        begin_s = self.host.now_s
        wait_ns = round((within if after is None else after + TOLERANCE_S) * SECOND_NS)
        self.host.run_until(self.host.now_ns + wait_ns, lambda: bool(self._pending()))
        if not self._pending():
            self.host.fail(f"nothing was sent\n  expected  {text}")
        seen = self._take(self._pending()[0])
        wrong = differences(line, seen)
        waited_s = self.host.now_s - begin_s
        if after is not None and abs(waited_s - after) > TOLERANCE_S:
            wrong.append(f"moment: after {after} s, got it after {waited_s:.4f} s")
        if wrong:
            lines = [f"  expected  {text}", f"  got       {seen.text}", *(f"  differs   {what}" for what in wrong)]
            self.host.fail("another segment than expected\n" + "\n".join(lines))
        return seen

    def take(self, seconds: float = 0.0) -> list[Seen]:
        """All segments that wait to be expected or are sent within so many seconds, whatever they are: for a test that
        looks closer, or a network that loses them."""
        self.host.run_until(self.host.now_ns + round(seconds * SECOND_NS), lambda: False)
        return [self._take(sent) for sent in self._pending()]

    def expect_data(self, first: int, past: int, *, size: int | None = None) -> list[int]:
        """Segments with payload from `first` to `past` in a row wait, and nothing else; returns their sizes, which are
        `size` at most."""
        seen = self.take()
        sizes = [len(each.tcp.payload) for each in seen]
        told = "".join(f"\n    {each.text}" for each in seen) or " nothing"
        in_a_row = all(each.past == after.first for each, after in pairwise(seen))
        if not seen or not in_a_row or 0 in sizes or (seen[0].first, seen[-1].past) != (first, past):
            self.host.fail(f"expected payload {first}:{past} in a row, got{told}")
        if size is not None and max(sizes) > size:
            self.host.fail(f"expected segments of {size} bytes at most, got{told}")
        return sizes

    def expect_nothing(self, seconds: float = 0.0) -> None:
        """The stack sends nothing, now and for so many seconds."""
        self.host.expect_nothing(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass; what is sent meanwhile waits to be expected."""
        self.host.advance(seconds)

    # What the application does.

    def accept(self) -> int:
        """Take this connection, which the stack has announced."""
        for stack, conn in self.host.waiting:
            if stack is self.stack and self._is_of(conn):
                self.host.waiting.remove((stack, conn))
                self.conn = conn
                stack.accept(conn)
                self._did("accept")
                return conn
        return self.host.fail("there is no connection to accept")

    def _is_of(self, conn: int) -> bool:
        """Whether it is this connection; one that is over is none."""
        try:
            return self.stack.info(conn).remote == self.remote
        except OSError:
            return False

    def connect(self) -> int:
        """Open this connection."""
        self.conn = self.stack.connect(self.remote, ("", self.local[1]))
        self._did(f"connect to {self.remote}")
        return self.conn

    def write(self, data: bytes | int) -> int:
        """Write bytes, or so many of the pattern; returns how many were taken."""
        if isinstance(data, int):
            data = pattern(len(self.peer.written), data)
        taken = self.stack.write(self.conn, data)
        self.peer.written += data[:taken]
        self._did(f"write {len(data)}, {taken} taken")
        return taken

    def read(self, most: int = 2**16) -> bytes:
        """Read, and verify that it is what the peer sent. b"": the end. BlockingIOError: nothing there."""
        data = self.stack.read(self.conn, most)
        self._verify(data)
        self._did(f"read {len(data)}")
        return data

    def peek(self) -> bytes:
        """What can be read, or as much of it as lies in 64 pieces; verified. As `read` otherwise."""
        data = b"".join(self.stack.peek(self.conn))
        self._verify(data)
        self._read -= len(data)
        return data

    def consume(self, size: int) -> None:
        """Let go of bytes that were looked at."""
        self.stack.consume(self.conn, size)
        self._read += size
        self._did(f"consume {size}")

    def can_read(self) -> bool:
        """Whether input waits in order, or the end of it."""
        try:
            self.stack.peek(self.conn)
        except BlockingIOError:
            return False
        return True

    def _verify(self, data: bytes) -> None:
        expected = bytearray(pattern(self._read, len(data)))
        for position, override in self.peer.data.items():
            for index, byte in enumerate(override, position - self._read):
                if 0 <= index < len(expected):
                    expected[index] = byte
        if data != bytes(expected):
            self.host.fail(f"the application reads other bytes than were sent, from {self._read + 1} on")
        self._read += len(data)

    def shutdown(self) -> None:
        """End the output."""
        self.stack.shutdown(self.conn)
        self._did("shutdown")

    def close(self) -> None:
        """Let go of the connection, in order."""
        self.stack.close_connection(self.conn)
        self._did("close")

    def abort(self) -> None:
        """Let go of the connection, with a reset."""
        self.stack.abort(self.conn)
        self._did("abort")

    def set_option(self, option: str, value: int) -> None:
        """An option of usnet.h by name: nodelay, keepalive …"""
        self.stack.set_option(self.conn, option, value)
        self._did(f"set {option} to {value}")

    def _did(self, what: str) -> None:
        self.host.note("app", self._label(what))
        self.host.turn()

    def _label(self, text: str) -> str:
        return text if len(self.host.conversations) == 1 else f"[{self.remote[1]}] {text}"

    # What the stack knows and tells.

    @property
    def info(self) -> TcpInfo:
        """What the stack knows of the connection. OSError with EBADF: nothing any more."""
        return self.stack.info(self.conn)

    @property
    def state(self) -> str:
        """Of the connection: "established" …; "closed" when the stack does not know it any more."""
        try:
            return self.info.state
        except OSError:
            return "closed"

    def events(self) -> set[str]:
        """What the application was told since the last time."""
        return {name for event in self._take_events() for name in event.events}

    def closed_by(self) -> str | None:
        """Why the connection is over, as the application was told; None: it was not."""
        reasons = [
            event.reason for event in self.host.take_events(self.conn, shard=self.shard) if "closed" in event.events
        ]
        return reasons[0] if reasons else None

    def _take_events(self) -> list[StackEvent]:
        return self.host.take_events(self.conn, shard=self.shard)
