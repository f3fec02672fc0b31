"""Addresses that the stack shares with a kernel, which keeps ARP, neighbour discovery, pings and routes.

What comes is answered to the station that it came from, without a question; connections that are opened look into the
kernel's table, and have the kernel ask for what is not there."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.sharedhost import PORTS, SharedHost

from usnet_framework._native_kernel import Route
from usnet_framework.testing import Scenario, Stack, packets, states
from usnet_framework.testing.host import GATEWAY, LOCAL, PEER, PEER_MAC
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Udp
from usnet_framework.testing.segments import Tcp

BOTH = pytest.mark.parametrize("family", [4, 6])
SHARDS = pytest.mark.parametrize("shards", [1, 2], ids=["", "wrong shard"])
OTHER_MAC = bytes.fromhex("020000000077")
ROUTED = {4: "192.0.2.7", 6: "2001:db8::7"}
"""Peers behind the gateway."""


@pytest.fixture
def host(
    request: pytest.FixtureRequest, family: int, shards: int, stack_options: dict[str, int | bool | bytes]
) -> Iterator[SharedHost]:
    options: dict[str, Any] = {**stack_options}
    for mark in request.node.iter_markers("stack"):
        options |= mark.kwargs
    with SharedHost(family=family, shards=shards, neighbours=False, **options) as made:
        yield made


def destination(host: SharedHost) -> bytes:
    """Whom the next frame is for that the host has sent."""
    return host.sent[0].ethernet.destination


def send_from(conversation: Scenario, text: str, mac: bytes) -> None:
    """The peer's segment comes from this Ethernet address."""
    ip, host = conversation.packet(text), conversation.host
    host.send_frame(Ethernet(host.stack.link.mac, mac, ip.ETHER_TYPE, ip.build()).build(), text)


# What is left to the kernel.


def test_nothing_is_said_unasked(host: SharedHost) -> None:
    host.expect_nothing(60)
    assert host.questions() == []


def test_arp_is_left_to_the_kernel(host: SharedHost) -> None:
    host.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    host.send_arp(Arp(Arp.REQUEST, PEER_MAC, LOCAL[4], bytes(6), LOCAL[4]))  # another station claims it
    host.expect_nothing(10)
    assert host.counter("left_to_kernel") == 2


@BOTH
def test_pings_are_left_to_the_kernel(host: SharedHost, family: int) -> None:
    host.send_body(Icmp(8 if family == 4 else 128, payload=b"ping"))
    host.expect_nothing(1)
    assert host.counter("left_to_kernel") == 1


def test_neighbour_discovery_is_left_to_the_kernel(host: SharedHost) -> None:
    question = packets.neighbour_solicitation(LOCAL[6], PEER_MAC)
    for icmp in (question, packets.neighbour_advertisement(LOCAL[6], PEER_MAC)):  # another station claims it
        body = icmp.build(PEER[6], LOCAL[6])
        host.send_ip(packets.Ipv6(PEER[6], LOCAL[6], packets.PROTOCOL_ICMPV6, body, hop_limit=255))
    host.expect_nothing(10)
    assert host.counter("left_to_kernel") == 2


@BOTH
def test_a_protocol_of_nobody_is_left_to_the_kernel(host: SharedHost, family: int) -> None:
    host.send_ip(packets.ip_packet(PEER[family], LOCAL[family], 132, bytes(16)))
    host.expect_nothing()
    assert host.counter("left_to_kernel") == 1


def test_addresses_and_routes_are_those_of_the_kernel(host: SharedHost) -> None:
    with pytest.raises(OSError, match="not supported") as raised:
        host.stack.add_address("10.0.0.7/24")
    assert raised.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError, match="not supported") as raised:
        host.stack.add_route("0.0.0.0/0", GATEWAY[4])
    assert raised.value.errno == errno.EOPNOTSUPP


def test_only_such_a_stack_has_a_table(host: SharedHost) -> None:
    with Stack() as stack, pytest.raises(OSError, match="Invalid") as raised:
        stack.share(host.table)
    assert raised.value.errno == errno.EINVAL


