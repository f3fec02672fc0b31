"""Resets that we send, each with a number that its peer hears: the one that it expects next, or one in its window, to
which it answers with a challenge ACK (RFC 5961 section 3.2). A peer without room has taken its window back from what is
in flight, and hears nothing that stands beyond it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from usnet_framework.testing import Host, Scenario, states

TEN = "S 0:0(0) win 65535 <mss 1000>"
SCALED = "S 0:0(0) win 65535 <mss 1000,sackOK,wscale 7>"
NUMBERS = [
    pytest.param("ack 1", 10001, id="nothing is acknowledged"),
    pytest.param("ack 4001", 10001, id="a part is"),
    pytest.param("ack 10001 win 0", 10001, id="all is, and the window is shut"),
    pytest.param("ack 4001 win 6000", 10001, id="what is in flight fills the window"),
    pytest.param("ack 4001 win 5999", 10000, id="the window ends in what is in flight"),
    pytest.param("ack 4001 win 2000", 6001, id="the window ends between two segments"),
    pytest.param("ack 4001 win 0", 4001, id="what is in flight had no room"),
    pytest.param("ack 1 win 0", 1, id="nothing of it had room"),
]
"""The peer's answer to ten segments, and the number that it hears."""


def flight(host: Host, answer: str, syn: str = TEN) -> Scenario:
    """Ten segments in flight, and what the peer says of them."""
    scenario = states.established(host, syn)
    scenario.write(10_000)
    scenario.expect_data(1, 10_001)
    scenario.send(f". 1:1(0) {answer}")
    scenario.take()
    return scenario


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_the_application_aborts(answer: str, number: int, host: Host) -> None:
    scenario = flight(host, answer)
    scenario.abort()
    scenario.expect(f"R. {number}:{number}(0) ack 1")


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_the_application_closes_and_has_not_read_everything(answer: str, number: int, host: Host) -> None:
    """RFC 2525 section 2.17."""
    scenario = flight(host, answer)
    scenario.send(f"P. 1:101(100) {answer}")
    scenario.take(0.05)
    scenario.close()
    scenario.expect(f"R. {number}:{number}(0) ack 101")


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_data_comes_after_the_application_has_closed(answer: str, number: int, host: Host) -> None:
    """Our FIN waits behind a window that is shut, or is in flight itself."""
    scenario = flight(host, answer)
    scenario.close()
    fin = sum(seen.past - seen.first + ("F" in seen.tcp.flags) for seen in scenario.take())
    scenario.send(f"P. 1:101(100) {answer}")
    past = number + fin if number == 10001 and fin else number
    scenario.expect(f"R. {past}:{past}(0) ack 1")


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        pytest.param("ack 9001 win 7", 10001, id="it may be rounded down"),
        pytest.param("ack 9001 win 6", 9769, id="it is less by more than that"),
        pytest.param("ack 9901 win 0", 9901, id="it is shut"),
    ],
)
def test_a_window_that_the_peer_has_rounded_down(answer: str, number: int, host: Host) -> None:
    """The peer's scale is 128 bytes: BSD has room for as much more, and may have taken what lies there."""
    scenario = flight(host, answer, SCALED)
    scenario.abort()
    scenario.expect(f"R. {number}:{number}(0) ack 1")


@pytest.mark.stack(user_timeout_ms=3000)
@pytest.mark.parametrize("window", [0, 500])
def test_the_peer_says_nothing_more_behind_a_window_that_it_has_taken_back(window: int, host: Host) -> None:
    scenario = flight(host, f"ack 4001 win {window}")
    resets = [seen.first for seen in scenario.take(10) if "R" in seen.tcp.flags]
    assert resets == [4001 + window]
    assert scenario.closed_by() == "timeout"


def test_a_peer_that_answers_no_keepalive(established: Scenario) -> None:
    for option, value in (("keep_idle_s", 100), ("keep_interval_s", 10), ("keep_count", 1), ("keepalive", 1)):
        established.set_option(option, value)
    established.write(1000)
    established.expect("P. 1:1001(1000) ack 1")
    established.send(". 1:1(0) ack 1001 win 0")
    established.expect(". 1000:1000(0) ack 1", after=100)
    established.expect("R. 1001:1001(0) ack 1", after=10)


@pytest.mark.parametrize("window", [0, 1, 65535])
def test_a_handshake_whose_listener_goes(window: int, host: Host) -> None:
    """The SYN's window begins behind our SYN."""
    scenario = states.syn_received(host, f"S 0:0(0) win {window} <mss 1000>")
    for stack in host.stacks:
        stack.unlisten(host.listeners[0])
    host.turn()
    scenario.expect("R. 1:1(0) ack 1")


def lose_two(scenario: Scenario) -> None:
    """The peer has everything but the second segment, which is sent again and lost again."""
    for past in (4001, 7001, 10_001):
        scenario.send(f". 1:1(0) ack 1001 win 9000 <sack 2001:{past}>")
    scenario.take(0.05)


def test_after_losses_the_peer_asks_back_and_is_told_the_number(host: Host) -> None:
    scenario = flight(host, "ack 1001 win 65535", "S 0:0(0) win 65535 <mss 1000,sackOK>")
    lose_two(scenario)
    scenario.abort()
    scenario.expect("R. 10001:10001(0) ack 1")
    scenario.send(". 1:1(0) ack 1001 win 9000 <sack 2001:10001>")
    scenario.expect("R 1001:1001(0)")


SEGMENTS: list[Callable[[Scenario], str]] = [
    lambda _: ". 1:1(0) ack 4001 win 0",
    lambda _: "P. 1:101(100) ack 4001 win 0",
    lambda _: "F. 1:1(0) ack 4001",
]


@pytest.mark.parametrize("segment", SEGMENTS, ids=["ACK", "data", "FIN"])
def test_a_connection_that_is_no_more_is_refused_with_what_the_peer_expects(
    segment: Callable[[Scenario], str], host: Host
) -> None:
    """RFC 9293 section 3.10.7.1: the number that it has acknowledged."""
    scenario = flight(host, "ack 1 win 0")
    scenario.abort()
    scenario.expect("R. 1:1(0) ack 1")
    scenario.send(segment(scenario))
    scenario.expect("R 4001:4001(0)")


# And the peer's, at the same place.


def test_a_reset_at_the_edge_of_our_window_is_challenged(plain: Scenario) -> None:
    """A peer that has filled the window, and some of that was lost, knows of no other number."""
    plain.send("P. 1001:2001(1000) ack 1")
    plain.expect(". 1:1(0) ack 1")
    plain.send("R. 65536:65536(0) ack 1")
    plain.expect(". 1:1(0) ack 1")
    plain.send("R 1:1(0)")
    assert plain.closed_by() == "reset"


def test_a_reset_behind_the_edge_of_our_window_is_ignored(plain: Scenario) -> None:
    plain.send("R. 65537:65537(0) ack 1")
    plain.expect_nothing(1)
    assert plain.state == "established"


@pytest.mark.link(slots=8)
@pytest.mark.stack(conn_max=64)
def test_many_are_reset_at_once_and_the_device_is_full(host: Host) -> None:
    """Each is over when its reset finds no room, and nobody would send it again."""
    scenarios = [states.established(host) for _ in range(50)]
    for scenario in scenarios:
        scenario.stack.abort(scenario.conn)
    for scenario in scenarios:
        scenario.expect("R. 1:1(0) ack 1", within=1)
    assert host.counter("device_full") == 0
