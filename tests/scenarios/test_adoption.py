"""A stack goes on from a copy of its memory, at another address, in the middle of whatever it was doing (P10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from usnet_framework.testing import Host, Scenario, Stack, states
from usnet_framework.testing.packets import Udp


def move(host: Host) -> None:
    """Another stack takes the place of the host's, with a copy of its memory."""
    image = host.stack.image()
    link = host.stack.link
    host.stack.close()
    host.stacks[0] = Stack.adopt(image, link)
    host.turn()


def established(host: Host) -> Scenario:
    return states.established(host)


def with_input_waiting(host: Host) -> Scenario:
    scenario = states.established(host)
    scenario.send("P. 1:5001(5000) ack 1", segment_bytes=1460)
    scenario.take(0.5)
    return scenario


def with_a_gap(host: Host) -> Scenario:
    scenario = states.established(host)
    scenario.send("P. 101:201(100) ack 1")
    scenario.take()
    return scenario


def with_output_in_flight(host: Host) -> Scenario:
    scenario = states.established(host)
    scenario.write(20_000)
    scenario.take()
    return scenario


SITUATIONS = [established, with_input_waiting, with_a_gap, with_output_in_flight]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_connection_goes_on(situation: Callable[[Host], Scenario], host: Host) -> None:
    scenario = situation(host)
    before = scenario.info
    move(host)
    after = scenario.info
    assert (after.snd_una, after.snd_nxt, after.rcv_nxt) == (before.snd_una, before.snd_nxt, before.rcv_nxt)
    assert (after.unread, after.out_of_order, after.queued) == (before.unread, before.out_of_order, before.queued)
    assert (after.agreed, after.srtt_us, after.cwnd) == (before.agreed, before.srtt_us, before.cwnd)
    assert host.counter("adopted") == 1


@pytest.mark.parametrize("kind", ["tcp", "ip", "drops", "device"])
def test_counters_go_on(kind: str, host: Host) -> None:
    states.established(host)
    before = host.stack.counters(kind)
    move(host)
    after = host.stack.counters(kind)
    assert {name: count for name, count in after.items() if count < before[name]} == {}


def test_input_that_waited_can_be_read(host: Host) -> None:
    scenario = with_input_waiting(host)
    move(host)
    assert len(scenario.read()) == 5000


def test_a_gap_can_be_filled(host: Host) -> None:
    scenario = with_a_gap(host)
    move(host)
    scenario.send("P. 1:101(100) ack 1")
    scenario.expect(". 1:1(0) ack 201")
    assert len(scenario.read()) == 200


def test_what_was_in_flight_can_be_acknowledged(host: Host) -> None:
    scenario = with_output_in_flight(host)
    move(host)
    done = 1
    for _ in range(20):
        scenario.send(f". 1:1(0) ack {scenario.peer.stack_next}")
        scenario.take()
        done = scenario.peer.stack_next
    assert done == 20_001
    assert scenario.info.queued == 0


def test_what_was_in_flight_can_be_sent_again(host: Host) -> None:
    scenario = with_output_in_flight(host)
    move(host)
    assert scenario.take(1)[0].tcp.payload
    scenario.take(5)
    assert host.counter("retransmitted") > 0


@pytest.mark.parametrize("state", ["syn_received", "syn_sent", "fin_wait_1", "fin_wait_2", "close_wait", "time_wait"])
def test_every_state_goes_on(state: str, host: Host) -> None:
    scenario = getattr(states, state)(host)
    move(host)
    if state == "syn_received":
        scenario.expect("S. 0:0(0) ack 1", within=1.1)
        scenario.send(". 1:1(0) ack 1")
        scenario.accept()
    else:
        assert scenario.state == state
    scenario.host.run_until(host.now_ns + 10**9, lambda: False)
    scenario.take()


def test_timers_go_on(host: Host) -> None:
    """What was due is due."""
    scenario = states.established(host)
    scenario.write(100)
    scenario.expect("P. 1:101(100) ack 1")
    host.advance(0.01)
    move(host)
    scenario.expect("P. 1:101(100) ack 1", within=1)


