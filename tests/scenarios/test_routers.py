"""IPv6: the default route from router advertisements, and extension headers (RFC 4861 section 6.3, RFC 8200)."""

from __future__ import annotations

import struct

import pytest

from usnet_framework.testing import Host, Scenario, packets, states
from usnet_framework.testing.host import LOCAL, PEER_MAC
from usnet_framework.testing.packets import DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING, Icmp, Ipv6

FAR = "2001:db8::7"
ROUTER = "fe80::1"

pytestmark = [pytest.mark.parametrize("family", [6]), pytest.mark.stack(accept_router_advertisements=True)]


def advertisement(lifetime_s: int = 1800, *, mtu: int | None = None, mac: bytes = PEER_MAC) -> Icmp:
    options = b"\x01\x01" + mac
    if mtu is not None:
        options += struct.pack("!BBHI", 5, 1, 0, mtu)
    return Icmp(packets.ROUTER_ADVERTISEMENT, rest=struct.pack("!BBH", 64, 0, lifetime_s), payload=bytes(8) + options)


def advertise(host: Host, icmp: Icmp, *, source: str = ROUTER, hop_limit: int = 255) -> None:
    body = icmp.build(source, "ff02::1")
    host.send_ip(Ipv6(source, "ff02::1", packets.PROTOCOL_ICMPV6, body, hop_limit=hop_limit))


def reaches(host: Host) -> bool:
    try:
        conn = host.stack.connect((FAR, 80))
    except OSError:
        return False
    host.turn()
    host.sent.clear()
    host.stack.abort(conn)
    host.turn()
    host.sent.clear()
    return True


def test_a_router_is_the_way_out(host: Host) -> None:
    assert not reaches(host)
    advertise(host, advertisement())
    client = Scenario(host, local_port=50000, remote=(FAR, 80))
    client.connect()
    assert client.expect("S 0:0(0)").output.data[:6] == PEER_MAC


def test_a_lifetime_of_zero_takes_it_back(host: Host) -> None:
    """RFC 4861 section 6.3.4."""
    advertise(host, advertisement())
    assert reaches(host)
    advertise(host, advertisement(0))
    assert not reaches(host)


def test_a_route_expires(host: Host) -> None:
    """RFC 4861 section 6.3.5."""
    advertise(host, advertisement(60))
    host.advance(59)
    assert reaches(host)
    host.advance(2)
    assert not reaches(host)


def test_a_route_is_renewed(host: Host) -> None:
    advertise(host, advertisement(60))
    host.advance(50)
    advertise(host, advertisement(60))
    host.advance(50)
    assert reaches(host)


@pytest.mark.stack(accept_router_advertisements=False)
def test_a_host_that_does_not_listen_to_routers(host: Host) -> None:
    advertise(host, advertisement())
    assert not reaches(host)


@pytest.mark.parametrize(
    ("source", "hop_limit"), [(ROUTER, 64), (ROUTER, 254), ("fd00::2", 255), ("::", 255), ("2001:db8::1", 255)]
)
def test_advertisements_that_cannot_be_a_routers(source: str, hop_limit: int, host: Host) -> None:
    """RFC 4861 section 6.1.2: from a link-local address, with a hop limit of 255."""
    advertise(host, advertisement(), source=source, hop_limit=hop_limit)
    assert not reaches(host)


@pytest.mark.parametrize(
    "payload", [b"", bytes(7), bytes(8) + b"\x01\x00" + bytes(6), bytes(8) + b"\x01\x05" + bytes(6)]
)
def test_advertisements_that_make_no_sense(payload: bytes, host: Host) -> None:
    advertise(host, Icmp(packets.ROUTER_ADVERTISEMENT, rest=b"\x40\x00\x07\x08", payload=payload))
    assert not reaches(host)


@pytest.mark.parametrize(("mtu", "mss"), [(1400, 1340), (1280, 1220), (1000, 1440), (9000, 1440)])
def test_a_router_may_lower_the_mtu(mtu: int, mss: int, host: Host) -> None:
    """RFC 4861 section 6.3.4: between 1280 and the link's own; anything else is not believed."""
    advertise(host, advertisement(mtu=mtu))
    client = Scenario(host, local_port=50000, remote=(FAR, 80))
    client.connect()
    client.expect(f"S 0:0(0) <mss {mss},sackOK,ts,wscale>")


OTHER, OTHER_MAC = "fe80::9", bytes.fromhex("020000000099")


