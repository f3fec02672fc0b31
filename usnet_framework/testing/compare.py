"""A segment that the stack sent, and what tells it from the one that was expected, as lines for a person."""

from __future__ import annotations

from dataclasses import dataclass

from usnet_framework._native_stack import OutputFrame
from usnet_framework.testing import language
from usnet_framework.testing.language import ANY, ECN, Line
from usnet_framework.testing.packets import Ip
from usnet_framework.testing.segments import Options, Tcp


@dataclass(frozen=True, slots=True)
class Seen:
    """A segment of the stack with its relative numbers, and what led up to it."""

    output: OutputFrame
    ip: Ip | None
    tcp: Tcp
    """As on the wire."""
    first: int
    ack: int
    options: Options
    """With relative numbers."""
    next: int
    """The stack's next sequence number before this segment."""
    timestamps: bool
    """They were agreed on."""

    @property
    def past(self) -> int:
        """The sequence number behind its payload."""
        return self.first + len(self.tcp.payload)

    @property
    def ecn(self) -> int:
        """The ECN bits of the IP header."""
        return self.ip.traffic_class & 3 if self.ip else 0

    @property
    def text(self) -> str:
        """As `language` writes it."""
        return language.describe(self.tcp, seq=self.first, ack=self.ack, options=self.options, ecn=self.ecn,
                                 seg=self.output.segment_bytes)  # fmt: skip


def differences(line: Line, seen: Seen) -> list[str]:
    """Empty: they are the same; else a line for each difference."""
    tcp = seen.tcp
    got: dict[str, tuple[object, object]] = {
        "first sequence number": (seen.next if line.first is None else line.first, seen.first),
        "bytes of payload": (line.length, len(tcp.payload)),
        "ECN bits": (ECN.get(line.ecn or "", 0), seen.ecn),
        "payload of the parts": (line.seg or 0, seen.output.segment_bytes),
    }
    if line.ack is not None:
        got["acknowledgment"] = (line.ack, seen.ack)
    if line.win is not None:
        got["window"] = (line.win, tcp.window)
    if line.urg is not None:
        got["urgent pointer"] = (line.urg, tcp.urgent)
    wrong = [f"{what}: {expected}, got {actual}" for what, (expected, actual) in got.items() if expected != actual]
    return _flag_differences(line, seen) + wrong + _option_differences(line, seen)


def _flag_differences(line: Line, seen: Seen) -> list[str]:
    expected, got = set(line.flags), set(seen.tcp.flags)
    if seen.tcp.payload and "P" not in expected:
        got.discard("P")
    return [] if expected == got else [f"flags: {line.flags or '-'}, got {seen.tcp.flags or '-'}"]


def _option_differences(line: Line, seen: Seen) -> list[str]:
    options = seen.options
    is_syn = "S" in seen.tcp.flags
    pairs: dict[str, tuple[object, object]] = {}
    if line.has_options or not is_syn:
        pairs["mss"] = (line.mss, options.mss)
        pairs["wscale"] = (line.wscale, options.wscale)
        pairs["sackOK"] = (line.sack_ok, options.sack_permitted)
    pairs["sack"] = (tuple(line.sack), options.sack)
    wrong = [
        f"{what}: {_tell(expected)}, got {_tell(got)}"
        for what, (expected, got) in pairs.items()
        if expected != got and not (expected == ANY and got is not None)
    ]
    return wrong + _timestamp_differences(line, seen, is_syn)


def _timestamp_differences(line: Line, seen: Seen, is_syn: bool) -> list[str]:
    got = seen.options.timestamps
    named = line.ts is not None or line.ecr is not None
    if is_syn and not line.has_options:
        return []
    if "R" in seen.tcp.flags and not named:
        return []
    if (named or (seen.timestamps and not is_syn)) != bool(got):
        return [f"timestamps: {'none' if got else 'some'} expected, got {_tell(got)}"]
    pairs = zip(("ts", "ecr"), (line.ts, line.ecr), got or (), strict=False)
    return [f"{name}: {expected}, got {value}" for name, expected, value in pairs if expected not in (None, ANY, value)]


def _tell(value: object) -> str:
    if value is None or value is False or value == ():
        return "none"
    return "any" if value == ANY else str(value)
