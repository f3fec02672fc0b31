"""Who is at which Ethernet address: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861), asked and answered."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import GATEWAY, LOCAL, PEER, PEER_MAC, Sent
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Ipv6
from usnet_framework.testing.segments import Tcp

pytestmark = pytest.mark.link(neighbours=False)

ALL_ROUTERS = "ff02::2"
OTHER_MAC = bytes.fromhex("020000000077")
BOTH = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def quiet(host: Host) -> Host:
    """A host that has announced itself and has nothing more to say of its own."""
    host.run_until(host.now_ns + 30 * 10**9, lambda: False)
    host.sent.clear()
    return host


def question(host: Host, family: int) -> Sent:
    """The stack asks who has the peer's address."""
    assert host.sent, "nothing was sent"
    sent = host.sent.popleft()
    if family == 4:
        assert isinstance(sent.body, Arp)
        assert (sent.body.operation, sent.body.target, sent.body.sender) == (Arp.REQUEST, PEER[4], LOCAL[4])
        assert sent.ethernet.destination == packets.BROADCAST_MAC
    else:
        assert isinstance(sent.body, Icmp)
        assert sent.ip is not None
        assert sent.body.type == packets.NEIGHBOUR_SOLICITATION
        assert sent.body.payload[:16] == packets.packed(PEER[6])
        assert (sent.ip.destination, sent.ip.hop_limit) == (packets.solicited_node(PEER[6]), 255)
        assert sent.ethernet.destination == packets.multicast_mac(sent.ip.destination)
    return sent


def answer(host: Host, family: int, mac: bytes = PEER_MAC) -> None:
    if family == 4:
        host.send_arp(Arp(Arp.REPLY, mac, PEER[4], host.stack.link.mac, LOCAL[4]), host.stack.link.mac)
    else:
        advertise(host, packets.neighbour_advertisement(PEER[6], mac))


def advertise(
    host: Host, icmp: Icmp, *, source: str = PEER[6], destination: str = LOCAL[6], hop_limit: int = 255
) -> None:
    body = icmp.build(source, destination)
    host.send_ip(Ipv6(source, destination, packets.PROTOCOL_ICMPV6, body, hop_limit=hop_limit))


# Asking.


@BOTH
def test_what_is_sent_waits_for_the_answer(quiet: Host, family: int) -> None:
    client = Scenario(quiet, local_port=50000)
    client.connect()
    question(quiet, family)
    quiet.expect_nothing()
    answer(quiet, family)
    client.expect("S 0:0(0)")


@BOTH
def test_a_question_is_repeated_each_second_three_times(quiet: Host, family: int) -> None:
    """RFC 4861 section 7.2.2: MAX_MULTICAST_SOLICIT, RETRANS_TIMER."""
    client = Scenario(quiet, local_port=50000)
    client.connect()
    question(quiet, family)
    for _ in range(2):
        quiet.run_until(quiet.now_ns + 1_100_000_000, lambda: bool(quiet.sent))
        question(quiet, family)
    quiet.expect_nothing(1.5)
    assert quiet.counter("neighbours_failed") == 1


@BOTH
def test_without_an_answer_an_attempt_fails(quiet: Host, family: int) -> None:
    client = Scenario(quiet, local_port=50000)
    client.connect()
    for _ in range(300):
        quiet.run_until(quiet.now_ns + 10**9, lambda: bool(quiet.sent))
        quiet.sent.clear()
    assert client.closed_by() in ("unreachable", "timeout")


@BOTH
def test_an_answer_may_come_after_the_first_question(quiet: Host, family: int) -> None:
    client = Scenario(quiet, local_port=50000)
    client.connect()
    question(quiet, family)
    quiet.run_until(quiet.now_ns + 1_100_000_000, lambda: bool(quiet.sent))
    question(quiet, family)
    answer(quiet, family)
    client.expect("S 0:0(0)")


@BOTH
def test_a_question_is_asked_once_for_many(quiet: Host, family: int) -> None:
    for port in range(5):
        Scenario(quiet, local_port=50000 + port).connect()
    question(quiet, family)
    quiet.expect_nothing()
    answer(quiet, family)
    assert [sent.body.flags for sent in quiet.sent if isinstance(sent.body, Tcp)] == ["S"] * 5
    quiet.sent.clear()