def by_way_of(host: Host, port: int = 50000) -> bytes | None:
    """The MAC address that a packet to far away goes to; None: it does not leave."""
    try:
        conn = host.stack.connect((FAR, 80), ("", port))
    except OSError:
        return None
    host.turn()
    sent = [one.output.data[:6] for one in host.sent if one.ip and one.ip.destination == FAR]
    host.sent.clear()
    host.stack.abort(conn)
    host.turn()
    host.sent.clear()
    return sent[0] if sent else None


def test_of_several_routers_the_first_is_taken(host: Host) -> None:
    advertise(host, advertisement())
    advertise(host, advertisement(mac=OTHER_MAC), source=OTHER)
    assert by_way_of(host) == PEER_MAC


@pytest.mark.parametrize("gone", ["withdrawn", "expired"])
def test_when_one_router_is_gone_another_is_taken(gone: str, host: Host) -> None:
    """RFC 4861 section 6.3.5."""
    advertise(host, advertisement(60))
    advertise(host, advertisement(1800, mac=OTHER_MAC), source=OTHER)
    if gone == "withdrawn":
        advertise(host, advertisement(0))
    else:
        host.advance(61)
    assert by_way_of(host) == OTHER_MAC


@pytest.mark.link(neighbours=False)
def test_when_one_router_is_silent_another_is_taken(host: Host) -> None:
    """RFC 4861 section 6.3.6: one that is not known to be unreachable."""
    host.sent.clear()
    advertise(host, advertisement())
    advertise(host, advertisement(mac=OTHER_MAC), source=OTHER)
    assert by_way_of(host) == PEER_MAC
    host.run_until(host.now_ns + 20 * 10**9, lambda: False)  # it was asked, and did not answer
    host.sent.clear()
    assert by_way_of(host) == OTHER_MAC


@pytest.mark.link(neighbours=False)
def test_a_connection_changes_over_when_its_router_falls_silent(host: Host) -> None:
    host.sent.clear()
    advertise(host, advertisement())
    advertise(host, advertisement(mac=OTHER_MAC), source=OTHER)
    client = Scenario(host, local_port=50000, remote=(FAR, 80))
    client.connect()
    assert host.sent.popleft().output.data[:6] == PEER_MAC
    ways = set()
    for _ in range(60):
        host.run_until(host.now_ns + 10**9, lambda: False)
        ways |= {one.output.data[:6] for one in host.sent if one.ip and one.ip.destination == FAR}
        host.sent.clear()
    assert ways == {PEER_MAC, OTHER_MAC}


def test_a_lifetime_of_zero_ends_no_search(host: Host) -> None:
    """RFC 4861 section 6.3.7: only a router that is one does."""
    asked = []
    host.neighbours = False
    advertise(host, advertisement(0))
    for _ in range(20):
        host.run_until(host.now_ns + 10**9, lambda: False)
        asked += [
            one for one in host.sent if isinstance(one.body, Icmp) and one.body.type == packets.ROUTER_SOLICITATION
        ]
        host.sent.clear()
    assert len(asked) == 2  # the first was sent when the host began


@pytest.mark.parametrize("lifetime_s", [0, 5])
def test_a_router_cannot_take_back_what_was_configured(lifetime_s: int, host: Host) -> None:
    """A route of the user's over the same router stays."""
    host.stack.add_route("::/0", ROUTER)
    advertise(host, advertisement(lifetime_s))
    host.advance(10)
    assert reaches(host)


def test_the_longest_lifetime(host: Host) -> None:
    """RFC 8319 section 4: 65,535 seconds are taken as they are."""
    advertise(host, advertisement(65535))
    host.run_until(host.now_ns + 65_000 * 10**9, lambda: False)
    host.sent.clear()
    assert reaches(host)
    host.run_until(host.now_ns + 600 * 10**9, lambda: False)
    host.sent.clear()
    assert not reaches(host)


def test_a_prefix_on_the_link_is_the_users_business(host: Host) -> None:
    """RFC 4861 section 6.3.4 lets a host reach a prefix without a router; we have the prefixes of our addresses."""
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0x80, 86400, 14400, 0) + packets.packed("2001:db8::")
    icmp = advertisement()
    advertise(host, Icmp(icmp.type, rest=icmp.rest, payload=icmp.payload + prefix))
    assert by_way_of(host) == PEER_MAC
    assert host.counter("nd_malformed") == 0


