"""Timestamps and protection against old segments (RFC 7323 sections 3 to 5)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from usnet_framework.testing import Host, Scenario, states

DAY_S = 24 * 3600


def test_every_segment_has_one(stamped: Scenario) -> None:
    """RFC 7323 section 3.2: in every segment that is no reset, and each echoes the latest one of the peer."""
    stamped.send("P. 1:101(100) ack 1 <ts 100 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 100>", within=0.5)
    stamped.read()
    stamped.write(10)
    stamped.expect("P. 1:11(10) ack 101 <ts ecr 100>")
    stamped.shutdown()
    stamped.expect("F. 11:11(0) ack 101 <ts ecr 100>")


def test_resets_have_one_too(stamped: Scenario) -> None:
    """RFC 7323 section 3.2: SHOULD, so that the peer's firewall takes it for one of the connection."""
    stamped.send("P. 1:101(100) ack 1 <ts 100 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 100>", within=0.5)
    stamped.close()
    stamped.expect("R. 1:1(0) ack 101 <ts ecr 100>")


def test_ours_count_milliseconds(stamped: Scenario) -> None:
    """RFC 7323 section 5.4: a tick of 1 ms to 1 s."""
    begin = stamped.host.now_s
    for seconds in (0.1, 1, 10):
        stamped.advance(seconds)
        stamped.send("P. 1:2(1) ack 1")
        elapsed = round((stamped.host.now_s - begin) * 1000)
        (seen,) = stamped.take() or [stamped.expect(". 1:1(0) ack 2", within=0.5)]
        assert seen.options.timestamps is not None
        assert elapsed <= seen.options.timestamps[0] <= elapsed + 50


def test_data_leaves_room_for_them(stamped: Scenario) -> None:
    """RFC 6691: the MSS does not count options."""
    stamped.write(5000)
    assert stamped.expect_data(1, 5001)[:3] == [1448, 1448, 1448]


