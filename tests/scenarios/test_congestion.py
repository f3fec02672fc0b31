"""How fast: slow start, congestion avoidance, and what a loss costs (RFC 5681, 6928, 6937, 9438, 7661, 3465)."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest

from usnet_framework.testing import Host, Scenario, states

KILO = states.SYN.replace("1460", "1000")
RENO, CUBIC = 1, 0
RTT = 0.1


def sender(host: Host, syn: str = KILO) -> Scenario:
    """A connection with segments of 1000 bytes and a round trip of 100 ms."""
    return states.established(host, syn, rtt=RTT)


def a_round(scenario: Scenario, *, every: int = 1) -> int:
    """Acknowledge what is in flight, `every` so many segments; how many segments were sent meanwhile."""
    first, past = scenario.info.snd_una - scenario.info.iss, scenario.peer.stack_next
    scenario.take(RTT)
    ends = [*range(first % 2**32 + 1000 * every, past, 1000 * every), past]
    count = 0
    for end in ends:
        scenario.send(f". 1:1(0) ack {end}")
        count += len(scenario.take())
    return count


def test_the_initial_window(host: Host) -> None:
    """RFC 6928: 10 segments."""
    scenario = sender(host)
    scenario.write(100_000)
    assert scenario.expect_data(1, 10_001) == [1000] * 10
    assert scenario.info.cwnd == 10_000


@pytest.mark.parametrize(("mss", "segments"), [(100, 10), (536, 10), (1460, 10)])
def test_the_initial_window_by_size(mss: int, segments: int, host: Host) -> None:
    """RFC 6928 section 2: min(10 * MSS, max(2 * MSS, 14600))."""
    scenario = states.established(host, f"S 0:0(0) win 65535 <mss {mss},wscale 7>")
    scenario.write(100_000)
    assert len(scenario.take()) == segments


@pytest.mark.link(mtu=9000)
def test_the_initial_window_of_large_segments(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 65535 <mss 8000,wscale 7>")
    scenario.write(100_000)
    assert len(scenario.take()) == 2


@pytest.mark.stack(initial_window=3)
def test_a_smaller_initial_window(host: Host) -> None:
    scenario = sender(host)
    scenario.write(100_000)
    assert len(scenario.take()) == 3


def test_after_a_lost_syn_ack_the_initial_window_is_one_segment(host: Host) -> None:
    """RFC 5681 section 3.1, RFC 6298 section 5.7."""
    scenario = states.syn_received(host, KILO)
    scenario.expect("S. 0:0(0) ack 1", after=1)
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    scenario.write(100_000)
    assert len(scenario.take()) in (1, 10)  # RFC 6928 section 2 lets a sender that knows better keep it


@pytest.mark.parametrize("congestion", [RENO, CUBIC])
def test_slow_start_doubles_each_round_trip(congestion: int, host: Host) -> None:
    """RFC 5681 section 3.1."""
    scenario = sender(host)
    scenario.set_option("congestion", congestion)
    scenario.write(260_000)
    scenario.take()
    rounds = [a_round(scenario) for _ in range(3)]
    assert rounds == [20, 40, 80]


def test_growth_is_by_bytes_acknowledged(host: Host) -> None:
    """RFC 3465 section 2.1, and against the attack of Savage: many acknowledgments of a little are one of much."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(100_000)
    scenario.take()
    before = scenario.info.cwnd
    scenario.advance(RTT)
    for step in range(1, 101):
        scenario.send(f". 1:1(0) ack {1 + 10 * step}")
        scenario.take()
    assert scenario.info.cwnd - before == 1000


def test_one_acknowledgment_of_much_grows_it_by_a_bounded_amount(host: Host) -> None:
    """RFC 3465 section 2.3: L * SMSS, or all of it with L unlimited, but never more than was acknowledged."""
    scenario = sender(host)
    scenario.write(100_000)
    scenario.take(RTT)
    before = scenario.info.cwnd
    scenario.send(". 1:1(0) ack 10001")
    scenario.take()
    assert 1000 <= scenario.info.cwnd - before <= 10_000


def test_acknowledging_what_was_not_sent_yet_gains_nothing(host: Host) -> None:
    """The optimistic acknowledgment of Savage."""
    scenario = sender(host)
    scenario.write(100_000)
    scenario.take()
    before = scenario.info.cwnd
    scenario.send(". 1:1(0) ack 20001")
    scenario.expect(". 10001:10001(0) ack 1")
    assert scenario.info.cwnd == before


def test_an_idle_application_earns_no_window(host: Host) -> None:
    """RFC 7661, RFC 2861: what is not used does not grow."""
    scenario = sender(host)
    for _ in range(50):
        scenario.write(1000)
        scenario.take(RTT)
        scenario.send(".")
        scenario.take()
    assert scenario.info.cwnd <= 20_000


