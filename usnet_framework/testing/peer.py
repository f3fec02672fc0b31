"""The peer of a scenario: it keeps both sides' numbers, writes segments from text, and holds what comes to rules.

Rules that always apply, whatever a scenario expects: the right edge of the window never moves left, nothing is
acknowledged that was not sent, timestamps never go back and echo one that was sent, payload is what the application
wrote, TCP over IPv4 is never to be fragmented. (That a packet is well-formed was settled when it was taken apart.)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from usnet_framework.testing import packets
from usnet_framework.testing.compare import Seen
from usnet_framework.testing.host import Sent
from usnet_framework.testing.language import Line
from usnet_framework.testing.packets import Ipv4
from usnet_framework.testing.segments import Options, Tcp

SEQ = 2**32

PATTERN = random.Random("payload").randbytes(65521)  # a prime: no two segments of a stream look alike


def pattern(first: int, length: int) -> bytes:
    """The bytes at these positions of an endless stream."""
    start = first % len(PATTERN)
    return (PATTERN * ((start + length) // len(PATTERN) + 1))[start : start + length]


def relative(number: int, base: int) -> int:
    """From -2^31 to 2^31 - 1."""
    return (number - base + SEQ // 2) % SEQ - SEQ // 2


class Peer:
    """The far end of one connection. clock_s: the virtual clock; fail: how a broken rule is told."""

    def __init__(
        self,
        local: tuple[str, int],
        remote: tuple[str, int],
        iss: int | None,
        clock_s: Callable[[], float],
        fail: Callable[[str], object],
    ) -> None:
        self.local = local
        """Of the host under test."""
        self.remote = remote
        self._clock_s = clock_s
        self._fail = fail
        chance = random.Random(repr(remote))
        self.iss = chance.randrange(SEQ) if iss is None else iss
        self.next = 0
        """Behind everything that was sent."""
        self.window = 65535
        self.data: dict[int, bytes] = {}
        """What was sent instead of the pattern, by position."""
        self._offer: Line | None = None
        self.ts_base = chance.randrange(SEQ)
        """Its timestamps count from here."""
        self._ts_sent = {0}
        self._ts_last = 0
        self._began_s = clock_s()
        # What is known of the stack.
        self.stack_iss: int | None = None
        self.stack_next = 0
        self.written = bytearray()
        """All that the application wrote."""
        self._stack_offer: Options | None = None
        self._stack_ts_first: int | None = None
        self._stack_ts_last = 0
        self._stack_ts_at_s = 0.0
        self._edge: int | None = None  # of the stack's window, the furthest right

    # What it sends.

    def segment(self, line: Line, data: bytes | None) -> Tcp:
        """The segment that a text stands for, what it leaves out filled in."""
        first = self.next if line.first is None else line.first
        payload = self._payload(first, line.length, data)
        if "S" in line.flags:
            self._offer = line
        self.next = max(self.next, first + len(payload) + ("F" in line.flags) + ("S" in line.flags))
        self.window = self.window if line.win is None else line.win
        ack = self.stack_next if line.ack is None else line.ack
        return Tcp(
            self.remote[1],
            self.local[1],
            (self.iss + first) % SEQ,
            self.of_stack(ack) if "." in line.flags else 0,
            line.flags,
            self.window,
            line.urg or 0,
            self._options(line),
            payload,
        )

    def of_stack(self, number: int) -> int:
        """A sequence number of the stack as on the wire; as it is while the stack has sent no SYN."""
        return ((self.stack_iss or 0) + number) % SEQ

    def _payload(self, first: int, length: int, data: bytes | None) -> bytes:
        if data is None:
            return pattern(first - 1, length)
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes of data for a segment of {length}")
        self.data[first - 1] = data
        return data

    def _options(self, line: Line) -> Options:
        sack = tuple((self.of_stack(first), self.of_stack(past)) for first, past in line.sack)
        stamped = line.ts is not None or (self.timestamps and not line.no_ts and "R" not in line.flags)
        return Options(line.mss, line.sack_ok, self._stamp(line) if stamped else None, line.wscale, sack, line.raw)

    def _stamp(self, line: Line) -> tuple[int, int]:
        elapsed_ms = round((self._clock_s() - self._began_s) * 1000)
        value = max(elapsed_ms, self._ts_last) if line.ts is None else line.ts
        self._ts_last = max(self._ts_last, value)
        self._ts_sent.add((self.ts_base + value) % SEQ)
        if self._stack_ts_first is None:
            echo = line.ecr or 0
        else:
            echo = self._stack_ts_last if line.ecr is None else (self._stack_ts_first + line.ecr) % SEQ
        return (self.ts_base + value) % SEQ, echo

    # What it receives.

    def study(self, sent: Sent, tcp: Tcp) -> Seen:
        """A segment of the stack in relative numbers, held to the rules."""
        if "S" in tcp.flags:
            self._learn(tcp)
        seen = Seen(
            output=sent.output,
            ip=sent.ip,
            tcp=tcp,
            first=relative(tcp.seq, self.stack_iss or 0),
            ack=relative(tcp.ack, self.iss) if "." in tcp.flags else 0,
            options=self._relative_options(tcp.options),
            next=self.stack_next,
            timestamps=self.timestamps,
        )
        if "R" not in tcp.flags:
            self._hold_to_rules(seen)
            self.stack_next = max(self.stack_next, seen.first + tcp.space)
        return seen

    def _learn(self, syn: Tcp) -> None:
        self._stack_offer = syn.options
        if self.stack_iss is None:
            self.stack_iss = syn.seq
        if syn.options.timestamps and self._stack_ts_first is None:
            self._stack_ts_first = self._stack_ts_last = syn.options.timestamps[0]

    @property
    def timestamps(self) -> bool:
        """They were agreed on: in both SYNs."""
        mine, theirs = self._offer, self._stack_offer
        return mine is not None and theirs is not None and mine.ts is not None and theirs.timestamps is not None

    @property
    def _wscale(self) -> int:
        """Of the stack's windows."""
        mine, theirs = self._offer, self._stack_offer
        return theirs.wscale or 0 if mine and theirs and mine.wscale is not None else 0

    def _relative_options(self, options: Options) -> Options:
        stamps = options.timestamps
        if stamps and self._stack_ts_first is not None:
            echoed = relative(stamps[1], self.ts_base) if stamps[1] else 0
            stamps = (relative(stamps[0], self._stack_ts_first), echoed)
        blocks = tuple((relative(first, self.iss), relative(past, self.iss)) for first, past in options.sack)
        return replace(options, timestamps=stamps, sack=blocks)

    def _hold_to_rules(self, seen: Seen) -> None:
        tcp = seen.tcp
        self._rule("." in tcp.flags or "S" in tcp.flags, "a segment without ACK", seen)
        self._rule("." not in tcp.flags or seen.ack <= self.next, "it acknowledges what was not sent", seen)
        if isinstance(seen.ip, Ipv4):
            self._rule(seen.ip.dont_fragment, "a TCP segment that may be fragmented", seen)
        if tcp.payload:
            written = bytes(self.written[max(seen.first - 1, 0) :][: len(tcp.payload)])
            self._rule(seen.first > 0 and written == tcp.payload, "payload that the application did not write", seen)
        self._hold_window_to_rules(seen)
        self._hold_timestamps_to_rules(seen)

    def _hold_window_to_rules(self, seen: Seen) -> None:
        if "." not in seen.tcp.flags:
            return
        shift = 0 if "S" in seen.tcp.flags else self._wscale
        edge = seen.ack + (seen.tcp.window << shift)
        rounding = (1 << shift) - 1  # RFC 7323 section 2.4
        self._rule(self._edge is None or edge + rounding >= self._edge, "the window shrank", seen)
        self._edge = max(edge, self._edge or 0)

    def _hold_timestamps_to_rules(self, seen: Seen) -> None:
        if not seen.tcp.options.timestamps:
            return
        value, echoed = seen.tcp.options.timestamps
        comparable = self._clock_s() - self._stack_ts_at_s < 24 * 24 * 3600  # RFC 7323 section 5.5
        back = comparable and relative(value, self._stack_ts_last) < 0
        self._rule(not back, "a timestamp that goes back", seen)
        self._rule(echoed in self._ts_sent, "a timestamp echoed that was never sent", seen)
        self._stack_ts_last, self._stack_ts_at_s = value, self._clock_s()

    def _rule(self, holds: bool, what: str, seen: Seen) -> None:
        if not holds:
            self._fail(f"{what}: {seen.text}")


def quote(local: tuple[str, int], remote: tuple[str, int], seq: int) -> bytes:
    """As much of a segment of the stack as an ICMP error quotes: the IP header and 8 bytes at least."""
    tcp = Tcp(local[1], remote[1], seq)
    quoted = packets.ip_packet(local[0], remote[0], Tcp.PROTOCOL, tcp.build(local[0], remote[0])).build()
    return quoted[:28] if ":" not in local[0] else quoted
