"""What a link does for the stack: checksums left to it, super-segments both ways (device capabilities)."""

from __future__ import annotations

import struct

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import LOCAL, PEER, PEER_MAC
from usnet_framework.testing.packets import Ethernet, Icmp, Udp
from usnet_framework.testing.segments import Tcp

BOTH = pytest.mark.parametrize("family", [4, 6])

segments = pytest.mark.link(tx_segment_bytes=65000, tx_checksum=True)
checksums = pytest.mark.link(tx_checksum=True)


def partial(scenario: Scenario, text: str) -> bytes:
    """A frame whose TCP checksum is that of the pseudo-header only, as a kernel leaves it to a device."""
    packet = scenario.packet(text)
    segment = bytearray(packet.payload)
    pseudo = packets.pseudo_header(packet.source, packet.destination, 6, len(segment))
    struct.pack_into("!H", segment, 16, packets.one_complement_sum(pseudo))
    whole = packets.ip_packet(packet.source, packet.destination, 6, bytes(segment))
    return Ethernet(scenario.host.stack.link.mac, PEER_MAC, whole.ETHER_TYPE, whole.build()).build()


# Received.


@pytest.mark.stack(accept_partial_checksum=True)
@BOTH
def test_a_partial_checksum_is_taken_from_a_virtual_link(listening: Scenario, family: int) -> None:
    listening.host.send_frame(partial(listening, states.SYN), checksum_partial=True)
    listening.expect("S. 0:0(0) ack 1")


@pytest.mark.stack(accept_partial_checksum=False)
def test_a_partial_checksum_is_wrong_elsewhere(listening: Scenario) -> None:
    listening.host.send_frame(partial(listening, states.SYN))
    listening.expect_nothing()
    assert listening.host.counter("tcp_checksum") == 1


@pytest.mark.stack(accept_partial_checksum=True)
def test_a_wrong_checksum_is_wrong_where_partial_ones_are_taken(listening: Scenario) -> None:
    listening.send(states.SYN, checksum_xor=0x40)
    listening.expect_nothing()
    assert listening.host.counter("tcp_checksum") == 1


@pytest.mark.link(rx_checksum=True)
def test_what_the_link_has_verified_is_not_verified_again(listening: Scenario) -> None:
    listening.send(states.SYN, checksum_xor=0x40, checksum_good=True)
    listening.expect("S. 0:0(0) ack 1")


@pytest.mark.link(rx_checksum=True)
def test_what_the_link_has_not_verified_is(listening: Scenario) -> None:
    listening.send(states.SYN, checksum_xor=0x40)
    listening.expect_nothing()


@pytest.mark.link(rx_coalesce=True)
@BOTH
@pytest.mark.parametrize("size", [2920, 14_600, 60_000])
def test_segments_that_were_joined(size: int, plain: Scenario, family: int) -> None:
    """A packet larger than the MTU, in more than one frame of memory."""
    plain.send(f"P. 1:{size + 1}({size}) ack 1", segment_bytes=1460)
    plain.expect(f". 1:1(0) ack {size + 1}", within=0.5)
    assert sum(map(len, iter(lambda: plain.read(8192) if plain.can_read() else b"", b""))) == size
    plain.take()


@pytest.mark.link(rx_coalesce=True)
def test_joined_segments_count_as_many(plain: Scenario) -> None:
    """More than two full segments: acknowledged at once."""
    for turn in range(20):
        first = 1 + turn * 4380
        plain.send(f"P. {first}:{first + 4380}(4380) ack 1", segment_bytes=1460)
        plain.expect(f". 1:1(0) ack {first + 4380}")
        plain.read()
        plain.take()


@pytest.mark.link(rx_coalesce=True)
def test_joined_segments_overlap_like_others(plain: Scenario) -> None:
    plain.send("P. 10001:20001(10000) ack 1", segment_bytes=1460)
    plain.expect(". 1:1(0) ack 1")
    plain.send("P. 1:15001(15000) ack 1", segment_bytes=1460)
    plain.expect(". 1:1(0) ack 20001")
    assert len(plain.read()) == 20_000


# Sent.


@checksums
@BOTH
def test_checksums_are_left_to_the_link(established: Scenario, family: int) -> None:
    """The oracle has looked at the sum of the pseudo-header."""
    established.write(100)
    seen = established.expect("P. 1:101(100) ack 1")
    assert seen.output.needs_checksum
    assert seen.output.checksum_start == (34 if family == 4 else 54)
    assert seen.output.checksum_offset == 16
    assert seen.output.header_length == seen.output.checksum_start + 20


