"""Is an address ours? Asked for when it is added (RFC 5227, RFC 4862), used meanwhile (RFC 4429), defended."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, Stack, packets, states
from usnet_framework.testing.host import LOCAL, PEER, PEER_MAC, Sent
from usnet_framework.testing.packets import Arp, Icmp, Ipv6

pytestmark = pytest.mark.link(neighbours=False)

BOTH = pytest.mark.parametrize("family", [4, 6])
NOBODY = "0.0.0.0"
OTHER_MAC = bytes.fromhex("020000000077")


def pass_time(host: Host, seconds: float) -> list[Sent]:
    """What was sent meanwhile."""
    host.run_until(host.now_ns + round(seconds * 10**9), lambda: False)
    sent = list(host.sent)
    host.sent.clear()
    return sent


@pytest.fixture
def quiet(host: Host) -> Host:
    """Its addresses are its own, and announced."""
    pass_time(host, 30)
    return host


def probes(sent: list[Sent], family: int, address: str | None = None) -> list[float]:
    """When it was asked, in nobody's name, who has the address."""
    address = address or LOCAL[family]
    if family == 4:
        return [one.time_s for one in sent if isinstance(one.body, Arp) and one.body.operation == Arp.REQUEST
                and (one.body.sender, one.body.target) == (NOBODY, address)]  # fmt: skip
    return [one.time_s for one in sent if isinstance(one.body, Icmp) and one.body.type == packets.NEIGHBOUR_SOLICITATION
            and one.ip and one.ip.source == "::" and one.body.payload == packets.packed(address)]  # fmt: skip


def announcements(sent: list[Sent], family: int) -> list[float]:
    """When it was said to all that the address is at our MAC address."""
    own = LOCAL[family]
    if family == 4:
        return [one.time_s for one in sent if isinstance(one.body, Arp) and one.body.sender == one.body.target == own]
    return [one.time_s for one in sent if isinstance(one.body, Icmp) and one.ip and one.ip.destination == "ff02::1"
            and one.body.type == packets.NEIGHBOUR_ADVERTISEMENT and one.body.payload[:16] == packets.packed(own)
            and one.body.rest[0] & packets.OVERRIDES]  # fmt: skip


def send_discovery(host: Host, icmp: Icmp, source: str, destination: str) -> None:
    body = icmp.build(source, destination)
    host.send_ip(Ipv6(source, destination, packets.PROTOCOL_ICMPV6, body, hop_limit=255))


def claim(host: Host, family: int) -> None:
    """Another station has our address, and says so."""
    if family == 4:
        host.send_arp(Arp(Arp.REPLY, PEER_MAC, LOCAL[4], bytes(6), NOBODY))
    else:
        answer = packets.neighbour_advertisement(LOCAL[6], PEER_MAC, packets.OVERRIDES)
        send_discovery(host, answer, LOCAL[6], "ff02::1")


def want(host: Host, family: int) -> None:
    """Another station asks whether it may have our address."""
    if family == 4:
        host.send_arp(Arp(Arp.REQUEST, PEER_MAC, NOBODY, bytes(6), LOCAL[4]))
    else:
        question = Icmp(packets.NEIGHBOUR_SOLICITATION, payload=packets.packed(LOCAL[6]))
        send_discovery(host, question, "::", packets.solicited_node(LOCAL[6]))


def ask(host: Host, family: int) -> list[Sent]:
    """The peer looks for our address; what it hears."""
    if family == 4:
        host.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    else:
        question = packets.neighbour_solicitation(LOCAL[6], PEER_MAC)
        send_discovery(host, question, PEER[6], packets.solicited_node(LOCAL[6]))
    sent = list(host.sent)
    host.sent.clear()
    return sent


def introduce(host: Host, family: int) -> None:
    """We know where the peer is."""
    ask(host, family)
    if family == 4:
        host.send_arp(Arp(Arp.REPLY, PEER_MAC, PEER[4], host.stack.link.mac, LOCAL[4]))
    else:
        send_discovery(host, packets.neighbour_advertisement(PEER[6], PEER_MAC), PEER[6], LOCAL[6])


# Asking.


