"""What somebody on the same link, or far away, may send to harm us: it costs a counter, and those who are served notice
nothing. Floods, and what they leave to others, are in native/tests/stack/attack_test.c."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import LOCAL, PEER, PEER_MAC
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Ipv4, Ipv6, Udp
from usnet_framework.testing.segments import Tcp

BOTH = pytest.mark.parametrize("family", [4, 6])
EVIL_MAC = bytes.fromhex("020000000666")
NO_SOURCE = ["0.0.0.0", "255.255.255.255", "10.0.0.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1", "ff0e::1"]


def send_discovery(host: Host, icmp: Icmp, source: str, destination: str, mac: bytes = EVIL_MAC) -> None:
    """Neighbour discovery from another station than the peer."""
    body = icmp.build(source, destination)
    ip = Ipv6(source, destination, packets.PROTOCOL_ICMPV6, body, hop_limit=255)
    to = packets.multicast_mac(destination) if destination.startswith("ff") else host.stack.link.mac
    host.send_frame(Ethernet(to, mac, packets.ETHER_IPV6, ip.build()).build())


def send_arp(host: Host, arp: Arp) -> None:
    host.send_frame(Ethernet(packets.BROADCAST_MAC, EVIL_MAC, packets.ETHER_ARP, arp.build()).build())


def way_to_peer(host: Host, port: int = 50000) -> bytes:
    """The MAC address that we send to the peer at."""
    client = Scenario(host, local_port=port)
    client.connect()
    return client.expect("S 0:0(0)").output.data[:6]


# Packets that say that they come from where nothing can come from.


@BOTH
@pytest.mark.parametrize("port", [80, 40000])
def test_a_connection_request_from_ourselves(port: int, family: int, host: Host) -> None:
    """The land attack: a stack that answers it answers itself."""
    host.listen(80)
    host.send_body(Tcp(port, 80, 1, flags="S"), LOCAL[family], LOCAL[family])
    host.expect_nothing(3)
    assert host.counter("ip_source") == 1
    assert host.counter("passive_opens") == 0


@BOTH
def test_our_own_source_in_datagrams_and_pings(family: int, host: Host) -> None:
    endpoint = host.stack.udp_open(("", 7))
    host.send_body(Udp(7, 7, b"for ever"), LOCAL[family], LOCAL[family])
    host.send_body(Icmp(8 if family == 4 else 128), LOCAL[family], LOCAL[family])
    host.expect_nothing(1)
    assert host.counter("ip_source") == 2
    assert not host.take_events(endpoint, is_udp=True)


@pytest.mark.parametrize("source", NO_SOURCE)
def test_sources_that_are_nobody(source: str, host: Host) -> None:
    """RFC 1122 section 3.2.1.3, RFC 4291 section 2.7: nothing is answered, and nothing is kept."""
    family = 6 if ":" in source else 4
    host.listen(80)
    host.stack.udp_open(("", 7))
    host.send_body(Tcp(5000, 80, 1, flags="S"), source, LOCAL[family])
    host.send_body(Tcp(5000, 81, 1, flags="S"), source, LOCAL[family])
    host.send_body(Udp(5000, 7, b"x"), source, LOCAL[family])
    host.send_body(Udp(5000, 8, b"x"), source, LOCAL[family])
    host.send_body(Icmp(8 if family == 4 else 128), source, LOCAL[family])
    host.expect_nothing(3)
    assert host.counter("ip_source") == 5
    assert host.counter("udp_in") == 0


@pytest.mark.parametrize(
    ("source", "destination"),
    [("::ffff:10.0.0.2", LOCAL[6]), (PEER[6], "::ffff:10.0.0.1"), ("::ffff:10.0.0.2", "::ffff:10.0.0.1"),
     ("::ffff:127.0.0.1", LOCAL[6])],
)  # fmt: skip
def test_ipv4_in_an_ipv6_header(source: str, destination: str, host: Host) -> None:
    """Inside, IPv4 addresses are written so: on the wire they would be a way around every filter."""
    host.listen(80)
    host.send_body(Tcp(5000, 80, 1, flags="S"), source, destination)
    host.send_body(Udp(5000, 7, b"x"), source, destination)
    host.expect_nothing(3)
    assert host.counter("passive_opens") == 0


@BOTH
def test_a_segment_for_us_in_a_frame_to_all(family: int, host: Host) -> None:
    """RFC 1122 section 3.3.6: else one frame makes all stations answer to whom it names."""
    host.listen(80)
    body = Tcp(5000, 80, 1, flags="S").build(PEER[family], LOCAL[family])
    ip = packets.ip_packet(PEER[family], LOCAL[family], Tcp.PROTOCOL, body)
    host.send_frame(Ethernet(packets.BROADCAST_MAC, EVIL_MAC, ip.ETHER_TYPE, ip.build()).build())
    host.expect_nothing(3)


# Who is where.


@BOTH
def test_an_answer_that_nobody_asked_for_makes_no_entry(family: int, host: Host) -> None:
    """RFC 4861 section 7.2.5, and ARP the same way."""
    if family == 4:
        send_arp(host, Arp(Arp.REPLY, EVIL_MAC, PEER[4], host.stack.link.mac, LOCAL[4]))
    else:
        send_discovery(host, packets.neighbour_advertisement(PEER[6], EVIL_MAC), PEER[6], LOCAL[6])
    assert way_to_peer(host) == PEER_MAC


def test_an_advertisement_that_does_not_override(host: Host) -> None:
    """RFC 4861 section 7.2.5: another address without the flag is a doubt, no more."""
    host.family = 6
    way_to_peer(host)
    send_discovery(host, packets.neighbour_advertisement(PEER[6], EVIL_MAC, packets.IS_SOLICITED), PEER[6], LOCAL[6])
    assert way_to_peer(host, 50001) == PEER_MAC


def test_an_answer_to_all_is_none(host: Host) -> None:
    """RFC 4861 section 7.1.2."""
    host.family = 6
    way_to_peer(host)
    send_discovery(host, packets.neighbour_advertisement(PEER[6], EVIL_MAC), PEER[6], "ff02::1")
    assert host.counter("nd_malformed") == 1
    assert way_to_peer(host, 50001) == PEER_MAC


@pytest.mark.parametrize("destination", [LOCAL[6], packets.solicited_node(LOCAL[6])])
def test_a_probe_that_is_none(destination: str, host: Host) -> None:
    """RFC 4861 section 7.1.1: in nobody's name, but with an address; or to us alone."""
    has_mac = destination.startswith("ff")
    icmp = packets.neighbour_solicitation(LOCAL[6], EVIL_MAC)
    payload = icmp.payload if has_mac else icmp.payload[:16]
    send_discovery(host, Icmp(icmp.type, payload=payload), "::", destination)
    host.expect_nothing(3)
    assert (host.counter("nd_malformed"), host.counter("address_conflicts")) == (1, 0)


