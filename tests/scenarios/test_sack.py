"""Selective acknowledgment, as a receiver and as a sender (RFC 2018, RFC 2883, RFC 6675)."""

from __future__ import annotations

import random

import pytest

from usnet_framework._native_stack import NO_SSTHRESH
from usnet_framework.testing import Host, Scenario, states


def test_only_when_it_was_permitted(plain: Scenario) -> None:
    """RFC 2018 section 2."""
    plain.send("P. 101:201(100) ack 1")
    plain.expect(". 1:1(0) ack 1")


def test_the_block_of_the_latest_segment_comes_first(established: Scenario) -> None:
    """RFC 2018 section 4."""
    established.send(". 201:301(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:301>")
    established.send(". 401:501(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 401:501 201:301>")
    established.send(". 601:701(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 601:701 401:501 201:301>")
    established.send(". 301:401(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:501 601:701>")


def test_four_blocks_at_most(established: Scenario) -> None:
    for first in (201, 401, 601, 801, 1001):
        established.send(f". {first}:{first + 100}(100) ack 1")
        seen = established.take()[-1]
    assert seen.options.sack == ((1001, 1101), (801, 901), (601, 701), (401, 501))


def test_three_blocks_beside_timestamps(stamped: Scenario) -> None:
    """40 bytes of options hold no more."""
    for first in (201, 401, 601, 801):
        stamped.send(f". {first}:{first + 100}(100) ack 1")
        seen = stamped.take()[-1]
    assert seen.options.sack == ((801, 901), (601, 701), (401, 501))
    assert seen.options.timestamps is not None


def test_a_block_grows(established: Scenario) -> None:
    established.send(". 201:301(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:301>")
    established.send(". 301:401(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:401>")
    established.send(". 101:201(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 101:401>")


def test_a_block_disappears_when_the_gap_is_filled(established: Scenario) -> None:
    for first in (101, 301):
        established.send(f". {first}:{first + 100}(100) ack 1")
        established.take()
    established.send(". 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 201 <sack 301:401>")
    established.send(". 201:301(100) ack 1")
    established.expect(". 1:1(0) ack 401")


def test_data_that_is_sent_carries_the_blocks_too(established: Scenario) -> None:
    """RFC 2018 section 3: in all segments while there are gaps."""
    established.send(". 101:201(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 101:201>")
    established.write(10)
    established.expect("P. 1:11(10) ack 1 <sack 101:201>")


def test_a_duplicate_below_the_acknowledgment_is_reported(established: Scenario) -> None:
    """RFC 2883 section 4: D-SACK."""
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101", within=0.5)
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101 <sack 1:101>")


def test_a_report_of_a_duplicate_is_made_once(established: Scenario) -> None:
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101", within=0.5)
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101 <sack 1:101>")
    established.send("P. 101:201(100) ack 1")
    established.expect(". 1:1(0) ack 201", within=0.5)


def test_a_duplicate_above_the_acknowledgment_is_reported_before_its_block(established: Scenario) -> None:
    """RFC 2883 section 4.2."""
    established.send(". 201:301(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:301>")
    established.send(". 301:401(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:401>")
    established.send(". 201:301(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 201:301 201:401>")


def test_the_part_of_a_segment_that_was_there_is_reported(established: Scenario) -> None:
    """RFC 2883 section 4.1.4."""
    established.send("P. 1:201(200) ack 1")
    established.expect(". 1:1(0) ack 201", within=0.5)
    established.send("P. 101:301(200) ack 1")
    established.expect(". 1:1(0) ack 301 <sack 101:201>", within=0.5)


def test_of_several_duplicates_the_first_is_reported(established: Scenario) -> None:
    """RFC 2883 section 4: one contiguous sequence in each report."""
    established.send(". 1001:1501(500) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 1001:1501>")
    established.send(". 2001:2501(500) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 2001:2501 1001:1501>")
    established.send("P. 501:3001(2500) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 1001:1501 501:3001>")


def test_a_duplicate_of_data_and_fin_is_reported(established: Scenario) -> None:
    """RFC 2883 section 4: by this the sender of a tail loss probe knows that it was needless."""
    established.send("FP. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 102")
    established.send("FP. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 102 <sack 1:102>")
    established.send("F. 101:101(0) ack 1")
    established.expect(". 1:1(0) ack 102")


# As a sender.


@pytest.fixture
def sender(host: Host) -> Scenario:
    """10 segments of 1000 bytes in flight, 100 ms after they were sent."""
    scenario = states.established(host, states.SYN.replace("1460", "1000"), rtt=0.1)
    scenario.write(10000)
    scenario.expect_data(1, 10001)
    scenario.advance(0.1)
    return scenario


