"""Ethernet, ARP, IPv4, IPv6, ICMP and UDP in plain Python: the oracle that the stack in C is held against.

Each format is a frozen dataclass with `build`, which gives its bytes, and `parse`, which takes them apart and raises
`Malformed` for whatever a well-behaved sender would not send: lengths, checksums and reserved bits are verified, not
skipped. Fields may be set to wrong values on purpose; a test of malformed input does that. TCP is in `segments`.

Addresses are text ("10.0.0.1", "fd00::1"), MAC addresses six bytes, payloads bytes.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

ETHER_IPV4, ETHER_ARP, ETHER_VLAN, ETHER_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS)
BROADCAST_MAC = b"\xff" * 6


class Malformed(ValueError):
    """Bytes that are no packet of this kind; the text says what is wrong with them."""


def need(condition: object, what: str) -> None:
    """Malformed with `what` unless the condition holds."""
    if not condition:
        raise Malformed(what)


def one_complement_sum(data: bytes) -> int:
    """The sum of RFC 1071, folded to 16 bits."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    return one_complement_sum(data) ^ 0xFFFF


def packed(address: str) -> bytes:
    """4 or 16 bytes."""
    return ipaddress.ip_address(address).packed


def pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    """What transport checksums cover besides the packet: RFC 9293 section 3.1, RFC 8200 section 8.1."""
    ends = packed(source) + packed(destination)
    if len(ends) == 8:
        return ends + struct.pack("!BBH", 0, protocol, length)
    return ends + struct.pack("!IHBB", length, 0, 0, protocol)


def verify_transport(data: bytes, pseudo: bytes, at: int, what: str, *, partial: bool) -> None:
    """The checksum field at offset `at` is right; partial: it holds the sum of the pseudo-header."""
    if partial:
        need(struct.unpack_from("!H", data, at)[0] == one_complement_sum(pseudo), f"partial checksum of {what}")
    else:
        need(one_complement_sum(pseudo + data) == 0xFFFF, f"checksum of {what}")


@dataclass(frozen=True, slots=True)
class Ethernet:
    """An Ethernet frame, with at most one VLAN tag (802.1Q)."""

    destination: bytes
    source: bytes
    ether_type: int
    payload: bytes
    vlan: int | None = None

    def build(self) -> bytes:
        tag = b"" if self.vlan is None else struct.pack("!HH", ETHER_VLAN, self.vlan)
        return self.destination + self.source + tag + struct.pack("!H", self.ether_type) + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Self:
        need(len(data) >= 14, "Ethernet header")
        ether_type = struct.unpack_from("!H", data, 12)[0]
        if ether_type != ETHER_VLAN:
            return cls(data[:6], data[6:12], ether_type, data[14:])
        need(len(data) >= 18, "VLAN tag")
        vlan, ether_type = struct.unpack_from("!HH", data, 14)
        return cls(data[:6], data[6:12], ether_type, data[18:], vlan)


@dataclass(frozen=True, slots=True)
class Arp:
    """ARP for IPv4 over Ethernet (RFC 826)."""

    operation: int
    sender_mac: bytes
    sender: str
    target_mac: bytes
    target: str

    REQUEST = 1
    REPLY = 2

    def build(self) -> bytes:
        head = struct.pack("!HHBBH", 1, ETHER_IPV4, 6, 4, self.operation)
        return head + self.sender_mac + packed(self.sender) + self.target_mac + packed(self.target)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        need(len(data) >= 28, "ARP length")
        need(data[:6] == struct.pack("!HHBB", 1, ETHER_IPV4, 6, 4), "ARP kinds of addresses")
        operation = struct.unpack_from("!H", data, 6)[0]
        need(operation in (1, 2), "ARP operation")
        return cls(operation, data[8:14], text(data[14:18]), data[18:24], text(data[24:28]))


def text(address: bytes) -> str:
    """An address of 4 or 16 bytes as it is usually written."""
    return str(ipaddress.ip_address(address))


