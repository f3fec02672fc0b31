"""More connections than a listener has room for: bounds, and SYN cookies that keep the options (RFC 4987)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states
from usnet_framework.testing.host import PEER


@pytest.fixture
def flooded(host: Host) -> Host:
    """A listener whose backlog of 4 is full of attempts that will never be finished."""
    host.listen(80, backlog=4)
    for port in range(4):
        attempt = Scenario(host, remote=("10.0.0.66", 1000 + port))
        attempt.send(states.SYN)
        attempt.expect("S. 0:0(0) ack 1")
    return host


def visitor(host: Host, **scenario: int) -> Scenario:
    return Scenario(host, remote=(PEER[4], 5000), **scenario)


def test_a_flood_is_answered_with_cookies(flooded: Host) -> None:
    for port in range(100):
        attempt = Scenario(flooded, remote=("10.0.0.66", 2000 + port))
        attempt.send(states.SYN)
        attempt.expect("S. 0:0(0) ack 1")
    assert flooded.counter("syn_cookies_sent") == 100


def test_a_flood_costs_no_memory(flooded: Host) -> None:
    """10 times the table, and there is still room."""
    for port in range(int(flooded.stack.options["conn_max"]) * 10):
        attempt = Scenario(flooded, remote=("10.0.0.66", 2000 + port))
        attempt.send(states.SYN)
        attempt.take()
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    friend.send("P. 1:101(100) ack 1")
    friend.take(0.5)
    friend.accept()
    assert len(friend.read()) == 100


def mss_of_cookie(flooded: Host, mss: int) -> int:
    friend = visitor(flooded)
    friend.send(f"S 0:0(0) win 65535 <mss {mss}>")
    friend.expect("S. 0:0(0) ack 1")
    friend.send(". 1:1(0) ack 1")
    friend.accept()
    assert flooded.counter("syn_cookies_received") == 1
    return friend.info.snd_mss


USUAL = [536, 1024, 1220, 1240, 1300, 1360, 1380, 1400, 1420, 1440, 1452, 1460]
"""Defaults, tunnels, mobile networks, PPPoE and Ethernet: what peers announce."""


@pytest.mark.parametrize("mss", USUAL)
def test_a_cookie_remembers_the_usual_sizes_of_segments(mss: int, flooded: Host) -> None:
    """Exactly: RFC 4987 section 3.6 has one of a few values remembered, and these are among them."""
    assert mss_of_cookie(flooded, mss) == mss


@pytest.mark.parametrize(("mss", "remembered"), [(1000, 536), (1219, 1024), (1239, 1220), (1399, 1380), (1459, 1452)])
def test_a_cookie_remembers_the_next_lower_of_other_sizes(mss: int, remembered: int, flooded: Host) -> None:
    assert mss_of_cookie(flooded, mss) == remembered


@pytest.mark.parametrize(
    ("mss", "remembered"), [(300, 256), (256, 256), (255, 64), (64, 64), (63, 64), (1, 64), (0, 536)]
)
def test_a_cookie_for_a_tiny_mss(mss: int, remembered: int, flooded: Host) -> None:
    """Never more than the peer takes, but for one who would have us send nothing but headers."""
    assert mss_of_cookie(flooded, mss) == remembered


@pytest.mark.link(mtu=9000)
@pytest.mark.parametrize(("mss", "remembered"), [(9000, 8960), (8960, 8960), (8959, 8940), (4000, 1460)])
def test_a_cookie_remembers_jumbo_frames(mss: int, remembered: int, flooded: Host) -> None:
    assert mss_of_cookie(flooded, mss) == remembered


@pytest.mark.parametrize("family", [6])
@pytest.mark.parametrize(("mss", "remembered"), [(1440, 1440), (1220, 1220), (0, 1220)])
def test_a_cookie_over_ipv6(mss: int, remembered: int, flooded: Host, family: int) -> None:
    friend = Scenario(flooded, remote=(PEER[6], 5000))
    friend.send(f"S 0:0(0) win 65535 <mss {mss}>")
    friend.expect("S. 0:0(0) ack 1")
    friend.send(". 1:1(0) ack 1")
    friend.accept()
    assert friend.info.snd_mss == remembered


@pytest.mark.parametrize("wscale", [0, 1, 7, 14])
def test_a_cookie_remembers_options_in_the_timestamp(wscale: int, flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(f"S 0:0(0) win 65535 <mss 1460,sackOK,ts 10 ecr 0,wscale {wscale}>")
    friend.expect("S. 0:0(0) ack 1 <mss 1460,sackOK,ts 0 ecr 10,wscale>")
    friend.send(". 1:1(0) ack 1 win 100")
    friend.accept()
    assert friend.info.agreed == {"window_scaling", "timestamps", "sack"}
    assert friend.info.snd_wscale == wscale
    assert friend.info.snd_wnd == 100 << wscale


@pytest.mark.parametrize(
    ("options", "agreed"),
    [
        ("mss 1460,ts 10 ecr 0", {"timestamps"}),
        ("mss 1460,sackOK,ts 10 ecr 0", {"timestamps", "sack"}),
        ("mss 1460,ts 10 ecr 0,wscale 3", {"timestamps", "window_scaling"}),
        ("mss 1460,sackOK,wscale 3", set()),
    ],
)
def test_a_cookie_agrees_on_what_it_can_remember(options: str, agreed: set[str], flooded: Host) -> None:
    """Without timestamps there is no place for more than the MSS: then nothing else is offered."""
    friend = visitor(flooded)
    friend.send(f"S 0:0(0) win 65535 <{options}>")
    answer = friend.expect("S. 0:0(0) ack 1").options
    offered = {
        "timestamps": answer.timestamps,
        "sack": answer.sack_permitted,
        "window_scaling": answer.wscale is not None,
    }
    assert {name for name, value in offered.items() if value} == agreed
    friend.send(". 1:1(0) ack 1")
    friend.accept()
    assert friend.info.agreed == agreed


@pytest.mark.parametrize("wrong", [2, 0, 100, 2**31])
def test_a_wrong_cookie_is_reset(wrong: int, flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    friend.send(f". 1:1(0) ack {wrong}")
    friend.expect(f"R {wrong}:{wrong}(0)") if wrong < 2**31 else friend.take()
    friend.send(". 1:1(0) ack 1")
    friend.accept()


def test_guessing_a_cookie(flooded: Host) -> None:
    for guess in range(0, 2**32, 2**23 + 12345):
        friend = visitor(flooded)
        friend.send(f". 1:1(0) ack {guess}")
        friend.take()
        flooded.sent.clear()
    assert flooded.counter("syn_cookies_received") == 0


def test_the_cookie_of_another_peer(flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    thief = Scenario(flooded, remote=("10.0.0.3", 5000), peer_iss=friend.peer.iss)
    thief.send(". 1:1(0) ack 1", ack=friend.peer.of_stack(1))
    (answer,) = thief.take()
    assert answer.tcp.flags == "R"


def test_a_cookie_with_another_number_of_the_peer(flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    friend.send(". 5:5(0) ack 1")
    assert [seen.tcp.flags for seen in friend.take()] == ["R"]


@pytest.mark.parametrize(("minutes", "taken"), [(0.5, True), (1, True), (60, False)])
def test_a_cookie_lasts_for_a_while(minutes: float, taken: bool, flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    flooded.run_until(flooded.now_ns + int(minutes * 60e9), lambda: bool(flooded.sent.clear()))
    flooded.sent.clear()
    friend.send(". 1:1(0) ack 1")
    assert [seen.tcp.flags for seen in friend.take()] == ([] if taken else ["R"])
    flooded.sent.clear()


def test_data_may_come_with_the_cookie(flooded: Host) -> None:
    friend = visitor(flooded)
    friend.send(states.SYN)
    friend.expect("S. 0:0(0) ack 1")
    friend.send("P. 1:101(100) ack 1")
    friend.expect(". 1:1(0) ack 101", within=0.5)
    friend.accept()
    assert len(friend.read()) == 100


def test_a_repeated_syn_gets_the_same_cookie(flooded: Host) -> None:
    friend = visitor(flooded)
    for _ in range(3):
        friend.send(states.SYN)
        friend.expect("S. 0:0(0) ack 1")


def test_without_a_flood_there_are_no_cookies(host: Host) -> None:
    """An acknowledgment out of nowhere is none of ours then, and is not even looked at."""
    host.listen(80)
    friend = visitor(host)
    friend.send(". 1:1(0) ack 77")
    friend.expect("R 77:77(0)")
    assert host.counter("syn_cookies_received") == 0


def test_connections_that_wait_to_be_accepted_count(host: Host) -> None:
    """The application does not accept: the backlog is a bound for them as well."""
    host.listen(80, backlog=4)
    for port in range(4):
        attempt = Scenario(host, remote=(PEER[4], 1000 + port))
        attempt.send(states.SYN)
        attempt.expect("S. 0:0(0) ack 1")
        attempt.send(". 1:1(0) ack 1")
    late = visitor(host)
    late.send(states.SYN)
    late.take()
    late.send(". 1:1(0) ack 1")
    late.take()
    with pytest.raises(AssertionError, match="no connection to accept"):
        late.accept()
    host.failed = False


def test_accepting_makes_room(host: Host) -> None:
    host.listen(80, backlog=2)
    waiting = []
    for port in range(2):
        attempt = Scenario(host, remote=(PEER[4], 1000 + port))
        attempt.send(states.SYN)
        attempt.expect("S. 0:0(0) ack 1")
        attempt.send(". 1:1(0) ack 1")
        waiting.append(attempt)
    waiting[0].accept()
    late = visitor(host)
    late.send(states.SYN)
    late.expect("S. 0:0(0) ack 1 <mss 1460,sackOK,wscale>")
    late.send(". 1:1(0) ack 1")
    late.accept()
    assert late.info.agreed == {"sack", "window_scaling"}


@pytest.mark.stack(conn_max=4)
def test_a_full_table_refuses_without_harm(host: Host) -> None:
    held = [states.established(host) for _ in range(4)]
    late = Scenario(host)
    late.send(states.SYN)
    late.take()
    late.send(". 1:1(0) ack 1")
    late.take()
    held[0].send("P. 1:101(100) ack 1")
    held[0].expect(". 1:1(0) ack 101", within=0.5)
    held[1].abort()
    held[1].expect("R. 1:1(0) ack 1")
    states.established(host)
