"""What is lost is sent again: by timeout (RFC 6298), by acknowledgments (RFC 5681, 6675, 6582), by time (RFC 8985)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from usnet_framework.testing import Host, Scenario, states

KILO = states.SYN.replace("1460", "1000")
KILO_STAMPED = states.SYN_WITH_TIMESTAMPS.replace("1460", "1012")
"""Segments of 1000 bytes in either case."""
KILO_PLAIN = states.PLAIN_SYN.replace("1460", "1000")


def warm(host: Host, syn: str = KILO, *, rtt: float = 0.1, rounds: int = 3) -> Scenario:
    """A connection that has measured a round trip of so many seconds, with nothing in flight."""
    scenario = states.established(host, syn, rtt=rtt)
    for _ in range(rounds):
        scenario.write(1000)
        scenario.take()
        scenario.advance(rtt)
        scenario.send(".")
        scenario.take()
    return scenario


def in_flight(scenario: Scenario, segments: int) -> int:
    """Write so many segments and see them sent; the first number."""
    first = scenario.peer.stack_next
    scenario.write(1000 * segments)
    assert scenario.expect_data(first, first + 1000 * segments) == [1000] * segments
    return first


# Timeouts.


def test_after_a_lost_syn_ack_the_first_timeout_is_three_seconds(host: Host) -> None:
    """RFC 6298 section 5.7: there is no sample, and the way seems to be longer than thought."""
    scenario = states.syn_received(host, KILO_PLAIN)
    scenario.expect("S. 0:0(0) ack 1", after=1)
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    scenario.write(1000)
    scenario.expect(". 1:1001(1000) ack 1")
    scenario.expect(". 1:1001(1000) ack 1", after=3)


def test_after_a_lost_syn_the_first_timeout_is_three_seconds(host: Host) -> None:
    scenario = states.syn_sent(host)
    scenario.expect("S 0:0(0)", after=1)
    scenario.send("S. 0:0(0) ack 1 win 65535 <mss 1000>")
    scenario.expect(". 1:1(0) ack 1")
    scenario.write(1000)
    scenario.expect(". 1:1001(1000) ack 1")
    scenario.expect(". 1:1001(1000) ack 1", after=3)


def test_the_timeout_follows_the_round_trip(host: Host) -> None:
    """RFC 6298 section 2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR."""
    scenario = states.syn_received(host, KILO_PLAIN)
    scenario.advance(0.4)
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    info = scenario.info
    assert (info.srtt_us, info.rttvar_us) == (pytest.approx(400_000, abs=2000), pytest.approx(200_000, abs=2000))
    assert info.rto_us == pytest.approx(1_200_000, abs=5000)


def test_the_next_samples_are_averaged(host: Host) -> None:
    """RFC 6298 section 2.3: alpha 1/8, beta 1/4."""
    scenario = states.syn_received(host, KILO_PLAIN)
    scenario.advance(0.4)
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    scenario.write(1000)
    scenario.take()
    scenario.advance(0.2)
    scenario.send(". 1:1(0) ack 1001")
    info = scenario.info
    assert info.rttvar_us == pytest.approx(0.75 * 200_000 + 0.25 * 200_000, rel=0.02)
    assert info.srtt_us == pytest.approx(0.875 * 400_000 + 0.125 * 200_000, rel=0.02)


def test_the_timeout_has_a_minimum(host: Host) -> None:
    scenario = warm(host, KILO_PLAIN, rtt=0.001, rounds=20)
    assert scenario.info.rto_us >= 200_000


def test_every_timeout_doubles_the_next(host: Host) -> None:
    """RFC 6298 section 5.5, up to a minute."""
    scenario = warm(host, KILO_PLAIN)
    in_flight(scenario, 1)
    moments = []
    begin = host.now_s
    for _ in range(9):
        host.run_until(host.now_ns + 200 * 10**9, lambda: bool(host.sent))
        scenario.take()
        moments.append(host.now_s - begin)
    gaps = [after - before for before, after in pairwise(moments[1:])]
    doubled = [after / before for before, after in pairwise(gaps)]
    assert all(1.9 < ratio < 2.1 for ratio in doubled[:-2])
    assert max(gaps) <= 60.1


def test_an_acknowledgment_of_new_data_ends_the_backoff(host: Host) -> None:
    """RFC 6298 section 5.7 and RFC 9293: the next loss waits one RTO again."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 1)
    assert scenario.take(4)
    scenario.send(f". 1:1(0) ack {first + 1000}")
    in_flight(scenario, 1)
    begin = host.now_s
    host.run_until(host.now_ns + 60 * 10**9, lambda: bool(host.sent))
    assert host.now_s - begin < 3.5
    scenario.take()


