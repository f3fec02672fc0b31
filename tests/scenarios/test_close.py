"""Closing a connection in order, from either side (RFC 9293 sections 3.6 and 3.10.4, RFC 1122 section 4.2.2.13)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states

BOTH = pytest.mark.parametrize("family", [4, 6])

STATES_OF_OUR_FIN = {
    "fin_wait_1": "F. 1:1(0) ack 1",
    "closing": "F. 1:1(0) ack 2",
    "last_ack": "F. 1:1(0) ack 2",
}


# The peer is first.


@BOTH
def test_the_peer_closes_first(established: Scenario) -> None:
    established.send("F. 1:1(0) ack 1")
    established.expect(". 1:1(0) ack 2", within=0.5)
    assert established.events() == {"eof"}
    assert established.read() == b""
    established.close()
    established.expect("F. 1:1(0) ack 2")
    established.send(". 2:2(0) ack 2")
    established.expect_nothing(100)
    assert established.state == "closed"


def test_a_fin_behind_data(established: Scenario) -> None:
    established.send("FP. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 102", within=0.5)
    assert established.events() == {"readable", "eof"}
    assert len(established.read()) == 100
    assert established.read() == b""


def test_the_application_may_answer_after_the_peers_end(close_wait: Scenario) -> None:
    close_wait.write(100)
    close_wait.expect("P. 1:101(100) ack 2")
    close_wait.send(". 2:2(0) ack 101")
    close_wait.close()
    close_wait.expect("F. 101:101(0) ack 2")


def test_a_fin_that_comes_too_early_waits_for_what_is_missing(established: Scenario) -> None:
    established.send("FP. 101:201(100) ack 1")
    established.expect(". 1:1(0) ack 1 <sack 101:201>")
    assert established.events() == set()
    established.send(". 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 202")
    assert established.state == "close_wait"
    assert len(established.read()) == 200
    assert established.read() == b""


def test_a_fin_alone_that_comes_too_early(established: Scenario) -> None:
    established.send("F. 101:101(0) ack 1")
    established.take()
    assert established.state == "established"
    established.send("P. 1:101(100) ack 1")
    answers = established.take(0.5)
    if answers[-1].ack == 101:  # it was not kept: the peer sends it again
        established.send("F. 101:101(0) ack 1")
        established.expect(". 1:1(0) ack 102", within=0.5)
    assert established.state == "close_wait"


def test_a_repeated_fin_is_acknowledged_again(close_wait: Scenario) -> None:
    close_wait.send("F. 1:1(0) ack 1")
    close_wait.expect(". 1:1(0) ack 2")
    assert close_wait.events() == set()


def test_data_behind_the_peers_fin_is_none(close_wait: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, seventh step: this should not occur; ignore the segment text."""
    close_wait.send("P. 2:102(100) ack 1")
    assert all(seen.ack == 2 for seen in close_wait.take(0.5))
    assert close_wait.read() == b""


def test_closing_with_output_queued_sends_it_first(established: Scenario) -> None:
    established.write(2000)
    established.close()
    sizes = [(seen.first, seen.past, "F" in seen.tcp.flags) for seen in established.take()]
    assert sizes == [(1, 1461, False), (1461, 2001, True)] or sizes == [
        (1, 1461, False), (1461, 2001, False), (2001, 2001, True)]  # fmt: skip


def test_our_fin_waits_for_the_window(host: Host) -> None:
    scenario = states.established(host, "S 0:0(0) win 1000 <mss 1460>")
    scenario.write(1500)
    scenario.expect(". 1:1001(1000) ack 1")
    scenario.close()
    scenario.expect_nothing(0.1)
    scenario.send(". 1:1(0) ack 1001 win 1000")
    assert [(seen.past, "F" in seen.tcp.flags) for seen in scenario.take()][-1] == (1501, True)


# We are first.


@BOTH
def test_we_close_first(established: Scenario) -> None:
    established.shutdown()
    established.expect("F. 1:1(0) ack 1")
    assert established.state == "fin_wait_1"
    established.send(". 1:1(0) ack 2")
    assert established.state == "fin_wait_2"
    established.send("F. 1:1(0) ack 2")
    established.expect(". 2:2(0) ack 2")
    assert established.state == "time_wait"


