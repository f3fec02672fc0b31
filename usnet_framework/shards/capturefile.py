"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), which wireshark, tshark and tcpdump read: a section, an interface
for each shard, a block for each packet with its direction and a comment, and what was counted at the end."""

from __future__ import annotations

import struct

SECTION, INTERFACE, PACKET, STATISTICS = 0x0A0D0D0A, 1, 6, 5
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101
_END_OF_OPTIONS = b"\0\0\0\0"
_COMMENT, _FLAGS = 1, 2
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_PROGRAM = 4  # of a section: what has written it
_START, _END, _RECEIVED, _DROPPED, _MATCHED, _DELIVERED = 2, 3, 4, 5, 6, 8
_INBOUND, _OUTBOUND = 1, 2
_NANOSECONDS = b"\x09"  # powers of ten
_OF_LIBPCAP = b"\0"  # the language of a filter
OPTION_BYTES_MAX = 65535

_PACKET = struct.Struct("<IIIIIII")
_PACKET_FLAGS = struct.Struct("<HHI")


def section(program: str) -> bytes:
    """What a file begins with."""
    head = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)  # byte order, version, length unknown
    return _block(SECTION, head + _options((_PROGRAM, program.encode())))


def interface(link: int, snaplen: int, name: str, description: str, of_filter: str) -> bytes:
    """Numbered from 0 in the order in which they are written; times are nanoseconds."""
    options = [(_NAME, name.encode()), (_DESCRIPTION, description.encode()), (_RESOLUTION, _NANOSECONDS)]
    if of_filter:
        options.append((_FILTER, _OF_LIBPCAP + of_filter.encode(errors="surrogateescape")))
    return _block(INTERFACE, struct.pack("<HHI", link, 0, snaplen) + _options(*options))


def packet(number: int, time_ns: int, data: bytes, original: int, came: bool, comment: str) -> bytes:
    """Of an interface; `time_ns` counts from 1970."""
    options = _PACKET_FLAGS.pack(_FLAGS, 4, _INBOUND if came else _OUTBOUND)
    if comment:
        options += _option(_COMMENT, comment.encode())
    padding = -len(data) % 4
    size = _PACKET.size + len(data) + padding + len(options) + 8
    head = _PACKET.pack(PACKET, size, number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), original)
    return b"".join((head, data, bytes(padding), options, _END_OF_OPTIONS, size.to_bytes(4, "little")))


def statistics(
    number: int, began_ns: int, now_ns: int, seen: int, matched: int, lost: int, written: int, comment: str
) -> bytes:
    """What was counted of an interface."""
    options = [(_COMMENT, comment.encode())] if comment else []
    options += [(_START, _halves(began_ns)), (_END, _halves(now_ns))]
    counts = {_RECEIVED: seen, _DROPPED: lost, _MATCHED: matched, _DELIVERED: written}
    options += [(code, count.to_bytes(8, "little")) for code, count in counts.items()]
    return _block(STATISTICS, struct.pack("<I", number) + _halves(now_ns) + _options(*options))


def _halves(time_ns: int) -> bytes:
    """As times stand in blocks: the upper half first."""
    return struct.pack("<II", time_ns >> 32, time_ns & 0xFFFFFFFF)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(_option(code, value) for code, value in options) + _END_OF_OPTIONS


def _option(code: int, value: bytes) -> bytes:
    value = value[:OPTION_BYTES_MAX]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)
