"""Opening a connection, from either side (RFC 9293 sections 3.5 and 3.10.7)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from usnet_framework.testing import Host, Scenario, states
from usnet_framework.testing.host import GATEWAY, LOCAL, PEER

BOTH = pytest.mark.parametrize("family", [4, 6])


@BOTH
def test_passive_open(listening: Scenario, family: int) -> None:
    mss = 1460 if family == 4 else 1440
    listening.send("S 0:0(0) win 65535 <mss 1460,sackOK,wscale 7>")
    listening.expect(f"S. 0:0(0) ack 1 <mss {mss},sackOK,wscale>")
    listening.send(". 1:1(0) ack 1")
    listening.accept()
    assert listening.state == "established"
    assert listening.info.agreed == {"window_scaling", "sack"}


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("", "mss 1460"),
        ("mss 1460", "mss 1460"),
        ("mss 1460,sackOK", "mss 1460,sackOK"),
        ("mss 1460,wscale 7", "mss 1460,wscale"),
        ("mss 1460,ts 5 ecr 0", "mss 1460,ts 0 ecr 5"),
        ("mss 1460,sackOK,ts 5 ecr 0,wscale 7", "mss 1460,sackOK,ts 0 ecr 5,wscale"),
    ],
)
def test_only_what_was_offered_is_agreed_on(offered: str, agreed: str, listening: Scenario) -> None:
    """RFC 7323 sections 2.2 and 3.2, RFC 2018 section 2."""
    listening.send(f"S 0:0(0) win 65535 <{offered}>" if offered else "S 0:0(0) win 65535")
    listening.expect(f"S. 0:0(0) ack 1 <{agreed}>")


@pytest.mark.parametrize(
    ("option", "agreed"),
    [
        ("sack", "mss 1460,ts 0 ecr 5,wscale"),
        ("timestamps", "mss 1460,sackOK,wscale"),
        ("window_scaling", "mss 1460,sackOK,ts 0 ecr 5"),
    ],
)
def test_what_is_turned_off_is_not_agreed_on(
    option: str, agreed: str, request: pytest.FixtureRequest, stack_options: dict[str, int | bool | bytes]
) -> None:
    stack_options[option] = False
    listening = states.listening(request.getfixturevalue("host"))
    listening.send("S 0:0(0) win 65535 <mss 1460,sackOK,ts 5 ecr 0,wscale 7>")
    listening.expect(f"S. 0:0(0) ack 1 <{agreed}>")


def test_a_repeated_syn_gets_the_same_answer(syn_received: Scenario) -> None:
    syn_received.send(states.SYN)
    syn_received.expect("S. 0:0(0) ack 1")


def test_an_acknowledgment_of_something_else_is_reset(syn_received: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, fifth step: SYN-RECEIVED."""
    syn_received.send(". 1:1(0) ack 6")
    syn_received.expect("R 6:6(0)")
    syn_received.send(". 1:1(0) ack 1")
    syn_received.accept()


def test_a_reset_ends_an_attempt_silently(syn_received: Scenario) -> None:
    syn_received.send("R 1:1(0)")
    syn_received.expect_nothing(100)
    syn_received.send(". 1:1(0) ack 1")
    syn_received.expect("R 1:1(0)")


def test_a_reset_outside_the_window_does_not_end_an_attempt(syn_received: Scenario) -> None:
    syn_received.send("R 100000:100000(0)")
    syn_received.expect_nothing()
    syn_received.send(". 1:1(0) ack 1")
    syn_received.accept()


@BOTH
def test_the_last_step_may_bring_data(syn_received: Scenario) -> None:
    syn_received.send("P. 1:101(100) ack 1")
    syn_received.expect(". 1:1(0) ack 101", within=0.5)
    syn_received.accept()
    assert len(syn_received.read()) == 100


def test_the_last_step_may_be_lost_and_data_comes_first(syn_received: Scenario) -> None:
    syn_received.send("P. 101:201(100) ack 1")
    syn_received.expect(". 1:1(0) ack 1 <sack 101:201>")
    syn_received.accept()
    syn_received.send("P. 1:101(100) ack 1")
    syn_received.expect(". 1:1(0) ack 201")
    assert len(syn_received.read()) == 200