def test_both_close_at_once(fin_wait_1: Scenario) -> None:
    fin_wait_1.send("F. 1:1(0) ack 1")
    fin_wait_1.expect(". 2:2(0) ack 2")
    assert fin_wait_1.state == "closing"
    fin_wait_1.send(". 2:2(0) ack 2")
    assert fin_wait_1.state == "time_wait"


def test_the_peers_fin_may_acknowledge_ours(fin_wait_1: Scenario) -> None:
    fin_wait_1.send("F. 1:1(0) ack 2")
    fin_wait_1.expect(". 2:2(0) ack 2")
    assert fin_wait_1.state == "time_wait"


@pytest.mark.parametrize("state", STATES_OF_OUR_FIN)
def test_a_lost_fin_is_sent_again(state: str, request: pytest.FixtureRequest) -> None:
    scenario = request.getfixturevalue(state)
    scenario.expect(STATES_OF_OUR_FIN[state], within=2)
    begin = scenario.host.now_s
    scenario.expect(STATES_OF_OUR_FIN[state], within=4)
    assert scenario.host.now_s > begin


@pytest.mark.parametrize("state", STATES_OF_OUR_FIN)
def test_a_fin_that_is_never_acknowledged_is_given_up(state: str, request: pytest.FixtureRequest) -> None:
    scenario = request.getfixturevalue(state)
    scenario.close()
    again = scenario.take(600)
    assert 3 < len(again) < 30
    scenario.send(". ack 1")
    (reset,) = scenario.take()
    assert reset.tcp.flags == "R"


@pytest.mark.parametrize("state", ["fin_wait_1", "fin_wait_2"])
def test_a_half_closed_connection_still_receives(state: str, request: pytest.FixtureRequest) -> None:
    """RFC 9293 section 3.6: half-close."""
    scenario = request.getfixturevalue(state)
    ack = 1 if state == "fin_wait_1" else 2
    for first in range(1, 10001, 1000):
        scenario.send(f"P. {first}:{first + 1000}(1000) ack {ack}")
        scenario.take()
    scenario.take(0.1)
    assert len(scenario.read()) == 10000
    scenario.send(f"F. 10001:10001(0) ack {ack}")
    assert 10002 in [seen.ack for seen in scenario.take()]
    assert scenario.read() == b""


def test_a_half_closed_connection_may_last(fin_wait_2: Scenario) -> None:
    """As long as the application holds it: only an orphan is bounded."""
    fin_wait_2.expect_nothing(3600)
    fin_wait_2.send("P. 1:101(100) ack 2")
    fin_wait_2.expect(". 2:2(0) ack 101", within=0.5)
    assert len(fin_wait_2.read()) == 100


def test_an_orphan_does_not_wait_for_ever(host: Host) -> None:
    """The peer acknowledged our FIN, and then nothing more comes: 60 s."""
    orphan = states.fin_wait_2(host, how="close")
    orphan.expect_nothing(59)
    orphan.send("F. 1:1(0) ack 2")
    orphan.expect(". 2:2(0) ack 2")


def test_an_orphan_that_waited_too_long_is_gone(host: Host) -> None:
    orphan = states.fin_wait_2(host, how="close")
    assert {seen.tcp.flags for seen in orphan.take(61)} <= {"R."}
    orphan.send("F. 1:1(0) ack 2")
    (reset,) = orphan.take()
    assert "R" in reset.tcp.flags


def test_the_end_is_told(last_ack: Scenario) -> None:
    last_ack.send(". 2:2(0) ack 2")
    assert last_ack.closed_by() == "closed"


def test_writing_after_shutdown(fin_wait_1: Scenario) -> None:
    """RFC 9293 section 3.10.2."""
    with pytest.raises(BrokenPipeError):
        fin_wait_1.write(10)


def test_shutting_down_twice_is_once(fin_wait_1: Scenario) -> None:
    fin_wait_1.shutdown()
    fin_wait_1.expect_nothing(0.1)


def test_a_handle_is_gone_after_close(established: Scenario) -> None:
    established.close()
    established.take()
    for use in (established.read, established.shutdown, established.close, established.abort):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use()