@BOTH
def test_the_wait_for_a_neighbour_is_bounded(quiet: Host, family: int) -> None:
    """Packets that wait for the same neighbour: some are dropped, none breaks anything."""
    endpoint = quiet.stack.udp_open((LOCAL[family], 5000))
    for _ in range(200):
        quiet.stack.udp_send(endpoint, (PEER[family], 7), b"x" * 100)
    quiet.turn()
    question(quiet, family)
    answer(quiet, family)
    assert 1 <= len(quiet.sent) <= 64
    assert quiet.counter("no_neighbour") >= 100
    quiet.sent.clear()


def test_whoever_asks_is_known(quiet: Host) -> None:
    """RFC 826: his answer will be needed in a moment."""
    quiet.listen(80)
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    assert quiet.expect_body(Arp)[0].operation == Arp.REPLY
    scenario = Scenario(quiet)
    scenario.send(states.SYN)
    scenario.expect("S. 0:0(0) ack 1")


def test_a_syn_does_not_teach_the_address_of_its_sender(quiet: Host) -> None:
    """The Ethernet source of an IP packet may be a router's, or a lie."""
    quiet.listen(80)
    scenario = Scenario(quiet)
    scenario.send(states.SYN)
    question(quiet, 4)
    answer(quiet, 4)
    scenario.expect("S. 0:0(0) ack 1")


@pytest.mark.parametrize(
    ("network", "gateway"), [("0.0.0.0/0", "10.0.1.254"), ("0.0.0.0/0", "169.254.0.1"), ("::/0", "fd01::fe")]
)
def test_a_gateway_beyond_the_link_is_refused(network: str, gateway: str, quiet: Host) -> None:
    with pytest.raises(OSError, match="Network is unreachable"):
        quiet.stack.add_route(network, gateway)


@BOTH
def test_the_gateway_is_asked_for_what_is_not_on_the_link(quiet: Host, family: int) -> None:
    quiet.stack.add_route("0.0.0.0/0" if family == 4 else "::/0", GATEWAY[family])
    client = Scenario(quiet, local_port=50000, remote=("192.0.2.1" if family == 4 else "2001:db8::1", 80))
    client.connect()
    sent = quiet.sent.popleft()
    if isinstance(sent.body, Arp):
        assert sent.body.target == GATEWAY[4]
        quiet.send_arp(Arp(Arp.REPLY, PEER_MAC, GATEWAY[4], quiet.stack.link.mac, LOCAL[4]), quiet.stack.link.mac)
    else:
        assert isinstance(sent.body, Icmp)
        assert sent.body.payload[:16] == packets.packed(GATEWAY[6])
        advertise(quiet, packets.neighbour_advertisement(GATEWAY[6], PEER_MAC), source=GATEWAY[6])
    seen = client.expect("S 0:0(0)")
    assert seen.output.data[:6] == PEER_MAC


# Answering.


def test_a_question_for_our_address(quiet: Host) -> None:
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    arp, sent = quiet.expect_body(Arp)
    assert arp == Arp(Arp.REPLY, quiet.stack.link.mac, LOCAL[4], PEER_MAC, PEER[4])
    assert sent.ethernet.destination == PEER_MAC


def test_a_question_for_an_address_of_somebody_else(quiet: Host) -> None:
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), "10.0.0.9"))
    quiet.expect_nothing()


def test_a_probe_for_our_address_is_answered(quiet: Host) -> None:
    """RFC 5227 section 2.1.1: somebody wants to take it; the sender's address is not known yet."""
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, "0.0.0.0", bytes(6), LOCAL[4]))
    arp, _ = quiet.expect_body(Arp)
    assert (arp.operation, arp.sender, arp.target_mac) == (Arp.REPLY, LOCAL[4], PEER_MAC)


def test_solicitation_for_our_address(quiet: Host) -> None:
    """RFC 4861 section 7.2.4."""
    advertise(quiet, packets.neighbour_solicitation(LOCAL[6], PEER_MAC), destination=packets.solicited_node(LOCAL[6]))
    icmp, sent = quiet.expect_body(Icmp)
    assert sent.ip is not None
    assert icmp.type == packets.NEIGHBOUR_ADVERTISEMENT
    assert icmp.rest[0] & packets.IS_SOLICITED
    assert icmp.payload == packets.packed(LOCAL[6]) + b"\x02\x01" + quiet.stack.link.mac
    assert (sent.ip.source, sent.ip.destination, sent.ip.hop_limit) == (LOCAL[6], PEER[6], 255)


