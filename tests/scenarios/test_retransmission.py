"""What is lost is sent again: by acknowledgments (RFC 5681, 6675, 6582), by time (RFC 8985). Timeouts are apart."""

from __future__ import annotations

import pytest
from support.kilo import KILO, KILO_PLAIN, in_flight, warm

from usnet_framework.testing import Host

# Duplicate acknowledgments, without SACK.


def test_two_duplicates_are_no_loss(host: Host) -> None:
    """RFC 5681 section 3.2; RFC 3042 lets one new segment go for each."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 5)
    scenario.write(5000)
    scenario.take()
    for _ in range(2):
        scenario.send(f". 1:1(0) ack {first}")
        assert all(seen.first > first for seen in scenario.take())
    assert not scenario.info.in_recovery


def test_three_duplicates_are_a_loss(host: Host) -> None:
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    for _ in range(2):
        scenario.send(f". 1:1(0) ack {first}")
        scenario.take()
    scenario.send(f". 1:1(0) ack {first}")
    assert scenario.take()[0].first == first
    assert scenario.info.in_recovery
    assert host.counter("fast_recoveries") == 1


def test_a_partial_acknowledgment_names_the_next_hole(host: Host) -> None:
    """RFC 6582 section 3.2, step 3."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    for _ in range(5):
        scenario.send(f". 1:1(0) ack {first}")
        scenario.take()
    scenario.take(0.1)
    scenario.send(f". 1:1(0) ack {first + 3000}")
    assert scenario.take()[0].first == first + 3000
    assert scenario.info.in_recovery
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first + 8000}")
    assert not scenario.info.in_recovery


def test_the_window_is_reduced_once_per_loss(host: Host) -> None:
    """RFC 6582: a second hole of the same window is no second reason."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    for _ in range(4):
        scenario.send(f". 1:1(0) ack {first}")
        scenario.take()
    threshold = scenario.info.ssthresh
    scenario.take(0.1)
    scenario.send(f". 1:1(0) ack {first + 3000}")
    scenario.take()
    assert scenario.info.ssthresh == threshold
    assert host.counter("fast_recoveries") == 1


@pytest.mark.parametrize(
    "segments",
    [
        [f". 1:1(0) ack {{first}} win {60000 + step}" for step in range(4)],
        [f"P. {first}:{first + 10}(10) ack {{first}}" for first in (1, 11, 21, 31)],
        ["F. 1:1(0) ack {first}"] * 4,
    ],
    ids=["window", "data", "fin"],
)
def test_what_is_no_duplicate(segments: list[str], host: Host) -> None:
    """RFC 5681 section 2: it brings data, a FIN, or another window."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    for segment in segments:
        host.sent.clear()
        scenario.send(segment.format(first=first))
    assert all(seen.first >= first + 8000 for seen in scenario.take())
    assert not scenario.info.in_recovery


def test_limited_transmit(host: Host) -> None:
    """RFC 3042: a full congestion window lets one new segment go for each of the first two duplicates."""
    scenario = warm(host, KILO_PLAIN, rounds=0)
    scenario.write(20_000)
    assert scenario.expect_data(1, 10_001) == [1000] * 10
    scenario.send(". 1:1(0) ack 1")
    scenario.expect(". 10001:11001(1000) ack 1")
    scenario.send(". 1:1(0) ack 1")
    scenario.expect(". 11001:12001(1000) ack 1")


# SACK and RACK.


def test_three_reported_segments_are_a_loss(host: Host) -> None:
    """RFC 6675 section 4, RFC 8985 section 6.2: once the reordering window has passed at the latest."""
    scenario = warm(host)
    first = in_flight(scenario, 10)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 2000}>")
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 3000}>")
    scenario.expect_nothing()
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 4000}>")
    again = scenario.take()
    if not again:
        again = scenario.take(0.05)
    assert again[0].first == first
    assert all(seen.first in (first, *range(first + 10000, first + 20000)) for seen in again)


def test_mild_reordering_is_no_loss(host: Host) -> None:
    """RFC 8985 section 6.2: the reordering window is a quarter of the round trip."""
    scenario = warm(host)
    first = in_flight(scenario, 4)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 2000}>")
    scenario.expect_nothing(0.01)
    scenario.send(f". 1:1(0) ack {first + 2000}")
    scenario.expect_nothing(0.01)
    assert host.counter("fast_recoveries") == 0


def test_a_loss_is_found_after_the_reordering_window(host: Host) -> None:
    """RFC 8985 section 6.3: one reported segment and time are enough."""
    scenario = warm(host)
    first = in_flight(scenario, 4)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 2000}>")
    begin = host.now_s
    host.run_until(host.now_ns + 10**9, lambda: bool(host.sent))
    assert host.now_s - begin == pytest.approx(0.025, abs=0.02)
    assert scenario.take()[0].first == first


