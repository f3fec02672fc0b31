"""ICMP about connections (RFC 9293 section 3.9.2.2, RFC 5927, RFC 1122), path MTU (RFC 1191, RFC 8201), and echo."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import LOCAL, PEER
from usnet_framework.testing.packets import Icmp
from usnet_framework.testing.peer import quote

BOTH = pytest.mark.parametrize("family", [4, 6])

SOFT = [(3, 0), (3, 1), (3, 5), (3, 11), (3, 12), (11, 0), (11, 1), (12, 0)]
HARD = [(3, 2), (3, 3)]
FOR_GOOD = [(4, 3, code) for code in (6, 7, 8, 9, 10, 13, 14, 15)] + [(6, 1, code) for code in (1, 5, 6)]
"""By family: the way is forbidden, or what it should lead to does not exist."""
TOO_BIG = {4: (3, 4), 6: (2, 0)}
PORT = {4: (3, 3), 6: (1, 4)}


@pytest.mark.parametrize(("kind", "code"), [*SOFT, *HARD, (3, 9), (3, 10), (3, 13)])
def test_an_established_connection_survives_every_error(kind: int, code: int, plain: Scenario) -> None:
    """RFC 9293 MUST-56 and RFC 5927 section 5: they may be forged, and what is meant may pass."""
    plain.write(100)
    plain.expect("P. 1:101(100) ack 1")
    plain.send_icmp(kind, code, about=1)
    plain.expect_nothing(0.1)
    assert plain.state == "established"
    plain.send(". 1:1(0) ack 101")


@BOTH
def test_a_port_that_is_not_there_ends_an_attempt(syn_sent: Scenario, family: int) -> None:
    """RFC 1122 section 4.2.3.9: hard errors."""
    syn_sent.send_icmp(*PORT[family], about=0)
    syn_sent.expect_nothing(10)
    assert syn_sent.closed_by() == "refused"


@pytest.mark.parametrize(("family", "kind", "code"), FOR_GOOD)
def test_a_way_that_is_forbidden_ends_an_attempt(kind: int, code: int, syn_sent: Scenario) -> None:
    """As in Linux: a firewall that says so says it again in a minute."""
    router = {4: "10.0.0.254", 6: "fd00::254"}[syn_sent.host.family]
    syn_sent.send_icmp(kind, code, about=0, source=router)
    syn_sent.expect_nothing(200)
    assert syn_sent.closed_by() == "unreachable"
    with pytest.raises(OSError, match="No route to host"):
        syn_sent.write(1)


@pytest.mark.parametrize("about", [1, 2**31])
def test_a_way_that_is_forbidden_to_another_attempt_does_not_end_this_one(about: int, syn_sent: Scenario) -> None:
    """RFC 5927 section 4.1: a forger has to know the sequence number."""
    syn_sent.send_icmp(3, 13, about=about)
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"


@pytest.mark.parametrize(("kind", "code"), SOFT)
def test_a_soft_error_does_not_end_an_attempt(kind: int, code: int, syn_sent: Scenario) -> None:
    """RFC 9293 MUST-56."""
    syn_sent.send_icmp(kind, code, about=0, source="10.0.0.254")
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"
    syn_sent.send(states.SYN_ACK)
    syn_sent.expect(". 1:1(0) ack 1")


@pytest.mark.parametrize(("kind", "code"), SOFT)
def test_an_attempt_that_fails_after_a_soft_error_says_why(kind: int, code: int, syn_sent: Scenario) -> None:
    """RFC 9293 section 3.9.2.2: the information is made available. It is not given up the sooner for it."""
    syn_sent.send_icmp(kind, code, about=0, source="10.0.0.254")
    assert [seen.tcp.flags for seen in syn_sent.take(120)] == ["S"] * 4
    assert syn_sent.closed_by() == "unreachable"


def test_an_attempt_that_the_user_limits_says_why(syn_sent: Scenario) -> None:
    syn_sent.set_option("user_timeout_ms", 2000)
    syn_sent.send_icmp(3, 1, about=0, source="10.0.0.254")
    syn_sent.take(5)
    assert syn_sent.closed_by() == "unreachable"


def test_an_attempt_of_which_nobody_said_anything_timed_out(syn_sent: Scenario) -> None:
    syn_sent.take(120)
    assert syn_sent.closed_by() == "timeout"


@pytest.mark.parametrize("about", [1, 5, 100000, 2**31])
def test_an_error_about_something_else_does_not_end_an_attempt(about: int, syn_sent: Scenario) -> None:
    """RFC 5927 section 4.1: the sequence number is that of something in flight."""
    syn_sent.send_icmp(3, 3, about=about)
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"


def test_an_error_about_another_connection(syn_sent: Scenario, host: Host) -> None:
    other = Scenario(host, local_port=50001)
    other.send_icmp(3, 3, about=0)
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"
    assert host.counter("icmp_unmatched") == 1


def test_a_source_quench_is_ignored(plain: Scenario) -> None:
    """RFC 6633."""
    plain.write(3000)
    plain.expect_data(1, 3001)
    before = plain.info.cwnd
    plain.send_icmp(4, 0, about=1)
    plain.expect_nothing()
    assert plain.info.cwnd == before


def test_a_wrong_checksum_of_an_error(syn_sent: Scenario) -> None:
    quoted = quote(syn_sent.local, syn_sent.remote, syn_sent.peer.of_stack(0))
    syn_sent.host.send_body(Icmp(3, 3, payload=quoted, checksum_xor=1))
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"
    assert syn_sent.host.counter("icmp_checksum") == 1


@pytest.mark.parametrize("length", range(0, 28, 3))
def test_an_error_that_quotes_too_little(length: int, syn_sent: Scenario) -> None:
    quoted = quote(syn_sent.local, syn_sent.remote, syn_sent.peer.of_stack(0))
    syn_sent.host.send_body(Icmp(3, 3, payload=quoted[:length]))
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"


# Path MTU.


@BOTH
def test_a_smaller_path_takes_smaller_segments(host: Host, family: int) -> None:
    """RFC 1191 section 6.4, RFC 8201 section 5.4: what was too big is sent again at once."""
    scenario = states.established(host, states.PLAIN_SYN)
    headers = 40 if family == 4 else 60
    scenario.write(4000)
    sizes = scenario.expect_data(1, 4001)
    scenario.send_icmp(*TOO_BIG[family], about=1, mtu=1400, source=GATEWAYS[family])
    again = scenario.take()
    assert again[0].first == 1
    assert all(len(seen.tcp.payload) <= 1400 - headers for seen in again)
    assert scenario.info.path_mtu == 1400
    assert host.counter("path_mtu_lowered") == 1
    assert sizes[0] > 1400 - headers


GATEWAYS = {4: "10.0.0.254", 6: "fd00::fe"}


def test_everything_arrives_over_a_smaller_path(host: Host) -> None:
    scenario = states.established(host, states.PLAIN_SYN, rtt=0.05)
    scenario.write(8000)
    scenario.expect_data(1, 8001)
    scenario.send_icmp(3, 4, about=1, mtu=1000, source="10.0.0.254")
    done, pieces = 1, {}
    for _ in range(60):
        pieces |= {seen.first: seen.past for seen in scenario.take(0.05)}
        while done in pieces:
            done = pieces[done]
        scenario.send(f". 1:1(0) ack {done}")
    assert done == 8001
    assert host.counter("timeouts") <= 1


@pytest.mark.parametrize("about", [4001, 100000, 2**31, 2**32 - 2000])
def test_a_report_about_what_is_not_in_flight_is_ignored(about: int, plain: Scenario) -> None:
    """RFC 5927 section 4.1."""
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=about, mtu=600)
    plain.expect_nothing()
    assert plain.info.path_mtu == 1500


def test_a_report_about_what_was_acknowledged_is_ignored(plain: Scenario) -> None:
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send(". 1:1(0) ack 4001")
    plain.send_icmp(3, 4, about=1, mtu=600)
    plain.expect_nothing()
    assert plain.info.path_mtu == 1500


@pytest.mark.parametrize(("mtu", "least"), [(68, 68), (20, 68), (1, 68)])
def test_a_tiny_path_is_not_believed_altogether(mtu: int, least: int, plain: Scenario) -> None:
    """RFC 1191 section 3: no path is below 68; RFC 5927 section 7.2: a floor keeps an attacker from more."""
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=1, mtu=mtu)
    plain.take()
    assert plain.info.path_mtu >= least
    assert plain.info.snd_mss >= 28


def test_an_old_router_names_no_mtu(plain: Scenario) -> None:
    """RFC 1191 section 5: something smaller is tried, a plateau."""
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=1, mtu=0)
    plain.take()
    assert 500 <= plain.info.path_mtu <= 1500


@pytest.mark.parametrize("mtu", [1500, 1501, 9000, 65535])
def test_a_report_never_raises_the_path_mtu(mtu: int, plain: Scenario) -> None:
    """RFC 8201 section 4."""
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=1, mtu=mtu)
    plain.take()
    assert plain.info.path_mtu <= 1500


@pytest.mark.parametrize("family", [6])
@pytest.mark.parametrize("mtu", [1280, 1279, 600, 0])
def test_an_ipv6_path_is_never_below_1280(mtu: int, host: Host, family: int) -> None:
    """RFC 8200 section 5; a report of less is discarded as a whole: RFC 8201 section 4."""
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.write(4000)
    scenario.expect_data(1, 4001)
    scenario.send_icmp(2, 0, about=1, mtu=mtu)
    scenario.take()
    assert scenario.info.path_mtu == (1500 if mtu < 1280 else 1280)


def narrowed(host: Host, family: int = 4, mtu: int = 1400) -> Scenario:
    """Something was too big for the path; all that was in flight has arrived."""
    scenario = states.established(host, rtt=0.05)
    scenario.write(1000)
    scenario.take()
    scenario.advance(0.05)
    scenario.send_icmp(*TOO_BIG[family], about=1, mtu=mtu, source=GATEWAYS[family])
    scenario.take()
    scenario.send(". 1:1(0) ack 1001")
    assert scenario.info.path_mtu == mtu
    return scenario


@BOTH
def test_a_larger_path_is_searched_for_after_ten_minutes(host: Host, family: int) -> None:
    """RFC 1191 section 6.3, RFC 8201 section 4, RFC 8899: a single segment finds out, one size after the other."""
    headers = 40 if family == 4 else 60
    scenario = narrowed(host, family)
    scenario.advance(601)
    sizes = []
    for _ in range(6):
        first = scenario.peer.stack_next
        scenario.write(8000)
        seen = scenario.take()
        sizes.append(len(seen[0].tcp.payload) + headers)
        assert all(len(each.tcp.payload) + headers <= sizes[-1] for each in seen)
        scenario.send(f". 1:1(0) ack {first + 8000}")
    assert sizes == [1460, 1480, 1492, 1500, 1500, 1500]
    assert scenario.info.path_mtu == 1500
    assert host.counter("path_mtu_raised") == 4


def test_a_search_that_fails_costs_one_segment(host: Host) -> None:
    """It is sent again in smaller ones, the window stays (RFC 8899 section 3), and it is ten minutes to the next."""
    scenario = narrowed(host)
    scenario.advance(601)
    window = scenario.info.cwnd
    first = scenario.peer.stack_next
    scenario.write(8000)
    assert len(scenario.take()[0].tcp.payload) == 1420
    scenario.advance(0.05)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1420}:{first + 8000}>")
    assert [(seen.first, seen.past) for seen in scenario.take()] == [
        (first, first + 1360),
        (first + 1360, first + 1420),
    ]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    assert scenario.info.path_mtu == 1400
    assert scenario.info.cwnd >= window
    scenario.advance(500)
    scenario.write(8000)
    assert max(len(seen.tcp.payload) for seen in scenario.take()) == 1360


def test_a_router_may_say_that_the_search_was_in_vain(host: Host) -> None:
    scenario = narrowed(host)
    scenario.advance(601)
    first = scenario.peer.stack_next
    scenario.write(8000)
    assert len(scenario.take()[0].tcp.payload) == 1420
    scenario.send_icmp(3, 4, about=first, mtu=1400, source="10.0.0.254")
    scenario.take()
    assert scenario.info.path_mtu == 1400
    scenario.advance(0.05)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1420}:{first + 8000}>")
    assert sum(len(seen.tcp.payload) for seen in scenario.take()) == 1420


def test_a_smaller_path_is_no_congestion(plain: Scenario) -> None:
    """RFC 1191 section 6.4: it should not cause slow start."""
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=1, mtu=1400)
    plain.take()
    assert plain.info.cwnd >= 4000


def test_the_window_of_the_mss_is_not_touched_by_a_larger_report_later(plain: Scenario) -> None:
    plain.write(4000)
    plain.expect_data(1, 4001)
    plain.send_icmp(3, 4, about=1, mtu=1000)
    plain.take()
    plain.send_icmp(3, 4, about=1, mtu=1400)
    plain.take()
    assert plain.info.path_mtu == 1000


# Echo.


@BOTH
@pytest.mark.parametrize("size", [0, 1, 56, 1400])
def test_an_echo_is_answered(size: int, host: Host, family: int) -> None:
    """RFC 1122 section 3.2.2.6, RFC 4443 section 4.2."""
    request, reply = (8, 0) if family == 4 else (128, 129)
    host.send_body(Icmp(request, rest=b"\x12\x34\x00\x05", payload=bytes(size)))
    icmp, sent = host.expect_body(Icmp)
    assert (icmp.type, icmp.code, icmp.rest) == (reply, 0, b"\x12\x34\x00\x05")
    assert sent.ip is not None
    assert (sent.ip.source, sent.ip.destination) == (LOCAL[family], PEER[family])


def test_the_payload_of_an_echo_comes_back(host: Host) -> None:
    payload = bytes(range(200))
    host.send_body(Icmp(8, payload=payload))
    assert host.expect_body(Icmp)[0].payload == payload


@BOTH
def test_the_answer_to_an_echo_has_its_class(host: Host, family: int) -> None:
    """RFC 1349 section 5.1; the bits of ECN are the sender's own."""
    source, destination = PEER[family], LOCAL[family]
    echo = Icmp(8 if family == 4 else 128).build(source, destination)
    ip = packets.ip_packet(source, destination, 1 if family == 4 else 58, echo)
    host.send_ip(replace(ip, traffic_class=0xBB))
    _, sent = host.expect_body(Icmp)
    assert sent.ip is not None
    assert sent.ip.traffic_class == 0xB8