def test_solicitation_without_an_address_of_its_own(quiet: Host) -> None:
    """RFC 4861 section 7.2.4: duplicate address detection is answered to all nodes, unsolicited."""
    probe = Icmp(packets.NEIGHBOUR_SOLICITATION, payload=packets.packed(LOCAL[6]))
    advertise(quiet, probe, source="::", destination=packets.solicited_node(LOCAL[6]))
    icmp, sent = quiet.expect_body(Icmp)
    assert sent.ip is not None
    assert (icmp.type, icmp.rest[0] & packets.IS_SOLICITED, sent.ip.destination) == (136, 0, "ff02::1")


@pytest.mark.parametrize("hop_limit", [0, 1, 64, 254])
def test_neighbour_discovery_from_beyond_the_link(hop_limit: int, quiet: Host) -> None:
    """RFC 4861 section 7.1: only with a hop limit of 255."""
    advertise(quiet, packets.neighbour_solicitation(LOCAL[6], PEER_MAC), hop_limit=hop_limit)
    quiet.expect_nothing()


@pytest.mark.parametrize("destination", ["ff02::1", LOCAL[6], "ff02::1:ff00:77"])
def test_a_probe_goes_to_the_group_of_its_target(destination: str, quiet: Host) -> None:
    """RFC 4861 section 7.1.1: one in nobody's name to anything else is discarded."""
    advertise(quiet, Icmp(135, payload=packets.packed(LOCAL[6])), source="::", destination=destination)
    quiet.expect_nothing()


def doubted(quiet: Host) -> Icmp:
    """What is sent to the peer makes its entry one that has to be proved: it is asked directly after five seconds."""
    endpoint = quiet.stack.udp_open(("", 9))
    quiet.stack.udp_send(endpoint, (PEER[6], 9), b"x")
    quiet.turn()
    quiet.expect_body(packets.Udp)
    quiet.expect_nothing(4.9)
    icmp, sent = quiet.expect_body(Icmp, after=0.3)
    assert sent.ip is not None
    assert (icmp.type, sent.ip.destination) == (packets.NEIGHBOUR_SOLICITATION, PEER[6])
    return icmp


@pytest.mark.parametrize(
    ("flags", "mac"),
    [(packets.OVERRIDES, OTHER_MAC), (packets.IS_SOLICITED, OTHER_MAC)],
    ids=["unsolicited, another address", "another address that does not override"],
)
def test_what_proved_one_address_does_not_prove_another(flags: int, mac: bytes, quiet: Host) -> None:
    """RFC 4861 section 7.2.5: STALE, however short ago the peer answered."""
    endpoint = quiet.stack.udp_open(("", 7))
    quiet.stack.udp_send(endpoint, (PEER[6], 9), b"x")
    quiet.turn()
    question(quiet, 6)
    answer(quiet, 6)
    quiet.expect_body(packets.Udp)
    advertise(quiet, packets.neighbour_advertisement(PEER[6], mac, flags))
    doubted(quiet)


def test_what_waited_for_an_address_makes_it_used(quiet: Host) -> None:
    """RFC 4861 section 7.3.3: an unsolicited answer proves nothing, and the first packet makes the entry DELAY."""
    endpoint = quiet.stack.udp_open(("", 7))
    quiet.stack.udp_send(endpoint, (PEER[6], 9), b"x")
    quiet.turn()
    question(quiet, 6)
    advertise(quiet, packets.neighbour_advertisement(PEER[6], PEER_MAC, 0))
    quiet.expect_body(packets.Udp)
    quiet.expect_nothing(4.9)
    assert quiet.expect_body(Icmp, after=0.3)[0].type == packets.NEIGHBOUR_SOLICITATION


@pytest.mark.parametrize(
    "payload", [b"", bytes(8), packets.packed("ff02::1"), packets.packed(LOCAL[6]) + b"\x01\x00" + bytes(6)]
)
def test_solicitations_that_make_no_sense(payload: bytes, quiet: Host) -> None:
    """RFC 4861 section 7.1.1: too short, for a multicast address, with an option of length 0."""
    advertise(quiet, Icmp(packets.NEIGHBOUR_SOLICITATION, payload=payload))
    quiet.expect_nothing()