# What comes is answered to where it came from.


@BOTH
@SHARDS
def test_a_connection_takes_no_question(host: SharedHost, family: int) -> None:
    """There is no way to the peer in the table either."""
    host.routes.clear()
    host.tell()
    conversation = states.listening(host, remote=(ROUTED[family], 4000))
    conversation.send(states.SYN)
    assert destination(host) == PEER_MAC
    conversation.expect("S. 0:0(0) ack 1")
    conversation.send("P. 1:101(100) ack 1")
    conversation.accept()
    conversation.write(10)
    assert destination(host) == PEER_MAC
    conversation.expect("P. 1:11(10) ack 101")
    conversation.send(". 101:101(0) ack 11")
    assert host.questions() == []


@BOTH
@SHARDS
@pytest.mark.parametrize("syn", [states.SYN, states.SYN_WITH_TIMESTAMPS, states.PLAIN_SYN])
def test_a_flow_is_followed_to_another_station(host: SharedHost, syn: str) -> None:
    conversation = states.established(host, syn)
    send_from(conversation, "P. 1:101(100) ack 1", OTHER_MAC)
    conversation.write(10)
    assert destination(host) == OTHER_MAC
    conversation.expect("P. 1:11(10) ack 101")
    send_from(conversation, ". 101:101(0) ack 11", PEER_MAC)
    conversation.write(10)
    assert destination(host) == PEER_MAC
    conversation.expect("P. 11:21(10) ack 101")


def test_what_is_repeated_is_acknowledged_to_where_it_came_from(host: SharedHost) -> None:
    """Our ACKs went to a router that is gone, so the peer sends again what we have, through another one."""
    conversation = states.established(host)
    conversation.send("P. 1:101(100) ack 1")
    conversation.expect(". 1:1(0) ack 101", within=0.5)
    send_from(conversation, "P. 1:101(100) ack 1", OTHER_MAC)
    assert destination(host) == OTHER_MAC
    conversation.take()


@pytest.mark.parametrize("syn", [states.SYN, states.SYN_WITH_TIMESTAMPS])
@pytest.mark.parametrize("first", [1_000_001, -100_000])
def test_numbers_of_nobody_move_no_flow(host: SharedHost, syn: str, first: int) -> None:
    """Outside of the window, and further before it than any repetition."""
    conversation = states.established(host, syn)
    ip = conversation.packet("P. 1:101(100) ack 1")
    guess = replace(Tcp.parse(ip.payload, ip.source, ip.destination), seq=(conversation.peer.iss + first) % 2**32)
    forged = packets.ip_packet(ip.source, ip.destination, Tcp.PROTOCOL, guess.build(ip.source, ip.destination))
    host.send_frame(Ethernet(host.stack.link.mac, OTHER_MAC, forged.ETHER_TYPE, forged.build()).build())
    assert destination(host) == PEER_MAC  # it is told what we wait for
    conversation.take()


def test_a_flow_whose_station_keeps_silent_goes_the_kernels_way(host: SharedHost) -> None:
    host.known[PEER[4]] = PEER_MAC
    host.tell()
    conversation = states.established(host)
    send_from(conversation, "P. 1:101(100) ack 1", OTHER_MAC)
    conversation.write(10)
    ways = []
    for _ in range(6):
        host.run_until(host.now_ns + 30 * 10**9, lambda: bool(host.sent))
        ways.append(destination(host))
        conversation.take()
    assert ways[:4] == [OTHER_MAC] * 4
    assert ways[-1] == PEER_MAC
    send_from(conversation, ". 101:101(0) ack 11", OTHER_MAC)
    conversation.write(10)
    assert destination(host) == OTHER_MAC
    conversation.take()


def test_a_group_is_no_station(host: SharedHost) -> None:
    conversation = states.established(host)
    send_from(conversation, "P. 1:101(100) ack 1", packets.BROADCAST_MAC)
    conversation.expect(". 1:1(0) ack 101", within=0.5)
    conversation.write(10)
    assert destination(host) == PEER_MAC
    conversation.take()