@BOTH
@pytest.mark.parametrize("size", [1473, 1480, 3000, 20_000, 65_500])
def test_a_large_echo_comes_back_whole(size: int, host: Host, family: int) -> None:
    """RFC 1122 section 3.2.2.6: all of the data, in fragments that fit into the link."""
    request, reply = (8, 0) if family == 4 else (128, 129)
    source, destination = PEER[family], LOCAL[family]
    payload = bytes(index * 7 & 255 for index in range(size))
    message = Icmp(request, rest=b"\x12\x34\x00\x05", payload=payload).build(source, destination)
    protocol = packets.PROTOCOL_ICMP if family == 4 else packets.PROTOCOL_ICMPV6
    host.send_body(Icmp(request))  # so that we know where the peer is
    for fragment in packets.ip_packet(source, destination, protocol, message).fragments(1440):
        host.sent.clear()
        host.send_ip(fragment)
    parts: dict[int, bytes] = {}
    for sent in host.sent:
        assert isinstance(sent.body, bytes)
        assert sent.ip is not None
        parts[_offset(sent.ip)] = sent.body
    assert [at for at, _ in sorted(parts.items())] == [
        sum(len(parts[at]) for at in parts if at < end) for end in sorted(parts)
    ]
    assert len({_identification(sent.ip) for sent in host.sent if sent.ip}) == 1
    host.sent.clear()
    icmp = Icmp.parse(b"".join(parts[at] for at in sorted(parts)), destination, source)
    assert (icmp.type, icmp.rest, icmp.payload) == (reply, b"\x12\x34\x00\x05", payload)