def test_nothing_is_told_after_close(established: Scenario) -> None:
    established.close()
    established.expect("F. 1:1(0) ack 1")
    established.send("F. 1:1(0) ack 2")
    established.expect(". 2:2(0) ack 2")
    assert established.events() == set()


# Closed before everything was read (RFC 1122 section 4.2.2.13, RFC 2525 section 2.17).


def test_closing_with_input_unread_is_a_reset(established: Scenario) -> None:
    established.send("P. 1:101(100) ack 1")
    established.take(0.5)
    established.close()
    established.expect("R. 1:1(0) ack 101")
    established.expect_nothing(100)


def test_closing_when_all_was_read_is_no_reset(established: Scenario) -> None:
    established.send("P. 1:101(100) ack 1")
    established.take(0.5)
    established.read()
    established.close()
    established.expect("F. 1:1(0) ack 101")


@pytest.mark.parametrize("state", ["fin_wait_1", "fin_wait_2"])
def test_data_after_close_is_a_reset(state: str, host: Host) -> None:
    scenario = getattr(states, state)(host, how="close")
    scenario.send("P. 1:101(100) ack 2")
    seen = scenario.take()[-1]
    assert "R" in seen.tcp.flags
    assert seen.first == 2
    scenario.expect_nothing(100)


def test_data_after_close_that_came_before_the_fin_was_seen(host: Host) -> None:
    """The peer cannot know yet; it is told all the same, for its data is lost."""
    scenario = states.fin_wait_1(host, how="close")
    scenario.send("P. 1:101(100) ack 1")
    assert "R" in scenario.take()[-1].tcp.flags


def test_a_pure_acknowledgment_after_close_is_no_reason_to_reset(host: Host) -> None:
    scenario = states.fin_wait_2(host, how="close")
    scenario.send(". 1:1(0) ack 2")
    scenario.expect_nothing(1)


# Aborted.


@pytest.mark.parametrize(
    ("state", "reset"),
    [
        ("established", "R. 1:1(0) ack 1"),
        ("established_client", "R. 1:1(0) ack 1"),
        ("fin_wait_1", "R. 2:2(0) ack 1"),
        ("fin_wait_2", "R. 2:2(0) ack 1"),
        ("close_wait", "R. 1:1(0) ack 2"),
    ],
)
def test_an_abort_tells_the_peer(state: str, reset: str, request: pytest.FixtureRequest) -> None:
    """RFC 9293 section 3.10.5."""
    scenario = request.getfixturevalue(state)
    scenario.abort()
    scenario.expect(reset)
    scenario.expect_nothing(100)
    assert scenario.state == "closed"


def test_an_abort_of_an_attempt_tells_nobody(syn_sent: Scenario) -> None:
    syn_sent.abort()
    syn_sent.expect_nothing(100)


def test_an_abort_forgets_what_was_queued(established: Scenario) -> None:
    established.write(3000)
    established.expect_data(1, 3001)
    established.abort()
    established.expect("R. 3001:3001(0) ack 1")
    established.expect_nothing(100)


# Ends in unusual moments.


def test_shutting_down_before_the_connection_is_open(syn_sent: Scenario) -> None:
    """RFC 9293 section 3.10.4: the FIN follows the handshake."""
    syn_sent.shutdown()
    syn_sent.expect_nothing()
    syn_sent.send(states.SYN_ACK)
    seen = syn_sent.take()
    assert [each.tcp.flags for each in seen] in (["F."], [".", "F."])
    syn_sent.send("F. 1:1(0) ack 2")
    syn_sent.expect(". 2:2(0) ack 2")


def test_closing_before_it_was_accepted_by_anybody(syn_received: Scenario) -> None:
    """The peer ends an attempt that nobody has taken yet: it is announced all the same, with its end."""
    syn_received.send("F. 1:1(0) ack 1")
    syn_received.expect(". 1:1(0) ack 2", within=0.5)
    syn_received.accept()
    assert "eof" in syn_received.events()
    syn_received.close()
    syn_received.expect("F. 1:1(0) ack 2")


