"""Multicast listener reports (RFC 3810, RFC 2710): switches that snoop keep neighbour discovery from who is silent."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, packets
from usnet_framework.testing.host import LOCAL, Sent
from usnet_framework.testing.packets import LISTENER_REPORT, LISTENER_REPORT_V1, ROUTER_ALERT, Icmp, Ipv6

pytestmark = pytest.mark.link(neighbours=False)

ROUTER = "fe80::1"
GROUP = packets.solicited_node(LOCAL[6])
IS_MEMBER, JOINED = 2, 4


def link_local(host: Host) -> str:
    mac = host.stack.link.mac
    return packets.text(packets.packed("fe80::")[:8] + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


def take_reports(host: Host, seconds: float = 0.0) -> list[Sent]:
    host.run_until(host.now_ns + round(seconds * 10**9), lambda: False)
    sent = [
        one
        for one in host.sent
        if isinstance(one.body, Icmp) and one.body.type in (LISTENER_REPORT, LISTENER_REPORT_V1)
    ]
    host.sent.clear()
    return sent


@pytest.fixture
def quiet(host: Host) -> Host:
    take_reports(host, 30)
    return host


def records(sent: Sent) -> list[tuple[int, str]]:
    """Kind and group, of a report of version 2."""
    assert isinstance(sent.body, Icmp)
    count, body = int.from_bytes(sent.body.rest[2:], "big"), sent.body.payload
    assert len(body) == 20 * count
    parts = [body[at : at + 20] for at in range(0, len(body), 20)]
    assert all(part[1:4] == bytes(3) for part in parts)
    return [(part[0], packets.text(part[4:])) for part in parts]


def send_query(
    host: Host, query: Icmp, *, source: str = ROUTER, destination: str = "ff02::1", hop_limit: int = 1
) -> None:
    body = query.build(source, destination)
    host.send_ip(
        Ipv6(source, destination, packets.PROTOCOL_ICMPV6, body, hop_limit=hop_limit, extensions=(ROUTER_ALERT,))
    )


def test_groups_are_reported_when_they_are_joined(host: Host) -> None:
    """RFC 3810 section 6.1: twice within some seconds, a change of state; the groups of all our addresses."""
    first, second = take_reports(host, 30)
    for sent in (first, second):
        assert sorted(records(sent)) == sorted({(JOINED, GROUP), (JOINED, packets.solicited_node(link_local(host)))})
    assert first.time_s == 0
    assert 1 <= second.time_s <= 2


def test_a_report_is_as_routers_want_it(quiet: Host) -> None:
    """RFC 3810 section 5: from a link-local address, hop limit 1, with a router alert, to ff02::16."""
    send_query(quiet, packets.listener_query(1000))
    (sent,) = take_reports(quiet, 1)
    assert isinstance(sent.ip, Ipv6)
    assert (sent.ip.source, sent.ip.destination, sent.ip.hop_limit) == (link_local(quiet), "ff02::16", 1)
    assert sent.ip.extensions == (ROUTER_ALERT,)
    assert sent.ethernet.destination == packets.multicast_mac("ff02::16")


def test_before_our_address_is_sure_reports_are_in_nobodys_name(host: Host) -> None:
    """RFC 3590 section 4; and in ours once it is."""
    first, second = take_reports(host, 30)
    assert first.ip is not None
    assert second.ip is not None
    assert (first.ip.source, second.ip.source) == ("::", link_local(host))


def test_neighbours_can_reach_us_before_we_ask_them(host: Host) -> None:
    """RFC 4862 section 5.4.2: the group first."""
    types = [sent.body.type for sent in host.sent if isinstance(sent.body, Icmp)]
    host.sent.clear()
    assert types.index(LISTENER_REPORT) < types.index(packets.NEIGHBOUR_SOLICITATION)


def test_a_query_is_answered_within_the_time_that_it_gives(quiet: Host) -> None:
    """RFC 3810 section 6.2: at a random moment."""
    delays = []
    for _ in range(10):
        begin_s = quiet.now_s
        send_query(quiet, packets.listener_query(10_000))
        (sent,) = take_reports(quiet, 11)
        assert {kind for kind, _ in records(sent)} == {IS_MEMBER}
        delays.append(sent.time_s - begin_s)
    assert all(0 <= delay <= 10.001 for delay in delays)
    assert max(delays) - min(delays) > 1


def test_a_long_delay_is_a_number_with_an_exponent(quiet: Host) -> None:
    """RFC 3810 section 5.1.3."""
    send_query(quiet, packets.listener_query(0x8000 | 1 << 12 | 0xFFF))  # 0x1fff << 4 ms: 131 s
    assert len(take_reports(quiet, 132)) == 1


@pytest.mark.parametrize(("group", "answers"), [(GROUP, 1), ("ff02::1:ff00:99", 0), ("ff02::5", 0)])
def test_a_query_about_one_group(group: str, answers: int, quiet: Host) -> None:
    """Only who is in it answers."""
    send_query(quiet, packets.listener_query(100, group), destination=group if group == GROUP else "ff02::1")
    assert len(take_reports(quiet, 1)) == answers


def test_many_queries_have_one_answer(quiet: Host) -> None:
    """RFC 3810 section 6.2: what is due anyway is not repeated, so that queries are no flood."""
    for _ in range(1000):
        send_query(quiet, packets.listener_query(1000))
    assert len(take_reports(quiet, 2)) == 1


def test_a_router_of_the_old_version_gets_old_reports(quiet: Host) -> None:
    """RFC 3810 section 8.2.1; RFC 2710: one for each group, to the group. In the end the new version comes back."""
    send_query(quiet, packets.listener_query(1000, version=1))
    sent = take_reports(quiet, 2)
    groups = {GROUP, packets.solicited_node(link_local(quiet))}
    assert {one.ip.destination for one in sent if one.ip} == groups
    for one in sent:
        assert isinstance(one.body, Icmp)
        assert one.ip is not None
        assert (one.body.type, one.body.rest) == (LISTENER_REPORT_V1, bytes(4))
        assert packets.text(one.body.payload) == one.ip.destination
        assert one.ip.hop_limit == 1
    take_reports(quiet, 300)
    send_query(quiet, packets.listener_query(1000))
    (answer,) = take_reports(quiet, 2)
    assert isinstance(answer.body, Icmp)
    assert answer.body.type == LISTENER_REPORT


@pytest.mark.parametrize(
    "change", [{"hop_limit": 255}, {"hop_limit": 2}, {"source": "fd00::2"}, {"source": "2001:db8::1"}, {"source": "::"}]
)
def test_queries_that_are_no_routers(change: dict[str, str | int], quiet: Host) -> None:
    """RFC 3810 section 5.1.14: from a link-local address, hop limit 1."""
    send_query(quiet, packets.listener_query(0), **change)  # type: ignore[arg-type]
    assert not take_reports(quiet, 1)


@pytest.mark.parametrize("payload", [b"", bytes(15), bytes(17), bytes(19), packets.packed("fd00::1") + bytes(4)])
def test_queries_that_make_no_sense(payload: bytes, quiet: Host) -> None:
    """RFC 3810 section 8.1: 24 bytes, or 28 at least; about a group, or all."""
    send_query(quiet, Icmp(packets.LISTENER_QUERY, payload=payload))
    assert not take_reports(quiet, 1)
    assert quiet.counter("icmp_malformed") == 1


def test_an_address_that_is_added_later_is_reported(quiet: Host) -> None:
    quiet.stack.add_address("fd00::5/64")
    reports = take_reports(quiet, 5)
    assert len(reports) == 2
    assert (JOINED, packets.solicited_node("fd00::5")) in records(reports[0])


@pytest.mark.parametrize("shards", [3])
def test_one_shard_speaks_for_all(shards: int, quiet: Host) -> None:
    send_query(quiet, packets.listener_query(1000))
    assert len(take_reports(quiet, 2)) == 1