def _offset(ip: packets.Ip) -> int:
    if isinstance(ip, packets.Ipv4):
        return ip.fragment_offset
    ((_, header),) = ip.extensions
    return int(struct.unpack_from("!H", header, 1)[0]) & 0xFFF8


def _identification(ip: packets.Ip) -> int:
    return (
        ip.identification if isinstance(ip, packets.Ipv4) else int(struct.unpack_from("!I", ip.extensions[0][1], 3)[0])
    )


@pytest.mark.stack(icmp_per_s=50)
def test_large_echoes_are_limited_by_packets(host: Host) -> None:
    """What an answer costs is what counts."""
    message = Icmp(8, payload=bytes(20_000)).build(PEER[4], LOCAL[4])
    host.send_body(Icmp(8))
    host.sent.clear()
    for number in range(20):
        for fragment in packets.Ipv4(PEER[4], LOCAL[4], 1, message, identification=number).fragments(1480):
            host.send_ip(fragment)
            sent = len(host.sent)
            host.sent.clear()
        assert sent in (0, 14)
    assert host.counter("echo_replies") == 1 + 4
    assert host.counter("icmp_rate") == 16


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.0.0.255", "224.0.0.1"])
def test_an_echo_to_everybody_is_not_answered(destination: str, host: Host) -> None:
    """RFC 1122 allows silence, and silence is no amplifier."""
    host.send_body(Icmp(8), destination=destination)
    host.expect_nothing()