@pytest.mark.parametrize(("family", "often"), [(4, 3), (6, 1)])
def test_the_link_is_asked_in_nobodys_name(family: int, often: int, host: Host) -> None:
    """RFC 5227 section 2.1.1, RFC 4862 section 5.4.2: so that nobody's cache is changed."""
    assert len(probes(pass_time(host, 30), family)) == often


@BOTH
def test_an_address_is_announced_a_second_later(family: int, host: Host) -> None:
    """Not before the answer would have come, and not much after: what knew an earlier owner has to be told."""
    sent = pass_time(host, 30)
    assert [round(time, 1) for time in announcements(sent, family)] == [1.0, 3.0]
    assert max(probes(sent, family)) < 0.7


@BOTH
def test_it_is_used_meanwhile(family: int, host: Host) -> None:
    """RFC 4429: a server that starts does not keep its clients waiting."""
    host.sent.clear()
    introduce(host, family)
    host.listen(80)
    scenario = Scenario(host)
    scenario.send(states.SYN)
    scenario.expect("S. 0:0(0) ack 1")
    host.sent.clear()


def test_an_advertisement_does_not_override_before_that(host: Host) -> None:
    """RFC 4429 section 3.3: the caches of who knows another owner stay as they are."""
    host.sent.clear()
    (before,) = ask(host, 6)
    pass_time(host, 30)
    (after,) = ask(host, 6)
    assert isinstance(before.body, Icmp)
    assert isinstance(after.body, Icmp)
    assert not before.body.rest[0] & packets.OVERRIDES
    assert after.body.rest[0] & packets.OVERRIDES


@pytest.mark.stack(detect_duplicates=False)
@BOTH
def test_it_can_be_turned_off(family: int, host: Host) -> None:
    sent = pass_time(host, 30)
    assert not probes(sent, family)
    assert [round(time, 1) for time in announcements(sent, family)] == [0.0, 2.0]


# Another station has it.


@BOTH
@pytest.mark.parametrize("after", [0.0, 0.9])
def test_an_address_of_another_station_is_given_up(family: int, after: float, host: Host) -> None:
    """RFC 5227 section 2.1.1, RFC 4862 section 5.4.4."""
    pass_time(host, after)
    claim(host, family)
    assert host.counter("address_conflicts") == 1
    assert not announcements(pass_time(host, 30), family)
    assert not ask(host, family)
    host.listen(80)
    Scenario(host).send(states.SYN)
    host.expect_nothing(1)


@BOTH
def test_of_two_that_ask_at_the_same_time_none_gets_it(family: int, host: Host) -> None:
    """RFC 5227 section 2.1.1, RFC 4862 section 5.4.3."""
    host.sent.clear()
    want(host, family)
    assert host.counter("address_conflicts") == 1
    assert not announcements(pass_time(host, 30), family)


@BOTH
def test_the_addresses_of_the_other_family_are_ours_all_the_same(family: int, host: Host) -> None:
    host.sent.clear()
    claim(host, family)
    assert announcements(pass_time(host, 30), 10 - family)
    assert ask(host, 10 - family)


@BOTH
def test_connections_that_used_it_end(family: int, host: Host) -> None:
    host.sent.clear()
    introduce(host, family)
    host.sent.clear()
    scenario = states.established(host)
    host.sent.clear()
    claim(host, family)
    host.sent.clear()
    assert scenario.closed_by() == "unreachable"


@BOTH
def test_nothing_is_opened_from_it(family: int, host: Host) -> None:
    host.sent.clear()
    claim(host, family)
    host.sent.clear()
    with pytest.raises(OSError, match="No route"):  # the address was the way to the link
        host.stack.connect((PEER[family], 80), (LOCAL[family], 0))
    with pytest.raises(OSError, match="assign requested"):
        host.stack.listen((LOCAL[family], 81), 1)


@BOTH
def test_when_the_other_station_is_gone_it_is_ours(family: int, host: Host) -> None:
    """Asked for each minute: RFC 5227 section 2.1.1, RATE_LIMIT_INTERVAL."""
    host.sent.clear()
    claim(host, family)
    pass_time(host, 30)
    assert probes(pass_time(host, 30.5), family)
    claim(host, family)
    assert not announcements(pass_time(host, 59), family)
    assert announcements(pass_time(host, 5), family)
    assert ask(host, family)


