"""Echo requests (ping) by a raw socket: RFC 792, RFC 4443."""

from __future__ import annotations

import os
import socket
import struct
import time

IDENTIFIER = 0x5553


def checksum(packet: bytes) -> int:
    packet += bytes(len(packet) % 2)
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(host: str, size: int = 1000, seconds: float = 10.0) -> None:
    """Ask until the right answer has come; AssertionError after so many seconds."""
    six = ":" in host
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    payload = os.urandom(size)
    asks, answers = (128, 129) if six else (8, 0)
    packet = struct.pack("!BBHHH", asks, 0, 0, IDENTIFIER, 1) + payload
    if not six:  # of ICMPv6 the kernel makes the checksum
        packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    expected = struct.pack("!HH", IDENTIFIER, 1) + payload
    deadline = time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(0.5)
        while time.monotonic() < deadline:
            raw.sendto(packet, (host, 0))
            try:
                answer = raw.recv(65536)
            except TimeoutError:
                continue
            answer = answer if six else answer[20:]
            if answer[0] == answers and answer[4:] == expected:
                return
    raise AssertionError(f"{host} does not answer")
