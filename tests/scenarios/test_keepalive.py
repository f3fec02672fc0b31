"""Keepalive: off unless asked for, and one lost probe is not fatal (RFC 9293 section 3.8.4, MUST-24 to 29)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Scenario


@pytest.fixture
def kept(established: Scenario) -> Scenario:
    """Probes after 100 s of silence, 10 s apart, three of them."""
    for option, value in (("keep_idle_s", 100), ("keep_interval_s", 10), ("keep_count", 3), ("keepalive", 1)):
        established.set_option(option, value)
    return established


def test_it_is_off(established: Scenario) -> None:
    """MUST-25."""
    established.expect_nothing(100_000)
    assert established.state == "established"


def test_the_usual_time_is_two_hours(established: Scenario) -> None:
    """MUST-28: no less than two hours unless it is set."""
    assert established.stack.get_option(established.conn, "keep_idle_s") >= 7200


def test_a_silent_peer_is_probed(kept: Scenario) -> None:
    """With the number before the next one, so that the peer has to answer: SEG.SEQ = SND.NXT - 1."""
    kept.expect(". 0:0(0) ack 1", after=100)


def test_a_peer_that_answers_lives_on(kept: Scenario) -> None:
    for _ in range(5):
        kept.expect(". 0:0(0) ack 1", after=100)
        kept.send(". 1:1(0) ack 1")
    assert kept.state == "established"


def test_one_lost_probe_is_not_fatal(kept: Scenario) -> None:
    """MUST-29."""
    kept.expect(". 0:0(0) ack 1", after=100)
    kept.expect(". 0:0(0) ack 1", after=10)
    kept.send(". 1:1(0) ack 1")
    kept.expect(". 0:0(0) ack 1", after=100)


def test_a_peer_that_never_answers_is_given_up(kept: Scenario) -> None:
    kept.expect(". 0:0(0) ack 1", after=100)
    kept.expect(". 0:0(0) ack 1", after=10)
    kept.expect(". 0:0(0) ack 1", after=10)
    kept.advance(10.1)
    assert {seen.tcp.flags for seen in kept.take()} <= {"R."}
    assert kept.closed_by() == "keepalive"
    with pytest.raises(TimeoutError):
        kept.write(1)


@pytest.mark.parametrize(("timeout_s", "probes"), [(95, 1), (110, 1), (111, 2), (145, 5)])
def test_a_user_timeout_takes_the_place_of_the_number_of_probes(kept: Scenario, timeout_s: int, probes: int) -> None:
    """RFC 5482 section 4.2. It is looked at when a probe is due, and the first one is always sent."""
    kept.set_option("user_timeout_ms", timeout_s * 1000)
    kept.expect(". 0:0(0) ack 1", after=100)
    for _ in range(probes - 1):
        kept.expect(". 0:0(0) ack 1", after=10)
    kept.expect("R. 1:1(0) ack 1", after=10)
    assert kept.closed_by() == "keepalive"


def test_a_user_timeout_may_be_longer_than_all_probes_that_are_counted(kept: Scenario) -> None:
    kept.set_option("keep_interval_s", 1)
    kept.set_option("user_timeout_ms", 500_000)
    kept.take(499)
    assert kept.state == "established"
    kept.take(2)
    assert kept.closed_by() == "keepalive"


def test_another_interval_does_not_make_the_silence_longer(kept: Scenario) -> None:
    kept.set_option("user_timeout_ms", 600_000)
    kept.take(115)
    kept.set_option("keep_interval_s", 300)
    kept.take(10)
    assert kept.state == "established"


def test_a_silence_that_was_probed_does_not_count_for_data(kept: Scenario) -> None:
    kept.set_option("user_timeout_ms", 130_000)
    kept.take(125)
    kept.write(100)
    kept.take(20)
    assert kept.state == "established"


@pytest.mark.parametrize("segment", ["P. 1:101(100) ack 1", ". 1:1(0) ack 1"])
def test_any_segment_is_a_sign_of_life(segment: str, kept: Scenario) -> None:
    kept.expect_nothing(99)
    kept.send(segment)
    kept.take(0.5)
    kept.expect_nothing(98)
    assert kept.expect(f". 0:0(0) ack {kept.peer.next or 1}", within=3)


def test_a_reset_answers_a_probe(kept: Scenario) -> None:
    """The peer was started again and knows nothing."""
    kept.expect(". 0:0(0) ack 1", after=100)
    kept.send("R 1:1(0)")
    assert kept.closed_by() == "reset"


def test_it_can_be_turned_off_again(kept: Scenario) -> None:
    kept.expect_nothing(50)
    kept.set_option("keepalive", 0)
    kept.expect_nothing(1000)


def test_turning_it_on_counts_from_what_was_heard_last(established: Scenario) -> None:
    for option, value in (("keep_idle_s", 100), ("keep_interval_s", 10), ("keep_count", 3)):
        established.set_option(option, value)
    established.expect_nothing(50)
    established.set_option("keepalive", 1)
    seen = established.expect(". 0:0(0) ack 1", within=101)
    assert seen.tcp.payload == b""


def test_unacknowledged_data_is_sent_again_instead(kept: Scenario) -> None:
    """MUST-27: only when nothing is on its way."""
    kept.write(100)
    kept.expect("P. 1:101(100) ack 1")
    kept.advance(90)
    assert {seen.first for seen in kept.take()} == {1}


def test_a_half_closed_connection_is_probed_too(kept: Scenario) -> None:
    kept.shutdown()
    kept.expect("F. 1:1(0) ack 1")
    kept.send(". 1:1(0) ack 2")
    kept.expect(". 1:1(0) ack 1", within=101)
