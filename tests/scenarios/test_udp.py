"""UDP endpoints (RFC 768, RFC 1122 section 4.1, RFC 8200 section 8.1)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host
from usnet_framework.testing.host import LOCAL, PEER
from usnet_framework.testing.packets import Icmp, Udp, ip_packet

BOTH = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def endpoint(host: Host) -> int:
    """An endpoint at port 7, at any address."""
    return host.stack.udp_open(("", 7))


@BOTH
def test_a_datagram_comes_in(host: Host, endpoint: int, family: int) -> None:
    host.send_body(Udp(5000, 7, b"hello"))
    (event,) = host.take_events(endpoint, is_udp=True)
    assert event.events == {"readable"}
    assert host.stack.udp_receive(endpoint) == (b"hello", (PEER[family], 5000))
    with pytest.raises(BlockingIOError):
        host.stack.udp_receive(endpoint)


@BOTH
@pytest.mark.parametrize("size", [0, 1, 2, 1000, 1452])
def test_a_datagram_goes_out(size: int, host: Host, endpoint: int, family: int) -> None:
    host.stack.udp_send(endpoint, (PEER[family], 9), bytes(range(256))[:1] * size)
    host.turn()
    udp, sent = host.expect_body(Udp)
    assert sent.ip is not None
    assert (udp.source_port, udp.destination_port, len(udp.payload)) == (7, 9, size)
    assert (sent.ip.source, sent.ip.destination) == (LOCAL[family], PEER[family])


def test_datagrams_keep_their_bounds_and_order(host: Host, endpoint: int) -> None:
    for size in (3, 1, 0, 2):
        host.send_body(Udp(5000, 7, b"x" * size))
    assert [len(host.stack.udp_receive(endpoint)[0]) for _ in range(4)] == [3, 1, 0, 2]


def test_a_datagram_that_is_too_long_for_the_reader_is_cut(host: Host, endpoint: int) -> None:
    host.send_body(Udp(5000, 7, b"hello"))
    host.send_body(Udp(5000, 7, b"world"))
    assert host.stack.udp_receive(endpoint, 2) == (b"he", (PEER[4], 5000))
    assert host.stack.udp_receive(endpoint)[0] == b"world"


def test_a_wrong_checksum(host: Host, endpoint: int) -> None:
    host.send_body(Udp(5000, 7, b"hello", checksum_xor=1))
    host.expect_nothing()
    assert host.counter("udp_checksum") == 1
    with pytest.raises(BlockingIOError):
        host.stack.udp_receive(endpoint)


@pytest.mark.parametrize(("family", "taken"), [(4, True), (6, False)])
def test_no_checksum(host: Host, endpoint: int, family: int, taken: bool) -> None:
    """RFC 768 allows it over IPv4, RFC 8200 section 8.1 does not over IPv6."""
    host.send_body(Udp(5000, 7, b"hello", no_checksum=True))
    assert bool(host.take_events(endpoint, is_udp=True)) == taken


def test_a_checksum_that_comes_out_as_zero(host: Host, endpoint: int) -> None:
    """It is sent as all ones; zero would say that there is none."""
    payload = Udp(7, 9, bytes(2)).build(LOCAL[4], PEER[4])[6:8]  # what the sum of all else lacks
    host.stack.udp_send(endpoint, (PEER[4], 9), payload)
    host.turn()
    udp, sent = host.expect_body(Udp)
    assert sent.ip is not None
    assert not udp.no_checksum
    assert sent.ip.payload[6:8] == b"\xff\xff"


@BOTH
def test_a_sender_without_a_port(host: Host, endpoint: int, family: int) -> None:
    """RFC 768: the source port is optional, and zero where there is none."""
    host.send_body(Udp(0, 7, b"hello"))
    assert host.stack.udp_receive(endpoint) == (b"hello", (PEER[family], 0))


@pytest.mark.parametrize(("group", "mac"), [("224.0.0.251", "01005e0000fb"), ("ff02::fb", "3333000000fb")])
def test_a_datagram_to_a_group_stays_on_the_link(group: str, mac: str, host: Host, endpoint: int) -> None:
    """RFC 1112 section 6.1, RFC 3493 section 5.2: a hop limit of 1 where nobody has said otherwise."""
    host.stack.udp_send(endpoint, (group, 9), b"hello")
    host.turn()
    _, sent = host.expect_body(Udp)
    assert sent.ip is not None
    assert (sent.ip.hop_limit, sent.ethernet.destination) == (1, bytes.fromhex(mac))


@pytest.mark.parametrize("length", [0, 7, 12, 14, 1000])
def test_a_wrong_length(length: int, host: Host, endpoint: int) -> None:
    """Less than a header, or not what the IP header says. (13 is right.)"""
    host.send_body(Udp(5000, 7, b"hello", length=length))
    host.expect_nothing()
    taken = host.take_events(endpoint, is_udp=True)
    assert not taken or length == 12


def test_a_header_that_is_cut_short(host: Host, endpoint: int) -> None:
    for size in range(8):
        host.send_ip(ip_packet(PEER[4], LOCAL[4], 17, Udp(5000, 7).build(PEER[4], LOCAL[4])[:size]))
    host.expect_nothing()
    assert sum(host.stack.counters("drops").values()) == 8


def test_the_queue_of_an_endpoint_is_bounded(host: Host, endpoint: int) -> None:
    for _ in range(1000):
        host.send_body(Udp(5000, 7, b"x" * 100))
    assert host.counter("udp_full") + host.counter("no_frame") > 0
    received = 0
    while True:
        try:
            host.stack.udp_receive(endpoint)
        except BlockingIOError:
            break
        received += 1
    assert 16 <= received < 1000
    host.send_body(Udp(5000, 7, b"again"))
    assert host.stack.udp_receive(endpoint)[0] == b"again"


def test_a_full_endpoint_leaves_frames_for_others(host: Host, endpoint: int) -> None:
    """One that nobody reads must not starve the rest."""
    other = host.stack.udp_open(("", 8))
    for _ in range(2000):
        host.send_body(Udp(5000, 7, b"x"))
    host.send_body(Udp(5000, 8, b"hello"))
    assert host.stack.udp_receive(other)[0] == b"hello"


def test_too_long_a_datagram(host: Host, endpoint: int) -> None:
    with pytest.raises(OSError, match="Message too long"):
        host.stack.udp_send(endpoint, (PEER[4], 9), bytes(1473))
    host.turn()
    host.expect_nothing()


def test_a_destination_that_cannot_be_reached(host: Host, endpoint: int) -> None:
    with pytest.raises(OSError, match="No route"):
        host.stack.udp_send(endpoint, ("192.0.2.1", 9), b"x")


@pytest.mark.parametrize("address", [*LOCAL.values(), "127.0.0.1", "127.1.2.3", "::1"])
def test_there_is_no_way_to_ourselves(address: str, host: Host, endpoint: int) -> None:
    """A stack has no loopback: said at once, and nothing goes to the link."""
    with pytest.raises(OSError, match="No route"):
        host.stack.udp_send(endpoint, (address, 7), b"x")
    with pytest.raises(OSError, match="No route"):
        host.stack.connect((address, 80))
    host.expect_nothing(1)


@BOTH
@pytest.mark.parametrize("port", [7, 8])
def test_errors_about_datagrams_are_counted_and_no_more(port: int, host: Host, endpoint: int, family: int) -> None:
    """An endpoint that has no remote end is told nothing (RFC 1122 section 4.1.3.3 leaves it to who asks)."""
    host.stack.udp_send(endpoint, (PEER[family], 9), b"x")
    host.turn()
    _, sent = host.expect_body(Udp)
    assert sent.ip is not None
    quoted = Udp(port, 9, b"x").build(LOCAL[family], PEER[family])
    quoted = ip_packet(LOCAL[family], PEER[family], 17, quoted).build()
    host.send_body(Icmp(*((3, 3) if family == 4 else (1, 4)), payload=quoted))
    assert host.counter("icmp_unmatched") == 1
    assert host.counter("udp_errors") == 0
    assert not host.take_events(endpoint, is_udp=True)
    host.expect_nothing()


def test_ports(host: Host, endpoint: int) -> None:
    with pytest.raises(OSError, match="in use"):
        host.stack.udp_open(("", 7))
    with pytest.raises(OSError, match="assign requested"):
        host.stack.udp_open((PEER[4], 8))
    numbers = {host.stack.udp_open(("", 0)) for _ in range(3)}
    assert len(numbers | {endpoint}) == 4


def test_closing_an_endpoint(host: Host, endpoint: int) -> None:
    host.send_body(Udp(5000, 7, b"hello"))
    host.stack.udp_close(endpoint)
    host.turn()
    with pytest.raises(OSError, match="Bad file descriptor"):
        host.stack.udp_receive(endpoint)
    host.send_body(Udp(5000, 7, b"hello"))
    assert host.expect_body(Icmp)[0].type == 3


def test_an_endpoint_at_one_address(host: Host) -> None:
    host.stack.add_address("10.0.0.5/24")
    host.turn()
    one = host.stack.udp_open((LOCAL[4], 7))
    host.send_body(Udp(5000, 7, b"five"), destination="10.0.0.5")
    host.expect_body(Icmp)
    host.send_body(Udp(5000, 7, b"one"))
    assert host.stack.udp_receive(one)[0] == b"one"


def test_two_endpoints_at_one_port_and_two_addresses(host: Host) -> None:
    host.stack.add_address("10.0.0.5/24")
    host.turn()
    one, five = host.stack.udp_open((LOCAL[4], 7)), host.stack.udp_open(("10.0.0.5", 7))
    host.send_body(Udp(5000, 7, b"five"), destination="10.0.0.5")
    host.send_body(Udp(5000, 7, b"one"))
    assert host.stack.udp_receive(one)[0] == b"one"
    assert host.stack.udp_receive(five)[0] == b"five"


def test_udp_and_tcp_ports_are_apart(host: Host, endpoint: int) -> None:
    host.listen(7)
    host.send_body(Udp(5000, 7, b"hello"))
    assert host.stack.udp_receive(endpoint)[0] == b"hello"


@pytest.mark.stack(udp_max=2)
def test_endpoints_are_limited(host: Host) -> None:
    numbers = [host.stack.udp_open(("", port)) for port in (1, 2)]
    with pytest.raises(OSError, match="No space left"):
        host.stack.udp_open(("", 3))
    host.stack.udp_close(numbers[0])
    host.stack.udp_open(("", 3))
