"""What a scenario captures is every frame, in and out, at its virtual time."""

from __future__ import annotations

import io
import struct

from usnet_framework.testing import Host, packets, states
from usnet_framework.testing.packets import Ethernet
from usnet_framework.testing.segments import Tcp


def read(capture: bytes) -> list[tuple[float, bytes]]:
    """(time in seconds, frame) of each record."""
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", capture)
    assert (magic, link) == (0xA1B23C4D, 1)
    found, at = [], 24
    while at < len(capture):
        seconds, ns, length, original = struct.unpack_from("<IIII", capture, at)
        assert length == original
        found.append((seconds + ns / 1e9, capture[at + 16 : at + 16 + length]))
        at += 16 + length
    assert at == len(capture)
    return found


def test_a_scenario() -> None:
    file = io.BytesIO()
    with Host(capture=file) as host:
        established = states.established(host)
        host.advance(2.5)
        established.send("P. 1:101(100) ack 1")
        established.expect(". 1:1(0) ack 101", within=0.5)
    segments = []
    for time_s, frame in read(file.getvalue()):
        ethernet = Ethernet.parse(frame)
        if ethernet.ether_type == packets.ETHER_IPV4:
            ip = packets.parse_ip(ethernet.payload)
            tcp = Tcp.parse(ip.payload, ip.source, ip.destination)
            segments.append((tcp.flags, len(tcp.payload), round(time_s - 1000, 2)))
    opening = [flags for flags, _, _ in segments[:-2]]
    assert opening == ["S", "S.", "."]
    (_, sent, sent_s), (_, acknowledged, acknowledged_s) = segments[-2:]
    assert (sent, acknowledged) == (100, 0)
    assert round(sent_s - segments[0][2], 2) == 2.5
    assert round(acknowledged_s - sent_s, 2) == 0.04
