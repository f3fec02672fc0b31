"""Filters of connections: what they mean, against a naive reading of the same, and where one is wrong."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usnet_framework._native import ConnectionInfo
from usnet_framework.shards.connfilter import DEPTH_MAX, LENGTH_MAX, FilterError, parse


def connection(local: Any = ("10.0.0.1", 443), peer: Any = ("10.1.2.3", 50000), state: str = "open") -> ConnectionInfo:
    return ConnectionInfo(
        id=1, shard=0, slot=0, seat=0, port=0, state=state, flags=(), peer=peer, local=local, bytes_in=0, bytes_out=0,
        bytes_queued=0, state_length=0, opened_ns=0, active_ns=0,
    )  # fmt: skip


CONN = connection()
SIX = connection(("fd00::1", 443, 0, 0), ("fe80::2", 50000, 0, 3))
UNIX = connection("", "")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("sport = :443", True),
        ("sport 443", True),
        ("sport == 443", True),
        ("sport eq :80", False),
        ("sport!=443", False),
        ("dport > 1024", True),
        ("dport <= :49999", False),
        ("dport ge 50000", True),
        ("src 10.0.0.1", True),
        ("src 10.0.0.1:443", True),
        ("src 10.0.0.1:80", False),
        ("src :443", True),
        ("src *:443", True),
        ("src 10.0.0.1:*", True),
        ("dst 10.1.0.0/16", True),
        ("dst 10.1.0.1/16", True),  # the bits beside the prefix do not count, as ss has it
        ("dst = 10.2.0.0/16", False),
        ("dst != 10.2.0.0/16", True),
        ("dst 0.0.0.0/0", True),
        ("dst ::/0", False),  # of the other family
        ("state open", True),
        ("state = closing", False),
        ("not state open", False),
        ("! dport 50000", False),
        ("sport 80 or dport 50000", True),
        ("sport 80 | dport 80 || dport 50000", True),
        ("sport 443 and dport 80", False),
        ("sport 443 & dport 50000", True),
        ("sport 443 dport 80", False),
        ("sport 443 or sport 80 and dport 80", True),  # and binds closer
        ("(sport 443 or sport 80) and dport 80", False),
        ("not (sport 80 or dport 80)", True),
        ("not sport 80 and dport 80", False),  # not binds closest
        ("SPORT = :443 AND NOT DPORT = :80", True),
    ],
)
def test_what_a_filter_takes(text: str, matches: bool) -> None:
    wanted = parse(text)
    assert (wanted.matches(CONN, None), wanted.needs_tcp) == (matches, False)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("src fd00::1", True),
        ("src [fd00::1]:443", True),
        ("src [fd00::1]:80", False),
        ("src [fd00::/16]:443", True),
        ("dst fe80::/10", True),
        ("dst 0.0.0.0/0", False),
    ],
)
def test_addresses_of_six(text: str, matches: bool) -> None:
    assert parse(text).matches(SIX, None) == matches


@pytest.mark.parametrize("text", ["sport != 1", "src != 10.0.0.1", "dst ::/0", "dst 0.0.0.0/0", "src *:*"])
def test_a_unix_socket_has_neither_port_nor_address(text: str) -> None:
    assert not parse(text).matches(UNIX, None)


def test_a_state_of_tcp_is_asked_for() -> None:
    wanted = parse("sport 443 and state close-wait")
    assert wanted.needs_tcp
    assert wanted.matches(CONN, "close_wait")
    assert not wanted.matches(CONN, "established")
    assert not wanted.matches(CONN, None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sprot = :443", "filter: 'sprot' at character 1: expected sport, dport, src, dst, state, not or a parenthesis"
                         "; did you mean sport?"),
        ("sport = :htp", "filter: ':htp' at character 9: expected a port, 0 to 65535, like :443"),
        ("sport = 65536", "filter: '65536' at character 9: expected a port, 0 to 65535, like :443"),
        ("sport =", "filter: it ends at character 8: expected a port, 0 to 65535, like :443"),
        ("src 10.0.0.256", "filter: '10.0.0.256' at character 5: expected an address like 10.0.0.0/8, 10.0.0.1:443 or "
                           "[fd00::1]:443"),
        ("src > 10.0.0.1", "filter: '>' at character 5: addresses are compared with = and != alone"),
        ("state opne", "filter: 'opne' at character 7: expected a state: close_wait, closed, closing, dead, "
                       "established, fin_wait_1, fin_wait_2, last_ack, linger, open, syn_received, syn_sent, time_wait"
                       "; did you mean open?"),
        ("(sport 1", "filter: it ends at character 9: expected )"),
        ("sport 1 )", "filter: ')' at character 9: expected and, or, or the end"),
        ("sport 1 or", "filter: it ends at character 11: expected sport, dport, src, dst, state, not or a "
                       "parenthesis"),
        ("not " * (DEPTH_MAX + 1) + "sport 1", f"filter: 'not' at character {4 * DEPTH_MAX + 1}: more than 50 levels"),
        ("x" * (LENGTH_MAX + 1), "the filter has 4097 characters; 4096 are the most"),
    ],
)  # fmt: skip
def test_a_filter_that_is_none_says_where(text: str, line: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert str(refused.value) == line


# Filters by chance, and what they come to, in the plainest way.

PORT = st.sampled_from([80, 443, 50000])
HOST = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "fd00::/8"])
LEAF = st.one_of(
    st.tuples(st.sampled_from(["sport", "dport"]), st.sampled_from(["=", "!=", "<", ">=", "gt"]), PORT),
    st.tuples(st.sampled_from(["src", "dst"]), st.sampled_from(["=", "!="]), HOST),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or", "&&", "|", ""]), inner, inner)
    ),
    max_leaves=8,
)


def text_of(tree: Any) -> str:
    if tree[0] in ("sport", "dport", "src", "dst"):
        return " ".join(map(str, tree))
    if tree[0] == "not":
        return f"not ({text_of(tree[1])})"
    return f"({text_of(tree[1])}) {tree[0]} ({text_of(tree[2])})"


def holds(tree: Any, conn: ConnectionInfo) -> bool:
    if tree[0] == "not":
        return not holds(tree[1], conn)
    if tree[0] in ("and", "&&", ""):
        return holds(tree[1], conn) and holds(tree[2], conn)
    if tree[0] in ("or", "|"):
        return holds(tree[1], conn) or holds(tree[2], conn)
    subject, compare, value = tree
    ip, port = conn.local[:2] if subject in ("sport", "src") else conn.peer[:2]
    if subject in ("src", "dst"):
        return (ipaddress.ip_address(ip) in ipaddress.ip_network(value)) == (compare == "=")
    found = {"=": port == value, "!=": port != value, "<": port < value, ">=": port >= value, "gt": port > value}
    return found[compare]


@given(TREE)
def test_a_filter_means_what_it_says(tree: Any) -> None:
    wanted = parse(text_of(tree))
    for conn in (CONN, SIX, connection(("192.168.0.1", 80), ("10.0.0.1", 80))):
        assert wanted.matches(conn, None) == holds(tree, conn)