@checksums
def test_other_checksums_are_right_in_any_case(host: Host) -> None:
    host.send_body(Icmp(8, payload=b"x"))
    host.expect_body(Icmp)
    endpoint = host.stack.udp_open(("", 7))
    host.stack.udp_send(endpoint, (PEER[4], 9), b"hello")
    host.turn()
    udp, sent = host.expect_body(Udp)
    assert udp.payload == b"hello"
    assert sent.output.checksum_offset in (0, 6)
    Scenario(host, local_port=81).send(states.SYN)
    assert host.expect_body(Tcp)[0].flags == "R."


@segments
@BOTH
def test_a_super_segment(host: Host, family: int) -> None:
    """Half a congestion window at most, so that acknowledgments keep coming."""
    scenario = states.established(host, states.PLAIN_SYN)
    size = 1460 if family == 4 else 1440
    scenario.write(5 * size)
    seen = scenario.expect(f"P. 1:{5 * size + 1}({5 * size}) ack 1 seg {size}")
    assert seen.output.needs_checksum
    assert seen.output.header_length == (54 if family == 4 else 74)


@segments
def test_a_super_segment_with_timestamps(stamped: Scenario) -> None:
    stamped.write(5 * 1448)
    seen = stamped.expect(f"P. 1:{5 * 1448 + 1}({5 * 1448}) ack 1 seg 1448")
    assert seen.output.header_length == 66


@segments
def test_one_segment_is_no_super_segment(plain: Scenario) -> None:
    plain.write(1460)
    plain.expect("P. 1:1461(1460) ack 1")


@segments
def test_a_rest_travels_along(plain: Scenario) -> None:
    plain.set_option("nodelay", 1)
    plain.write(2000)
    plain.expect("P. 1:2001(2000) ack 1 seg 1460")


@segments
def test_super_segments_obey_the_congestion_window(plain: Scenario) -> None:
    plain.write(100_000)
    assert sum(len(seen.tcp.payload) for seen in plain.take()) == 14_600


@segments
def test_super_segments_obey_the_window(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 5840 <mss 1460>")
    scenario.write(20_000)
    assert sum(len(seen.tcp.payload) for seen in scenario.take()) == 5840


@pytest.mark.link(tx_segment_bytes=4000, tx_checksum=True)
def test_super_segments_obey_the_link(plain: Scenario) -> None:
    plain.write(14_600)
    assert max(len(seen.tcp.payload) for seen in plain.take()) <= 4000


@segments
@pytest.mark.stack(tx_segments_max=3)
def test_super_segments_obey_the_options(plain: Scenario) -> None:
    plain.write(14_600)
    assert max(len(seen.tcp.payload) for seen in plain.take()) <= 3 * 1460


@segments
def test_the_lost_part_of_a_super_segment_is_sent_alone(host: Host) -> None:
    scenario = states.established(host, states.SYN, rtt=0.1)
    scenario.write(14_600)
    assert sum(len(seen.tcp.payload) for seen in scenario.take()) == 14_600
    scenario.advance(0.1)
    scenario.send(". 1:1(0) ack 1461 <sack 2921:14601>")
    again = scenario.take(0.1)
    assert (again[0].first, again[0].past) == (1461, 2921)
    scenario.send(". 1:1(0) ack 14601")
    assert scenario.info.queued == 0


@segments
def test_a_lost_super_segment_is_sent_again(host: Host) -> None:
    scenario = states.established(host, states.SYN, rtt=0.1)
    scenario.write(14_600)
    assert sum(len(seen.tcp.payload) for seen in scenario.take()) == 14_600
    done, pieces = 1, {}
    for _ in range(60):
        pieces |= {seen.first: seen.past for seen in scenario.take(0.1)}
        while done in pieces:
            done = pieces[done]
        scenario.send(f". 1:1(0) ack {done}")
    assert done == 14_601


@segments
def test_a_super_segment_acknowledged_in_part(plain: Scenario) -> None:
    plain.write(14_600)
    plain.take()
    plain.send(". 1:1(0) ack 5000")
    plain.take()
    assert plain.info.snd_una - plain.info.iss == 5000
    plain.send(". 1:1(0) ack 14601")
    plain.take()
    assert plain.info.queued == 0


@segments
def test_the_path_mtu_makes_the_parts_smaller(plain: Scenario) -> None:
    plain.write(14_600)
    plain.take()
    plain.send_icmp(3, 4, about=1, mtu=1000)
    again = plain.take()
    assert again
    assert all(seen.output.segment_bytes in (0, 960) for seen in again)
    assert all(len(seen.tcp.payload) <= 960 for seen in again if not seen.output.segment_bytes)


@segments
def test_a_retransmission_carries_the_latest_acknowledgment(host: Host) -> None:
    scenario = states.established(host, states.SYN, rtt=0.1)
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 1")
    scenario.send("P. 1:1001(1000) ack 1")
    scenario.take(0.1)
    scenario.expect("P. 1:101(100) ack 1001", within=2)
    assert LOCAL[4] == scenario.local[0]