@pytest.mark.stack(conn_max=128)
def test_all_flows_of_a_router_share_a_neighbour(host: SharedHost) -> None:
    """There are more of them than neighbours, and for none is there a way in the table."""
    host.routes.clear()
    host.tell()
    flows = [states.established(host, remote=(f"192.0.2.{number}", 4000)) for number in range(1, 65)]
    for flow in flows:
        flow.write(10)
        assert destination(host) == PEER_MAC
        flow.expect("P. 1:11(10) ack 1")
        flow.send(". 1:1(0) ack 11")


@BOTH
def test_nobody_is_asked_for_however_long_it_takes(host: SharedHost, family: int) -> None:
    """The station is used as long as it has to be: the peer does not answer, and then it does."""
    conversation = states.established(host)
    conversation.write(10)
    conversation.expect("P. 1:11(10) ack 1")
    for _ in range(8):
        host.run_until(host.now_ns + 30 * 10**9, lambda: bool(host.sent))
        assert destination(host) == PEER_MAC
        conversation.take()
    conversation.send(". 1:1(0) ack 11")
    assert host.questions() == []


@BOTH
@SHARDS
def test_a_segment_for_nobody_is_refused_where_it_came_from(host: SharedHost, family: int) -> None:
    stranger = Scenario(host, local_port=81, remote=(ROUTED[family], 4000))
    stranger.send(states.SYN)
    assert destination(host) == PEER_MAC
    stranger.expect("R. 0:0(0) ack 1")


@BOTH
def test_cookies_go_where_the_attempt_came_from(host: SharedHost, family: int) -> None:
    host.listen(80, backlog=1)
    for port in range(1000, 1003):
        attempt = Scenario(host, remote=(ROUTED[family], port))
        send_from(attempt, states.SYN, OTHER_MAC)
        assert destination(host) == OTHER_MAC
        attempt.expect("S. 0:0(0) ack 1")
    assert host.counter("syn_cookies_sent") == 2
    send_from(attempt, "P. 1:11(10) ack 1", OTHER_MAC)
    attempt.accept()
    attempt.write(10)
    assert destination(host) == OTHER_MAC
    attempt.expect("P. 1:11(10) ack 11")


@BOTH
def test_a_closed_port_of_udp_is_told_where_it_came_from(host: SharedHost, family: int) -> None:
    host.routes.clear()
    host.tell()
    host.send_body(Udp(4000, 81, b"?"), ROUTED[family])
    assert destination(host) == PEER_MAC
    host.expect_body(Icmp)


def test_errors_about_our_packets_are_heard(host: SharedHost) -> None:
    conversation = states.established(host)
    conversation.write(1460)
    conversation.expect("P. 1:1461(1460) ack 1")
    conversation.send_icmp(3, 4, about=1, mtu=1000, source=GATEWAY[4])
    assert conversation.info.path_mtu == 1000
    conversation.take()


@pytest.mark.stack(conn_max=128)
def test_a_station_that_was_pushed_out_is_looked_for_in_the_table(host: SharedHost) -> None:
    first = states.established(host)
    for number in range(64):
        other = states.listening(host, remote=(PEER[4], 5000 + number))
        send_from(other, states.SYN, bytes([2, 0, 0, 0, 1, number]))
        other.take()
    first.write(10)
    host.expect_nothing()
    assert host.questions() == [PEER[4]]
    host.known[PEER[4]] = OTHER_MAC
    host.tell()
    assert destination(host) == OTHER_MAC
    first.expect("P. 1:11(10) ack 1")


@pytest.mark.stack(conn_max=128)
def test_who_waits_for_the_kernel_goes_where_its_next_segment_came_from(host: SharedHost) -> None:
    """The peer speaks before the kernel has found out where it is."""
    first = states.established(host)
    for number in range(64):
        other = states.listening(host, remote=(PEER[4], 5000 + number))
        send_from(other, states.SYN, bytes([2, 0, 0, 0, 1, number]))
        other.take()
    first.write(10)
    host.expect_nothing()
    send_from(first, ". 1:1(0) ack 1", OTHER_MAC)
    assert destination(host) == OTHER_MAC
    first.expect("P. 1:11(10) ack 1")