def test_a_broken_echo_is_not_answered(host: Host) -> None:
    host.send_body(Icmp(8, checksum_xor=1))
    host.expect_nothing()
    assert host.counter("icmp_checksum") == 1


@pytest.mark.stack(icmp_per_s=5)
def test_answers_are_limited(host: Host) -> None:
    for _ in range(50):
        host.send_body(Icmp(8))
        host.sent.clear()
    assert host.counter("echo_replies") <= 6
    host.advance(1)
    host.send_body(Icmp(8))
    assert host.expect_body(Icmp)[0].type == 0


@pytest.mark.parametrize("kind", [0, 13, 15, 17, 30, 255])
def test_other_messages_are_not_answered(kind: int, host: Host) -> None:
    host.send_body(Icmp(kind, payload=bytes(12)))
    host.expect_nothing()


# Errors of our own.


@BOTH
def test_a_closed_udp_port_is_told(host: Host, family: int) -> None:
    """RFC 1122 section 4.1.3.1, RFC 4443 section 3.1."""
    host.send_body(packets.Udp(5000, 7, b"hello"))
    icmp, _ = host.expect_body(Icmp)
    assert (icmp.type, icmp.code) == PORT[family]
    quoted = packets.parse_ip(icmp.payload)
    assert (quoted.source, quoted.destination, quoted.protocol) == (PEER[family], LOCAL[family], 17)
    assert quoted.payload[:8] == packets.Udp(5000, 7, b"hello").build(PEER[family], LOCAL[family])[:8]


