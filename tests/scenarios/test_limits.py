"""Memory is bounded, whatever peers do, and one connection's trouble is not another's."""

from __future__ import annotations

import random

import pytest

from usnet_framework.testing import Host, Scenario, Stack, states


def lively(scenario: Scenario) -> None:
    """The connection still carries data both ways; what others send meanwhile is lost."""
    first = scenario.peer.next or 1
    scenario.host.sent.clear()
    scenario.send(f"P. {first}:{first + 100}(100)")
    scenario.take(0.5)
    while scenario.can_read() and scenario.read():
        pass
    scenario.take()
    past = scenario.peer.stack_next
    scenario.write(100)
    assert scenario.take()[-1].past >= past + 100
    scenario.host.sent.clear()
    scenario.send(".")


def take_all(scenarios: list[Scenario], done: list[int]) -> None:
    """What each of them has sent, in order: `done` is where it stands."""
    for number, scenario in enumerate(scenarios):
        for seen in scenario.take():
            done[number] = max(done[number], seen.past if seen.first <= done[number] else 0)


@pytest.mark.stack(rcv_limit=1 << 20)
def test_tiny_segments_out_of_order(host: Host) -> None:
    """A frame each, if one lets them: there is a limit, and what is in order is always taken."""
    victim, other = states.established(host), states.established(host)
    for step in range(3000):
        first = 3 + 2 * step
        victim.send(f". {first}:{first + 1}(1) ack 1")
        victim.take()
    assert host.counter("tcp_out_of_order") > 0 or victim.info.out_of_order < 3000
    lively(other)
    victim.send(". 1:3(2) ack 1")
    assert victim.take()[-1].ack >= 4
    assert victim.state == "established"


@pytest.mark.stack(rcv_limit=1 << 18)
def test_tiny_segments_in_order_that_nobody_reads(host: Host) -> None:
    """They are packed together, so that a window of bytes does not cost a frame a byte."""
    victim, other = states.established(host), states.established(host)
    for first in range(1, 3001):
        victim.send(f"P. {first}:{first + 1}(1) ack 1")
        victim.take()
    victim.take(0.5)
    lively(other)
    assert len(victim.read()) == 3000
    assert host.counter("compacted") > 0


@pytest.mark.stack(frames=64, rcv_limit=1 << 20, rcv_frames_max=16)
def test_frames_run_out(host: Host) -> None:
    """More may be promised than there is; nothing breaks, what was not taken comes again."""
    scenarios = [states.established(host) for _ in range(4)]
    chance = random.Random(1)
    received = [1] * 4
    for _ in range(400):
        number = chance.randrange(4)
        scenario = scenarios[number]
        first = received[number]
        scenario.send(f". {first}:{first + 1000}(1000) ack 1")
        received[number] = max([received[number], *(seen.ack for seen in scenario.take(0.05))])
        if chance.random() < 0.3 and scenario.can_read():
            scenario.read()
            scenario.take()
    for scenario in scenarios:
        while scenario.can_read():
            scenario.read()
        scenario.take()
    for scenario in scenarios:
        lively(scenario)


def fill_window(scenario: Scenario, size: int, first: int) -> int:
    """One more segment, as far as the window reaches; the number that comes next."""
    length = min(size, scenario.info.rcv_wnd)
    if length:
        scenario.send(f". {first}:{first + length}({length}) ack 1")
        scenario.take()
    return first + length


