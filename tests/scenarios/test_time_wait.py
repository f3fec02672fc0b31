"""TIME-WAIT: what is left of a connection, so that old segments harm no new one (RFC 9293 section 3.6.1, RFC 1337,
RFC 6191)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states

TWO_MSL = 60


def test_it_lasts_twice_the_life_of_a_segment(time_wait: Scenario) -> None:
    """RFC 9293 MUST-13."""
    time_wait.expect_nothing(TWO_MSL - 1)
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


def test_then_it_is_over(time_wait: Scenario) -> None:
    time_wait.expect_nothing(TWO_MSL + 1)
    time_wait.send(". 2:2(0) ack 2")
    time_wait.expect("R 2:2(0)")


def test_a_repeated_fin_starts_the_time_again(time_wait: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, eighth step."""
    time_wait.expect_nothing(TWO_MSL - 1)
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")
    time_wait.expect_nothing(TWO_MSL - 1)
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


@pytest.mark.parametrize("segment", ["R 2:2(0)", "R. 2:2(0) ack 2"])
def test_a_reset_with_the_exact_number_ends_it(segment: str, time_wait: Scenario) -> None:
    """RFC 9293 section 3.10.7.4; RFC 1337 would have it ignored."""
    time_wait.send(segment)
    time_wait.expect_nothing()
    assert time_wait.events() == set()
    time_wait.send(". 2:2(0) ack 2")
    time_wait.expect("R 2:2(0)")


def test_another_host_with_the_same_ports_gets_through(host: Host) -> None:
    """Behind one NAT: its numbers and timestamps are older, and it resets what the answer to its SYN tells of."""
    old = states.time_wait(host, syn=states.SYN_WITH_TIMESTAMPS.replace("ts 0", "ts 2000"))
    host.advance(1)
    syn = "S 1:1(0) win 65535 <mss 1460,sackOK,ts 1000 ecr 0>"
    iss = (old.peer.iss - 70000) % 2**32
    old.send(syn, seq=iss)
    old.expect(". 2:2(0) ack 2")
    old.send("R 2:2(0) <nots>")
    new = again(old, host, iss)
    new.send("S 0:0(0) win 65535 <mss 1460,sackOK,ts 1000 ecr 0>")
    new.expect("S. 0:0(0) ack 1")
    new.send(". 1:1(0) ack 1")
    new.accept()


@pytest.mark.parametrize("number", [0, 1, 3, 60000, 2**31])
def test_any_other_reset_does_not_end_it(number: int, time_wait: Scenario) -> None:
    time_wait.send(f"R {number}:{number}(0)")
    time_wait.expect_nothing()
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


def test_an_old_reset_does_not_end_it(host: Host) -> None:
    """Of an earlier connection, as its timestamp says."""
    time_wait = states.time_wait(host, syn=states.SYN_WITH_TIMESTAMPS.replace("ts 0", "ts 2000"))
    time_wait.send("R 2:2(0) <ts 1999 ecr 0>")
    time_wait.expect_nothing()
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


def test_old_data_is_acknowledged_and_dropped(time_wait: Scenario) -> None:
    time_wait.send("P. 1:101(100) ack 2")
    time_wait.expect(". 2:2(0) ack 2")
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


def test_a_pure_acknowledgment_is_not_answered(time_wait: Scenario) -> None:
    """Two ends in TIME-WAIT would answer each other for ever."""
    time_wait.send(". 2:2(0) ack 2")
    time_wait.expect_nothing(1)


def again(scenario: Scenario, host: Host, iss: int) -> Scenario:
    """The peer opens a new connection with the same ports."""
    scenario.host.no_surprise()
    return Scenario(host, remote=scenario.remote, peer_iss=iss % 2**32)


def test_a_later_syn_opens_a_new_connection(time_wait: Scenario, host: Host) -> None:
    """RFC 9293 MAY-2: its sequence number is beyond what was used."""
    host.advance(1)
    new = again(time_wait, host, time_wait.peer.iss + 1000)
    new.send(states.SYN)
    new.expect("S. 0:0(0) ack 1")
    new.send(". 1:1(0) ack 1")
    new.accept()
    new.send("P. 1:101(100) ack 1")
    new.expect(". 1:1(0) ack 101", within=0.5)
    assert len(new.read()) == 100


def test_the_new_connection_begins_beyond_the_old_one(time_wait: Scenario, host: Host) -> None:
    host.advance(1)
    new = again(time_wait, host, time_wait.peer.iss + 1000)
    new.send(states.SYN)
    new.expect("S. 0:0(0) ack 1")
    assert new.peer.stack_iss is not None
    assert time_wait.peer.stack_iss is not None
    assert 2 < (new.peer.stack_iss - time_wait.peer.stack_iss) % 2**32 < 2**31


@pytest.mark.parametrize("back", [0, 1, 100000])
def test_an_old_syn_opens_nothing(back: int, time_wait: Scenario) -> None:
    time_wait.send("S 1:1(0) win 65535 <mss 1460>", seq=(time_wait.peer.iss + 2 - 1 - back) % 2**32)
    time_wait.expect(". 2:2(0) ack 2")


def test_a_later_timestamp_opens_a_new_connection_whatever_the_number(host: Host) -> None:
    """RFC 6191 section 2."""
    old = states.time_wait(host, syn=states.SYN_WITH_TIMESTAMPS)
    host.advance(1)
    new = again(old, host, old.peer.iss - 70000)
    new.peer.ts_base = old.peer.ts_base
    new.send("S 0:0(0) win 65535 <mss 1460,sackOK,ts 5000 ecr 0>")
    new.expect("S. 0:0(0) ack 1")


@pytest.mark.parametrize("stamp", [1999, 1000])
def test_an_older_timestamp_opens_nothing(stamp: int, host: Host) -> None:
    old = states.time_wait(host, syn=states.SYN_WITH_TIMESTAMPS.replace("ts 0", "ts 2000"))
    host.advance(1)
    old.send(f"S 1:1(0) win 65535 <mss 1460,sackOK,ts {stamp} ecr 0>", seq=(old.peer.iss - 70000) % 2**32)
    old.expect(". 2:2(0) ack 2")


@pytest.mark.stack(time_wait_max=4, conn_max=8)
def test_many_of_them_do_not_fill_the_table(host: Host) -> None:
    """The oldest give way."""
    ended = [states.time_wait(host, how="close") for _ in range(20)]
    states.established(host)
    ended[0].send(". 2:2(0) ack 2")
    ended[0].expect("R 2:2(0)")
    ended[-1].send("F. 1:1(0) ack 2")
    ended[-1].expect(". 2:2(0) ack 2")


def test_its_end_is_no_news(time_wait: Scenario) -> None:
    """The application was told when both sides were done."""
    time_wait.expect_nothing(TWO_MSL + 1)
    assert time_wait.events() == set()
    time_wait.close()
    assert time_wait.state == "closed"


def test_the_application_may_let_go_of_it(time_wait: Scenario) -> None:
    time_wait.close()
    time_wait.expect_nothing(TWO_MSL - 1)
    time_wait.send("F. 1:1(0) ack 2")
    time_wait.expect(". 2:2(0) ack 2")


def test_closing_side_by_side_ends_there_too(closing: Scenario) -> None:
    closing.send(". 2:2(0) ack 2")
    closing.expect_nothing(TWO_MSL - 1)
    closing.send("F. 1:1(0) ack 2")
    closing.expect(". 2:2(0) ack 2")