@pytest.mark.link(neighbours=False)
def test_a_flood_of_routers_is_bounded(host: Host) -> None:
    """The first stay, and there is room for the user's routes. Where the first one is may have to be asked."""
    host.sent.clear()
    advertise(host, advertisement())
    for number in range(100):
        advertise(host, advertisement(mac=OTHER_MAC), source=f"fe80::bad:{number + 1:x}")
    client = Scenario(host, local_port=50000, remote=(FAR, 80))
    client.connect()
    icmp, sent = host.expect_body(Icmp)
    assert sent.ip is not None
    assert (icmp.type, icmp.payload[:16]) == (packets.NEIGHBOUR_SOLICITATION, packets.packed(ROUTER))
    flags = packets.IS_ROUTER | packets.IS_SOLICITED | packets.OVERRIDES
    answer = packets.neighbour_advertisement(ROUTER, PEER_MAC, flags).build(ROUTER, sent.ip.source)
    host.send_ip(Ipv6(ROUTER, sent.ip.source, packets.PROTOCOL_ICMPV6, answer, hop_limit=255))
    assert client.expect("S 0:0(0)").output.data[:6] == PEER_MAC
    for number in range(8):
        host.stack.add_route(f"2001:db8:{number + 1}::/48", "fd00::fe")
    with pytest.raises(OSError, match="No space"):
        host.stack.add_route("2001:db8:9::/48", "fd00::fe")
    advertise(host, advertisement(0))
    host.run_until(host.now_ns + 10**9, lambda: False)
    host.sent.clear()
    assert by_way_of(host, 50001) in (OTHER_MAC, None)  # the next of those that are kept; it may have to be asked for


# Extension headers.


@pytest.mark.parametrize(
    "extensions",
    [
        [(HOP_BY_HOP, bytes([0, 1, 4, 0, 0, 0, 0]))],
        [(DESTINATION_OPTIONS, bytes([0, 1, 4, 0, 0, 0, 0]))],
        [(DESTINATION_OPTIONS, bytes([1, 1, 12]) + bytes(12))],
        [(HOP_BY_HOP, bytes([0, 0, 0, 0, 0, 0, 0])), (DESTINATION_OPTIONS, bytes([0, 1, 4, 0, 0, 0, 0]))],
        [(ROUTING, bytes([0, 0, 0, 0, 0, 0, 0]))],
        [(FRAGMENT, bytes([0, 0, 0, 0, 0, 0, 7]))],
    ],
    ids=["hop by hop", "destination", "longer", "two", "routing without segments left", "atomic fragment"],
)
def test_extension_headers_are_skipped(extensions: list[tuple[int, bytes]], host: Host, family: int) -> None:
    """RFC 8200 section 4, RFC 6946 for a fragment that is whole."""
    listening = states.listening(host)
    listening.send(states.SYN, ip={"extensions": tuple(extensions)})
    listening.expect("S. 0:0(0) ack 1")


@pytest.mark.parametrize(
    "extensions",
    [
        [(ROUTING, bytes([0, 0, 1, 0, 0, 0, 0]))],
        [(DESTINATION_OPTIONS, bytes([200, 1, 4, 0, 0, 0, 0]))],
        [(DESTINATION_OPTIONS, bytes([0, 1, 9, 0, 0, 0, 0]))],
        [(HOP_BY_HOP, bytes([0, 0xC2, 4, 0, 0, 0, 0]))],
        [(DESTINATION_OPTIONS, bytes([0, 1, 4, 0, 0, 0, 0])), (HOP_BY_HOP, bytes([0, 1, 4, 0, 0, 0, 0]))],
    ],
    ids=["segments left", "longer than the packet", "option beyond its header", "jumbo", "hop by hop not first"],
)
def test_extension_headers_that_are_refused(extensions: list[tuple[int, bytes]], host: Host) -> None:
    listening = states.listening(host)
    listening.send(states.SYN, ip={"extensions": tuple(extensions)})
    assert not listening.take()
    host.sent.clear()
    states.established(host)


def test_a_chain_of_many_headers_is_bounded(host: Host) -> None:
    listening = states.listening(host)
    many = ((DESTINATION_OPTIONS, bytes([0, 1, 4, 0, 0, 0, 0])),) * 100
    listening.send(states.SYN, ip={"extensions": many})
    listening.take()
    host.sent.clear()
    states.established(host)


def test_our_link_local_address_answers_as_well(host: Host) -> None:
    mac = host.stack.link.mac
    own = packets.text(packets.packed("fe80::")[:8] + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])
    host.send_body(Icmp(128, payload=b"x"), "fe80::2", own)
    icmp, sent = host.expect_body(Icmp)
    assert sent.ip is not None
    assert (icmp.type, sent.ip.source) == (129, own)
    assert LOCAL[6] != own
