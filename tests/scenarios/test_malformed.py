"""Packets that are broken: each is dropped in silence, counted by its reason, and harms nobody (RFC 9293 section 3.1,
RFC 791, RFC 8200)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from usnet_framework.testing import Host, Scenario, states
from usnet_framework.testing.host import LOCAL, PEER, PEER_MAC
from usnet_framework.testing.packets import ETHER_IPV4, Ethernet, Ipv4, Ipv6, ip_packet
from usnet_framework.testing.segments import Tcp

BOTH = pytest.mark.parametrize("family", [4, 6])


def drops(host: Host) -> dict[str, int]:
    return {name: count for name, count in host.stack.counters("drops").items() if count}


@BOTH
@pytest.mark.parametrize("bits", [0x0001, 0x8000, 0xFFFF])
def test_a_wrong_tcp_checksum(bits: int, listening: Scenario) -> None:
    """RFC 9293 MUST-3."""
    if bits == 0xFFFF:
        listening.send(states.SYN, reserved=1, checksum_xor=1)
    else:
        listening.send(states.SYN, checksum_xor=bits)
    listening.expect_nothing()
    assert drops(listening.host) == {"tcp_checksum": 1}


def test_a_segment_that_was_damaged_is_as_good_as_lost(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1", checksum_xor=4)
    plain.expect_nothing(1)
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)


@pytest.mark.parametrize("words", [0, 4, 6, 15])
def test_a_wrong_data_offset(words: int, listening: Scenario) -> None:
    """Less than a header, or more than the segment."""
    listening.send("S 0:0(0) win 1000", data_offset=words)
    listening.expect_nothing()
    assert drops(listening.host) == {"tcp_malformed": 1}


def test_reserved_bits_are_ignored(listening: Scenario) -> None:
    """RFC 9293 section 3.1: they must be ignored in received segments."""
    listening.send(states.SYN, reserved=0b1110)
    listening.expect("S. 0:0(0) ack 1")


@pytest.mark.parametrize(
    "options",
    [
        "630400010204 05b4",  # unknown, then MSS
        "0101010102040578",  # NOPs before
        "0204057800ff0000",  # bytes behind EOL
        "0204057800",
        "fd04beef02040578",  # experimental
        "fe0812345678abcd02040578",
        "1e0c0081000000000000000002040578",  # MPTCP
        "220202040578",  # fast open
        "02040578130a0000000000000000",
    ],
)
def test_options_that_mean_nothing_to_us_are_skipped(options: str, listening: Scenario) -> None:
    """RFC 9293 MUST-6, MUST-64."""
    listening.send(f"S 0:0(0) win 65535 <raw {options.replace(' ', '')}>")
    listening.expect("S. 0:0(0) ack 1 <mss 1460>")


@pytest.mark.parametrize(
    "options",
    [
        "02",  # no length
        "0200",  # length 0
        "0201",  # shorter than itself
        "020405",  # past the end
        "0203050101010101",  # MSS of 3
        "02ff05b4",
        "030203030201",  # window scale without a shift
        "0803010101010101",  # timestamps of 3
        "63000000",
        "6301",
        "050b0000000100000002ff01",  # a SACK block and a half
        "0403ff01",
    ],
)
def test_options_of_a_wrong_length_do_no_harm(options: str, listening: Scenario) -> None:
    """RFC 9293 MUST-7: whatever is done with the segment, the listener goes on."""
    listening.send(f"S 0:0(0) win 65535 <raw {options}>")
    assert {seen.tcp.flags for seen in listening.take()} <= {"S."}
    states.established(listening.host)


def test_an_mss_of_nothing_is_not_believed(listening: Scenario) -> None:
    """A peer that asks for tiny segments would make us waste ourselves on headers."""
    listening.send("S 0:0(0) win 65535 <mss 1>")
    listening.expect("S. 0:0(0) ack 1")
    listening.send(". 1:1(0) ack 1")
    listening.accept()
    listening.set_option("nodelay", 1)
    listening.write(1000)
    assert len(listening.take()) <= 1000 // 48 + 1


def test_options_may_come_with_any_segment(plain: Scenario) -> None:
    """RFC 9293 MUST-4: even those of a SYN, which then mean nothing."""
    plain.send("P. 1:101(100) ack 1 <mss 500,wscale 3,sackOK>")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    assert plain.info.snd_mss == 1460
    assert plain.info.agreed == set()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 5}, "ip_malformed"),
        ({"header_length": 4}, "ip_malformed"),
        ({"header_length": 15}, "short_frame"),
        ({"total_length": 19}, "ip_malformed"),
        ({"total_length": 2000}, "ip_malformed"),
        ({"checksum_xor": 0x100}, "ip_checksum"),
        ({"protocol": 253}, "ip_protocol"),
    ],
)
def test_a_broken_ipv4_header(change: dict[str, Any], reason: str, listening: Scenario) -> None:
    listening.send(states.SYN, ip=change)
    listening.take() if reason == "ip_protocol" else listening.expect_nothing()
    listening.host.sent.clear()
    assert drops(listening.host) == {reason: 1}


@pytest.mark.parametrize("family", [6])
@pytest.mark.parametrize(
    ("change", "reason"), [({"version": 4}, "ip_malformed"), ({"payload_length": 2000}, "ip_malformed")]
)
def test_a_broken_ipv6_header(change: dict[str, Any], reason: str, listening: Scenario) -> None:
    listening.send(states.SYN, ip=change)
    listening.expect_nothing()
    assert drops(listening.host) == {reason: 1}


@BOTH
def test_an_ip_packet_that_ends_within_the_tcp_header(family: int, host: Host) -> None:
    host.listen(80)
    for length in range(20):
        segment = Tcp(5000, 80, flags="S").build(PEER[family], LOCAL[family])[:length]
        host.send_ip(ip_packet(PEER[family], LOCAL[family], Tcp.PROTOCOL, segment))
    host.expect_nothing()
    assert drops(host) == {"tcp_malformed": 20}


@BOTH
def test_a_frame_that_ends_anywhere(family: int, host: Host) -> None:
    host.listen(80)
    packet = ip_packet(PEER[family], LOCAL[family], 6, Tcp(5000, 80, flags="S").build(PEER[family], LOCAL[family]))
    frame = Ethernet(host.stack.link.mac, PEER_MAC, packet.ETHER_TYPE, packet.build()).build()
    for length in range(14, len(frame)):
        host.send_frame(frame[:length])
    host.expect_nothing()
    assert sum(drops(host).values()) == len(frame) - 14
    host.send_frame(frame)
    assert host.expect_body(Tcp)[0].flags == "S."


def test_padding_of_ethernet_is_no_data(plain: Scenario) -> None:
    """Frames are 60 bytes long at least; the IP header says where the packet ends."""
    packet = plain.packet(". 1:1(0) ack 1")
    frame = Ethernet(plain.host.stack.link.mac, PEER_MAC, ETHER_IPV4, packet.build() + b"padding").build()
    plain.host.send_frame(frame)
    plain.expect_nothing(1)
    assert not plain.can_read()


def test_options_of_ip_are_skipped(plain: Scenario) -> None:
    """RFC 9293 MUST-50 lets record route and timestamps be."""
    plain.send("P. 1:101(100) ack 1", ip={"options": bytes.fromhex("0101010101010101")})
    plain.expect(". 1:1(0) ack 101", within=0.5)
    assert len(plain.read()) == 100


@pytest.mark.parametrize("options", ["830704 0a000009 00", "890704 0a000009 00", "8300 0000", "83ff 0400", "0100 0700"])
def test_other_options_of_ip_do_no_harm(options: str, listening: Scenario) -> None:
    """Source routes, and options of a wrong length."""
    listening.send(states.SYN, ip={"options": bytes.fromhex(options.replace(" ", ""))})
    assert {seen.tcp.flags for seen in listening.take()} <= {"S."}
    states.established(listening.host)


def test_a_vlan_tag_is_tolerated(listening: Scenario) -> None:
    packet = listening.packet(states.SYN)
    tagged = Ethernet(listening.host.stack.link.mac, PEER_MAC, ETHER_IPV4, packet.build(), vlan=0)
    listening.host.send_frame(tagged.build())
    listening.expect("S. 0:0(0) ack 1")


def test_a_frame_for_another_station(listening: Scenario) -> None:
    packet = listening.packet(states.SYN)
    frame = Ethernet(bytes.fromhex("020000000009"), PEER_MAC, ETHER_IPV4, packet.build())
    listening.host.send_frame(frame.build())
    listening.expect_nothing()
    assert drops(listening.host) == {"foreign_mac": 1}


def test_an_unknown_ether_type(host: Host) -> None:
    host.send_frame(Ethernet(host.stack.link.mac, PEER_MAC, 0x88B5, bytes(46)).build())
    host.expect_nothing()
    assert drops(host) == {"ether_type": 1}


@pytest.mark.parametrize("seed", range(8))
def test_noise(seed: int, established: Scenario) -> None:
    """Frames with bytes at random places turned, and of random bytes only."""
    chance = random.Random(seed)
    host = established.host
    for _ in range(200):
        packet = established.packet("P. 1:101(100) ack 1")
        frame = bytearray(Ethernet(host.stack.link.mac, PEER_MAC, ETHER_IPV4, packet.build()).build())
        if chance.random() < 0.3:
            frame = bytearray(chance.randbytes(chance.randrange(15, 200)))
            frame[:6] = host.stack.link.mac
            frame[12:14] = chance.choice((b"\x08\x00", b"\x08\x06", b"\x86\xdd"))
        for _ in range(chance.randrange(1, 4)):
            frame[chance.randrange(14, len(frame))] = chance.randrange(256)
        host.send_frame(bytes(frame))
        host.sent.clear()
    established.send("P. 1:101(100) ack 1")
    established.take()
    assert established.state == "established"
    assert established.info.unread == 100


@BOTH
def test_noise_in_headers_that_are_right_otherwise(family: int, host: Host) -> None:
    """Any header that a fuzzer makes up, with right checksums: the stack goes on."""
    chance = random.Random(family)
    host.listen(80)
    kind = Ipv4 if family == 4 else Ipv6
    for _ in range(500):
        segment = Tcp(
            chance.randrange(65536), 80, chance.randrange(2**32), chance.randrange(2**32),
            "".join(chance.sample("SFRPUEW.", chance.randrange(9))), chance.randrange(65536), chance.randrange(65536),
            payload=chance.randbytes(chance.randrange(40)), data_offset=chance.randrange(16),
        )  # fmt: skip
        host.send_ip(kind(PEER[family], LOCAL[family], 6, segment.build(PEER[family], LOCAL[family])))
        host.sent.clear()
    states.established(host)