# Connections that are opened.


@BOTH
@SHARDS
def test_a_connection_waits_for_the_kernels_answer(host: SharedHost, family: int) -> None:
    client = Scenario(host, local_port=50000)
    client.connect()
    host.expect_nothing()
    assert host.questions() == [PEER[family]]
    assert host.questions() == []
    host.known[PEER[family]] = OTHER_MAC
    host.tell()
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")


@BOTH
def test_what_stands_in_the_table_is_not_asked_for(host: SharedHost, family: int) -> None:
    host.known[PEER[family]] = OTHER_MAC
    host.tell()
    client = Scenario(host, local_port=50000)
    client.connect()
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")
    client.send(states.SYN_ACK)
    assert destination(host) == PEER_MAC  # the answer came from there
    client.expect(". 1:1(0) ack 1")
    assert host.questions() == []


@BOTH
def test_the_kernels_routes_are_taken(host: SharedHost, family: int) -> None:
    host.known[GATEWAY[family]] = OTHER_MAC
    host.tell()
    client = Scenario(host, local_port=50000, remote=(ROUTED[family], 80))
    client.connect()
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")


@BOTH
def test_a_question_is_asked_three_times(host: SharedHost, family: int) -> None:
    client = Scenario(host, local_port=50000)
    client.connect()
    for _ in range(3):
        assert host.questions() == [PEER[family]]
        host.advance(1.01)
    assert host.questions() == []
    assert client.closed_by() == "unreachable"
    assert host.counter("neighbours_failed") == 1


@BOTH
def test_an_answer_may_come_late(host: SharedHost, family: int) -> None:
    client = Scenario(host, local_port=50000)
    client.connect()
    host.advance(3.1)
    assert client.closed_by() == "unreachable"
    host.known[PEER[family]] = OTHER_MAC
    host.tell()
    again = Scenario(host, local_port=50001)
    again.connect()
    assert destination(host) == OTHER_MAC
    again.expect("S 0:0(0)")


def test_another_route_lets_go_on_who_waits_for_a_router(host: SharedHost) -> None:
    client = Scenario(host, local_port=50000, remote=(ROUTED[4], 80))
    client.connect()
    assert host.questions() == [GATEWAY[4]]
    host.routes[2] = replace(host.routes[2], gateway=ipaddress.ip_address("10.0.0.253"))
    host.known["10.0.0.253"] = OTHER_MAC
    host.tell()
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")


@BOTH
def test_a_neighbour_moves(host: SharedHost, family: int) -> None:
    host.known[PEER[family]] = PEER_MAC
    host.tell()
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect("S 0:0(0)")
    host.known[PEER[family]] = OTHER_MAC
    host.tell()
    host.run_until(host.now_ns + 10**9 * 2, lambda: bool(host.sent))
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")


def test_the_kernel_probes_a_neighbour_that_keeps_silent(host: SharedHost) -> None:
    """What is forgotten in the table meanwhile is asked for."""
    host.known[PEER[4]] = PEER_MAC
    host.tell()
    client = Scenario(host, local_port=50000)
    client.connect()
    client.take(8)
    assert host.questions() == [PEER[4]]
    del host.known[PEER[4]]
    host.tell()
    assert host.questions() == []
    client.take(16)
    assert host.questions() == [PEER[4]]
    host.sent.clear()


def test_elsewhere_is_no_way(host: SharedHost) -> None:
    host.routes.insert(0, Route(ipaddress.ip_network("192.0.2.0/24"), elsewhere=True))
    host.tell()
    with pytest.raises(OSError, match="No route") as raised:
        Scenario(host, local_port=50000, remote=(ROUTED[4], 80)).connect()
    assert raised.value.errno == errno.EHOSTUNREACH