@pytest.mark.parametrize("change", [{"code": 1}, {"checksum_xor": 1}])
def test_solicitations_that_are_broken(change: dict[str, int], quiet: Host) -> None:
    icmp = packets.neighbour_solicitation(LOCAL[6], PEER_MAC)
    advertise(quiet, Icmp(icmp.type, payload=icmp.payload, **change))
    quiet.expect_nothing()


@pytest.mark.parametrize("length", range(0, 28, 5))
def test_arp_that_is_cut_short(length: int, quiet: Host) -> None:
    arp = Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]).build()[:length]
    quiet.send_frame(Ethernet(packets.BROADCAST_MAC, PEER_MAC, packets.ETHER_ARP, arp).build())
    quiet.expect_nothing()


@pytest.mark.parametrize(("at", "byte"), [(1, 6), (3, 1), (4, 8), (5, 16), (7, 3), (7, 0)])
def test_arp_of_another_kind(at: int, byte: int, quiet: Host) -> None:
    arp = bytearray(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]).build())
    arp[at] = byte
    quiet.send_frame(Ethernet(packets.BROADCAST_MAC, PEER_MAC, packets.ETHER_ARP, bytes(arp)).build())
    quiet.expect_nothing()


# Learning, and not.


def connected(quiet: Host) -> Scenario:
    quiet.listen(80)
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), LOCAL[4]))
    quiet.expect_body(Arp)
    scenario = Scenario(quiet)
    scenario.send(states.SYN)
    scenario.expect("S. 0:0(0) ack 1")
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    return scenario


def test_an_answer_that_nobody_asked_for_makes_no_entry(quiet: Host) -> None:
    answer(quiet, 4, OTHER_MAC)
    client = Scenario(quiet, local_port=50000)
    client.connect()
    question(quiet, 4)
    answer(quiet, 4)
    assert client.expect("S 0:0(0)").output.data[:6] == PEER_MAC


def test_a_peer_that_moved_is_found_again(quiet: Host) -> None:
    """A gratuitous announcement changes an entry that exists."""
    scenario = connected(quiet)
    quiet.run_until(quiet.now_ns + 60 * 10**9, lambda: False)
    quiet.sent.clear()
    quiet.send_arp(Arp(Arp.REQUEST, OTHER_MAC, PEER[4], bytes(6), PEER[4]))
    scenario.write(10)
    assert scenario.expect("P. 1:11(10) ack 1").output.data[:6] == OTHER_MAC


def test_a_peer_that_falls_silent_is_asked_for(quiet: Host) -> None:
    """RFC 4861 section 7.3: an entry that nothing proves any more is probed while it is used."""
    scenario = connected(quiet)
    quiet.run_until(quiet.now_ns + 60 * 10**9, lambda: False)
    quiet.sent.clear()
    scenario.write(10)
    asked = []
    for _ in range(300):
        quiet.run_until(quiet.now_ns + 10**8, lambda: bool(quiet.sent))
        asked += [sent for sent in quiet.sent if isinstance(sent.body, Arp)]
        quiet.sent.clear()
    assert asked
    assert asked[0].ethernet.destination == PEER_MAC


def test_a_peer_that_moved_silently_is_found_again(quiet: Host) -> None:
    """RFC 1122 section 2.3.2.1: that nothing arrives is advice from above. RFC 4861 section 7.3.3: who does not answer
    where it was is looked for anew."""
    scenario = connected(quiet)
    scenario.write(10)
    asked: list[bytes] = []
    begun = quiet.now_ns
    while packets.BROADCAST_MAC not in asked:
        quiet.run_until(quiet.now_ns + 10**9, lambda: bool(quiet.sent))
        asked += [sent.ethernet.destination for sent in quiet.sent if isinstance(sent.body, Arp)]
        quiet.sent.clear()
    assert asked == [PEER_MAC] * 3 + [packets.BROADCAST_MAC]
    assert quiet.now_ns - begun < 10 * 10**9
    answer(quiet, 4, OTHER_MAC)
    assert scenario.expect("P. 1:11(10) ack 1").output.data[:6] == OTHER_MAC


