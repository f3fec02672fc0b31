"""Windows: ours, which never shrinks, and the peer's, which may be zero for ever (RFC 9293 sections 3.8.4 to 3.8.6,
RFC 7323 section 2)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from usnet_framework.testing import Host, Scenario, states

BOTH = pytest.mark.parametrize("family", [4, 6])


def fill(scenario: Scenario, size: int = 1000, first: int = 1) -> int:
    """The peer sends until the window is closed; the number that comes next."""
    for _ in range(1000):
        window = scenario.info.rcv_wnd
        if window == 0:
            return first
        length = min(size, window)
        scenario.send(f"P. {first}:{first + length}({length})")
        scenario.take(0.1)
        first += length
    raise AssertionError("the window does not close")


# Ours.


def test_a_window_without_scaling(listening: Scenario) -> None:
    listening.send("S 0:0(0) win 65535 <mss 1460>")
    assert 0 < listening.expect("S. 0:0(0) ack 1").tcp.window <= 65535
    listening.send(". 1:1(0) ack 1")
    listening.accept()
    assert listening.info.rcv_wnd <= 65535


@pytest.mark.stack(rcv_limit=1 << 20)
def test_a_large_window_needs_scaling(host: Host) -> None:
    """RFC 7323 section 2.2: the window of a SYN is not scaled itself."""
    listening = states.listening(host)
    listening.send(states.SYN)
    answer = listening.expect("S. 0:0(0) ack 1")
    assert answer.tcp.options.wscale is not None
    assert 65535 << answer.tcp.options.wscale >= 1 << 20
    listening.send("P. 1:101(100) ack 1")
    seen = listening.expect(". 1:1(0) ack 101", within=0.5)
    assert 65535 < seen.tcp.window << answer.tcp.options.wscale <= 1 << 20


@pytest.mark.stack(rcv_limit=1 << 20)
def test_without_scaling_no_more_than_16_bits(host: Host) -> None:
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.send("P. 1:101(100) ack 1")
    assert scenario.expect(". 1:1(0) ack 101", within=0.5).tcp.window > 60000
    scenario.send("P. 66000:66100(100) ack 1")
    scenario.expect(". 1:1(0) ack 101")


@pytest.mark.parametrize(("offered", "shift"), [(0, 0), (1, 1), (14, 14), (15, 14), (255, 14)])
def test_the_peers_shift_is_14_at_most(offered: int, shift: int, host: Host) -> None:
    """RFC 7323 section 2.3."""
    scenario = states.established(host, f"S 0:0(0) win 65535 <mss 1460,wscale {offered}>", win=100)
    assert scenario.info.snd_wscale == shift
    assert scenario.info.snd_wnd == 100 << shift


def test_the_window_of_a_syn_is_not_scaled(syn_received: Scenario) -> None:
    syn_received.send(". 1:1(0) ack 1 win 100")
    syn_received.accept()
    assert syn_received.info.snd_wnd == 100 << 7


@pytest.mark.stack(rcv_limit=8000)
def test_the_window_closes_as_data_waits(plain: Scenario) -> None:
    """And its right edge never moves left: the scenario's own rule."""
    past = fill(plain)
    assert 4000 <= past <= 8001
    plain.send(f"P. {past}:{past + 1}(1)")
    plain.expect(f". 1:1(0) ack {past} win 0")


@pytest.mark.stack(rcv_limit=8000)
def test_reading_opens_the_window(plain: Scenario) -> None:
    past = fill(plain)
    while plain.can_read():
        plain.read()
    seen = plain.expect(f". 1:1(0) ack {past}")
    assert seen.tcp.window >= 4000
    plain.send(f"P. {past}:{past + 100}(100)")
    plain.expect(f". 1:1(0) ack {past + 100}", within=0.5)


@pytest.mark.stack(rcv_limit=8000)
def test_a_little_reading_does_not_open_the_window_a_little(plain: Scenario) -> None:
    """RFC 9293 MUST-39, section 3.8.6.2.2: not before a full segment, or half the buffer."""
    fill(plain)
    updates = []
    read = 0
    while not updates:
        read += len(plain.read(10))
        updates = plain.take()
        assert read <= 8000
    assert read >= 1000
    assert updates[0].tcp.window >= 1000