@dataclass(frozen=True, slots=True)
class Ipv4:
    """IPv4 (RFC 791). total_length, header_length (in words) and checksum_xor falsify what would be right."""

    source: str
    destination: str
    protocol: int
    payload: bytes
    hop_limit: int = 64
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = True
    more_fragments: bool = False
    fragment_offset: int = 0
    options: bytes = b""
    version: int = 4
    total_length: int | None = None
    header_length: int | None = None
    checksum_xor: int = 0

    ETHER_TYPE = ETHER_IPV4

    def build(self) -> bytes:
        options = self.options + bytes(-len(self.options) % 4)
        words = 5 + len(options) // 4 if self.header_length is None else self.header_length
        total = 20 + len(options) + len(self.payload) if self.total_length is None else self.total_length
        fragment = self.dont_fragment << 14 | self.more_fragments << 13 | self.fragment_offset // 8
        head = struct.pack("!BBHHHBBH", self.version << 4 | words, self.traffic_class, total, self.identification,
                           fragment, self.hop_limit, self.protocol, 0)  # fmt: skip
        head += packed(self.source) + packed(self.destination) + options
        return head[:10] + struct.pack("!H", checksum(head) ^ self.checksum_xor) + head[12:] + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Self:
        need(len(data) >= 20 and data[0] >> 4 == 4, "IPv4 version")
        words, traffic_class, total, identification, fragment, hop_limit, protocol = struct.unpack_from(
            "!BBHHHBB", data
        )
        length = (words & 15) * 4
        need(length >= 20 and length <= total <= len(data), "IPv4 lengths")
        need(one_complement_sum(data[:length]) == 0xFFFF, "IPv4 header checksum")
        need(not fragment >> 15, "IPv4 reserved flag")
        return cls(
            text(data[12:16]), text(data[16:20]), protocol, data[length:total], hop_limit, traffic_class,
            identification, bool(fragment >> 14 & 1), bool(fragment >> 13 & 1), (fragment & 0x1FFF) * 8,
            data[20:length],
        )  # fmt: skip

    def fragments(self, size: int) -> Iterator[Ipv4]:
        """The packet in fragments of `size` bytes of payload, a multiple of 8."""
        for offset in range(0, len(self.payload), size):
            piece = self.payload[offset : offset + size]
            more = offset + size < len(self.payload)
            yield replace(self, payload=piece, fragment_offset=offset, more_fragments=more, dont_fragment=False)


@dataclass(frozen=True, slots=True)
class Ipv6:
    """IPv6 (RFC 8200); extension headers are (kind, their bytes without the next-header byte)."""

    source: str
    destination: str
    protocol: int
    payload: bytes
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0
    extensions: tuple[tuple[int, bytes], ...] = ()
    version: int = 6
    payload_length: int | None = None

    ETHER_TYPE = ETHER_IPV6

    def build(self) -> bytes:
        kinds = [kind for kind, _ in self.extensions] + [self.protocol]
        chain = b"".join(bytes([after]) + body for (_, body), after in zip(self.extensions, kinds[1:], strict=True))
        length = len(chain) + len(self.payload) if self.payload_length is None else self.payload_length
        first = self.version << 28 | self.traffic_class << 20 | self.flow_label
        head = struct.pack("!IHBB", first, length, kinds[0], self.hop_limit)
        return head + packed(self.source) + packed(self.destination) + chain + self.payload

    @classmethod
    def parse(cls, data: bytes) -> Self:
        need(len(data) >= 40 and data[0] >> 4 == 6, "IPv6 version")
        first, length, kind, hop_limit = struct.unpack_from("!IHBB", data)
        need(length <= len(data) - 40, "IPv6 payload length")
        rest, extensions = data[40 : 40 + length], []
        while kind in EXTENSIONS:
            need(len(rest) >= 8, "IPv6 extension header")
            size = 8 if kind == FRAGMENT else 8 + rest[1] * 8
            need(len(rest) >= size, "IPv6 extension header")
            extensions.append((kind, rest[1:size]))
            kind, rest = rest[0], rest[size:]
        traffic_class, flow_label = first >> 20 & 0xFF, first & 0xFFFFF
        return cls(
            text(data[8:24]), text(data[24:40]), kind, rest, hop_limit, traffic_class, flow_label, tuple(extensions)
        )

    def fragments(self, size: int, identification: int = 1) -> Iterator[Ipv6]:
        """The packet in fragments of `size` bytes of payload, a multiple of 8."""
        for offset in range(0, len(self.payload), size):
            more = offset + size < len(self.payload)
            header = struct.pack("!BHI", 0, offset | more, identification)
            yield replace(self, payload=self.payload[offset : offset + size],
                          extensions=(*self.extensions, (FRAGMENT, header)))  # fmt: skip


Ip = Ipv4 | Ipv6


def ip_packet(source: str, destination: str, protocol: int, payload: bytes) -> Ip:
    """Of the family that the addresses have."""
    kind: type[Ip] = Ipv6 if ":" in source else Ipv4
    return kind(source, destination, protocol, payload)


def parse_ip(data: bytes) -> Ip:
    """IPv4 or IPv6, whatever the first half byte says."""
    need(data, "empty IP packet")
    return Ipv6.parse(data) if data[0] >> 4 == 6 else Ipv4.parse(data)