@pytest.mark.stack(rcv_limit=1 << 20)
def test_slow_readers_are_offered_what_there_are_frames_for(host: Host) -> None:
    """Four peers fill every window they are given, and another sends single bytes: all of it is kept, none is dropped
    that came in order; the windows are shut in the end, and when somebody reads all goes on."""
    readers = [states.established(host) for _ in range(4)]
    trickle = states.established(host)
    first = dict.fromkeys([*readers, trickle], 1)
    offered = dict.fromkeys(readers, 0)
    for _ in range(400):
        for reader in readers:
            offered[reader] = max(offered[reader], reader.info.rcv_wnd)
            first[reader] = fill_window(reader, 1460, first[reader])
        first[trickle] = fill_window(trickle, 1, first[trickle])
    assert host.counter("no_frame") == 0
    assert all(reader.info.rcv_wnd == 0 for reader in readers)
    filled = [reader.info.unread for reader in readers]
    assert min(filled) > 0.6 * max(filled) > 20_000
    for reader in readers:
        while reader.can_read():
            reader.read()
            reader.take()
        assert reader.info.rcv_wnd >= 1460
        assert fill_window(reader, 1000, first[reader]) == first[reader] + 1000
        reader.take(0.1)
        assert len(reader.read()) == 1000
        for other in [*readers, trickle]:
            other.take()
    assert len(trickle.read()) == first[trickle] - 1
    assert host.counter("no_frame") == 0


@pytest.mark.parametrize("adopted", [False, True], ids=["", "adopted"])
@pytest.mark.stack(rcv_limit=1 << 20)
def test_a_window_that_was_shut_for_want_of_frames_opens_by_itself(adopted: bool, host: Host) -> None:
    """Others read, and frames are free: the peer of one who has not read, and whose buffer is not full, hears of it
    without a probe, also by a stack that went on in another process meanwhile."""
    readers = [states.established(host) for _ in range(4)]
    first = dict.fromkeys(readers, 1)
    for _ in range(400):
        for reader in readers:
            first[reader] = fill_window(reader, 1460, first[reader])
    assert all(reader.info.rcv_wnd == 0 for reader in readers)
    host.advance(0.1)
    for reader in readers:
        assert reader.take()[-1].tcp.window == 0
    host.advance(3)
    for reader in readers:
        reader.expect_nothing()
    if adopted:
        image, link = host.stack.image(), host.stack.link
        host.stack.close()
        host.stacks[0] = Stack.adopt(image, link)
    waits = readers.pop()
    for reader in readers:
        while reader.can_read():
            reader.read()
    assert waits.expect(f". 1:1(0) ack {first[waits]}", within=0.3).tcp.window > 0
    assert waits.info.rcv_wnd >= 1460
    for reader in readers:
        reader.take(0.3)
    host.sent.clear()


@pytest.mark.stack(rcv_limit=1 << 20, frames=128)
def test_who_comes_when_all_is_full_can_still_talk(host: Host) -> None:
    """Peers who were promised more than there is fill the pool; nobody is stuck for it."""
    hogs = [states.established(host) for _ in range(8)]
    first = dict.fromkeys(hogs, 1)
    for _ in range(60):
        for hog in hogs:
            length = min(1460, hog.info.rcv_wnd)
            if length:
                hog.send(f". {first[hog]}:{first[hog] + length}({length}) ack 1")
                first[hog] = max(first[hog], *(seen.ack for seen in hog.take(0.05)), 1)
    late = states.established(host)
    lively(late)
    for hog in hogs:
        received = 0
        while hog.can_read():
            received += len(hog.read())
            hog.take()
        assert received == first[hog] - 1
    for hog in hogs:
        hog.send(f". {first[hog]}:{first[hog] + 100}(100) ack 1")
        assert hog.take(0.1)[-1].ack == first[hog] + 100
        assert len(hog.read()) == 100
    assert late.state == "established"


@pytest.mark.stack(sents=128)
def test_peers_that_acknowledge_nothing_leave_records_to_others(host: Host) -> None:
    """Tiny segments make the most of a window: what is in flight is shared out."""
    mutes = [states.established(host, "S 0:0(0) win 65535 <mss 64>") for _ in range(6)]
    for mute in mutes:
        mute.write(20_000)
        done = 1
        for _ in range(8):  # until its congestion window is large
            done = max([done, *(seen.past for seen in mute.take())])
            mute.send(f". 1:1(0) ack {done}")
        mute.take()
    other = states.established(host)
    for turn in range(20):
        other.write(1000)
        seen = other.take()
        assert [each.past for each in seen] == [1001 + 1000 * turn]
        other.send(f". 1:1(0) ack {1001 + 1000 * turn}")
        for mute in mutes:
            mute.take()