def read_all(scenario: Scenario) -> None:
    while scenario.can_read():
        scenario.read()
    scenario.take(0.1)


@pytest.mark.stack(rcv_limit=8000, rcv_limit_max=32000)
def test_the_window_grows_while_it_holds_the_peer_back(plain: Scenario) -> None:
    past, windows = 1, []
    for _ in range(5):
        past = fill(plain, first=past)
        read_all(plain)
        windows.append(plain.info.rcv_wnd)
    assert windows == [16000, 32000, 32000, 32000, 32000]


@pytest.mark.stack(rcv_limit=8000, rcv_limit_max=32000)
def test_the_window_does_not_grow_for_who_does_not_read(plain: Scenario) -> None:
    past = fill(plain)
    for _ in range(5):
        plain.read(4000)
        plain.take(0.1)
        past = fill(plain, first=past)
    assert past <= 1 + 6 * 8000


@pytest.mark.stack(rcv_limit=8000, rcv_limit_max=32000)
def test_the_window_does_not_grow_for_who_sends_little(plain: Scenario) -> None:
    for first in range(1, 100_000, 1000):
        plain.send(f"P. {first}:{first + 1000}(1000)")
        read_all(plain)
    assert plain.info.rcv_wnd <= 8000


@pytest.mark.stack(rcv_limit=8000, rcv_limit_max=1 << 20)
def test_the_scale_is_for_what_the_window_may_grow_to(host: Host) -> None:
    listening = states.listening(host)
    listening.send(states.SYN)
    wscale = listening.expect("S. 0:0(0) ack 1").tcp.options.wscale
    assert wscale is not None
    assert 65535 << wscale >= 1 << 20


@pytest.mark.stack(rcv_limit=8000)
def test_a_closed_window_hears_everything_but_data(plain: Scenario) -> None:
    """RFC 9293 MUST-66."""
    plain.write(100)
    plain.expect("P. 1:101(100) ack 1")
    past = fill_with(plain, ack=1)
    plain.send(f". {past}:{past}(0) ack 101 win 500")
    assert (plain.info.queued, plain.info.snd_wnd) == (0, 500)
    plain.send(f"P. {past}:{past + 1}(1) ack 101")
    plain.expect(f". 101:101(0) ack {past} win 0")
    plain.send(f"U. {past}:{past}(0) ack 101 urg 1")
    plain.expect_nothing()
    plain.send(f"R {past}:{past}(0)")
    assert plain.closed_by() == "reset"


def fill_with(scenario: Scenario, ack: int) -> int:
    first = 1
    while scenario.info.rcv_wnd:
        length = min(1000, scenario.info.rcv_wnd)
        scenario.send(f"P. {first}:{first + length}({length}) ack {ack}")
        scenario.take()
        first += length
    scenario.take(0.1)
    return first


@pytest.mark.stack(rcv_limit=8000)
def test_a_fin_at_a_closed_window(plain: Scenario) -> None:
    """RFC 9293 section 3.10.7.4: it is outside; it comes again."""
    past = fill(plain)
    plain.send(f"F. {past}:{past}(0)")
    plain.take()
    while plain.can_read():
        if not plain.read():
            break
    plain.take()
    plain.send(f"F. {past}:{past}(0)")
    plain.take(0.5)
    assert plain.state == "close_wait"


@pytest.mark.stack(rcv_limit=4000)
def test_a_smaller_buffer_does_not_take_back_what_was_promised(plain: Scenario) -> None:
    """RFC 9293 SHLD-14: do not shrink the window."""
    edge = plain.info.rcv_wnd + 1
    plain.set_option("receive_bytes", 1000)
    plain.send("P. 1:1001(1000) ack 1")
    plain.take()
    plain.send("P. 1001:2001(1000) ack 1")
    plain.take(0.5)
    assert plain.info.rcv_nxt - plain.info.irs == min(2001, edge)