@BOTH
def test_an_unknown_protocol(host: Host, family: int) -> None:
    """RFC 1122 section 3.2.2.1, RFC 4443 section 3.4; or silence."""
    host.send_ip(packets.ip_packet(PEER[family], LOCAL[family], 253, bytes(20)))
    told = [sent.body for sent in host.sent]
    host.sent.clear()
    assert [(icmp.type, icmp.code) for icmp in told if isinstance(icmp, Icmp)] in ([], [(3, 2)], [(4, 1)])
    assert host.counter("ip_protocol") == 1


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.0.0.255", "224.0.0.1"])
def test_no_error_is_sent_about_what_went_to_everybody(destination: str, host: Host) -> None:
    """RFC 1122 section 3.2.2."""
    host.send_body(packets.Udp(5000, 7, b"hello"), destination=destination)
    host.expect_nothing()


def test_no_error_is_sent_about_an_error(host: Host) -> None:
    quoted = packets.ip_packet(LOCAL[4], PEER[4], 17, packets.Udp(9, 9).build(LOCAL[4], PEER[4])).build()
    host.send_body(Icmp(3, 3, payload=quoted))
    host.expect_nothing()


@pytest.mark.parametrize(("source", "destination"), [("0.0.0.0", LOCAL[4]), ("127.0.0.1", LOCAL[4]), ("::", LOCAL[6])])
def test_no_error_is_sent_to_nobody(source: str, destination: str, host: Host) -> None:
    host.send_body(packets.Udp(5000, 7), source, destination)
    host.expect_nothing()


OPTIONS = bytes([0, 1, 4, 0, 0, 0, 0])
"""An extension header of eight bytes with nothing but padding."""