@BOTH
def test_what_we_said_ourselves_is_no_claim(family: int, host: Host) -> None:
    """A link that sends everything back: RFC 5227 section 2.4, RFC 4862 section 5.4.3."""
    said = [one.output.data for one in host.sent]
    host.sent.clear()
    for frame in said:
        host.send_frame(frame)
        host.sent.clear()
    assert host.counter("address_conflicts") == 0
    assert announcements(pass_time(host, 30), family)


@BOTH
@pytest.mark.parametrize("hop_limit", [1, 64, 254])
def test_a_claim_from_beyond_the_link_is_none(family: int, hop_limit: int, host: Host) -> None:
    """RFC 4861 section 7.1.2."""
    host.sent.clear()
    body = packets.neighbour_advertisement(LOCAL[6], PEER_MAC).build(LOCAL[6], "ff02::1")
    host.send_ip(Ipv6(LOCAL[6], "ff02::1", packets.PROTOCOL_ICMPV6, body, hop_limit=hop_limit))
    assert host.counter("address_conflicts") == 0
    assert announcements(pass_time(host, 30), family)


@pytest.mark.parametrize("shards", [3])
def test_all_shards_hear_that_it_is_taken(shards: int, host: Host) -> None:
    host.sent.clear()
    claim(host, 4)
    assert host.counter("address_conflicts") == shards
    assert not announcements(pass_time(host, 30), 4)
    for stack in host.stacks:
        with pytest.raises(OSError, match="assign requested"):
            stack.listen((LOCAL[4], 81), 1)


@BOTH
@pytest.mark.parametrize("after", [0.0, 0.5])
def test_a_stack_that_moves_meanwhile_waits_all_the_same(family: int, after: float, host: Host) -> None:
    pass_time(host, after)
    image, link = host.stack.image(), host.stack.link
    host.stack.close()
    host.stacks[0] = Stack.adopt(image, link)
    host.turn()
    assert [round(time, 1) for time in announcements(pass_time(host, 30), family)] == [1.0, 3.0]


# It is ours, and another station claims it.


@BOTH
def test_an_address_of_ours_is_defended(family: int, quiet: Host) -> None:
    """RFC 5227 section 2.4 (c): a server's address is not given up; both would get the packets."""
    claim(quiet, family)
    assert quiet.counter("address_conflicts") == 1
    assert len(announcements(list(quiet.sent), family)) == 1
    quiet.sent.clear()
    assert ask(quiet, family)


@BOTH
def test_defending_is_no_flood(family: int, quiet: Host) -> None:
    """RFC 5227 section 2.4: once in DEFEND_INTERVAL."""
    sent = []
    for _ in range(100):
        claim(quiet, family)
        sent += pass_time(quiet, 0.1)
    assert len(announcements(sent, family)) == 1
    claim(quiet, family)
    assert len(announcements(list(quiet.sent), family)) == 1
    quiet.sent.clear()


@BOTH
def test_who_asks_for_it_is_told(family: int, quiet: Host) -> None:
    """RFC 5227 section 2.1.1, RFC 4862 section 5.4.3."""
    want(quiet, family)
    assert len(quiet.sent) == 1
    quiet.sent.clear()
    assert quiet.counter("address_conflicts") == 0


@BOTH
def test_a_connection_goes_on_while_its_address_is_claimed(family: int, quiet: Host) -> None:
    introduce(quiet, family)
    quiet.sent.clear()
    scenario = states.established(quiet)
    claim(quiet, family)
    quiet.sent.clear()
    scenario.write(10)
    scenario.expect("P. 1:11(10) ack 1")


@BOTH
def test_who_claims_our_address_is_not_where_it_says(family: int, quiet: Host) -> None:
    """A claim teaches nothing: neither where the claimed address is, nor another one."""
    introduce(quiet, family)
    quiet.sent.clear()
    if family == 4:
        quiet.send_arp(Arp(Arp.REPLY, OTHER_MAC, LOCAL[4], bytes(6), PEER[4]))
    else:
        send_discovery(quiet, packets.neighbour_advertisement(LOCAL[6], OTHER_MAC), LOCAL[6], "ff02::1")
    quiet.sent.clear()
    client = Scenario(quiet, local_port=50000)
    client.connect()
    assert client.expect("S 0:0(0)").output.data[:6] == PEER_MAC