def test_a_larger_buffer_opens_the_window(plain: Scenario) -> None:
    plain.set_option("receive_bytes", 60000)
    assert plain.stack.get_option(plain.conn, "receive_bytes") == 60000


# The peer's.


@pytest.mark.parametrize("win", [1, 100, 536, 1000, 1460])
def test_no_more_is_sent_than_the_window_takes(win: int, host: Host) -> None:
    scenario = states.established(host, f"S 0:0(0) win {win} <mss 1460>")
    scenario.write(5000)
    assert scenario.take(0.3)[-1].past == 1 + win


def test_the_window_moves_with_acknowledgments(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 2920 <mss 1460>")
    scenario.write(14600)
    scenario.expect_data(1, 2921)
    scenario.send(". 1:1(0) ack 1461 win 2920")
    scenario.expect_data(2921, 4381)
    scenario.send(". 1:1(0) ack 2921 win 5840")
    scenario.expect_data(4381, 8761)


def test_a_segment_that_is_late_does_not_set_the_window(plain: Scenario) -> None:
    """RFC 9293 section 3.10.7.4: SND.WL1, SND.WL2."""
    plain.send("P. 101:201(100) ack 1 win 5000")
    plain.take()
    plain.send("P. 1:101(100) ack 1 win 100")
    plain.take(0.5)
    assert plain.info.snd_wnd == 5000


def test_an_older_acknowledgment_does_not_set_the_window(plain: Scenario) -> None:
    plain.write(200)
    plain.expect("P. 1:201(200) ack 1")
    plain.send(". 1:1(0) ack 201 win 5000")
    plain.send(". 1:1(0) ack 101 win 100")
    assert plain.info.snd_wnd == 5000


def test_the_peer_may_shrink_its_window(host: Host) -> None:
    """RFC 9293 MUST-34: what is beyond it now was sent rightly, and is sent again when there is room."""
    scenario = states.established(host, "S 0:0(0) win 4000 <mss 1460>")
    scenario.write(4000)
    scenario.expect_data(1, 4001)
    scenario.send(". 1:1(0) ack 1001 win 200")
    scenario.take(2)
    assert scenario.state == "established"
    scenario.send(". 1:1(0) ack 1001 win 8000")
    done = 1001
    for _ in range(50):
        for seen in scenario.take(0.3):
            done = max(done, seen.past if seen.first <= done else 0)
        if done == 4001:
            break
        scenario.send(f". 1:1(0) ack {done} win 8000")
    assert done == 4001


def test_a_window_that_was_shut_on_data_is_used_as_soon_as_it_opens(host: Host) -> None:
    """What was resent meanwhile were probes, answered but not taken: no reason to wait for the next one, nor to believe
    that the path carries less."""
    scenario = states.established(host, "S 0:0(0) win 8000 <mss 1460>")
    scenario.write(4380)
    scenario.expect_data(1, 4381)
    scenario.send(". 1:1(0) ack 1 win 0")
    for _ in range(6):
        host.run_until(host.now_ns + 100 * 10**9, lambda: bool(host.sent))
        scenario.take()
        scenario.send(". 1:1(0) ack 1 win 0")
    scenario.expect_nothing(1)
    scenario.send(". 1:1(0) ack 1 win 8000")
    scenario.expect(". 1:1461(1460) ack 1")
    scenario.send(". 1:1(0) ack 1461 win 8000")
    scenario.expect_data(1461, 4381)
    scenario.send(". 1:1(0) ack 4381 win 8000")
    scenario.write(1460)
    scenario.expect("P. 4381:5841(1460) ack 1")


@BOTH
def test_a_closed_window_is_probed(host: Host, family: int) -> None:
    """RFC 9293 MUST-36, SHLD-29, SHLD-30: after an RTO, then after twice as long each time."""
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    moments = []
    for _ in range(8):
        begin = host.now_s
        host.run_until(host.now_ns + 100 * 10**9, lambda: bool(host.sent))
        (probe,) = scenario.take()
        assert (probe.first, len(probe.tcp.payload)) in ((1, 1), (0, 0), (1, 0), (0, 1))
        moments.append(host.now_s - begin)
        scenario.send(". 1:1(0) ack 1 win 0")
    assert moments[0] >= 0.2
    for before, after in pairwise(moments):
        assert 1.9 * before <= after <= 2.1 * before or after > 55
    assert scenario.host.counter("window_probes") == 8


def test_probes_are_a_minute_apart_at_most_and_never_end(host: Host) -> None:
    """RFC 9293 MUST-37: as long as the peer answers, the connection stays."""
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    probes = 0
    while host.now_s < 4 * 3600:
        host.run_until(host.now_ns + 61 * 10**9, lambda: bool(host.sent))
        assert len(scenario.take()) == 1
        probes += 1
        scenario.send(". 1:1(0) ack 1 win 0")
    assert probes > 240
    scenario.send(". 1:1(0) ack 1 win 5000")
    assert scenario.take()[-1].past == 1001


def test_a_peer_that_does_not_answer_probes_is_given_up(host: Host) -> None:
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    scenario.take(1000)
    assert scenario.closed_by() == "timeout"


def test_a_user_timeout_holds_at_a_shut_window(host: Host) -> None:
    """RFC 6429: the peer answers for ever, and the application has said how long is enough."""
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.set_option("user_timeout_ms", 20_000)
    scenario.write(1000)
    begin_s = 0.0
    while scenario.state == "established":
        assert host.now_s < 60
        host.run_until(host.now_ns + 61 * 10**9, lambda: bool(host.sent))
        begin_s = begin_s or host.now_s
        if scenario.take()[-1].tcp.flags.startswith("R"):
            break
        scenario.send(". 1:1(0) ack 1 win 0")
    assert scenario.closed_by() == "timeout"
    assert host.now_s - begin_s == pytest.approx(20, abs=0.01)


def test_a_window_that_opens_ends_what_the_user_timeout_counts(host: Host) -> None:
    """What waits for a full window, and what is lost right after, have their own time."""
    scenario = states.established(host, states.SYN.replace("1460", "1000"), win=0)
    scenario.set_option("user_timeout_ms", 20_000)
    scenario.write(2000)
    for _ in range(6):
        host.run_until(host.now_ns + 61 * 10**9, lambda: bool(host.sent))
        scenario.take()
        scenario.send(". 1:1(0) ack 1 win 0")
    scenario.advance(3)
    scenario.send(". 1:1(0) ack 1 win 1000")
    assert scenario.take(0.1)
    scenario.take(10)
    assert scenario.state == "established"


def test_keepalives_of_the_peer_do_not_open_its_window(host: Host) -> None:
    """A peer with a shut window that keeps asking whether we are there is answered, and probed as seldom as others."""
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    answers = 0
    for _ in range(600):
        scenario.advance(1)
        if scenario.take():
            scenario.send(". 1:1(0) ack 1 win 0")
        scenario.send(". 0:0(0) ack 1 win 0")
        answers += len(scenario.take())
    assert answers == 600
    assert host.counter("window_probes") <= 20
    scenario.send(". 1:1(0) ack 1 win 5000")
    assert scenario.take()[-1].past == 1001


def test_a_window_of_single_bytes_is_not_worth_a_stream_of_segments(host: Host) -> None:
    """RFC 9293 section 3.8.6.2.1: as much as the peer lets us, as seldom as the override timer says."""
    scenario = states.established(host, states.PLAIN_SYN)
    scenario.write(1460)
    scenario.expect("P. 1:1461(1460) ack 1")
    scenario.write(5000)
    scenario.take()
    done = 6461
    scenario.send(f". 1:1(0) ack {done} win 1")
    scenario.write(5000)
    sent = 0
    for _ in range(100):
        for seen in scenario.take(0.1):
            sent += 1
            done = max(done, seen.past)
            scenario.send(f". 1:1(0) ack {done} win 1")
    assert sent <= 101


def test_an_opened_window_is_used_at_once(host: Host) -> None:
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    scenario.expect_nothing(0.1)
    scenario.send(". 1:1(0) ack 1 win 5000")
    scenario.expect("P. 1:1001(1000) ack 1")


def test_a_probe_may_be_taken(host: Host) -> None:
    """The byte of a probe that had payload is acknowledged, and the stream goes on behind it."""
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    scenario.write(1000)
    host.run_until(host.now_ns + 10 * 10**9, lambda: bool(host.sent))
    (probe,) = scenario.take()
    past = max(probe.past, 1)
    scenario.send(f". 1:1(0) ack {past} win 5000")
    assert scenario.take()[-1].past == 1001


def test_a_window_that_closes_with_everything_acknowledged_is_not_probed(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 1000 <mss 1460>")
    scenario.write(1000)
    scenario.expect("P. 1:1001(1000) ack 1")
    scenario.send(". 1:1(0) ack 1001 win 0")
    scenario.expect_nothing(300)
    scenario.write(10)
    scenario.expect_nothing(0.1)
    host.run_until(host.now_ns + 10 * 10**9, lambda: bool(host.sent))
    assert len(scenario.take()) == 1


def test_our_fin_at_a_closed_window(host: Host) -> None:
    """It takes a sequence number: it is probed for, and arrives in the end."""
    scenario = states.established(host, "S 0:0(0) win 1000 <mss 1460>")
    scenario.write(1000)
    scenario.expect("P. 1:1001(1000) ack 1")
    scenario.send(". 1:1(0) ack 1001 win 0")
    scenario.shutdown()
    scenario.take(5)
    scenario.send(". 1:1(0) ack 1001 win 1000")
    assert "F" in "".join(seen.tcp.flags for seen in scenario.take(5)) or scenario.state == "fin_wait_1"


def test_silly_windows_are_not_filled(host: Host) -> None:
    """RFC 9293 MUST-38, section 3.8.6.2.1: no dribble into every crumb of the window; the override timer ends that."""
    scenario = states.established(host, "S 0:0(0) win 10000 <mss 1460>")
    scenario.write(1460)
    scenario.expect("P. 1:1461(1460) ack 1")
    scenario.write(5000)
    scenario.take()
    scenario.send(". 1:1(0) ack 6461 win 100")
    scenario.write(5000)
    scenario.expect_nothing(0.05)
    host.run_until(host.now_ns + 10 * 10**9, lambda: bool(host.sent))
    assert [(seen.first, seen.past) for seen in scenario.take()] == [(6461, 6561)]


# Nagle's algorithm: RFC 9293 MUST-17, RFC 896.


def test_a_second_small_segment_waits_for_the_first(plain: Scenario) -> None:
    plain.write(10)
    plain.expect("P. 1:11(10) ack 1")
    plain.write(10)
    plain.write(10)
    plain.expect_nothing(0.1)
    plain.send(". 1:1(0) ack 11")
    plain.expect("P. 11:31(20) ack 1")


def test_a_full_segment_does_not_wait(plain: Scenario) -> None:
    plain.write(10)
    plain.expect("P. 1:11(10) ack 1")
    plain.write(2000)
    plain.expect(". 11:1471(1460) ack 1")
    plain.expect_nothing(0.1)
    plain.send(". 1:1(0) ack 1471")
    plain.expect("P. 1471:2011(540) ack 1")


def test_a_duplicate_from_a_peer_without_sack_changes_nothing_of_that(plain: Scenario) -> None:
    """Nobody is told of it, so it takes no room in segments, and a full one stays a full one."""
    plain.send("P. 1:101(100) ack 1")
    plain.send("P. 1:101(100) ack 1")
    plain.take(0.1)
    plain.write(2000)
    plain.expect(". 1:1461(1460) ack 101")
    plain.expect("P. 1461:2001(540) ack 101")


def test_nodelay_sends_everything_at_once(plain: Scenario) -> None:
    """RFC 9293 MUST-17: an application can turn it off."""
    plain.set_option("nodelay", 1)
    for first in (1, 11, 21):
        plain.write(10)
        plain.expect(f"P. {first}:{first + 10}(10) ack 1")


def test_turning_nodelay_on_sends_what_waits(plain: Scenario) -> None:
    plain.write(10)
    plain.expect("P. 1:11(10) ack 1")
    plain.write(10)
    plain.set_option("nodelay", 1)
    plain.expect("P. 11:21(10) ack 1")


def test_a_fin_takes_small_data_along(plain: Scenario) -> None:
    """Nothing more will come, so there is nothing to wait for."""
    plain.write(10)
    plain.expect("P. 1:11(10) ack 1")
    plain.write(10)
    plain.shutdown()
    seen = plain.take()
    assert (seen[0].first, seen[-1].past, "F" in seen[-1].tcp.flags) == (11, 21, True)


def test_cork_waits_for_a_full_segment(plain: Scenario) -> None:
    plain.set_option("cork", 1)
    plain.write(1000)
    plain.expect_nothing(0.1)
    plain.write(1000)
    plain.expect(". 1:1461(1460) ack 1")
    plain.set_option("cork", 0)
    plain.set_option("nodelay", 1)
    plain.expect("P. 1461:2001(540) ack 1")


def test_the_last_segment_of_a_write_is_pushed(plain: Scenario) -> None:
    """RFC 9293 MUST-61."""
    plain.set_option("nodelay", 1)
    plain.write(3000)
    plain.expect(". 1:1461(1460) ack 1")
    plain.expect(". 1461:2921(1460) ack 1")
    plain.expect("P. 2921:3001(80) ack 1")


# MSS: RFC 9293 MUST-14 to 16, RFC 6691.


@pytest.mark.parametrize(
    ("options", "size"), [("", 536), ("<mss 536>", 536), ("<mss 1000>", 1000), ("<mss 9000>", 1460)]
)
def test_the_size_of_segments(options: str, size: int, host: Host) -> None:
    scenario = states.established(host, f"S 0:0(0) win 65535 {options}")
    scenario.write(5 * size)
    assert scenario.expect_data(1, 5 * size + 1) == [size] * 5


@pytest.mark.parametrize("family", [6])
def test_the_size_of_segments_without_an_mss_over_ipv6(host: Host, family: int) -> None:
    """RFC 9293 MUST-15: 1220."""
    scenario = states.established(host, "S 0:0(0) win 65535")
    scenario.write(5000)
    assert max(scenario.expect_data(1, 5001)) == 1220


@pytest.mark.link(mtu=9000)
@pytest.mark.parametrize(("family", "size"), [(4, 8960), (6, 8940)])
def test_a_larger_mtu(host: Host, family: int, size: int) -> None:
    scenario = states.listening(host)
    scenario.send("S 0:0(0) win 65535 <mss 8960>")
    scenario.expect(f"S. 0:0(0) ack 1 <mss {size}>")
    scenario.send(". 1:1(0) ack 1")
    scenario.accept()
    scenario.write(10000)
    assert scenario.expect_data(1, 10001) == [size, 10000 - size]


def test_writing_more_than_the_buffer_holds(host: Host) -> None:
    scenario = states.established(host, states.PLAIN_SYN, win=0)
    taken = 0
    while True:
        try:
            taken += scenario.write(100_000)
        except BlockingIOError:
            break
    assert 200_000 < taken <= 300_000
    scenario.events()
    scenario.send(". 1:1(0) ack 1 win 65535")
    for _ in range(400):
        seen = scenario.take()
        if not seen:
            break
        scenario.send(f". 1:1(0) ack {seen[-1].past} win 65535")
    assert "writable" in scenario.events()
    assert scenario.write(1000) == 1000
    assert len(scenario.take()) == 1


@pytest.mark.stack(snd_limit=10_000, snd_limit_max=40_000)
def test_as_much_waits_as_is_in_flight(host: Host) -> None:
    """Twice the congestion window: ten segments of 1460 bytes at first."""
    scenario = states.established(host, states.PLAIN_SYN, win=65535)
    assert scenario.write(100_000) == 29_200
    scenario.expect_data(1, 14_601)
    scenario.send(". 1:1(0) ack 14601 win 65535")
    assert 0 < scenario.write(100_000) <= 40_000 - 14_600
    scenario.take()
