"""What a pcapng file says, read block by block: a parser that knows as much of the format as usnet-ctl capture writes,
and refuses everything else. That others read it is what tshark is for."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass, field
from typing import NamedTuple

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
_COMMENT, _FLAGS = 1, 2
_NUMBERS = {4: "seen", 5: "lost", 6: "matched", 8: "written"}


class Packet(NamedTuple):
    shard: int
    time_ns: int
    data: bytes
    original: int
    came: bool
    comment: str


@dataclass
class File:
    links: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    statistics: list[dict[str, int]] = field(default_factory=list)
    """Of each interface, once they were written."""

    def total(self, what: str) -> int:
        return sum(counts[what] for counts in self.statistics)


def read(data: bytes, grows: bool = False) -> File:
    """`grows`: its last block may not be whole."""
    file, at = File(), 0
    while at < len(data):
        if grows and (len(data) < at + 8 or len(data) < at + struct.unpack_from("<I", data, at + 4)[0]):
            return file
        kind, size = struct.unpack_from("<II", data, at)
        body = data[at + 8 : at + size - 4]
        assert data[at + size - 4 : at + size] == struct.pack("<I", size), "a block ends as it begins"
        assert size % 4 == 0
        assert (at == 0) == (kind == SECTION)
        _read_block(file, kind, body)
        at += size
    assert at == len(data)
    return file


def _read_block(file: File, kind: int, body: bytes) -> None:
    if kind == SECTION:
        assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    elif kind == INTERFACE:
        link, _, _ = struct.unpack_from("<HHI", body)
        options = _options(body[8:])
        assert options[9] == b"\x09"
        file.links.append(link)
        file.names.append(options[2].decode())
    elif kind == PACKET:
        shard, high, low, captured, original = struct.unpack_from("<IIIII", body)
        behind = 20 + captured + -captured % 4
        options = _options(body[behind:])
        came = {1: True, 2: False}[int.from_bytes(options[_FLAGS], "little")]
        comment = options.get(_COMMENT, b"").decode()
        file.packets.append(Packet(shard, high << 32 | low, body[20 : 20 + captured], original, came, comment))
    else:
        assert kind == STATISTICS
        options = _options(body[12:])
        assert struct.unpack_from("<I", body) == (len(file.statistics),)
        counts = {name: int.from_bytes(options[code], "little") for code, name in _NUMBERS.items()}
        assert (counts["lost"] > 0) == (_COMMENT in options)
        file.statistics.append(counts)


def _options(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        code, size = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert at + 4 == len(data)
            break
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found


def tshark(data: bytes, display_filter: str, *fields: str) -> list[list[str]]:
    """These fields of each packet that the filter lets through; tshark has nothing to complain about."""
    command = ["tshark", "-n", "-r", "-", "-Y", display_filter, "-T", "fields"]
    command += ["-d", "tcp.port==1-65535,data", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]
    command += [word for name in fields for word in ("-e", name)]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if b"dangerous" not in line]  # to run it as root
    assert (done.returncode, complaints) == (0, [])
    return [line.split("\t") for line in done.stdout.decode().splitlines()]