def test_the_last_step_may_bring_everything_and_the_end(syn_received: Scenario) -> None:
    syn_received.send("FP. 1:101(100) ack 1")
    syn_received.expect(". 1:1(0) ack 102", within=0.5)
    syn_received.accept()
    assert syn_received.state == "close_wait"
    assert len(syn_received.read()) == 100
    assert syn_received.read() == b""


def test_data_with_the_syn_is_left_to_be_sent_again(listening: Scenario) -> None:
    """RFC 9293 section 3.10.7.2 lets it be queued or not; it is not delivered before the handshake is over."""
    listening.send("S 0:100(100) win 65535 <mss 1460>")
    listening.expect("S. 0:0(0) ack 1")
    listening.send(". 1:101(100) ack 1", data=bytes(100))
    listening.expect(". 1:1(0) ack 101", within=0.5)
    listening.accept()
    assert listening.read() == bytes(100)


def test_an_unanswered_syn_ack_is_sent_again(syn_received: Scenario) -> None:
    """RFC 6298: 1 s, then twice as long each time."""
    for wait in (1, 2, 4, 8):
        syn_received.expect("S. 0:0(0) ack 1", after=wait)
    syn_received.expect_nothing(100)
    syn_received.send(". 1:1(0) ack 1")
    syn_received.expect("R 1:1(0)")


def test_attempts_that_were_given_up_leave_nothing(host: Host) -> None:
    for _ in range(host.stack.options["conn_max"] * 3):
        attempt = states.syn_received(host)
        attempt.send("R 1:1(0)")
    states.established(host)


def test_a_repeated_syn_ack_can_be_acknowledged(syn_received: Scenario) -> None:
    syn_received.expect("S. 0:0(0) ack 1", after=1)
    syn_received.send(". 1:1(0) ack 1")
    syn_received.accept()
    syn_received.expect_nothing(100)


@BOTH
def test_active_open(host: Host, family: int) -> None:
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect(f"S 0:0(0) <mss {1460 if family == 4 else 1440},sackOK,ts 0 ecr 0,wscale>")
    client.send("S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,ts 7 ecr 0,wscale 7>")
    client.expect(". 1:1(0) ack 1 <ts 0 ecr 7>")
    assert client.events() == {"connected"}
    assert client.info.agreed == {"window_scaling", "sack", "timestamps"}


def test_active_open_with_a_peer_that_knows_no_options(syn_sent: Scenario) -> None:
    """RFC 9293 MUST-15: without an MSS, 536 bytes."""
    syn_sent.send("S. 0:0(0) ack 1 win 65535")
    syn_sent.expect(". 1:1(0) ack 1")
    syn_sent.set_option("nodelay", 1)
    syn_sent.write(1000)
    assert syn_sent.expect_data(1, 1001) == [536, 464]


def test_an_unanswered_syn_is_sent_again_and_given_up(syn_sent: Scenario) -> None:
    for wait in (1, 2, 4, 8):
        syn_sent.expect("S 0:0(0)", after=wait)
    syn_sent.expect_nothing(120)
    assert syn_sent.closed_by() == "timeout"


def test_a_user_timeout_ends_an_attempt(syn_sent: Scenario) -> None:
    """RFC 5482, RFC 9293 section 3.8.3: it counts from the first SYN, whenever it is set."""
    syn_sent.expect("S 0:0(0)", after=1)
    syn_sent.set_option("user_timeout_ms", 2500)
    syn_sent.expect_nothing(1.495)
    assert syn_sent.state == "syn_sent"
    syn_sent.expect_nothing(0.01)
    assert syn_sent.closed_by() == "timeout"


def test_without_a_user_timeout_syns_are_counted(syn_sent: Scenario) -> None:
    syn_sent.set_option("user_timeout_ms", 500)
    syn_sent.set_option("user_timeout_ms", 0)
    for wait in (1, 2, 4, 8):
        syn_sent.expect("S 0:0(0)", after=wait)