@SHARDS
def test_ports_are_those_that_were_set_aside(host: SharedHost) -> None:
    host.known[PEER[4]] = PEER_MAC
    host.tell()
    for stack in host.stacks:
        stack.connect((PEER[4], 80))
    host.turn()
    ports = [sent.body.source_port for sent in host.sent if isinstance(sent.body, Tcp)]
    assert len(ports) == len(host.stacks)
    assert all(PORTS[0] <= port <= PORTS[1] for port in ports)
    host.sent.clear()
    with pytest.raises(PermissionError) as raised:
        host.stack.connect((PEER[4], 80), ("", 49999))
    assert raised.value.errno == errno.EACCES


@pytest.mark.stack(port_low=0, port_high=0)
def test_without_ports_nothing_is_opened(host: SharedHost) -> None:
    for local in (None, ("", 50000)):
        with pytest.raises(OSError, match="not supported") as raised:
            host.stack.connect((PEER[4], 80), local)
        assert raised.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError, match="not supported") as raised:
        host.stack.udp_open(("", 0))
    assert raised.value.errno == errno.EOPNOTSUPP


# Addresses come and go.


@BOTH
@SHARDS
def test_an_address_goes_and_comes_back(host: SharedHost, family: int) -> None:
    """As with the kernel's, its connections go on if they have not timed out."""
    conversation = states.established(host)
    both = host.addresses
    host.addresses = [address for address in both if not address.startswith(LOCAL[family])]
    host.tell()
    conversation.send("P. 1:101(100) ack 1")
    Scenario(host).send(states.SYN)
    host.expect_nothing(0.5)
    assert conversation.state == "established"
    host.addresses = both
    host.tell()
    conversation.send("P. 1:101(100) ack 1")
    conversation.expect(". 1:1(0) ack 101", within=0.5)


def test_an_address_is_added(host: SharedHost) -> None:
    host.listen(80)
    host.addresses.append("10.0.0.7/24")
    host.tell()
    host.send_body(Tcp(4000, 80, flags="S", window=1000), PEER[4], "10.0.0.7")
    answer, _ = host.expect_body(Tcp)
    assert answer.flags == "S."


def test_the_last_address_of_a_network_that_went_may_be_a_hosts(host: SharedHost) -> None:
    """10.0.0.255, once 10.0.0.0/24 has become 10.0.0.0/16."""
    host.listen(80)
    host.addresses = ["10.0.1.1/16"]
    host.tell()
    host.send_body(Tcp(4000, 80, flags="S", window=1000), "10.0.0.255", "10.0.1.1")
    answer, _ = host.expect_body(Tcp)
    assert answer.flags == "S."


def test_places_of_addresses_are_used_again(host: SharedHost) -> None:
    """Thirty come and go; a connection of the first keeps its own."""
    conversation = states.established(host)
    for number in range(20, 50):
        host.addresses = [f"10.0.0.{number}/24"]
        host.tell()
        host.stack.udp_close(host.stack.udp_open((f"10.0.0.{number}", 53)))  # it is one of ours
    host.addresses = [f"{LOCAL[4]}/24"]
    host.tell()
    conversation.send("P. 1:101(100) ack 1")
    conversation.expect(". 1:1(0) ack 101", within=0.5)


# It goes on elsewhere.


def move(host: SharedHost) -> None:
    image, link = host.stack.image(), host.stack.link
    host.stack.close()
    host.stacks[0] = Stack.adopt(image, link)
    host.stack.share(host.table)
    host.turn()


def test_an_adopted_stack_goes_on(host: SharedHost) -> None:
    conversation = states.established(host)
    client = Scenario(host, local_port=50000)
    client.connect()
    host.questions()
    move(host)
    conversation.write(10)
    assert destination(host) == PEER_MAC
    conversation.expect("P. 1:11(10) ack 1")
    conversation.send(". 1:1(0) ack 11")
    host.advance(0.5)
    host.known[PEER[4]] = OTHER_MAC
    host.tell()
    assert destination(host) == OTHER_MAC
    client.expect("S 0:0(0)")


def test_a_question_that_was_not_told_is_told_by_the_next(host: SharedHost) -> None:
    Scenario(host, local_port=50000).connect()
    move(host)
    assert host.questions() == [PEER[4]]
