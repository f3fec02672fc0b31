"""Several stacks as the shards of one server: a flow belongs to one, and what comes to another one finds it (P6).

Most of what happens to a connection whose frames come to the wrong shard is proven elsewhere: the scenarios of TCP run
a second time that way (conftest.py)."""

from __future__ import annotations

import random

import pytest

from usnet_framework._native_stack import owner
from usnet_framework.testing import Host, Scenario, Stack, packets, states
from usnet_framework.testing.host import LOCAL, PEER, PEER_MAC
from usnet_framework.testing.packets import Arp, Icmp, Udp

BOTH = pytest.mark.parametrize("family", [4, 6])
SHARDS = 4


@pytest.fixture
def shards() -> int:
    return SHARDS


def toeplitz(data: bytes) -> int:
    """As Microsoft's RSS specification defines it, bit by bit, with the key 6d5a 6d5a …"""
    key = int.from_bytes(b"\x6d\x5a" * 20, "big")
    value = 0
    for bit in range(len(data) * 8):
        if data[bit // 8] >> (7 - bit % 8) & 1:
            value ^= key >> (320 - 32 - bit) & 0xFFFFFFFF
    return value


@BOTH
def test_the_owner_is_a_function_of_the_flow(family: int) -> None:
    """The same in software as in a NIC: hash, table of 128 entries filled in turn."""
    chance = random.Random(family)
    for _ in range(200):
        size = 4 if family == 4 else 16
        remote, local = packets.text(chance.randbytes(size)), packets.text(chance.randbytes(size))
        ports = chance.randrange(65536), chance.randrange(65536)
        flow = packets.packed(remote) + packets.packed(local) + b"".join(port.to_bytes(2, "big") for port in ports)
        for count in (1, 2, 3, 8):
            assert owner((remote, ports[0]), (local, ports[1]), count) == toeplitz(flow) % 128 % count


def test_both_directions_have_the_same_owner() -> None:
    chance = random.Random(1)
    for _ in range(100):
        ends = [(packets.text(chance.randbytes(4)), chance.randrange(65536)) for _ in range(2)]
        assert owner(ends[0], ends[1], 8) == owner(ends[1], ends[0], 8)


def test_flows_are_spread() -> None:
    owners = [owner((PEER[4], port), (LOCAL[4], 80), SHARDS) for port in range(1024, 2048)]
    assert all(200 < owners.count(shard) < 312 for shard in range(SHARDS))


def test_each_shard_has_its_own_connections(host: Host) -> None:
    scenarios = [states.established(host) for _ in range(12)]
    assert len({scenario.shard for scenario in scenarios}) > 1
    for number, scenario in enumerate(scenarios):
        scenario.send(f"P. 1:{101 + number}({100 + number}) ack 1")
        scenario.take(0.5)
        assert len(scenario.read()) == 100 + number
    assert host.counter("taken_over") >= host.counter("handed_over") > 30


def test_connections_that_a_shard_opens_are_its_own(host: Host) -> None:
    """It chooses a port so that the answers belong to it."""
    for shard, stack in enumerate(host.stacks):
        for _ in range(5):
            info = stack.info(stack.connect((PEER[4], 80)))
            assert owner(info.remote, info.local, SHARDS) == shard
    host.turn()
    host.sent.clear()


@BOTH
def test_a_ping_is_answered_once(host: Host, family: int) -> None:
    host.send_body(Icmp(8 if family == 4 else 128, payload=b"x"))
    assert host.expect_body(Icmp)[0].type in (0, 129)
    host.expect_nothing()


@pytest.mark.link(neighbours=False)
def test_a_question_is_answered_once(host: Host) -> None:
    host.sent.clear()
    host.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    assert host.expect_body(Arp)[0].operation == Arp.REPLY
    host.expect_nothing()


def test_what_one_shard_learns_all_know(host: Host) -> None:
    """An answer comes to one queue; whoever asked hears it."""
    for _ in range(8):
        states.established(host)


def test_a_segment_of_no_connection_is_reset_once(host: Host) -> None:
    for port in range(20):
        stranger = Scenario(host, local_port=81, remote=(PEER[4], 6000 + port))
        stranger.send(". 1:1(0) ack 77")
        stranger.expect("R 77:77(0)")


def test_a_syn_to_a_closed_port_is_reset_once(host: Host) -> None:
    for port in range(20):
        stranger = Scenario(host, local_port=81, remote=(PEER[4], 6000 + port))
        stranger.send(states.SYN)
        stranger.expect("R. 0:0(0) ack 1")


@BOTH
def test_a_cookie_is_known_where_the_flow_belongs(host: Host, family: int) -> None:
    host.listen(80, backlog=1)
    for port in range(40):
        attempt = Scenario(host, remote=(PEER[family], 2000 + port))
        attempt.send(states.SYN)
        attempt.expect("S. 0:0(0) ack 1")
    late = Scenario(host)
    late.send(states.SYN_WITH_TIMESTAMPS)
    late.expect("S. 0:0(0) ack 1")
    late.send(". 1:1(0) ack 1")
    late.accept()
    assert late.info.agreed == {"timestamps", "sack", "window_scaling"}
    assert host.counter("syn_cookies_received") == 1


def test_a_later_syn_finds_time_wait_at_its_owner(host: Host) -> None:
    """RFC 6191; a NIC that was told other things, or a virtual link, may bring the SYN anywhere."""
    for _ in range(6):
        old = states.time_wait(host)
        host.advance(1)
        new = Scenario(host, remote=old.remote, peer_iss=(old.peer.iss + 1000) % 2**32)
        new.send(states.SYN)
        new.expect("S. 0:0(0) ack 1")
        new.send(". 1:1(0) ack 1")
        new.accept()


@BOTH
def test_fragments_are_put_together_before_they_are_handed_over(host: Host, family: int) -> None:
    scenario = states.established(host)
    packet = scenario.packet("P. 1:1401(1400) ack 1")
    for fragment in packet.fragments(256):
        host.send_ip(fragment)
    scenario.expect(". 1:1(0) ack 1401", within=0.5)
    assert len(scenario.read()) == 1400


def test_an_error_finds_the_connection_it_is_about(host: Host) -> None:
    for _ in range(6):
        scenario = states.established(host, states.PLAIN_SYN)
        scenario.write(4000)
        scenario.expect_data(1, 4001)
        scenario.send_icmp(3, 4, about=1, mtu=1400, source="10.0.0.254")
        scenario.take()
        assert scenario.info.path_mtu == 1400


def test_a_datagram_to_an_endpoint_of_one_shard(host: Host) -> None:
    """Which shard receives it depends on its flow: an application has an endpoint on each."""
    endpoints = [stack.udp_open(("", 7)) for stack in host.stacks]
    for port in range(40):
        host.send_body(Udp(6000 + port, 7, b"x"))
    received = 0
    for stack, endpoint in zip(host.stacks, endpoints, strict=True):
        while True:
            try:
                stack.udp_receive(endpoint)
            except BlockingIOError:
                break
            received += 1
    assert received == 40
    assert not host.sent


def test_joining_twice_is_refused(host: Host) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Stack.join(host.stacks)
