"""The text of a TCP segment in a scenario, in the spirit of packetdrill:

    S 0:0(0) win 65535 <mss 1460,sackOK,ts 100 ecr 0,wscale 7>
    P. 1:101(100) ack 1
    . ack 101 win 512 <sack 201:301 401:501>

flags      letters of S F R P U E W and "." for ACK; "-" for none
numbers    first:past(length), first:past or first alone; relative to the first sequence number of the sender
ack, win, urg
options    mss N · sackOK · wscale N · ts N ecr N · sack A:B … · raw HEX (the bytes of all options) · nots (none, though
           they were agreed on); nop is read and ignored. In an expectation, a name without its number (ts, mss, wscale)
           takes any number.
[ect0]     the ECN bits of the IP header: ect0, ect1, ce
seg N      of a super-segment: the payload of each of its parts

What is left out is filled in when it is sent, and taken as it comes when it is expected; see `scenario`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from usnet_framework.testing.segments import FLAGS, Options, Tcp

ECN = {"ect1": 1, "ect0": 2, "ce": 3}

ANY = -1
"""In an expectation: the option is there, with any number."""

_LINE = re.compile(
    r"""(?P<flags>[SFRPUEW.]+|-)
        (?:\s+(?P<first>\d+)(?::(?P<past>\d+))?(?:\((?P<length>\d+)\))?)?
        (?:\s+ack\s+(?P<ack>\d+))?
        (?:\s+win\s+(?P<win>\d+))?
        (?:\s+urg\s+(?P<urg>\d+))?
        (?:\s+<(?P<options>[^>]*)>)?
        (?:\s+\[(?P<ecn>ect0|ect1|ce)\])?
        (?:\s+seg\s+(?P<seg>\d+))?""",
    re.VERBOSE,
)


@dataclass(slots=True)
class Line:
    """What the text of a segment says; None: nothing. Numbers are relative."""

    flags: str
    first: int | None = None
    length: int = 0
    ack: int | None = None
    win: int | None = None
    urg: int | None = None
    ecn: str | None = None
    seg: int | None = None
    has_options: bool = False
    mss: int | None = None
    wscale: int | None = None
    sack_ok: bool = False
    ts: int | None = None
    ecr: int | None = None
    no_ts: bool = False
    sack: list[tuple[int, int]] = field(default_factory=list)
    raw: bytes | None = None

    @property
    def past(self) -> int | None:
        """The sequence number behind the last byte of payload."""
        return None if self.first is None else self.first + self.length


def parse(text: str) -> Line:
    """ValueError: this is no text of a segment."""
    match = _LINE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"no segment: {text!r}")
    flags = "" if match["flags"] == "-" else "".join(flag for flag in FLAGS if flag in match["flags"])
    line = Line(flags, ecn=match["ecn"])
    line.ack, line.win, line.urg, line.seg = (_number(match[name]) for name in ("ack", "win", "urg", "seg"))
    line.first = _number(match["first"])
    if line.first is not None:
        past = _number(match["past"])
        line.length = _number(match["length"]) or 0
        if past is not None and match["length"] is None:
            line.length = past - line.first
        if past is not None and past - line.first != line.length:
            raise ValueError(f"length does not fit the numbers: {text!r}")
    if match["options"] is not None:
        line.has_options = True
        for option in match["options"].split(","):
            _read_option(line, option.split(), text)
    return line


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _read_option(line: Line, words: list[str], text: str) -> None:
    numbers: dict[str, Callable[[int], None]] = {
        "mss": lambda number: setattr(line, "mss", number),
        "wscale": lambda number: setattr(line, "wscale", number),
        "ts": lambda number: setattr(line, "ts", number),
        "ecr": lambda number: setattr(line, "ecr", number),
    }
    while words:
        word = words.pop(0)
        if word in numbers:
            numbers[word](int(words.pop(0)) if words and words[0].isdigit() else ANY)
        elif word == "sackOK":
            line.sack_ok = True
        elif word == "nots":
            line.no_ts = True
        elif word == "raw":
            line.raw = bytes.fromhex(words.pop(0))
        elif word == "sack":
            line.sack = [(int(first), int(past)) for first, past in (block.split(":") for block in words)]
            words = []
        elif word != "nop":
            raise ValueError(f"no option {word!r} in {text!r}")


def describe(tcp: Tcp, *, seq: int, ack: int, options: Options, ecn: int = 0, seg: int = 0) -> str:
    """The text of a segment whose relative numbers are these; `options` with relative numbers as well."""
    length = len(tcp.payload)
    parts = [tcp.flags or "-", f"{seq}:{seq + length}({length})"]
    if "." in tcp.flags:
        parts.append(f"ack {ack}")
    parts.append(f"win {tcp.window}")
    if "U" in tcp.flags:
        parts.append(f"urg {tcp.urgent}")
    if text := describe_options(options):
        parts.append(f"<{text}>")
    parts += [f"[{name}]" for name, bits in ECN.items() if bits == ecn]
    if seg:
        parts.append(f"seg {seg}")
    return " ".join(parts)


def describe_options(options: Options) -> str:
    """As they stand between the angle brackets."""
    parts = []
    if options.raw is not None:
        parts.append(f"raw {options.raw.hex()}")
    if options.mss is not None:
        parts.append(f"mss {options.mss}")
    if options.sack_permitted:
        parts.append("sackOK")
    if options.timestamps:
        parts.append("ts {} ecr {}".format(*options.timestamps))
    if options.wscale is not None:
        parts.append(f"wscale {options.wscale}")
    if options.sack:
        parts.append("sack " + " ".join(f"{first}:{past}" for first, past in options.sack))
    return ",".join(parts)
