"""Segments that come again, or late, and what they still tell: the peer has no other way to say it (RFC 9293 appendix
A.2)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states


def test_a_repeated_fin_acknowledges_ours(closing: Scenario) -> None:
    """The two crossed, and the pure ACK of ours was lost: nothing is left that the peer could say it with."""
    closing.send("F. 1:1(0) ack 2")
    closing.expect(". 2:2(0) ack 2")
    assert closing.state == "time_wait"
    closing.expect_nothing(59)


@pytest.mark.parametrize("answer", ["ack 1", "ack 2"])
def test_a_repeated_fin_that_may_acknowledge_ours_is_answered(answer: str, closing: Scenario) -> None:
    closing.send(f"F. 1:1(0) {answer}")
    closing.expect(". 2:2(0) ack 2")


def test_a_repeated_fin_with_data_acknowledges_ours(host: Host) -> None:
    scenario = states.fin_wait_1(host)
    scenario.send("FP. 1:101(100) ack 1")
    scenario.expect(". 2:2(0) ack 102")
    scenario.send("FP. 1:101(100) ack 2")
    scenario.expect(". 2:2(0) ack 102 <sack 1:102>")
    assert scenario.state == "time_wait"


def test_a_repeated_fin_ends_the_last_ack(last_ack: Scenario) -> None:
    last_ack.send("F. 1:1(0) ack 2")
    last_ack.take()
    assert last_ack.state == "dead"
    assert last_ack.closed_by() == "closed"
    last_ack.expect_nothing(100)


def asked(scenario: Scenario) -> None:
    """The peer has sent a hundred bytes, which are acknowledged; an answer is in flight, which is not."""
    scenario.send("P. 1:101(100) ack 1")
    scenario.expect(". 1:1(0) ack 101", within=0.5)
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 101")


def test_repeated_data_acknowledges_ours(plain: Scenario) -> None:
    asked(plain)
    plain.send("P. 1:101(100) ack 101")
    plain.expect(". 101:101(0) ack 101")
    assert plain.info.snd_una == plain.info.snd_nxt
    plain.expect_nothing(5)


def test_the_end_of_repeated_data_is_enough(plain: Scenario) -> None:
    """The peer has cut it in other places than the first time."""
    asked(plain)
    plain.send("P. 51:101(50) ack 101")
    plain.expect(". 101:101(0) ack 101")
    plain.expect_nothing(5)


def test_repeated_data_opens_the_window(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 1000 <mss 1460>")
    scenario.send("P. 1:101(100) ack 1 win 0")
    scenario.expect(". 1:1(0) ack 101", within=0.5)
    scenario.write(100)
    scenario.send("P. 1:101(100) ack 1 win 1000")
    scenario.expect("P. 1:101(100) ack 101")


def test_what_has_been_delivered_is_not_delivered_again(plain: Scenario) -> None:
    asked(plain)
    assert len(plain.read()) == 100
    plain.send("P. 1:101(100) ack 101")
    plain.take()
    assert not plain.can_read()


@pytest.mark.parametrize("segment", ["P. 1:51(50) ack 101", ". 1:1(0) ack 101", ". 100:100(0) ack 101"])
def test_older_segments_acknowledge_nothing(segment: str, plain: Scenario) -> None:
    """A number that is easy to guess is no proof: RFC 5961."""
    asked(plain)
    plain.send(segment)
    plain.expect(". 101:101(0) ack 101")
    assert plain.info.snd_una != plain.info.snd_nxt
    plain.expect("P. 1:101(100) ack 101", within=1)


@pytest.mark.parametrize("number", [102, 70000, 2**31])
def test_repeated_data_cannot_acknowledge_what_was_not_sent(number: int, plain: Scenario) -> None:
    asked(plain)
    plain.send("P. 1:101(100) ack 1", ack=plain.peer.of_stack(number))
    plain.expect(". 101:101(0) ack 101")
    assert plain.info.snd_una != plain.info.snd_nxt
    plain.expect("P. 1:101(100) ack 101", within=1)


def test_a_repetition_with_an_old_timestamp_acknowledges_nothing(host: Host) -> None:
    """RFC 7323 section 5.3: it may be from long ago."""
    scenario = states.established(host, states.SYN_WITH_TIMESTAMPS.replace("ts 0", "ts 1000"))
    scenario.send("P. 1:101(100) ack 1 <ts 1010 ecr 0>")
    scenario.expect(". 1:1(0) ack 101", within=0.5)
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 101")
    scenario.send("P. 1:101(100) ack 101 <ts 1009 ecr 0>")
    scenario.expect(". 101:101(0) ack 101")
    assert scenario.info.snd_una != scenario.info.snd_nxt
    scenario.take(1)


def test_an_acknowledgment_that_data_has_overtaken_counts(plain: Scenario) -> None:
    """It stands before the data, which is not acknowledged yet, and needs no answer."""
    plain.write(100)
    plain.expect("P. 1:101(100) ack 1")
    plain.send("P. 1:101(100) ack 1")
    plain.send(". 1:1(0) ack 101")
    assert plain.info.snd_una == plain.info.snd_nxt
    plain.expect(". 101:101(0) ack 101", after=0.04)


def test_repetitions_keep_a_connection_alive(established: Scenario) -> None:
    for option, value in (("keep_idle_s", 100), ("keep_interval_s", 10), ("keep_count", 1), ("keepalive", 1)):
        established.set_option(option, value)
    established.send("P. 1:101(100) ack 1")
    established.take(99)
    established.send("P. 1:101(100) ack 1")
    established.take(99)
    assert established.state == "established"
    established.expect(". 0:0(0) ack 101", within=2)


# ACKs that later ones have overtaken, and their SACK blocks.

KILO = "S 0:0(0) win 65535 <mss 1000,sackOK>"


def ten(host: Host, acknowledged: int) -> Scenario:
    """Ten segments in flight, of which the first ones are acknowledged by an ACK without blocks."""
    scenario = states.established(host, KILO, rtt=0.05)
    scenario.write(10_000)
    scenario.expect_data(1, 10_001)
    scenario.advance(0.05)
    scenario.send(f". 1:1(0) ack {acknowledged}")
    scenario.expect_nothing()
    return scenario


def test_a_late_acknowledgment_tells_what_arrived(host: Host) -> None:
    """Nothing else does: the packet behind what is missing is sent again at once."""
    scenario = ten(host, 2001)
    scenario.send(". 1:1(0) ack 1001 <sack 3001:10001>")
    scenario.expect(". 2001:3001(1000) ack 1")
    scenario.send(". 1:1(0) ack 10001")
    scenario.expect_nothing(5)
    assert host.counter("timeouts") == 0


def test_a_late_acknowledgment_may_say_what_is_known(host: Host) -> None:
    """Blocks, or parts of them, below what is acknowledged say nothing."""
    scenario = ten(host, 5001)
    scenario.send(". 1:1(0) ack 1001 <sack 2001:4001>")
    scenario.send(". 1:1(0) ack 1001 <sack 3001:6001>")
    scenario.expect_nothing(0.05)
    assert scenario.info.sacked == 0


def test_blocks_of_a_late_acknowledgment_are_no_duplicates(host: Host) -> None:
    """A block is one when it lies below the number that its own segment acknowledges (RFC 2883 section 4)."""
    scenario = ten(host, 2001)
    scenario.send(". 1:1(0) ack 1001 <sack 3001:10001>")
    scenario.expect(". 2001:3001(1000) ack 1")
    scenario.send(". 1:1(0) ack 2001")
    scenario.send(". 1:1(0) ack 1001 <sack 1001:2001>")
    assert host.counter("spurious") == 0


def test_a_late_acknowledgment_reports_a_duplicate(host: Host) -> None:
    """What was sent again had arrived, and the reduction is undone: RFC 2883, RFC 3708."""
    scenario = ten(host, 2001)
    before = scenario.info.cwnd
    scenario.send(". 1:1(0) ack 2001 <sack 3001:10001>")
    scenario.expect(". 2001:3001(1000) ack 1")
    assert scenario.info.cwnd < before
    scenario.write(1000)
    scenario.take()
    scenario.send(". 1:1(0) ack 11001")
    scenario.send(". 1:1(0) ack 10001 <sack 2001:3001>")
    assert host.counter("spurious") == 1
    assert scenario.info.cwnd >= before


@pytest.mark.parametrize("number", [1, 1001])
def test_a_late_acknowledgment_without_blocks_is_nothing(number: int, host: Host) -> None:
    scenario = ten(host, 2001)
    before = scenario.info
    for _ in range(10):
        scenario.send(f". 1:1(0) ack {number}")
    scenario.expect_nothing()
    assert scenario.info.cwnd == before.cwnd
    assert scenario.info.snd_una == before.snd_una


def test_blocks_of_an_acknowledgment_from_too_long_ago_do_not_count(host: Host) -> None:
    """Before SND.UNA - MAX.SND.WND: RFC 5961 section 5.2."""
    scenario = ten(host, 2001)
    long_ago = (scenario.peer.of_stack(2001) - 65536) % 2**32
    scenario.send(". 1:1(0) ack 1001 <sack 3001:10001>", ack=long_ago)
    scenario.expect(". 10001:10001(0) ack 1")
    assert scenario.info.sacked == 0


def test_blocks_of_a_late_acknowledgment_without_sack_do_not_count(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 65535 <mss 1000>", rtt=0.05)
    scenario.write(10_000)
    scenario.expect_data(1, 10_001)
    scenario.send(". 1:1(0) ack 2001")
    scenario.send(". 1:1(0) ack 1001 <sack 3001:10001>")
    scenario.expect_nothing(0.05)