def test_a_refused_connection(syn_sent: Scenario) -> None:
    syn_sent.send("R. 0:0(0) ack 1")
    syn_sent.expect_nothing(10)
    assert syn_sent.closed_by() == "refused"


@pytest.mark.parametrize("reset", ["R 0:0(0)", "R. 0:0(0) ack 0", "R. 0:0(0) ack 2"])
def test_a_reset_that_acknowledges_nothing_of_ours_is_no_refusal(reset: str, syn_sent: Scenario) -> None:
    """RFC 9293 section 3.10.7.3: only with an acceptable acknowledgment."""
    syn_sent.send(reset)
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"
    syn_sent.send(states.SYN_ACK)
    syn_sent.expect(". 1:1(0) ack 1")


@pytest.mark.parametrize("ack", [0, 2, 100])
def test_an_answer_to_another_syn_is_reset(ack: int, syn_sent: Scenario) -> None:
    syn_sent.send(f"S. 0:0(0) ack {ack} win 65535")
    syn_sent.expect(f"R {ack}:{ack}(0)")
    assert syn_sent.state == "syn_sent"


def test_an_acknowledgment_without_syn_is_no_answer(syn_sent: Scenario) -> None:
    syn_sent.send(". 1:1(0) ack 1")
    syn_sent.expect_nothing()
    assert syn_sent.state == "syn_sent"


def test_a_repeated_syn_ack_is_acknowledged_again(established_client: Scenario) -> None:
    """The last step was lost; RFC 5961 section 4."""
    established_client.send(states.SYN_ACK)
    established_client.expect(". 1:1(0) ack 1")


def test_simultaneous_open(syn_sent: Scenario) -> None:
    """RFC 9293 MUST-10, figure 8."""
    syn_sent.send("S 0:0(0) win 65535 <mss 1460,sackOK,wscale 7>")
    syn_sent.expect("S. 0:0(0) ack 1")
    assert syn_sent.state == "syn_received"
    syn_sent.send(". 1:1(0) ack 1")
    assert syn_sent.state == "established"
    assert "connected" in syn_sent.events()


