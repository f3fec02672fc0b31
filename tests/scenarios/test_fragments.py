"""Fragments are put together within a bounded budget (RFC 791, RFC 8200 section 4.5, RFC 5722, RFC 6864)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import LOCAL, PEER
from usnet_framework.testing.packets import Icmp, Ip, Ipv4, Ipv6, Udp, ip_packet

BOTH = pytest.mark.parametrize("family", [4, 6])


def datagram(size: int, family: int = 4, number: int = 1) -> Ip:
    payload = random.Random(size).randbytes(size)
    ip = ip_packet(PEER[family], LOCAL[family], 17, Udp(5000, 7, payload).build(PEER[family], LOCAL[family]))
    return replace(ip, identification=number) if isinstance(ip, Ipv4) else ip


def fragments(ip: Ip, size: int, number: int = 1) -> list[Ip]:
    return list(ip.fragments(size)) if isinstance(ip, Ipv4) else list(ip.fragments(size, number))


@pytest.fixture
def endpoint(host: Host) -> int:
    return host.stack.udp_open(("", 7))


def received(host: Host, endpoint: int) -> bytes | None:
    try:
        return host.stack.udp_receive(endpoint)[0]
    except BlockingIOError:
        return None


@BOTH
@pytest.mark.parametrize(("size", "piece"), [(100, 48), (3000, 1480), (3000, 8), (10_000, 1400), (60_000, 1448)])
def test_fragments_make_a_datagram(size: int, piece: int, host: Host, endpoint: int, family: int) -> None:
    ip = datagram(size, family)
    for fragment in fragments(ip, piece):
        assert received(host, endpoint) is None
        host.send_ip(fragment)
    assert received(host, endpoint) == ip.payload[8:]
    assert host.counter("reassembled") == 1


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_in_any_order(seed: int, host: Host, endpoint: int, family: int) -> None:
    ip = datagram(5000, family)
    pieces = fragments(ip, 400)
    random.Random(seed).shuffle(pieces)
    for fragment in pieces:
        host.send_ip(fragment)
    assert received(host, endpoint) == ip.payload[8:]


@BOTH
def test_twice(host: Host, endpoint: int, family: int) -> None:
    """Duplicates of the network are no overlap."""
    ip = datagram(1000, family)
    first, *rest = fragments(ip, 400)
    for fragment in (first, first, *rest):
        host.send_ip(fragment)
    assert received(host, endpoint) == ip.payload[8:]
    assert received(host, endpoint) is None


@BOTH
def test_two_datagrams_at_once(host: Host, endpoint: int, family: int) -> None:
    one, two = datagram(1000, family, 1), datagram(1100, family, 2)
    for left, right in zip(fragments(one, 400, 1), fragments(two, 400, 2), strict=True):
        host.send_ip(left)
        host.send_ip(right)
    assert {received(host, endpoint), received(host, endpoint)} == {one.payload[8:], two.payload[8:]}


def test_fragments_of_two_senders_are_apart(host: Host, endpoint: int) -> None:
    one = datagram(1000)
    two = Ipv4("10.0.0.3", LOCAL[4], 17, Udp(5000, 7, bytes(1000)).build("10.0.0.3", LOCAL[4]), identification=1)
    for left, right in zip(fragments(one, 400), fragments(two, 400), strict=True):
        host.send_ip(left)
        host.send_ip(right)
    assert {received(host, endpoint), received(host, endpoint)} == {one.payload[8:], bytes(1000)}


@BOTH
@pytest.mark.parametrize(("offset", "size"), [(8, 400), (392, 400), (200, 100), (792, 400)])
def test_overlaps_end_a_datagram(offset: int, size: int, host: Host, endpoint: int, family: int) -> None:
    """RFC 5722: the whole datagram is dropped, over IPv4 as well: nobody sends that in good faith."""
    ip = datagram(1200, family)
    pieces = fragments(ip, 400)
    evil = replace(pieces[1], payload=bytes([0xEE]) * size)
    if isinstance(evil, Ipv4):
        evil = replace(evil, fragment_offset=offset, more_fragments=True)
    else:
        evil = replace(evil, extensions=((packets.FRAGMENT, b"\0" + (offset | 1).to_bytes(2, "big") + b"\0\0\0\1"),))
    for fragment in (pieces[0], pieces[2], evil, pieces[1], pieces[3]):
        host.send_ip(fragment)
        host.sent.clear()
    assert received(host, endpoint) in (None, ip.payload[8:])
    host.sent.clear()


@BOTH
def test_a_datagram_that_stays_incomplete(host: Host, endpoint: int, family: int) -> None:
    """It is given up after a while, and what comes later belongs to another one."""
    ip = datagram(1000, family)
    first, *rest = fragments(ip, 400)
    host.send_ip(first)
    host.run_until(host.now_ns + 130 * 10**9, lambda: False)
    host.sent.clear()
    assert host.counter("fragment_timeout") == 1
    for fragment in rest:
        host.send_ip(fragment)
    assert received(host, endpoint) is None


@BOTH
def test_who_sent_the_first_of_them_is_told(host: Host, endpoint: int, family: int) -> None:
    """RFC 792 and RFC 8200 section 4.5: time exceeded, code 1; the first fragment is quoted, and nothing else."""
    first, second, _ = fragments(datagram(1000, family), 400)
    host.send_ip(second)
    host.send_ip(first)
    icmp, sent = host.expect_body(Icmp, after=61)
    assert sent.time_s == pytest.approx(30 if family == 4 else 60, abs=0.1)
    assert (icmp.type, icmp.code) == ((11, 1) if family == 4 else (3, 1))
    assert icmp.payload == first.build()


@BOTH
def test_who_sent_others_is_not_told(host: Host, endpoint: int, family: int) -> None:
    """Nor is who sent an error, nor what went to everybody."""
    host.send_ip(fragments(datagram(1000, family), 400)[1])
    source, destination = PEER[family], LOCAL[family]
    error = Icmp(*((3, 3) if family == 4 else (1, 4)), payload=datagram(1000, family).build())
    ip = ip_packet(source, destination, 1 if family == 4 else 58, error.build(source, destination))
    host.send_ip(fragments(ip, 400, 2)[0])
    if family == 6:  # behind further headers it may be one
        hidden = Ipv6(source, destination, 60, bytes([58, 0, 1, 4, 0, 0, 0, 0]) + error.build(source, destination))
        host.send_ip(fragments(hidden, 400, 4)[0])
    everybody = "10.0.0.255" if family == 4 else "ff02::1"
    host.send_ip(fragments(replace(datagram(1000, family, 3), destination=everybody), 400, 3)[0])
    host.expect_nothing(70)
    assert host.counter("fragment_timeout") == (3 if family == 4 else 4)


@pytest.mark.parametrize(("cut", "offset", "pointer"), [(3, 0, 4), (0, 65528, 42)])
def test_fragments_that_cannot_be_are_told(cut: int, offset: int, pointer: int, host: Host) -> None:
    """RFC 8200 section 4.5: a parameter problem that names the payload length, or the fragment offset."""
    first = next(datagram(1000, 6).fragments(400))
    assert isinstance(first, Ipv6)
    header = (packets.FRAGMENT, b"\0" + (offset | 1).to_bytes(2, "big") + b"\0\0\0\1")
    broken = replace(first, payload=first.payload[: 400 - cut], extensions=(header,))
    host.send_ip(broken)
    icmp, _ = host.expect_body(Icmp)
    assert (icmp.type, icmp.code, icmp.number, icmp.payload) == (4, 0, pointer, broken.build())


@BOTH
def test_a_flood_of_first_fragments_is_bounded(host: Host, endpoint: int, family: int) -> None:
    for number in range(1, 2001):
        host.send_ip(fragments(datagram(1000, family, number), 400, number)[0])
    assert host.counter("fragment_budget") > 0
    ip = datagram(3000, family, 5000)
    for fragment in fragments(ip, 1000, 5000):
        host.send_ip(fragment)
    assert received(host, endpoint) == ip.payload[8:]
    scenario = states.established(host)
    scenario.send("P. 1:101(100) ack 1")
    scenario.expect(". 1:1(0) ack 101", within=0.5)
    host.run_until(host.now_ns + 130 * 10**9, lambda: False)
    host.sent.clear()


def test_beyond_the_largest_datagram(host: Host, endpoint: int) -> None:
    """The ping of death: RFC 791 allows 65,535 bytes."""
    host.send_ip(Ipv4(PEER[4], LOCAL[4], 17, bytes(1000), fragment_offset=65528, dont_fragment=False))
    host.send_ip(Ipv4(PEER[4], LOCAL[4], 17, bytes(1000), more_fragments=True, dont_fragment=False))
    host.expect_nothing()
    assert received(host, endpoint) is None


@BOTH
def test_a_fragment_that_is_no_multiple_of_eight(host: Host, endpoint: int, family: int) -> None:
    """RFC 8200 section 4.5; only the last one may be."""
    first = fragments(datagram(1000, family), 400)[0]
    host.send_ip(replace(first, payload=first.payload[:399]))
    assert received(host, endpoint) is None
    host.sent.clear()


@BOTH
def test_an_empty_fragment(host: Host, endpoint: int, family: int) -> None:
    first = fragments(datagram(1000, family), 400)[0]
    host.send_ip(replace(first, payload=b""))
    host.sent.clear()
    ip = datagram(1000, family, 2)
    for fragment in fragments(ip, 400, 2):
        host.send_ip(fragment)
    assert received(host, endpoint) == ip.payload[8:]


@BOTH
def test_tcp_in_fragments(host: Host, family: int) -> None:
    """Middleboxes do that."""
    scenario = states.established(host)
    for fragment in fragments(scenario.packet("P. 1:1401(1400) ack 1"), 256):
        host.send_ip(fragment)
    scenario.expect(". 1:1(0) ack 1401", within=0.5)
    assert len(scenario.read()) == 1400


def test_a_tcp_header_in_pieces(host: Host) -> None:
    """RFC 1858: a filter that looks at the first fragment only is fooled; we are not."""
    scenario = states.listening(host)
    for fragment in fragments(scenario.packet(states.SYN), 8):
        host.send_ip(fragment)
    answer = scenario.take()
    assert [seen.tcp.flags for seen in answer] in ([], ["S."])


@pytest.mark.parametrize("family", [6])
def test_a_fragment_header_without_a_first_fragment(host: Host, endpoint: int, family: int) -> None:
    """The transport header cannot be read before it is there."""
    pieces = fragments(datagram(1000, 6), 400)
    for fragment in reversed(pieces):
        assert received(host, endpoint) is None
        host.send_ip(fragment)
    assert received(host, endpoint) is not None


def test_a_wrong_checksum_of_what_was_put_together(host: Host, endpoint: int) -> None:
    pieces = fragments(datagram(1000), 400)
    for fragment in (pieces[0], replace(pieces[1], payload=bytes(400)), pieces[2]):
        host.send_ip(fragment)
    host.expect_nothing()
    assert received(host, endpoint) is None
    assert host.counter("udp_checksum") == 1


def test_nothing_that_we_send_is_a_fragment(host: Host) -> None:
    """Path MTU discovery does what fragments were for. (But for large echoes: test_icmp.py.)"""
    scenario: Scenario = states.established(host)
    scenario.write(20_000)
    assert all(isinstance(seen.ip, Ipv4) and not seen.ip.more_fragments for seen in scenario.take())
    assert isinstance(datagram(10, 6), Ipv6)


@BOTH
@pytest.mark.parametrize("backwards", [False, True])
def test_a_segment_in_fragments(backwards: bool, host: Host, family: int) -> None:
    """We send none, and take those of others: the first one alone has the ports."""
    scenario = states.established(host, states.PLAIN_SYN)
    pieces = fragments(scenario.packet("P. 1:1001(1000) ack 1"), 256)
    for piece in reversed(pieces) if backwards else pieces:
        host.send_ip(piece)
    scenario.expect(". 1:1(0) ack 1001", within=0.5)
    assert len(scenario.read()) == 1000