def test_a_reset_before_it_was_accepted(syn_received: Scenario) -> None:
    syn_received.send(". 1:1(0) ack 1")
    syn_received.send("R 1:1(0)")
    try:
        syn_received.accept()
    except AssertionError:
        syn_received.host.failed = False  # it may be gone without anybody knowing of it
    else:
        assert "closed" in syn_received.events()
        syn_received.close()
    states.established(syn_received.host)


def test_an_orphan_delivers_what_was_queued(host: Host) -> None:
    """RFC 9293 section 3.10.4: close means "I have no more to send", not "forget it"."""
    scenario = states.established(host, "S 0:0(0) win 1460 <mss 1460>")
    scenario.write(14_600)
    scenario.close()
    done, finished = 1, False
    for _ in range(40):
        for seen in scenario.take(0.05):
            done = max(done, seen.past if seen.first <= done else 0)
            finished = finished or "F" in seen.tcp.flags
        scenario.send(f". 1:1(0) ack {done + finished} win 1460")
    assert (done, finished) == (14_601, True)


def test_an_orphan_at_a_closed_window_is_bounded(host: Host) -> None:
    """The peer answers every probe and never opens: an orphan may not hold memory for ever."""
    scenario = states.established(host, win=0)
    scenario.write(1000)
    scenario.close()
    for _ in range(600):
        if scenario.take(10):
            scenario.send(". 1:1(0) ack 1 win 0")
            if any("R" in seen.tcp.flags for seen in scenario.take()):
                break
    else:
        pytest.fail("it is still there after 100 minutes")


def test_an_orphan_whose_peer_vanished_is_given_up(host: Host) -> None:
    scenario = states.established(host)
    scenario.write(1000)
    scenario.close()
    scenario.take(300)
    scenario.send(". 1:1(0) ack 1")
    assert "R" in scenario.take()[-1].tcp.flags


@pytest.mark.parametrize("ack", [1, 51, 101])
def test_a_fin_that_acknowledges_a_part(ack: int, established: Scenario) -> None:
    """Our FIN is behind data that is not acknowledged yet."""
    established.write(100)
    established.expect("P. 1:101(100) ack 1")
    established.shutdown()
    established.expect("F. 101:101(0) ack 1")
    established.send(f"F. 1:1(0) ack {ack}")
    established.expect(". 102:102(0) ack 2")
    assert established.state == "closing"
    established.send(". 2:2(0) ack 102")
    assert established.state == "time_wait"


@pytest.mark.parametrize("state", ["closing", "last_ack", "time_wait", "close_wait"])
def test_the_peers_fin_again(state: str, request: pytest.FixtureRequest) -> None:
    """It did not hear our acknowledgment."""
    scenario = request.getfixturevalue(state)
    before = scenario.state
    scenario.send("F. 1:1(0)", ack=scenario.peer.of_stack(2 if state == "time_wait" else 1))
    assert scenario.take()[-1].ack == 2
    assert scenario.state == before


def test_a_reset_after_the_peers_fin(close_wait: Scenario) -> None:
    close_wait.send("R 2:2(0)")
    assert close_wait.closed_by() == "reset"


def test_what_came_before_a_reset_can_be_read(established: Scenario) -> None:
    """And then it is no end, but a reset: the application is never told that all is there."""
    established.send("P. 1:101(100) ack 1")
    established.take(0.5)
    established.send("R 101:101(0)")
    assert len(established.read()) == 100
    with pytest.raises(ConnectionResetError):
        established.read()


def test_input_can_be_read_after_both_sides_are_done(established: Scenario) -> None:
    """The application reads late: nothing that was acknowledged is lost."""
    established.shutdown()
    established.expect("F. 1:1(0) ack 1")
    established.send("FP. 1:1001(1000) ack 2")
    established.expect(". 2:2(0) ack 1002")
    established.advance(100)
    assert len(established.read()) == 1000
    assert established.read() == b""
    established.close()
    assert established.state == "closed"


def test_closing_with_input_unread_when_both_sides_are_done_is_silent(established: Scenario) -> None:
    established.shutdown()
    established.expect("F. 1:1(0) ack 1")
    established.send("FP. 1:1001(1000) ack 2")
    established.expect(". 2:2(0) ack 1002")
    established.close()
    established.expect_nothing(100)