def test_a_retransmission_that_is_lost_is_found(host: Host) -> None:
    """RFC 8985: a later segment was delivered, so the one sent before it is gone; no timeout is needed."""
    scenario = warm(host)
    first = in_flight(scenario, 10)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    again = scenario.take(0.05)
    assert again[0].first == first
    scenario.write(10_000)
    scenario.take()
    scenario.advance(0.1)
    newest = scenario.peer.stack_next
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{newest}>")
    assert first in [seen.first for seen in scenario.take(0.06)]
    assert host.counter("timeouts") == 0


def test_a_lost_tail_is_probed(host: Host) -> None:
    """RFC 8985 section 7: two round trips after the last segment was sent, not an RTO."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 3)
    begin = host.now_s
    host.run_until(host.now_ns + 10**9, lambda: bool(host.sent))
    (probe,) = scenario.take()
    assert (probe.first, probe.past) == (first + 2000, first + 3000)
    assert 0.19 <= host.now_s - begin <= 0.26
    assert (host.counter("tail_probes"), host.counter("timeouts")) == (1, 0)


def test_a_probe_gives_a_scheduler_time(host: Host) -> None:
    """Two round trips of a machine room are less than a peer may be away for."""
    scenario = warm(host, rtt=0.00005, rounds=10)
    assert scenario.info.srtt_us < 500
    first = in_flight(scenario, 3)
    scenario.expect_nothing(0.0019)
    seen = scenario.expect(f"P. {first + 2000}:{first + 3000}(1000) ack 1", within=0.001)
    assert seen.first == first + 2000
    assert host.counter("tail_probes") == 1


def test_a_probe_carries_new_data_when_there_is_some(host: Host) -> None:
    """RFC 8985 section 7.3: Nagle's algorithm does not hold it back."""
    scenario = warm(host, rounds=10)
    first = scenario.peer.stack_next
    scenario.write(2500)
    scenario.expect_data(first, first + 2500)
    scenario.write(500)
    scenario.expect_nothing()
    scenario.expect(f"P. {first + 2500}:{first + 3000}(500) ack 1", within=0.3)
    assert host.counter("tail_probes") == 1


def test_one_in_flight_waits_for_a_delayed_acknowledgment(host: Host) -> None:
    """RFC 8985 section 7.2: WCDelAckT more, unless the RTO is sooner."""
    scenario = warm(host, rounds=10)
    in_flight(scenario, 1)
    begin = host.now_s
    host.run_until(host.now_ns + 10**9, lambda: bool(host.sent))
    scenario.take()
    assert host.now_s - begin > 0.2


def test_a_probe_that_was_needless_changes_nothing(host: Host) -> None:
    """RFC 8985 section 7.4: the original and the probe both arrived; D-SACK says so."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 3)
    window = scenario.info.cwnd
    assert len(scenario.take(0.22)) == 1
    scenario.send(f". 1:1(0) ack {first + 3000}")
    scenario.send(f". 1:1(0) ack {first + 3000} <sack {first + 2000}:{first + 3000}>")
    assert scenario.info.cwnd >= window


def test_a_probe_that_repaired_a_loss_reduces_the_window(host: Host) -> None:
    """RFC 8985 section 7.4.2: the tail was lost, and nobody said that the probe was needless."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 10)
    window = scenario.info.cwnd
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first + 9000}")
    assert [seen.first for seen in scenario.take(0.3)][:1] == [first + 9000]
    scenario.write(1000)
    scenario.take()
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first + 11000}")
    assert scenario.info.ssthresh < window
    assert host.counter("timeouts") == 0


# Edges.


def test_an_acknowledgment_in_the_middle_of_a_segment(host: Host) -> None:
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 2)
    scenario.send(f". 1:1(0) ack {first + 500}")
    again = scenario.take(2)
    assert again[0].first in (first, first + 500)
    assert again[0].past == first + 1000
    scenario.send(f". 1:1(0) ack {first + 2000}")
    assert scenario.info.queued == 0


def test_a_duplicate_acknowledgment_with_nothing_in_flight(host: Host) -> None:
    scenario = warm(host)
    for _ in range(10):
        scenario.send(".")
    scenario.expect_nothing(10)
    assert not scenario.info.in_recovery


def test_segments_that_were_resent_keep_their_content(host: Host) -> None:
    """The application goes on writing; the scenario compares every byte."""
    scenario = warm(host, KILO)
    for _ in range(10):
        scenario.write(1500)
        scenario.take(0.05)
    for seen in scenario.take(5):
        assert seen.tcp.payload