def test_resets_wait_until_a_peer_that_moved_is_found(quiet: Host) -> None:
    """Their connections are over by then, and the neighbour keeps a few packets at most."""
    scenarios = [connected(quiet), *(states.established(quiet) for _ in range(9))]
    scenarios[0].write(10)
    while not any(sent.ethernet.destination == packets.BROADCAST_MAC for sent in quiet.sent):
        quiet.run_until(quiet.now_ns + 10**8, lambda: False)
    quiet.sent.clear()
    for scenario in scenarios:
        scenario.stack.abort(scenario.conn)
    quiet.expect_nothing()
    answer(quiet, 4, OTHER_MAC)
    for scenario, number in zip(scenarios, [11, *[1] * 9], strict=True):
        assert scenario.expect(f"R. {number}:{number}(0) ack 1").output.data[:6] == OTHER_MAC


def test_a_peer_whose_neighbour_is_there_costs_few_questions(quiet: Host) -> None:
    """A host behind a router is gone: the router says each time that it is not."""
    scenario = connected(quiet)
    scenario.write(10)
    asked = 0
    for _ in range(600):
        quiet.run_until(quiet.now_ns + 10**8, lambda: bool(quiet.sent))
        questions = [sent for sent in quiet.sent if isinstance(sent.body, Arp)]
        quiet.sent.clear()
        for question in questions:
            assert question.ethernet.destination == PEER_MAC
            answer(quiet, 4)
        asked += len(questions)
    assert 1 <= asked <= 10


def test_a_peer_that_answers_is_not_asked_for(quiet: Host) -> None:
    """RFC 4861 section 7.3.1: acknowledgments of new data are proof enough."""
    scenario = connected(quiet)
    for step in range(100):
        scenario.write(10)
        scenario.expect(f"P. {1 + 10 * step}:{11 + 10 * step}(10) ack 1")
        scenario.send(f". 1:1(0) ack {11 + 10 * step}")
        scenario.expect_nothing(1)


def test_many_neighbours_do_not_push_out_one_that_is_used(quiet: Host) -> None:
    scenario = connected(quiet)
    for number in range(3, 200):
        quiet.send_arp(Arp(Arp.REQUEST, OTHER_MAC, f"10.0.0.{number}", bytes(6), LOCAL[4]))
        quiet.sent.clear()
        scenario.send(".")
    scenario.write(10)
    assert scenario.expect("P. 1:11(10) ack 1").output.data[:6] == PEER_MAC


# Our own announcements.


def test_addresses_are_announced(host: Host) -> None:
    """RFC 5227 section 2.3 and RFC 4861 section 7.2.6: so that caches of an earlier owner are corrected."""
    host.run_until(host.now_ns + 30 * 10**9, lambda: False)
    arps = [sent.body for sent in host.sent if isinstance(sent.body, Arp) and sent.body.sender != "0.0.0.0"]
    told = [sent.body for sent in host.sent if isinstance(sent.body, Icmp) and sent.body.type == 136]
    host.sent.clear()
    assert arps
    assert all((arp.sender, arp.target) == (LOCAL[4], LOCAL[4]) for arp in arps)
    assert packets.packed(LOCAL[6]) in [icmp.payload[:16] for icmp in told]


def test_an_address_that_is_added_later_works_at_once(quiet: Host) -> None:
    quiet.stack.add_address("10.0.0.5/24")
    quiet.turn()
    quiet.sent.clear()
    quiet.send_arp(Arp(Arp.REQUEST, PEER_MAC, PEER[4], bytes(6), "10.0.0.5"))
    assert quiet.expect_body(Arp)[0].sender == "10.0.0.5"


def test_a_router_is_asked_for(host: Host) -> None:
    """RFC 4861 section 6.3.7: at most three times; in nobody's name while our address is not sure (RFC 4429)."""
    host.run_until(host.now_ns + 60 * 10**9, lambda: False)
    asked = [
        sent for sent in host.sent if isinstance(sent.body, Icmp) and sent.body.type == packets.ROUTER_SOLICITATION
    ]
    host.sent.clear()
    assert 1 <= len(asked) <= 3
    assert all(sent.ip is not None and sent.ip.destination == "ff02::2" for sent in asked)
    names = [(sent.ip.source == "::", sent.body.payload) for sent in asked if sent.ip and isinstance(sent.body, Icmp)]
    assert names == [(True, b""), *[(False, b"\x01\x01" + host.stack.link.mac)] * 2]