def extended(*extensions: tuple[int, bytes], destination: str = LOCAL[6], protocol: int = 17) -> packets.Ipv6:
    """A datagram for a port that nobody has, behind extension headers."""
    payload = packets.Udp(5000, 7).build(PEER[6], destination)
    return packets.Ipv6(PEER[6], destination, protocol, payload, extensions=extensions)


def problem(host: Host, packet: packets.Ip) -> tuple[int, int] | None:
    """Code and pointer of the parameter problem that answers the packet, if one does."""
    host.send_ip(packet)
    if not host.sent:
        return None
    icmp, sent = host.expect_body(Icmp)
    assert sent.ip is not None
    assert (icmp.type, icmp.payload, sent.ip.destination) == (4, packet.build(), PEER[6])
    return icmp.code, icmp.number


@pytest.mark.parametrize("kind", [packets.DESTINATION_OPTIONS, packets.HOP_BY_HOP])
@pytest.mark.parametrize("destination", [LOCAL[6], "ff02::1"])
def test_an_unknown_option_that_asks_for_an_error(kind: int, destination: str, host: Host) -> None:
    """RFC 8200 section 4.2: the two high bits of an option say what to do; code 2, with the option's place."""
    told = [
        problem(host, extended((kind, bytes([0, option, 4, 0, 0, 0, 0])), destination=destination))
        for option in (0x5E, 0x9E, 0xDE)
    ]
    assert told == [None, (2, 42), (2, 42) if destination == LOCAL[6] else None]
    assert host.counter("ip_options") == 3


def test_an_unknown_option_that_may_be_skipped(host: Host) -> None:
    host.send_ip(extended((packets.DESTINATION_OPTIONS, bytes([0, 0x1E, 4, 0, 0, 0, 0]))))
    assert host.expect_body(Icmp)[0].type == 1


def test_an_unknown_header_is_told(host: Host) -> None:
    """RFC 8200 section 4: code 1, with the place of the field that names it. Hop-by-hop options come first."""
    options = (packets.DESTINATION_OPTIONS, OPTIONS)
    assert problem(host, extended(protocol=253)) == (1, 6)
    assert problem(host, extended(options, protocol=253)) == (1, 40)
    assert problem(host, extended(options, options, (packets.HOP_BY_HOP, OPTIONS))) == (1, 48)
    assert problem(host, extended(options, protocol=59)) is None


@pytest.mark.parametrize("kind", [0, 4, 77])
def test_a_route_that_is_not_ours_to_continue_is_told(kind: int, host: Host) -> None:
    """RFC 8200 section 4.4, RFC 5095: code 0, with the place of the type."""
    options = (packets.DESTINATION_OPTIONS, OPTIONS)
    assert problem(host, extended(options, (packets.ROUTING, bytes([0, kind, 1, 0, 0, 0, 0])))) == (0, 50)


def test_problems_that_nobody_is_told_of(host: Host) -> None:
    """RFC 4443 section 2.4 e: of an error, of what went to everybody or came from nobody; nor of what is not ours."""
    bad = (packets.DESTINATION_OPTIONS, bytes([0, 0x9E, 4, 0, 0, 0, 0]))
    route = (packets.ROUTING, bytes([0, 0, 1, 0, 0, 0, 0]))
    error = Icmp(1, 4, payload=extended().build()).build(PEER[6], LOCAL[6])
    for packet in (
        packets.Ipv6(PEER[6], LOCAL[6], 58, error, extensions=(bad,)),
        extended(route, destination="ff02::1"),
        extended(bad, destination="fd00::77"),
        packets.Ipv6("::", LOCAL[6], 17, bytes(8), extensions=(bad,)),
        packets.Ipv6("ff02::1", LOCAL[6], 17, bytes(8), extensions=(bad,)),
    ):
        assert problem(host, packet) is None


def test_the_quote_of_an_error_is_the_packet(host: Host) -> None:
    """RFC 1812 section 4.3.2.3: as much as fits into 576 bytes; at least 8 bytes of the payload."""
    host.send_body(packets.Udp(5000, 7, bytes(1000)))
    icmp, sent = host.expect_body(Icmp)
    assert sent.ip is not None
    assert 28 <= len(icmp.payload) <= 576 - 28
    assert struct.unpack_from("!H", icmp.payload, 2)[0] == 1028