@pytest.mark.parametrize("sender", ["255.255.255.255", "10.0.0.255", "127.0.0.1"])
def test_questions_of_nobody(sender: str, host: Host) -> None:
    send_arp(host, Arp(Arp.REQUEST, EVIL_MAC, sender, bytes(6), LOCAL[4]))
    host.expect_nothing(1)
    assert host.counter("ip_source") == 1


def test_a_question_from_our_own_address_is_a_claim(host: Host) -> None:
    """Whoever has our address asks for others: RFC 5227 section 2.4."""
    host.run_until(host.now_ns + 30 * 10**9, lambda: False)
    send_arp(host, Arp(Arp.REQUEST, EVIL_MAC, LOCAL[4], bytes(6), PEER[4]))
    assert host.counter("address_conflicts") == 1
    assert way_to_peer(host) == PEER_MAC


@pytest.mark.parametrize("family", [6])
def test_a_neighbour_that_is_no_router_any_more(family: int, host: Host) -> None:
    """RFC 4861 section 7.2.5 takes its routes away: only the advertised ones, not the user's."""
    host.stack.add_route("::/0", "fe80::1")
    client = Scenario(host, local_port=50000, remote=("2001:db8::7", 80))
    client.connect()
    client.expect("S 0:0(0)")
    send_discovery(host, packets.neighbour_advertisement("fe80::1", PEER_MAC), "fe80::1", LOCAL[6])
    again = Scenario(host, local_port=50001, remote=("2001:db8::7", 80))
    again.connect()
    again.expect("S 0:0(0)")