def test_without_agreement_there_are_none(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1 <ts 100 ecr 0>")
    plain.expect(". 1:1(0) ack 101", within=0.5)


def test_a_delayed_acknowledgment_echoes_the_earliest(stamped: Scenario) -> None:
    """RFC 7323 section 4.3, case (A): so that the peer's round trip includes the delay."""
    answers = []
    for turn in range(100):
        first = 1 + turn * 200
        stamped.send(f"P. {first}:{first + 100}(100) ack 1 <ts {1000 + turn * 10} ecr 0>")
        answers = stamped.take()
        if answers:
            stamped.send(f"P. {first + 100}:{first + 200}(100) ack 1 <ts {1005 + turn * 10} ecr 0>")
            stamped.take(0.5)
            stamped.read()
            continue
        stamped.send(f"P. {first + 100}:{first + 200}(100) ack 1 <ts {1005 + turn * 10} ecr 0>")
        stamped.expect(f". 1:1(0) ack {first + 200} <ts ecr {1000 + turn * 10}>", within=0.5)
        return
    raise AssertionError("no acknowledgment was ever delayed")


def test_a_hole_keeps_the_echo_at_the_segment_before(stamped: Scenario) -> None:
    """RFC 7323 section 4.3, case (B)."""
    stamped.send("P. 1:101(100) ack 1 <ts 10 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 10>", within=0.5)
    stamped.send("P. 201:301(100) ack 1 <ts 20 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 10,sack 201:301>")
    stamped.send("P. 301:401(100) ack 1 <ts 30 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 10,sack 201:401>")


def test_what_fills_the_hole_is_echoed(stamped: Scenario) -> None:
    """RFC 7323 section 4.3, case (C): the sender's retransmission is measured."""
    stamped.send("P. 101:201(100) ack 1 <ts 20 ecr 0>")
    stamped.expect(". 1:1(0) ack 1 <ts ecr 0,sack 101:201>")
    stamped.send("P. 1:101(100) ack 1 <ts 40 ecr 0>")
    stamped.expect(". 1:1(0) ack 201 <ts ecr 40>")


def test_an_old_duplicate_does_not_move_the_echo(stamped: Scenario) -> None:
    """RFC 7323 section 4.3: SEG.SEQ <= Last.ACK.sent, and SEG.TSval >= TS.Recent."""
    stamped.send("P. 1:101(100) ack 1 <ts 10 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.send("P. 201:301(100) ack 1 <ts 50 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 10,sack 201:301>")


def test_a_segment_from_the_past_is_dropped(stamped: Scenario) -> None:
    """RFC 7323 section 5.3, PAWS: and acknowledged."""
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.read()
    stamped.send("P. 101:201(100) ack 1 <ts 199 ecr 0>")
    stamped.expect(". 1:1(0) ack 101 <ts ecr 200>")
    assert not stamped.can_read()
    assert stamped.host.counter("tcp_old_timestamp") == 1


def test_an_equal_timestamp_is_not_from_the_past(stamped: Scenario) -> None:
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.take()
    stamped.send("P. 101:201(100) ack 1 <ts 200 ecr 0>")
    stamped.take(0.5)
    assert len(stamped.read()) == 200


def test_a_pure_acknowledgment_from_the_past_is_not_believed(stamped: Scenario) -> None:
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.write(100)
    stamped.expect("P. 1:101(100) ack 101")
    stamped.send(". 101:101(0) ack 101 win 0 <ts 100 ecr 0>")
    stamped.take()
    assert stamped.info.queued == 100
    assert stamped.info.snd_wnd > 0


def test_a_reset_is_exempt(stamped: Scenario) -> None:
    """RFC 7323 section 5.3: PAWS does not apply to resets."""
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.send("R 101:101(0) <ts 100 ecr 0>")
    assert stamped.closed_by() == "reset"


def test_a_segment_without_one_is_taken(stamped: Scenario) -> None:
    """RFC 7323 section 3.2 would have it dropped; but some devices agree on timestamps and leave them out, and would
    never get through. Linux takes it."""
    stamped.send("P. 1:101(100) ack 1 <nots>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    assert len(stamped.read()) == 100
    assert stamped.host.counter("no_timestamp") == 1


def test_a_whole_connection_without_them_although_they_were_agreed_on(stamped: Scenario) -> None:
    """No round trip is measured by an echo that is not there, and the peer's end comes as its data does."""
    stamped.advance(5)
    stamped.write(100)
    stamped.expect("P. 1:101(100) ack 1")
    stamped.advance(0.05)
    stamped.send("P. 1:101(100) ack 101 <nots>")
    stamped.expect(". 101:101(0) ack 101", within=0.5)
    assert stamped.info.srtt_us < 55_000
    stamped.send("F. 101:101(0) ack 101 <nots>")
    stamped.expect(". 101:101(0) ack 102", within=0.5)
    stamped.close()
    stamped.take()


def test_a_segment_without_one_is_no_proof_that_a_recovery_was_needless(stamped: Scenario) -> None:
    """RFC 4015: only an echo is."""
    stamped.write(100)
    stamped.expect("P. 1:101(100) ack 1")
    stamped.expect("P. 1:101(100) ack 1", within=3)
    stamped.send(". 1:1(0) ack 101 <nots>")
    assert stamped.host.counter("spurious") == 0


def test_one_that_is_left_out_does_not_forget_the_last(stamped: Scenario) -> None:
    """What came before with one is still from the past."""
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.send("P. 101:201(100) ack 1 <nots>")
    stamped.expect(". 1:1(0) ack 201", within=0.5)
    stamped.send("P. 201:301(100) ack 1 <ts 199 ecr 0>")
    stamped.expect(". 1:1(0) ack 201")
    assert stamped.host.counter("tcp_old_timestamp") == 1


def test_a_reset_without_one_is_taken(stamped: Scenario) -> None:
    stamped.send("R 1:1(0) <nots>")
    assert stamped.closed_by() == "reset"


def test_timestamps_wrap(host: Host) -> None:
    """RFC 7323 section 5.2: newer is less than 2^31 ahead."""
    scenario = states.established(host, "S 0:0(0) win 65535 <mss 1460,sackOK,ts 4294967295 ecr 0,wscale 7>")
    scenario.send("P. 1:101(100) ack 1 <ts 4294967296 ecr 0>")
    scenario.take()
    scenario.send("P. 101:201(100) ack 1 <ts 4294967300 ecr 0>")
    scenario.take(0.5)
    assert len(scenario.read()) == 200


@pytest.mark.parametrize("base", [0, 2**31 - 1, 2**31, 2**32 - 2])
def test_the_peers_timestamps_wrap_on_the_wire(base: int, host: Host) -> None:
    listening = states.listening(host)
    listening.peer.ts_base = base
    listening.send(states.SYN_WITH_TIMESTAMPS)
    listening.expect("S. 0:0(0) ack 1")
    for step in range(4):
        listening.send(f"P. {1 + step * 10}:{11 + step * 10}(10) ack 1 <ts {step + 1} ecr 0>")
        listening.take()
    listening.accept()
    assert len(listening.read()) == 40


def test_after_24_days_any_timestamp_is_taken(stamped: Scenario) -> None:
    """RFC 7323 section 5.5: the clock of the peer may have wrapped in between."""
    stamped.send("P. 1:101(100) ack 1 <ts 200 ecr 0>")
    stamped.expect(". 1:1(0) ack 101", within=0.5)
    stamped.read()
    stamped.advance(25 * DAY_S)
    stamped.send("P. 101:201(100) ack 1 <ts 100 ecr 0>")
    stamped.expect(". 1:1(0) ack 201", within=0.5)
    assert len(stamped.read()) == 100


def test_two_connections_have_unrelated_timestamps(host: Host) -> None:
    """RFC 7323 section 5.4 recommends an offset per connection: uptime and other connections stay unknown."""
    bases = []
    for _ in range(6):
        attempt = states.listening(host)
        attempt.send(states.SYN_WITH_TIMESTAMPS)
        stamps = attempt.expect("S. 0:0(0) ack 1").tcp.options.timestamps
        assert stamps is not None
        bases.append(stamps[0])
    distances = [(after - before) % 2**32 for before, after in pairwise(bases)]
    assert len(set(distances)) == len(distances)
    assert min(distances) > 1000


def test_an_echo_of_something_never_sent_does_no_harm(stamped: Scenario) -> None:
    """It gives no sample of the round trip that is beyond reason."""
    stamped.write(100)
    stamped.expect("P. 1:101(100) ack 1")
    stamped.advance(0.1)
    stamped.send(". 1:1(0) ack 101 <ts 100 ecr 4000000000>")
    stamped.write(100)
    stamped.expect("P. 101:201(100) ack 1")
    assert stamped.info.rto_us <= 60_000_000


def test_zero_echo_does_no_harm(stamped: Scenario) -> None:
    stamped.write(100)
    (seen,) = stamped.take()
    stamped.advance(0.1)
    stamped.send(
        ". 1:1(0) ack 101 <ts 100>", options=seen.tcp.options.__class__(timestamps=(stamped.peer.ts_base + 100, 0))
    )
    assert stamped.state == "established"
    stamped.write(10)
    stamped.expect("P. 101:111(10) ack 1")
    assert stamped.info.rto_us < 2_000_000


# What somebody can do who guesses, or a peer whose clock jumps.


@pytest.mark.parametrize(
    "forged",
    [
        "P. 1:101(100) ack 100000 <ts 2000000000 ecr 0>",  # acknowledges what was never sent
        "P. 200001:200101(100) ack 1 <ts 2000000000 ecr 0>",  # outside the window
        "P. 1001:1101(100) ack 1 <ts 2000000000 ecr 0>",  # inside, but not next: it does not set the clock
        "R 1001:1001(0) <ts 2000000000 ecr 0>",
        "S 1:1(0) <ts 2000000000 ecr 0>",
    ],
)
def test_a_guessed_segment_does_not_put_the_clock_forward(forged: str, stamped: Scenario) -> None:
    """RFC 7323 section 5.3: what is not acceptable, or beyond the last acknowledgment, leaves TS.Recent alone: else all
    that the peer sends would be from the past."""
    stamped.send(forged)
    stamped.take()
    stamped.send("P. 1:101(100) ack 1 <ts 10 ecr 0>")
    stamped.take(0.5)
    assert stamped.info.rcv_nxt - stamped.info.irs >= 101
    assert stamped.state == "established"


def test_a_clock_that_jumps_by_half_its_range_loses_only_what_is_older(stamped: Scenario) -> None:
    """2^31 - 1 ahead is later, and from then on what came before is earlier: the peer hears of it, and we go on."""
    stamped.send(f"P. 1:101(100) ack 1 <ts {2**31 - 1} ecr 0>")
    stamped.take(0.5)
    stamped.send("P. 101:201(100) ack 1 <ts 10 ecr 0>")
    assert stamped.take()[-1].ack == 101
    stamped.send(f"P. 101:201(100) ack 1 <ts {2**31} ecr 0>")
    assert stamped.take(0.5)[-1].ack == 201


def test_echoes_far_in_the_past_and_in_the_future_are_no_samples(stamped: Scenario) -> None:
    stamped.write(100)
    (seen,) = stamped.take()
    stamped.advance(0.05)
    assert seen.options.timestamps is not None
    for offset in (-(2**31), -100_000_000, 2**31 - 1, 5000):
        stamped.send(f". 1:1(0) ack 1 <ts 100 ecr {(seen.options.timestamps[0] + offset) % 2**32}>")
        stamped.take()
    stamped.send(f". 1:1(0) ack 101 <ts 101 ecr {(seen.options.timestamps[0] + 5000) % 2**32}>")
    assert stamped.info.srtt_us < 1_000_000
    assert stamped.info.rto_us < 2_000_000