def test_after_an_idle_time_not_more_than_the_initial_window(host: Host) -> None:
    """RFC 5681 section 4.1: idle for more than an RTO."""
    scenario = sender(host)
    scenario.write(150_000)
    scenario.take()
    while scenario.info.queued:
        a_round(scenario)
    assert scenario.info.cwnd > 50_000
    scenario.advance(20)
    scenario.write(100_000)
    assert len(scenario.take()) <= 10


def lose_one(scenario: Scenario, first: int, past: int) -> int:
    """The peer reports everything but the first segment; how many segments go out until it has it."""
    sent = 0
    scenario.advance(RTT)
    for end in range(first + 2000, past + 1000, 1000):
        scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{end}>")
        sent += len(scenario.take())
    return sent


@pytest.mark.parametrize(("congestion", "factor"), [(RENO, 0.5), (CUBIC, 0.7)])
def test_a_loss_reduces_the_window(congestion: int, factor: float, host: Host) -> None:
    """RFC 5681 section 3.2, RFC 9438 section 4.6."""
    scenario = sender(host)
    scenario.set_option("congestion", congestion)
    scenario.write(260_000)
    scenario.take()
    a_round(scenario)
    a_round(scenario)
    first, past = scenario.peer.stack_next - 40_000, scenario.peer.stack_next
    lose_one(scenario, first, past)
    assert scenario.info.ssthresh == pytest.approx(40_000 * factor, abs=3000)


def test_a_timeout_costs_more(host: Host) -> None:
    """RFC 5681 section 3.1: ssthresh is half of what was in flight, the window one segment."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(260_000)
    scenario.take()
    a_round(scenario)
    flight = scenario.info.in_flight
    scenario.host.run_until(scenario.host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    scenario.take()
    assert scenario.info.ssthresh == pytest.approx(flight / 2, abs=2000)
    assert scenario.info.cwnd <= 2000


def test_the_second_timeout_of_the_same_segment_does_not_halve_again(host: Host) -> None:
    """RFC 5681 section 3.1: held constant."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(260_000)
    scenario.take()
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 0)
    threshold = scenario.info.ssthresh
    host.run_until(host.now_ns + 10**10, lambda: host.counter("timeouts") > 1)
    scenario.take()
    assert scenario.info.ssthresh == threshold


def test_two_segments_are_the_least_threshold(host: Host) -> None:
    """RFC 5681 equation (4)."""
    scenario = sender(host)
    scenario.write(1000)
    scenario.take()
    scenario.advance(100)
    scenario.take()
    assert scenario.info.ssthresh >= 2000


def test_congestion_avoidance_of_reno(host: Host) -> None:
    """RFC 5681 section 3.1: about one segment each round trip."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(262_000)
    scenario.take()
    a_round(scenario)
    first, past = scenario.peer.stack_next - 20_000, scenario.peer.stack_next
    lose_one(scenario, first, past)
    scenario.take(RTT)
    scenario.send(f". 1:1(0) ack {scenario.peer.stack_next}")
    scenario.take()
    windows = []
    for _ in range(6):
        a_round(scenario)
        scenario.write(30_000)
        scenario.take()
        windows.append(scenario.info.cwnd)
    assert all(500 <= after - before <= 1500 for before, after in pairwise(windows[1:]))


def test_the_window_is_given_back_in_proportion(host: Host) -> None:
    """RFC 6937: during recovery about as many segments leave as ssthresh / flight of what arrives, never a burst."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(262_000)
    scenario.take()
    a_round(scenario)
    a_round(scenario)
    first, past = scenario.peer.stack_next - 40_000, scenario.peer.stack_next
    scenario.advance(RTT)
    bursts = []
    for end in range(first + 2000, past + 1000, 1000):
        scenario.send(f". 1:1(0) ack {first} <sack {first + 1000}:{end}>")
        bursts.append(len(scenario.take()))
    assert max(bursts) <= 3
    assert 15 <= sum(bursts) <= 28


def test_a_full_acknowledgment_ends_the_recovery_at_the_threshold(host: Host) -> None:
    """RFC 6937: cwnd = ssthresh, and no burst."""
    scenario = sender(host)
    scenario.set_option("congestion", RENO)
    scenario.write(262_000)
    scenario.take()
    a_round(scenario)
    a_round(scenario)
    first, past = scenario.peer.stack_next - 40_000, scenario.peer.stack_next
    lose_one(scenario, first, past)
    scenario.take(RTT)
    scenario.send(f". 1:1(0) ack {scenario.peer.stack_next - 10_000}")
    burst = scenario.take()
    info = scenario.info
    assert not info.in_recovery
    assert info.cwnd <= info.ssthresh + 2000
    assert len(burst) <= 10


def cubic_windows(scenario: Scenario, seconds: float) -> list[tuple[float, int]]:
    """(time since the loss, window) for each round trip."""
    begin, windows = scenario.host.now_s, []
    while scenario.host.now_s - begin < seconds:
        with suppress(BlockingIOError):
            scenario.write(100_000)
        scenario.take()
        a_round(scenario, every=2)
        windows.append((scenario.host.now_s - begin, scenario.info.cwnd))
    return windows