def test_no_sample_is_taken_from_what_was_sent_again(host: Host) -> None:
    """RFC 6298 section 3, Karn."""
    scenario = warm(host, KILO_PLAIN)
    before = scenario.info.srtt_us
    first = in_flight(scenario, 1)
    assert scenario.take(2)
    scenario.send(f". 1:1(0) ack {first + 1000}")
    assert scenario.info.srtt_us == before


def test_timestamps_tell_which_transmission_was_acknowledged(host: Host) -> None:
    """RFC 7323 section 4: then a sample can be taken."""
    scenario = warm(host, KILO_STAMPED)
    first = in_flight(scenario, 1)
    last = scenario.take(1)[-1]
    assert last.options.timestamps is not None
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first + 1000} <ts 100000 ecr {last.options.timestamps[0]}>")
    assert scenario.info.srtt_us < 500_000


def test_an_acknowledgment_in_time_stops_the_timer(host: Host) -> None:
    scenario = warm(host)
    in_flight(scenario, 3)
    scenario.advance(0.1)
    scenario.send(".")
    scenario.expect_nothing(30)


def test_only_the_first_segment_after_a_timeout(host: Host) -> None:
    """RFC 5681 section 3.1: the congestion window is one segment then."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    resent = [(seen.first, seen.past) for seen in scenario.take()]
    assert resent[-1] == (first, first + 1000)
    assert scenario.info.cwnd <= 2000


def test_after_a_timeout_everything_arrives(host: Host) -> None:
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 8)
    done = first
    for _ in range(40):
        ends = {seen.first: seen.past for seen in scenario.take(0.5)}
        while done in ends:
            done = ends[done]
        scenario.send(f". 1:1(0) ack {done}")
        ends = {seen.first: seen.past for seen in scenario.take()}
        while done in ends:
            done = ends[done]
    assert done == first + 8000
    scenario.send(f". 1:1(0) ack {done}")
    assert scenario.info.queued == 0


@pytest.mark.parametrize("sacks", [True, False])
def test_a_peer_that_is_silent_is_given_up(sacks: bool, host: Host) -> None:
    """RFC 9293 MUST-20, SHLD-11: R2, 100 s at least."""
    scenario = warm(host, KILO if sacks else KILO_PLAIN)
    in_flight(scenario, 1)
    scenario.take(100)
    assert scenario.state == "established"
    scenario.take(200)
    assert scenario.closed_by() == "timeout"
    with pytest.raises(TimeoutError):
        scenario.write(1)


def test_the_user_timeout_can_be_shorter(host: Host) -> None:
    """RFC 5482, RFC 9293 section 3.10.2."""
    scenario = warm(host)
    scenario.set_option("user_timeout_ms", 5000)
    in_flight(scenario, 1)
    scenario.take(4.99)
    assert scenario.state == "established"
    scenario.take(0.02)
    assert scenario.closed_by() == "timeout"


def test_the_user_timeout_begins_anew_with_what_is_acknowledged(host: Host) -> None:
    """RFC 9293 section 3.8.3: R2 is of the same segment. The timeout that waited was bounded by the time before."""
    scenario = warm(host, KILO_PLAIN)
    scenario.set_option("user_timeout_ms", 5000)
    first = in_flight(scenario, 3)
    scenario.take(4.5)
    scenario.send(f". ack {first + 1000}")
    scenario.take(4.99)
    assert scenario.state == "established"
    scenario.take(0.02)
    assert scenario.closed_by() == "timeout"


@pytest.mark.parametrize("timeout_ms", [700, 1500])
def test_the_user_timeout_can_be_set_while_data_waits(host: Host, timeout_ms: int) -> None:
    scenario = warm(host)
    in_flight(scenario, 1)
    scenario.take(0.65)
    scenario.set_option("user_timeout_ms", timeout_ms)
    scenario.take(timeout_ms / 1000 - 0.66)
    assert scenario.state == "established"
    scenario.take(0.02)
    assert scenario.closed_by() == "timeout"


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


# A timeout that was none.


def test_a_needless_timeout_is_undone_by_timestamps(host: Host) -> None:
    """RFC 3522 Eifel: the acknowledgment echoes a timestamp from before the retransmission."""
    scenario = warm(host, KILO_STAMPED, rounds=10)
    scenario.write(8000)
    sent = scenario.take()
    first = sent[0].first
    window, threshold = scenario.info.cwnd, scenario.info.ssthresh
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    assert scenario.info.cwnd < window
    stamps = sent[0].options.timestamps
    assert stamps is not None
    scenario.send(f". 1:1(0) ack {first + 1000} <ts 100000 ecr {stamps[0]}>")
    scenario.take()
    assert scenario.info.cwnd >= window
    assert scenario.info.ssthresh == threshold
    assert host.counter("spurious") == 1


def test_a_needless_timeout_is_noticed_without_timestamps(host: Host) -> None:
    """RFC 5682 F-RTO: the second acknowledgment after the timeout is for what was not sent again."""
    scenario = warm(host, rounds=10)
    scenario.write(50_000)
    sent = scenario.take()
    first, window = sent[0].first, scenario.info.cwnd
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    assert scenario.info.cwnd < window
    scenario.send(f". 1:1(0) ack {first + 1000}")
    assert all(seen.first >= sent[-1].past for seen in scenario.take())
    scenario.send(f". 1:1(0) ack {first + 2000}")
    scenario.take()
    assert host.counter("spurious") == 1
    assert scenario.info.cwnd >= window


def test_a_timeout_that_was_needed_is_not_undone(host: Host) -> None:
    """RFC 5682: what is acknowledged next is reported to be missing."""
    scenario = warm(host, rounds=10)
    scenario.write(50_000)
    first = scenario.take()[0].first
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.take()
    assert host.counter("spurious") == 0


def test_needless_retransmissions_are_undone_by_reports(host: Host) -> None:
    """RFC 2883, RFC 3708: D-SACK for everything that was sent again, while the recovery lasts."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 5000}")
    scenario.take()
    scenario.send(f". 1:1(0) ack {first + 5000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


def test_needless_retransmissions_are_undone_when_nothing_is_in_flight_any_more(host: Host) -> None:
    """The report is the last that comes: nothing else about its segment is news."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.take()
    assert scenario.info.cwnd < window
    scenario.send(f". 1:1(0) ack {first + 8000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


@pytest.mark.parametrize("payload", [0, 100])
def test_a_report_on_the_next_segment_expected_undoes_as_well(payload: int, host: Host) -> None:
    """RFC 2883 allows it on any segment, so it may come on one that is expected in all else, with payload or without:
    all is acknowledged, the window is as before, and it is an option that says that the recovery was needless."""
    scenario = warm(host, KILO_STAMPED, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <ts 100000 ecr 0,sack {first + 1000}:{first + 5000}>")
    (again,) = scenario.take(0.05)
    assert (again.first, again.options.timestamps is not None) == (first, True)
    late = again.options.timestamps[0] if again.options.timestamps else 0
    scenario.send(f". 1:1(0) ack {first + 8000} <ts 100001 ecr {late}>")
    assert scenario.info.cwnd < window
    end = 1 + payload
    scenario.send(f". 1:{end}({payload}) ack {first + 8000} <ts 100002 ecr {late},sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1
    scenario.take(0.1)
    assert scenario.info.unread == payload


def test_a_report_with_the_acknowledgment_of_all_there_is_counts(host: Host) -> None:
    """One packet is in flight, and the segment that acknowledges it says of an earlier one that it came twice."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    window = scenario.info.cwnd
    scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 5000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.take()
    assert not scenario.info.in_recovery
    last = in_flight(scenario, 1)
    scenario.send(f". 1:1(0) ack {last + 1000} <sack {first}:{first + 1000}>")
    assert scenario.info.cwnd >= window
    assert host.counter("spurious") == 1


def test_reports_of_a_part_undo_nothing(host: Host) -> None:
    """Two segments were sent again, and one of them was needed."""
    scenario = warm(host, rounds=10)
    first = in_flight(scenario, 8)
    scenario.advance(0.1)
    scenario.send(f". 1:1(0) ack {first} <sack {first + 2000}:{first + 8000}>")
    assert [seen.first for seen in scenario.take(0.05)] == [first, first + 1000]
    scenario.send(f". 1:1(0) ack {first + 8000}")
    scenario.send(f". 1:1(0) ack {first + 8000} <sack {first}:{first + 1000}>")
    assert host.counter("spurious") == 0


def test_the_reordering_window_widens_with_every_needless_recovery(host: Host) -> None:
    """RFC 8985 section 6.2: by a quarter of the round trip, up to a whole one, also when each of them is undone."""
    scenario = warm(host, rounds=5)
    waits = []
    for _ in range(5):
        first = in_flight(scenario, 5)
        scenario.advance(0.1)
        scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{first + 2000}>")
        begin = host.now_s
        scenario.expect(f". {first}:{first + 1000}(1000) ack 1", within=0.2)
        waits.append(host.now_s - begin)
        scenario.send(f". 1:1(0) ack {first + 5000} <sack {first}:{first + 1000}>")
    assert waits == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1], abs=0.002)
    assert host.counter("spurious") == 5


