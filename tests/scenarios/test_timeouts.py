"""When something is sent again because nothing was heard (RFC 6298), and when that is given up (RFC 5482)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.kilo import KILO, KILO_PLAIN, KILO_STAMPED, in_flight, warm

from usnet_framework.testing import Host, states


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


def test_a_short_user_timeout_leaves_time_for_one_retransmission(host: Host) -> None:
    scenario = warm(host)
    first = in_flight(scenario, 1)
    scenario.set_option("user_timeout_ms", 50)
    scenario.take(0.15)
    scenario.send(f". ack {first + 1000}")
    scenario.take(5)
    assert scenario.state == "established"


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