def flow(frame: bytes) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """Source and destination of a whole TCP or UDP packet, as a network card reads them to choose a queue; None for
    everything else, damaged packets included."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETHER_IPV4 and len(frame) >= 34:
        at, size, ports = 26, 4, 14 + 4 * (frame[14] & 15)
        protocol, fragmented = frame[23], int.from_bytes(frame[20:22], "big") & 0x3FFF
    elif kind == ETHER_IPV6 and len(frame) >= 54:
        at, size, ports, protocol, fragmented = 22, 16, 54, frame[20], 0
    else:
        return None
    if protocol not in (PROTOCOL_TCP, PROTOCOL_UDP) or fragmented or len(frame) < ports + 4:
        return None
    source, destination = frame[at : at + size], frame[at + size : at + 2 * size]
    from_port, to_port = struct.unpack_from("!HH", frame, ports)
    return (text(source), from_port), (text(destination), to_port)


@dataclass(frozen=True, slots=True)
class Udp:
    """UDP (RFC 768). length and checksum_xor falsify; no_checksum: zero in its place."""

    source_port: int
    destination_port: int
    payload: bytes = b""
    length: int | None = None
    checksum_xor: int = 0
    no_checksum: bool = False

    PROTOCOL = PROTOCOL_UDP

    def build(self, source: str, destination: str) -> bytes:
        length = 8 + len(self.payload) if self.length is None else self.length
        head = struct.pack("!HHH", self.source_port, self.destination_port, length)
        pseudo = pseudo_header(source, destination, PROTOCOL_UDP, length)
        value = checksum(pseudo + head + b"\0\0" + self.payload) or 0xFFFF
        return head + struct.pack("!H", 0 if self.no_checksum else value ^ self.checksum_xor) + self.payload

    @classmethod
    def parse(cls, data: bytes, source: str, destination: str, *, partial: bool = False) -> Self:
        need(len(data) >= 8, "UDP header")
        source_port, destination_port, length, value = struct.unpack_from("!HHHH", data)
        need(length == len(data), "UDP length")
        need(source_port and destination_port, "UDP port")
        if value or ":" in source:
            pseudo = pseudo_header(source, destination, PROTOCOL_UDP, length)
            verify_transport(data, pseudo, 6, "UDP", partial=partial)
        return cls(source_port, destination_port, data[8:], no_checksum=value == 0)


@dataclass(frozen=True, slots=True)
class Icmp:
    """ICMP (RFC 792) and ICMPv6 (RFC 4443): type, code, the four bytes behind the checksum, the rest."""

    type: int
    code: int = 0
    rest: bytes = bytes(4)
    payload: bytes = b""
    checksum_xor: int = 0

    def build(self, source: str, destination: str) -> bytes:
        body = bytes([self.type, self.code, 0, 0]) + self.rest + self.payload
        value = checksum(self._pseudo(source, destination, len(body)) + body) ^ self.checksum_xor
        return body[:2] + struct.pack("!H", value) + body[4:]

    @classmethod
    def parse(cls, data: bytes, source: str, destination: str) -> Self:
        need(len(data) >= 8, "ICMP header")
        pseudo = cls._pseudo(source, destination, len(data))
        need(one_complement_sum(pseudo + data) == 0xFFFF, "checksum of ICMP")
        return cls(data[0], data[1], data[4:8], data[8:])

    @staticmethod
    def _pseudo(source: str, destination: str, length: int) -> bytes:
        return pseudo_header(source, destination, PROTOCOL_ICMPV6, length) if ":" in source else b""

    @property
    def number(self) -> int:
        """The four bytes behind the checksum as a number: the MTU of "packet too big"."""
        return int.from_bytes(self.rest, "big")


# Multicast listener discovery (RFC 3810; REPORT_V1: RFC 2710): groups are asked for and reported.

LISTENER_QUERY, LISTENER_REPORT_V1, LISTENER_REPORT = 130, 131, 143
ROUTER_ALERT = (HOP_BY_HOP, b"\x00\x05\x02\x00\x00\x01\x00")
"""The extension header that all of them have (RFC 2711)."""


def listener_query(delay_ms: int, group: str = "::", *, version: int = 2) -> Icmp:
    """Which groups are you in? Say it within `delay_ms`."""
    tail = b"" if version == 1 else bytes(4)
    return Icmp(LISTENER_QUERY, rest=struct.pack("!HH", delay_ms, 0), payload=packed(group) + tail)


# Neighbour discovery (RFC 4861): messages whose payload is a target and options of (type, length in eights, bytes).

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
IS_ROUTER, IS_SOLICITED, OVERRIDES = 0x80, 0x40, 0x20
LINK_BUSINESS = {LISTENER_QUERY, LISTENER_REPORT_V1, LISTENER_REPORT, *range(133, 137)}
"""ICMPv6 types that a host on a link sends of its own accord, whatever its connections do."""


def solicited_node(address: str) -> str:
    """The multicast address that a neighbour solicitation goes to."""
    return text(packed("ff02::1:ff00:0")[:13] + packed(address)[13:])


def multicast_mac(address: str) -> bytes:
    """The Ethernet address of an IPv6 multicast address (RFC 2464 section 7)."""
    return b"\x33\x33" + packed(address)[12:]


def neighbour_solicitation(target: str, source_mac: bytes) -> Icmp:
    """Who has this address? Say it to me."""
    return Icmp(NEIGHBOUR_SOLICITATION, payload=packed(target) + b"\x01\x01" + source_mac)


def neighbour_advertisement(target: str, mac: bytes, flags: int = IS_SOLICITED | OVERRIDES) -> Icmp:
    """I have it, and this is where I am."""
    return Icmp(NEIGHBOUR_ADVERTISEMENT, rest=bytes([flags, 0, 0, 0]), payload=packed(target) + b"\x02\x01" + mac)
