"""TCP segments in plain Python (RFC 9293 section 3.1): options, checksum, flags. See `packets`.

Flags are written as in packetdrill: S F R P U E W and "." for ACK, so "S." is a SYN that acknowledges.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from usnet_framework.testing.packets import PROTOCOL_TCP, checksum, need, pseudo_header, verify_transport

FLAGS = {"S": 0x02, "F": 0x01, "R": 0x04, "P": 0x08, "U": 0x20, "E": 0x40, "W": 0x80, ".": 0x10}
"""Letter to bit, in the order in which they are written."""


def flag_bits(flags: str) -> int:
    """The byte for a text of flags."""
    return sum(FLAGS[flag] for flag in set(flags))


def flag_text(bits: int) -> str:
    """A text in the usual order; empty for none."""
    return "".join(flag for flag, bit in FLAGS.items() if bits & bit)


@dataclass(frozen=True, slots=True)
class Options:
    """TCP options: those of RFC 9293, 7323 and 2018 by name. raw: bytes to stand instead of all of them."""

    mss: int | None = None
    sack_permitted: bool = False
    timestamps: tuple[int, int] | None = None
    """(TSval, TSecr)"""
    wscale: int | None = None
    sack: tuple[tuple[int, int], ...] = ()
    raw: bytes | None = None

    def build(self) -> bytes:
        """Padded to a multiple of 4."""
        if self.raw is not None:
            return self.raw + bytes(-len(self.raw) % 4)
        parts = []
        if self.mss is not None:
            parts.append(struct.pack("!BBH", 2, 4, self.mss))
        if self.sack_permitted:
            parts.append(b"\x04\x02")
        if self.timestamps:
            parts.append(struct.pack("!BBII", 8, 10, *self.timestamps))
        if self.wscale is not None:
            parts.append(struct.pack("!BBB", 3, 3, self.wscale))
        if self.sack:
            parts.append(bytes([5, 2 + 8 * len(self.sack)]))
            parts += [struct.pack("!II", *block) for block in self.sack]
        data = b"".join(parts)
        return b"\x01" * (-len(data) % 4) + data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Only what a sender may send: known options of the right length, each once, NOP between, zeros behind EOL."""
        found: dict[str, object] = {}
        while data and data[0] != 0:
            if data[0] == 1:
                data = data[1:]
                continue
            need(len(data) >= 2 and 2 <= data[1] <= len(data), "length of a TCP option")
            name, value = _option(data[0], data[2 : data[1]])
            need(name not in found, f"{name} twice")
            found[name] = value
            data = data[data[1] :]
        need(not any(data), "bytes behind the end of TCP options")
        return cls(**found)  # type: ignore[arg-type]


def _option(kind: int, body: bytes) -> tuple[str, object]:
    sizes = {2: 2, 3: 1, 4: 0, 8: 8}
    need(kind in (2, 3, 4, 5, 8), f"TCP option {kind} that was not to be sent")
    need(sizes.get(kind, len(body)) == len(body), f"length of TCP option {kind}")
    if kind == 2:
        return "mss", int.from_bytes(body, "big")
    if kind == 3:
        return "wscale", body[0]
    if kind == 4:
        return "sack_permitted", True
    if kind == 8:
        return "timestamps", struct.unpack("!II", body)
    need(len(body) in (8, 16, 24, 32), "length of a SACK option")
    return "sack", tuple(struct.iter_unpack("!II", body))


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP segment. data_offset (in words), reserved (4 bits) and checksum_xor falsify what would be right."""

    source_port: int
    destination_port: int
    seq: int = 0
    ack: int = 0
    flags: str = "."
    window: int = 0
    urgent: int = 0
    options: Options = Options()
    payload: bytes = b""
    data_offset: int | None = None
    reserved: int = 0
    checksum_xor: int = 0

    PROTOCOL = PROTOCOL_TCP

    def build(self, source: str, destination: str) -> bytes:
        options = self.options.build()
        words = 5 + len(options) // 4 if self.data_offset is None else self.data_offset
        head = struct.pack("!HHIIBBHHH", self.source_port, self.destination_port, self.seq % 2**32, self.ack % 2**32,
                           words << 4 | self.reserved, flag_bits(self.flags), self.window, 0, self.urgent)  # fmt: skip
        data = head + options + self.payload
        value = checksum(pseudo_header(source, destination, PROTOCOL_TCP, len(data)) + data) ^ self.checksum_xor
        return data[:16] + struct.pack("!H", value) + data[18:]

    @classmethod
    def parse(cls, data: bytes, source: str, destination: str, *, partial: bool = False) -> Self:
        need(len(data) >= 20, "TCP header")
        source_port, destination_port, seq, ack, words, bits, window, _, urgent = struct.unpack_from("!HHIIBBHHH", data)
        length = (words >> 4) * 4
        need(20 <= length <= len(data), "TCP data offset")
        need(words & 15 == 0, "TCP reserved bits")
        need(source_port and destination_port, "TCP port")
        need(bits & 0x10 or ack == 0, "TCP acknowledgment number without ACK")
        verify_transport(data, pseudo_header(source, destination, PROTOCOL_TCP, len(data)), 16, "TCP", partial=partial)
        return cls(source_port, destination_port, seq, ack, flag_text(bits), window, urgent,
                   Options.parse(data[20:length]), data[length:])  # fmt: skip

    @property
    def space(self) -> int:
        """Sequence numbers that it takes."""
        return len(self.payload) + ("S" in self.flags) + ("F" in self.flags)