@pytest.mark.stack(snd_limit=1 << 20, frames=4096, sents=4096)
def test_the_curve_of_cubic(host: Host) -> None:
    """RFC 9438 section 4.2: W(t) = C (t - K)^3 + W_max, above the Reno-friendly region."""
    scenario = sender(host)
    for _ in range(4):
        with suppress(BlockingIOError):
            scenario.write(1 << 20)
        scenario.take()
        a_round(scenario)
    most = scenario.info.cwnd / 1000
    first, past = scenario.peer.stack_next - scenario.info.in_flight, scenario.peer.stack_next
    lose_one(scenario, first, past)
    scenario.take(RTT)
    scenario.send(f". 1:1(0) ack {scenario.peer.stack_next}")
    scenario.take()
    low = scenario.info.ssthresh / 1000
    assert low == pytest.approx(most * 0.7, rel=0.1)
    k = ((most - low) / 0.4) ** (1 / 3)
    for t, window in cubic_windows(scenario, k):
        if t < 1:
            continue
        curve = 0.4 * (t - k) ** 3 + most
        assert window / 1000 == pytest.approx(max(curve, low), rel=0.12), f"after {t:.1f} s"


def test_the_congestion_control_can_be_chosen(established: Scenario) -> None:
    established.set_option("congestion", RENO)
    assert established.info.congestion == "reno"
    established.set_option("congestion", CUBIC)
    assert established.info.congestion == "cubic"
    with pytest.raises(OSError, match="Invalid argument"):
        established.set_option("congestion", 99)


# What a peer can do to have more sent than the network carries: Savage and others, "TCP congestion control with a
# misbehaving receiver", 1999.


@pytest.fixture
def plain_sender(host: Host) -> Scenario:
    """Ten segments of 1000 bytes in flight without SACK, much more to be sent."""
    scenario = states.established(host, states.PLAIN_SYN.replace("1460", "1000"), rtt=0.1)
    scenario.write(100_000)
    assert len(scenario.take()) == 10
    scenario.advance(0.1)
    return scenario


def test_duplicates_count_up_to_what_was_outstanding(plain_sender: Scenario) -> None:
    """RFC 5681 section 3.2: each stands for a segment that has arrived: twelve, with limited transmit."""
    fresh = set()
    for _ in range(500):
        plain_sender.send(". 1:1(0) ack 1")
        fresh |= {seen.past for seen in plain_sender.take() if seen.first >= 10_001}
    assert len(fresh) <= 9
    assert plain_sender.info.cwnd <= 19_000


def test_crumbs_of_acknowledgments_have_nothing_sent_again(plain_sender: Scenario) -> None:
    """An ACK within a segment: its rest was in the same packet."""
    for _ in range(3):
        plain_sender.send(". 1:1(0) ack 1")
        plain_sender.take()
    resent = 0
    for done in range(2, 502):
        plain_sender.send(f". 1:1(0) ack {done}")
        resent += sum(seen.first < 10_001 for seen in plain_sender.take())
    assert resent <= 1
    plain_sender.send(". 1:1(0) ack 1001")
    assert [seen.first for seen in plain_sender.take() if seen.first < 10_001] == [1001]


def test_acknowledging_early_gains_no_more_than_the_window(host: Host) -> None:
    """Optimistic acknowledgments of what is still on its way: growth by what was sent, at the rate it was sent at."""
    scenario = states.established(host, states.SYN.replace("1460", "1000"), rtt=0.1)
    scenario.write(200_000)
    done = 1
    for _ in range(4):
        scenario.take()
        before = scenario.info.cwnd
        in_flight = scenario.info.in_flight
        done = scenario.info.snd_nxt - scenario.info.iss
        scenario.send(f". 1:1(0) ack {done}")
        assert scenario.info.cwnd <= before + min(in_flight, 8000)
    scenario.take()
    scenario.send(f". 1:1(0) ack {done + 150_000}")
    past = scenario.info.snd_nxt - scenario.info.iss
    scenario.expect(f". {past}:{past}(0) ack 1")
    assert scenario.state == "established"


@pytest.mark.stack(user_timeout_ms=100_000)
def test_a_peer_that_reports_everything_and_acknowledges_nothing_is_given_up(host: Host) -> None:
    """Reports may be taken back: what they are about is kept (RFC 2018 section 8), but not for ever."""
    scenario = states.established(host, states.SYN.replace("1460", "1000"), rtt=0.1)
    scenario.write(10_000)
    scenario.take()
    for _ in range(400):
        scenario.advance(0.5)
        if scenario.state != "established":
            break
        scenario.take()
        scenario.send(". 1:1(0) ack 1 <sack 1001:10001>")
        scenario.take()
    scenario.take()
    assert scenario.closed_by() == "timeout"