def test_a_loss_right_behind_an_undone_recovery_is_repaired(host: Host) -> None:
    """RFC 6582 section 3.2 step 1 holds back only after something was sent again that was missing."""
    scenario = warm(host, KILO_STAMPED.replace("sackOK,", ""))
    first = in_flight(scenario, 6)
    scenario.advance(0.1)
    echo = f"<ts 1000 ecr {round(host.now_s * 1000) - 200}>"
    for _ in range(3):
        scenario.send(f". 1:1(0) ack {first} {echo}")
    scenario.expect(f". {first}:{first + 1000}(1000) ack 1")
    scenario.send(f". 1:1(0) ack {first + 2000} {echo}")
    assert host.counter("spurious") == 1
    for _ in range(3):
        scenario.send(f". 1:1(0) ack {first + 2000} {echo}")
    scenario.expect(f". {first + 2000}:{first + 3000}(1000) ack 1")


def test_after_a_timeout_a_fin_waits_for_room_as_well(host: Host) -> None:
    """RFC 5681 section 3.1: one segment, and the FIN that stands alone is another."""
    scenario = warm(host, KILO_PLAIN)
    first = in_flight(scenario, 1)
    scenario.shutdown()
    scenario.expect(f"F. {first + 1000}:{first + 1000}(0) ack 1")
    scenario.expect(f". {first}:{first + 1000}(1000) ack 1", within=0.5)
    scenario.expect_nothing(0.1)
    scenario.send(f". 1:1(0) ack {first + 1000}")
    scenario.expect(f"F. {first + 1000}:{first + 1000}(0) ack 1")


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