@pytest.mark.stack(frames=64)
def test_output_that_finds_no_frame(host: Host) -> None:
    """Writing takes less, and goes on when there is room."""
    scenario = states.established(host, win=0)
    taken = 0
    try:
        while taken < 1 << 20:
            taken += scenario.write(10_000)
    except BlockingIOError:
        pass
    assert 0 < taken <= 64 * 2048
    done = 1
    for _ in range(400):
        scenario.send(f". 1:1(0) ack {done} win 65535")
        done = max([done, *(seen.past for seen in scenario.take(0.02))])
    assert done == taken + 1
    assert scenario.write(10) == 10
    scenario.take()


@pytest.mark.stack(sents=16)
def test_records_of_what_is_in_flight_run_out(host: Host) -> None:
    """Less is in flight then."""
    scenarios = [states.established(host, rtt=0.1) for _ in range(4)]
    done = [1] * 4
    for scenario in scenarios:
        scenario.write(30_000)
    for _ in range(200):
        take_all(scenarios, done)
        for number, scenario in enumerate(scenarios):
            scenario.send(f". 1:1(0) ack {done[number]}")
            take_all(scenarios, done)
        host.advance(0.02)
    take_all(scenarios, done)
    assert done == [30_001] * 4


def test_a_peer_that_never_reads(host: Host) -> None:
    victim, other = states.established(host, win=0), states.established(host)
    victim.write(1_000_000)
    with pytest.raises(BlockingIOError):
        victim.write(1)
    assert victim.info.queued == 262_144
    lively(other)


@pytest.mark.stack(conn_max=4)
def test_the_table_of_connections_is_full(host: Host) -> None:
    for _ in range(4):
        states.established(host)
    with pytest.raises(OSError, match="No buffer space"):
        host.stack.connect(("10.0.0.2", 80))


@pytest.mark.stack(conn_max=8)
def test_connections_come_and_go_without_end(host: Host) -> None:
    """Handles of old ones never reach new ones."""
    old = []
    for _ in range(100):
        scenario = states.established(host)
        old.append(scenario.conn)
        scenario.abort()
        scenario.take()
    assert len(set(old)) == 100
    fresh = states.established(host)
    for conn in old:
        with pytest.raises(OSError, match="Bad file descriptor"):
            host.stack.write(conn, b"x")
    lively(fresh)


@pytest.mark.parametrize("conn", [0, 1, 2**32, 2**63, 2**64 - 1, (1 << 32) | 9999])
def test_handles_that_never_were(conn: int, host: Host) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        host.stack.read(conn)


@pytest.mark.parametrize("number", [1, 63, 64, 2**16, 2**32 - 1])
def test_numbers_that_never_were(number: int, host: Host) -> None:
    for use in (host.stack.unlisten, host.stack.udp_close, host.stack.udp_receive):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use(number)


def test_a_long_conversation_leaks_nothing(host: Host) -> None:
    """Every frame and record is back in the end: the scenario checks after each step that all are accounted for."""
    chance = random.Random(7)
    for _ in range(30):
        scenario = states.established(host, chance.choice([states.SYN, states.PLAIN_SYN, states.SYN_WITH_TIMESTAMPS]))
        for _ in range(chance.randrange(10)):
            lively(scenario)
        ending = chance.choice(["close", "abort", "reset"])
        if ending == "reset":
            scenario.send(f"R {scenario.peer.next}:{scenario.peer.next}(0)")
            scenario.close()
        else:
            getattr(scenario, ending)()
        scenario.take()
    host.run_until(host.now_ns + 300 * 10**9, lambda: bool(host.sent.clear()))
    host.sent.clear()
    assert host.stack.check() is None