def test_simultaneous_open_where_both_send_syn_ack(syn_sent: Scenario) -> None:
    syn_sent.send("S 0:0(0) win 65535 <mss 1460>")
    syn_sent.expect("S. 0:0(0) ack 1")
    syn_sent.send("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    syn_sent.expect(". 1:1(0) ack 1")
    assert syn_sent.state == "established"


def test_data_that_is_written_too_early_is_refused(syn_sent: Scenario) -> None:
    with pytest.raises(OSError, match="not connected"):
        syn_sent.write(10)


def test_closing_an_attempt_ends_it(syn_sent: Scenario) -> None:
    syn_sent.close()
    syn_sent.expect_nothing(100)
    syn_sent.send(states.SYN_ACK)
    syn_sent.expect("R 1:1(0)")


# Initial sequence numbers: RFC 6528.


def iss_of(host: Host, port: int) -> int:
    attempt = states.syn_received(host, remote=(PEER[4], port))
    attempt.send("R 1:1(0)")
    assert attempt.peer.stack_iss is not None
    return attempt.peer.stack_iss


def test_the_initial_sequence_number_grows_with_time(host: Host) -> None:
    """By one each 4 microseconds."""
    before = iss_of(host, 5000)
    host.advance(1)
    assert abs((iss_of(host, 5000) - before) % 2**32 - 250_000) < 1000


def test_initial_sequence_numbers_of_two_peers_tell_nothing_of_each_other(host: Host) -> None:
    numbers = [iss_of(host, 5000 + port) for port in range(8)]
    distances = {(after - before) % 2**32 for before, after in pairwise(numbers)}
    assert len(distances) == 7
    assert max(distances) > 2**28


@pytest.mark.parametrize(("secret", "same"), [(bytes(range(16)), True), (bytes(16), False)])
def test_the_initial_sequence_number_depends_on_the_secret(secret: bytes, same: bool) -> None:
    with Host(secret=bytes(range(16))) as first, Host(secret=secret, seed=99) as second:
        first.listen(80)
        second.listen(80)
        assert (iss_of(first, 5000) == iss_of(second, 5000)) == same


# Listeners.


def test_a_paused_listener_ignores_connections(listening: Scenario) -> None:
    listening.stack.pause_listener(listening.host.listeners[0], True)
    listening.send(states.SYN)
    listening.expect_nothing()
    listening.stack.pause_listener(listening.host.listeners[0], False)
    listening.send(states.SYN)
    listening.expect("S. 0:0(0) ack 1")


def test_closing_a_listener_resets_what_was_not_accepted(host: Host) -> None:
    established = states.syn_received(host)
    established.send(". 1:1(0) ack 1")
    attempt = states.syn_received(host)
    for stack in host.stacks:
        stack.unlisten(host.listeners[0])
    host.turn()
    established.expect("R. 1:1(0) ack 1")
    assert "S" not in "".join(seen.tcp.flags for seen in attempt.take())
    late = Scenario(host)
    late.send(states.SYN)
    late.expect("R. 0:0(0) ack 1")


def test_closing_a_listener_leaves_what_was_accepted(established: Scenario) -> None:
    established.stack.unlisten(established.host.listeners[0])
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101", within=0.5)


def test_a_port_is_taken_once(listening: Scenario) -> None:
    with pytest.raises(OSError, match="in use"):
        listening.host.listen(80)


def test_a_listener_at_one_address_does_not_hear_at_another(host: Host) -> None:
    host.listen(80, LOCAL[4])
    four, six = Scenario(host), Scenario(host, remote=(PEER[6], 5000))
    four.send(states.SYN)
    four.expect("S. 0:0(0) ack 1")
    six.send(states.SYN)
    six.expect("R. 0:0(0) ack 1")


def test_listening_at_an_address_of_somebody_else(host: Host) -> None:
    with pytest.raises(OSError, match="assign requested address"):
        host.listen(80, PEER[4])


# Connections that are opened here.


def test_every_connection_gets_a_port_of_its_own(host: Host) -> None:
    conns = [host.stack.connect((PEER[4], 80)) for _ in range(10)]
    ports = {host.stack.info(conn).local[1] for conn in conns}
    low, high = host.stack.options["port_low"], host.stack.options["port_high"]
    assert len(ports) == 10
    assert all(low <= port <= high for port in ports)
    for conn in conns:
        host.stack.abort(conn)
    host.turn()
    host.sent.clear()


def test_a_port_can_be_used_towards_two_peers(host: Host) -> None:
    for number in (80, 81):
        client = Scenario(host, local_port=50000, remote=(PEER[4], number))
        client.connect()
        client.expect("S 0:0(0)")


def test_the_same_connection_twice_is_refused(syn_sent: Scenario) -> None:
    with pytest.raises(OSError, match=r"in use|assign requested"):
        syn_sent.connect()


@pytest.mark.parametrize("remote", ["192.0.2.1", "2001:db8::1"])
def test_without_a_route_nobody_can_be_reached(remote: str, host: Host) -> None:
    with pytest.raises(OSError, match=r"[Nn]o route|unreachable"):
        host.stack.connect((remote, 80))


@pytest.mark.parametrize(("family", "remote", "all"), [(4, "192.0.2.1", "0.0.0.0/0"), (6, "2001:db8::1", "::/0")])
def test_a_gateway_leads_everywhere(family: int, remote: str, all: str, host: Host) -> None:
    for stack in host.stacks:
        stack.add_route(all, GATEWAY[family])
    client = Scenario(host, local_port=50000, remote=(remote, 80))
    client.connect()
    client.expect("S 0:0(0)")
    client.send(states.SYN_ACK)
    client.expect(". 1:1(0) ack 1")


# SYN-RECEIVED, and what else may come.


@pytest.mark.parametrize("number", [1, 5, 1000])
def test_another_syn_of_the_same_peer(number: int, syn_received: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, fourth step: back to LISTEN, or a challenge (RFC 5961); nothing is left behind."""
    syn_received.send(f"S {number}:{number}(0) win 1000")
    answers = syn_received.take()
    assert {seen.tcp.flags for seen in answers} <= {".", "S."}
    syn_received.send("R 1:1(0)")
    syn_received.take(100)
    states.established(syn_received.host)


def test_a_fin_without_acknowledgment_in_an_attempt(syn_received: Scenario) -> None:
    syn_received.send("F 1:1(0)")
    syn_received.expect_nothing()
    syn_received.send(". 1:1(0) ack 1")
    syn_received.accept()


def test_data_outside_the_window_in_an_attempt(syn_received: Scenario) -> None:
    syn_received.send("P. 200000:200100(100) ack 1")
    syn_received.expect(". 1:1(0) ack 1")
    syn_received.send(". 1:1(0) ack 1")
    syn_received.accept()


def test_the_round_trip_of_the_handshake_is_measured(host: Host) -> None:
    scenario = states.established(host, rtt=0.25)
    assert scenario.info.srtt_us == pytest.approx(250_000, abs=1000)


def test_the_round_trip_of_an_active_open_is_measured(syn_sent: Scenario) -> None:
    syn_sent.advance(0.25)
    syn_sent.send(states.SYN_ACK)
    syn_sent.expect(". 1:1(0) ack 1")
    assert syn_sent.info.srtt_us == pytest.approx(250_000, abs=1000)


def test_data_with_the_syn_ack(syn_sent: Scenario) -> None:
    """It may be queued, or left to be sent again."""
    syn_sent.send("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    syn_sent.expect(". 1:1(0) ack 1")
    syn_sent.send("P. 1:101(100) ack 1")
    syn_sent.expect(". 1:1(0) ack 101", within=0.5)
    assert len(syn_sent.read()) == 100


def test_what_is_told_of_a_connection(established: Scenario) -> None:
    info = established.info
    assert (info.local, info.remote) == (established.local, established.remote)
    assert (info.iss, info.irs) == (established.peer.stack_iss, established.peer.iss)
    assert (info.snd_nxt - info.iss, info.rcv_nxt - info.irs) == (1, 1)


def test_user_data_comes_back_with_events(established: Scenario) -> None:
    established.stack.set_user(established.conn, 2**64 - 7)
    established.send("P. 1:101(100) ack 1")
    established.take(0.5)
    (event,) = established.host.take_events(established.conn, shard=established.shard)
    assert event.user == 2**64 - 7
    assert established.info.user == 2**64 - 7


# The peer has not forgotten an earlier connection with the same ends.


def challenged(scenario: Scenario) -> None:
    """It answers our SYN with an ACK of what that one was at, and is reset."""
    scenario.send(". 1:1(0) ack 1", ack=scenario.peer.of_stack(5000))
    scenario.expect("R 5000:5000(0)")


def test_a_challenged_syn_is_sent_again_right_behind_the_reset(syn_sent: Scenario) -> None:
    """As in Linux; RFC 9293 section 3.5.1 has the first timeout pass."""
    challenged(syn_sent)
    syn_sent.expect("S 0:0(0)", after=0.002)
    syn_sent.send(states.SYN_ACK)
    syn_sent.expect(". 1:1(0) ack 1")
    assert syn_sent.state == "established"


def test_a_syn_is_sent_again_early_once(syn_sent: Scenario) -> None:
    """Whoever answers every SYN so, a forger or the peer, does not make us send many."""
    challenged(syn_sent)
    syn_sent.expect("S 0:0(0)", after=0.002)
    challenged(syn_sent)
    syn_sent.expect_nothing(1.9)
    syn_sent.expect("S 0:0(0)", within=0.2)


def test_many_challenges_are_answered_with_one_syn(syn_sent: Scenario) -> None:
    for _ in range(10):
        challenged(syn_sent)
    syn_sent.expect("S 0:0(0)", after=0.002)
    syn_sent.expect_nothing(1.9)
    syn_sent.expect("S 0:0(0)", within=0.2)