# Ways.


@pytest.mark.parametrize("code", range(4))
def test_a_redirect_changes_no_way(code: int, host: Host) -> None:
    """RFC 1122 section 3.2.2.2 would follow it; a server that knows its gateway has little to gain and much to lose."""
    host.stack.add_route("0.0.0.0/0", "10.0.0.254")
    scenario = states.established(host, remote=("192.0.2.1", 5000))
    quoted = Ipv4(LOCAL[4], "192.0.2.1", 6, Tcp(80, 5000, 1).build(LOCAL[4], "192.0.2.1")).build()[:28]
    host.send_body(Icmp(5, code, rest=packets.packed("10.0.0.66"), payload=quoted), "10.0.0.254")
    scenario.write(10)
    assert scenario.expect("P. 1:11(10) ack 1").output.data[:6] == PEER_MAC
    assert host.counter("icmp_in") == 1


def test_a_redirect_of_ipv6_changes_no_way(host: Host) -> None:
    """RFC 4861 section 8: the same."""
    host.family = 6
    way_to_peer(host)
    payload = packets.packed("fe80::666") + packets.packed(PEER[6]) + b"\x02\x01" + EVIL_MAC
    send_discovery(host, Icmp(137, payload=payload), "fe80::1", LOCAL[6])
    assert way_to_peer(host, 50001) == PEER_MAC


# More than one can take.


@BOTH
def test_a_storm_of_errors_about_a_connection(family: int, host: Host) -> None:
    """RFC 5927: even from who sees it all."""
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 1")
    kinds = (
        [(3, 0), (3, 1), (3, 2), (3, 3), (11, 0), (12, 0)] if family == 4 else [(1, 0), (1, 3), (1, 4), (3, 0), (4, 1)]
    )
    for _ in range(200):
        for kind in kinds:
            scenario.send_icmp(*kind, about=1)
    scenario.send(". 1:1(0) ack 101")
    scenario.expect_nothing(0.5)
    assert scenario.state == "established"


@BOTH
def test_a_storm_of_claims(family: int, host: Host) -> None:
    """Whoever claims our address all the time gets no answer for each, and a connection goes on."""
    host.run_until(host.now_ns + 30 * 10**9, lambda: False)
    scenario = states.established(host)
    for _ in range(500):
        if family == 4:
            send_arp(host, Arp(Arp.REQUEST, EVIL_MAC, LOCAL[4], bytes(6), LOCAL[4]))
        else:
            claim = packets.neighbour_advertisement(LOCAL[6], EVIL_MAC, packets.OVERRIDES)
            send_discovery(host, claim, LOCAL[6], "ff02::1")
    sent = host.stack.counters("ip")
    assert host.counter("address_conflicts") == 500
    assert sent["arp_out"] + sent["icmp_out"] < 40
    scenario.send("P. 1:11(10) ack 1")
    scenario.expect(". 1:1(0) ack 11", within=0.2)


def test_questions_for_everybody_else_cost_nothing(host: Host) -> None:
    """A scan of the link: nobody is learnt who did not ask us."""
    for number in range(3, 250):
        send_arp(host, Arp(Arp.REQUEST, EVIL_MAC, "10.0.0.66", bytes(6), f"10.0.0.{number}"))
    host.expect_nothing(1)
    client = Scenario(host, local_port=50000, remote=("10.0.0.66", 80))
    client.connect()
    assert client.expect("S 0:0(0)").output.data[:6] == PEER_MAC