def test_what_the_peer_has_is_not_sent_again(sender: Scenario) -> None:
    sender.send(". 1:1(0) ack 1 <sack 1001:2001>")
    sender.take()
    sender.send(". 1:1(0) ack 1 <sack 1001:3001>")
    sender.take()
    sender.send(". 1:1(0) ack 1 <sack 1001:5001>")
    again = sender.take()
    again += sender.take(0.05)
    assert [(seen.first, seen.past) for seen in again if seen.first < 10001] == [(1, 1001)]


def test_what_is_lost_is_told_until_it_is_sent_again(sender: Scenario) -> None:
    """Of what is not acknowledged, each byte is reported by the peer, or lost, or in flight."""
    assert sender.info.ssthresh == NO_SSTHRESH
    before = sender.info
    assert (before.sacked, before.lost, before.in_flight) == (0, 0, 10_000)
    sender.send(". 1:1(0) ack 1 <sack 2001:10001>")
    sender.take()
    after = sender.info
    assert after.ssthresh < NO_SSTHRESH
    assert (after.sacked, after.lost + after.in_flight) == (8000, 2000)
    assert after.lost == 2000 - 1000 * (after.retransmitted - before.retransmitted)


def test_two_holes_are_both_filled(sender: Scenario) -> None:
    sender.send(". 1:1(0) ack 1 <sack 6001:10001 1001:5001>")
    again = sender.take()
    for _ in range(10):
        again += sender.take(0.01)
    assert [(seen.first, seen.past) for seen in again] == [(1, 1001), (5001, 6001)]


def test_everything_is_acknowledged_in_the_end(sender: Scenario) -> None:
    sender.send(". 1:1(0) ack 1 <sack 2001:10001>")
    sender.take(0.1)
    sender.send(". 1:1(0) ack 10001")
    sender.expect_nothing(10)
    assert sender.info.queued == 0
    assert sender.info.in_flight == 0


def test_a_peer_that_takes_back_what_it_reported(sender: Scenario) -> None:
    """RFC 2018 section 8: reported data is kept until it is acknowledged; after a timeout all may be sent again."""
    sender.send(". 1:1(0) ack 1 <sack 1001:10001>")
    resent = {seen.first for seen in sender.take()}
    done, sizes = 1, {1: 1000}
    for _ in range(200):
        seen = sender.take(0.5)
        resent |= {each.first for each in seen}
        sizes |= {each.first: len(each.tcp.payload) for each in seen}
        while done in sizes:
            done = done + sizes.pop(done)
            sender.send(f". 1:1(0) ack {done}")
            fresh = sender.take()
            sizes |= {each.first: len(each.tcp.payload) for each in fresh}
            resent |= {each.first for each in fresh}
        if done == 10001:
            break
    assert done == 10001
    assert {1001, 5001, 9001} <= resent


@pytest.mark.parametrize(
    "blocks",
    [
        "11001:12001",  # never sent
        "9001:11001",  # partly never sent
        "0:1",  # before everything
        "2001:1001",  # inverted
        "2001:2001",  # empty
        "4294960000:4294961000",
        "2147483649:2147484000",
        "1:2147483648",
        "1:10002",
    ],
)
def test_blocks_that_cannot_be_are_ignored(blocks: str, sender: Scenario) -> None:
    sender.send(f". 1:1(0) ack 1 <sack {blocks}>")
    sender.take()
    assert sender.info.sacked == 0
    assert sender.state == "established"
    sender.send(". 1:1(0) ack 10001")
    assert sender.info.queued == 0


@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_all_kinds(seed: int, sender: Scenario) -> None:
    """The stack checks its memory after every segment; in the end everything arrives."""
    chance = random.Random(seed)
    for _ in range(300):
        ends = [chance.choice([1, 500, 1001, 5001, 9999, 10001, 10500, 2**31, 2**32 - 5]) for _ in range(8)]
        blocks = " ".join(f"{ends[i]}:{ends[i + 1]}" for i in range(0, 2 * chance.randrange(1, 5), 2))
        sender.send(f". 1:1(0) ack 1 <sack {blocks}>")
        sender.take()
        sender.advance(chance.choice([0, 0.001, 0.3]))
        sender.take()
    sender.send(". 1:1(0) ack 10001")
    sender.take()
    assert (sender.info.queued, sender.info.sacked, sender.info.in_flight) == (0, 0, 0)
    sender.write(100)
    sender.expect("P. 10001:10101(100) ack 1")


def test_splitting_blocks_costs_bounded_memory(sender: Scenario) -> None:
    """Each acknowledgment cuts sent segments into smaller ones."""
    for step in range(1, 400):
        first = 1 + step * 23 % 10000
        sender.send(f". 1:1(0) ack 1 <sack {first}:{first + 1}>")
        sender.take()
    sender.send(". 1:1(0) ack 10001")
    sender.take()
    assert sender.info.queued == 0
    assert states.established(sender.host).state == "established"
