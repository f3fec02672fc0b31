"""Resets and other blind attacks: only who sees the connection can end it (RFC 5961), and resets of our own."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states

SYNCHRONIZED = ["established", "established_client", "fin_wait_1", "fin_wait_2", "close_wait", "closing", "last_ack"]
NEXT = {"close_wait": 2, "closing": 2, "last_ack": 2}
"""The number that the stack expects next, by state; 1 in the others."""
ACKED = {"fin_wait_1": 2, "fin_wait_2": 2, "closing": 2, "last_ack": 2}
"""Our next number, by state."""


@pytest.fixture(params=SYNCHRONIZED)
def any_state(request: pytest.FixtureRequest) -> tuple[Scenario, int, int]:
    """A connection, the next number of the peer, and our own."""
    return request.getfixturevalue(request.param), NEXT.get(request.param, 1), ACKED.get(request.param, 1)


def test_a_reset_with_the_exact_number_ends_it(any_state: tuple[Scenario, int, int]) -> None:
    """RFC 5961 section 3.2."""
    scenario, number, _ = any_state
    scenario.send(f"R {number}:{number}(0)")
    scenario.expect_nothing(100)
    assert scenario.state in ("closed", "dead")
    assert scenario.closed_by() in ("reset", "closed")


def test_a_reset_within_the_window_is_challenged(any_state: tuple[Scenario, int, int]) -> None:
    scenario, number, own = any_state
    before = scenario.state
    scenario.send(f"R {number + 1}:{number + 1}(0)")
    scenario.expect(f". {own}:{own}(0) ack {number}")
    assert scenario.state == before


@pytest.mark.parametrize("number", [0, 70000, 2**31])
def test_a_reset_outside_the_window_is_ignored(number: int, plain: Scenario) -> None:
    plain.send(f"R {number}:{number}(0)")
    plain.expect_nothing(1)
    assert plain.state == "established"


def test_a_reset_at_the_last_number_of_the_window_is_challenged(plain: Scenario) -> None:
    plain.send("R 65535:65535(0)")
    plain.expect(". 1:1(0) ack 1")


def test_the_peer_answers_a_challenge_with_the_exact_number(plain: Scenario) -> None:
    """A reset that came before data that is missing: the peer is asked, and knows."""
    plain.send("R 101:101(0)")
    plain.expect(". 1:1(0) ack 1")
    plain.send("R 1:1(0)")
    assert plain.closed_by() == "reset"


def test_what_was_received_before_a_reset(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1")
    plain.take(0.5)
    plain.send("R 101:101(0)")
    assert plain.closed_by() == "reset"
    with pytest.raises(OSError, match="reset"):
        plain.write(1)


@pytest.mark.parametrize("number", [0, 1, 50, 70000, 2**31])
def test_a_syn_in_a_connection_is_challenged(number: int, plain: Scenario) -> None:
    """RFC 5961 section 4.2, whatever its number."""
    plain.send(f"S {number}:{number}(0) win 1000")
    plain.expect(". 1:1(0) ack 1")
    assert plain.state == "established"


def test_a_syn_is_challenged_in_every_state(any_state: tuple[Scenario, int, int]) -> None:
    scenario, number, own = any_state
    before = scenario.state
    scenario.send(f"S {number}:{number}(0) win 1000")
    scenario.expect(f". {own}:{own}(0) ack {number}")
    assert scenario.state == before


def test_a_syn_of_a_peer_that_was_started_again(plain: Scenario) -> None:
    """It gets the challenge, resets what it does not know, and tries again: RFC 9293 section 3.5.1."""
    plain.send("S 70000:70000(0) win 1000")
    plain.expect(". 1:1(0) ack 1")
    plain.send("R 1:1(0)")
    assert plain.closed_by() == "reset"


# What an acknowledgment may acknowledge: RFC 5961 section 5.2.


def test_an_acknowledgment_of_what_was_never_sent_is_challenged(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 2")
    plain.expect(". 1:1(0) ack 1")
    assert not plain.can_read()


def test_an_acknowledgment_from_too_long_ago_is_challenged(plain: Scenario) -> None:
    """Before SND.UNA - MAX.SND.WND."""
    long_ago = (plain.peer.of_stack(1) - 70000) % 2**32
    plain.send("P. 1:101(100) ack 1", ack=long_ago)
    plain.expect(". 1:1(0) ack 1")
    assert not plain.can_read()


def test_a_late_acknowledgment_may_bring_data(plain: Scenario) -> None:
    plain.write(100)
    plain.expect("P. 1:101(100) ack 1")
    plain.send(". 1:1(0) ack 101")
    plain.send("P. 1:101(100) ack 51")
    plain.expect(". 101:101(0) ack 101", within=0.5)
    assert len(plain.read()) == 100


@pytest.mark.stack(challenge_acks_per_s=10)
def test_challenges_are_limited(plain: Scenario) -> None:
    """RFC 5961 section 7."""
    answers = 0
    for _ in range(100):
        plain.send("R 2:2(0)")
        answers += len(plain.take())
    assert 1 <= answers <= 11
    assert plain.host.counter("tcp_challenge_rate") == 100 - answers
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    plain.advance(1.1)
    plain.send("R 102:102(0)")
    plain.expect(". 1:1(0) ack 101")


@pytest.mark.stack(challenge_acks_per_s=10)
def test_the_limit_of_one_connection_tells_nothing_about_another(host: Host) -> None:
    """RFC 5961 section 10: a count that all share could be read by an attacker."""

    noisy, quiet = states.established(host), states.established(host)
    for _ in range(100):
        noisy.send("R 2:2(0)")
        noisy.take()
    for _ in range(5):
        quiet.send("R 2:2(0)")
        quiet.expect(". 1:1(0) ack 1")


def test_a_blind_reset_of_every_guess_but_one(plain: Scenario) -> None:
    for number in range(2, 65536, 1024):
        plain.send(f"R {number}:{number}(0)")
        plain.take()
    assert plain.state == "established"


@pytest.mark.parametrize("segment", ["P. 1:101(100) ack 1", "F. 1:1(0) ack 1"])
def test_resets_of_ours_carry_a_number_that_is_believed(segment: str, plain: Scenario) -> None:
    """RFC 9293 section 3.5.2: of a connection that is no more, the number that was acknowledged."""
    plain.abort()
    plain.expect("R. 1:1(0) ack 1")
    plain.send(segment)
    plain.expect("R 1:1(0)")