def test_a_listener_goes_on(host: Host) -> None:
    listening = states.listening(host)
    move(host)
    listening.send(states.SYN)
    listening.expect("S. 0:0(0) ack 1")


def test_a_connection_that_nobody_has_accepted_yet_is_announced_again(host: Host) -> None:
    scenario = states.syn_received(host)
    scenario.send(". 1:1(0) ack 1")
    host.waiting.clear()
    move(host)
    scenario.accept()


def test_news_that_was_not_fetched_is_told(host: Host) -> None:
    scenario = with_input_waiting(host)
    scenario.events()
    move(host)
    assert "readable" in scenario.events()


def after_the_move(host: Host, scenario: Scenario) -> set[str]:
    """What is told again, of events that were all fetched before."""
    scenario.events()
    move(host)
    return scenario.events()


def test_that_a_connection_is_connected_is_told_again(host: Host) -> None:
    assert after_the_move(host, states.established_client(host)) == {"connected", "writable"}


def test_that_an_attempt_is_under_way_is_no_news(host: Host) -> None:
    assert after_the_move(host, states.syn_sent(host)) == set()


def test_that_there_is_room_is_told_again(host: Host) -> None:
    """Not to who has found none and is still waiting."""
    scenario = states.established(host)
    scenario.write(1_000_000)
    scenario.take()
    assert after_the_move(host, scenario) == set()
    host.sent.clear()
    for _ in range(40):
        scenario.send(f". 1:1(0) ack {scenario.peer.stack_next}")
        scenario.take()
    assert scenario.info.queued == 0
    assert after_the_move(host, scenario) == {"writable"}
    scenario.take(1)


def test_that_the_peer_has_ended_is_told_again_though_input_waits(host: Host) -> None:
    scenario = states.established(host)
    scenario.send("FP. 1:101(100) ack 1")
    scenario.take(0.5)
    assert after_the_move(host, scenario) == {"readable", "eof", "writable"}


def test_that_a_connection_was_reset_is_told_again_though_input_waits(host: Host) -> None:
    scenario = states.established(host)
    scenario.send("P. 1:101(100) ack 1")
    scenario.take(0.5)
    scenario.send("R. 101:101(0) ack 1")
    assert after_the_move(host, scenario) == {"readable", "closed"}
    assert len(scenario.read()) == 100


def test_that_an_attempt_was_refused_is_told_again(host: Host) -> None:
    scenario = states.syn_sent(host)
    scenario.send("R. 0:0(0) ack 1")
    assert after_the_move(host, scenario) == {"closed"}


def test_neighbours_are_known_or_asked_again(host: Host) -> None:
    scenario = established(host)
    move(host)
    scenario.write(10)
    scenario.expect("P. 1:11(10) ack 1")


def test_udp_endpoints_go_on(host: Host) -> None:
    endpoint = host.stack.udp_open(("", 7))
    host.send_body(Udp(5000, 7, b"before"))
    move(host)
    host.send_body(Udp(5000, 7, b"after"))
    received = [host.stack.udp_receive(endpoint)[0] for _ in range(2)]
    assert received == [b"before", b"after"]


def test_it_can_be_adopted_again_and_again(host: Host) -> None:
    scenario = established(host)
    for step in range(10):
        move(host)
        scenario.send(f"P. {1 + step * 100}:{101 + step * 100}(100) ack 1")
        scenario.take(0.5)
        assert len(scenario.read()) == 100
    assert host.counter("adopted") == 10


@pytest.mark.parametrize("size", [0, 100, 4096])
def test_something_else_is_not_adopted(size: int) -> None:
    with pytest.raises((OSError, ValueError)):
        Stack.adopt(bytes(max(size, 1)))


@pytest.mark.parametrize("at", range(0, 12, 3))
def test_another_version_is_not_adopted(at: int, host: Host) -> None:
    image = bytearray(host.stack.image())
    image[at] ^= 0xFF
    with pytest.raises(OSError, match="Invalid argument"):
        Stack.adopt(bytes(image))


def test_a_shorter_memory_is_not_adopted(host: Host) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Stack.adopt(host.stack.image()[:-4096])
