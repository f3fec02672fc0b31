"""What a link does to frames: complete checksums and cut super-segments, as a network card does for a stack that leaves
that to it (`OutputFrame`); mark congestion; say that a packet is too large.

Frames are bytes from the Ethernet header on, without VLAN tag; packets have no IPv6 extension headers where TCP is cut.
"""

from __future__ import annotations

import struct

from usnet_framework._native_stack import OutputFrame
from usnet_framework.testing import packets
from usnet_framework.testing.packets import Ethernet, Icmp, Ipv4, Ipv6

Frame = bytes | OutputFrame
"""A frame that is complete, or one that the link has something to do with."""

FIN, PSH, CWR = 0x01, 0x08, 0x80
ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, ICMPV6_TOO_BIG = 3, 4, 2


def length_of(frame: Frame) -> int:
    """Bytes on the wire."""
    return len(frame) if type(frame) is bytes else len(frame.data)  # type: ignore[union-attr]


def packet_bytes(frame: Frame) -> int:
    """Bytes of its largest IP packet, once it is cut."""
    if isinstance(frame, bytes):
        return len(frame) - 14
    payload = frame.segment_bytes or len(frame.data)
    return min(len(frame.data), frame.header_length + payload) - 14


def complete(frame: Frame) -> list[bytes]:
    """The frames that leave a network card that cuts and completes checksums."""
    if isinstance(frame, bytes):
        return [frame]
    if frame.segment_bytes and len(frame.data) > frame.header_length + frame.segment_bytes:
        return _cut(frame)
    if not frame.needs_checksum:
        return [frame.data]
    return [_with_checksum(frame.data, frame.checksum_start, frame.checksum_offset, 0)]


def _sum(data: bytes) -> int:
    """As RFC 1071 adds, modulo 2^16 - 1, which is the same."""
    return int.from_bytes(data + bytes(len(data) & 1), "big") % 0xFFFF


def _with_checksum(data: bytes, start: int, offset: int, more: int) -> bytes:
    """The checksum over all from `start`, what stands in its field included, and over `more`."""
    at = start + offset
    value = 0xFFFF - (_sum(data[start:]) + more) % 0xFFFF
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


def _cut(frame: OutputFrame) -> list[bytes]:
    head, payload = frame.data[: frame.header_length], frame.data[frame.header_length :]
    size = frame.segment_bytes
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return [_segment(head, piece, index, size, index == len(pieces) - 1) for index, piece in enumerate(pieces)]


def _segment(head: bytes, piece: bytes, index: int, size: int, is_last: bool) -> bytes:
    """Segment `index` of a TCP packet that was cut into pieces of `size` bytes."""
    is_v4 = head[14] >> 4 == 4
    tcp = 14 + (head[14] & 15) * 4 if is_v4 else 54
    made = bytearray(head)
    (seq,) = struct.unpack_from("!I", head, tcp + 4)
    struct.pack_into("!I", made, tcp + 4, (seq + index * size) % 2**32)
    made[tcp + 13] &= ~(0 if is_last else FIN | PSH) & ~(CWR if index else 0)
    made[tcp + 16 : tcp + 18] = bytes(2)
    length = len(head) - tcp + len(piece)
    if is_v4:
        (identification,) = struct.unpack_from("!H", head, 18)
        struct.pack_into("!HH", made, 16, tcp - 14 + length, (identification + index) % 2**16)
        made[24:26] = bytes(2)
        made[24:26] = (0xFFFF - _sum(bytes(made[14:tcp]))).to_bytes(2, "big")
    else:
        struct.pack_into("!H", made, 18, length)
    ends = head[26:34] if is_v4 else head[22:54]
    return _with_checksum(bytes(made) + piece, tcp, 16, _sum(ends) + packets.PROTOCOL_TCP + length)


def marked(frame: bytes) -> bytes:
    """With "congestion experienced", if the sender takes part in that: RFC 3168 section 5."""
    made = bytearray(frame)
    if frame[12:14] == b"\x08\x00" and frame[15] & 3:
        made[15] |= 3
        made[24:26] = bytes(2)
        made[24:26] = (0xFFFF - _sum(bytes(made[14 : 14 + (frame[14] & 15) * 4]))).to_bytes(2, "big")
    elif frame[12:14] == b"\x86\xdd" and frame[15] & 0x30:
        made[15] |= 0x30
    return bytes(made)


def too_big(frame: bytes, mtu: int, router_mac: bytes) -> bytes:
    """What a router answers to a packet that does not fit: RFC 1191 section 4, RFC 8201 section 3."""
    ethernet = Ethernet.parse(frame)
    packet = ethernet.payload
    if ethernet.ether_type == packets.ETHER_IPV4:
        source, destination = packets.text(packet[12:16]), packets.text(packet[16:20])
        rest = struct.pack("!HH", 0, mtu)
        icmp = Icmp(ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, rest, packet[: (packet[0] & 15) * 4 + 8])
        answer = Ipv4(destination, source, packets.PROTOCOL_ICMP, icmp.build(destination, source)).build()
    else:
        source, destination = packets.text(packet[8:24]), packets.text(packet[24:40])
        icmp = Icmp(ICMPV6_TOO_BIG, 0, struct.pack("!I", mtu), packet[:1232])
        answer = Ipv6(destination, source, packets.PROTOCOL_ICMPV6, icmp.build(destination, source)).build()
    return Ethernet(ethernet.source, router_mac, ethernet.ether_type, answer).build()
