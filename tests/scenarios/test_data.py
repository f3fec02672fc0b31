"""Data comes in: in order, out of order, twice, beyond the window (RFC 9293 section 3.10.7.4), and is acknowledged
(section 3.8.6.3, RFC 5681 section 4.2)."""

from __future__ import annotations

import random

import pytest

from usnet_framework.testing import Host, Scenario, states

BOTH = pytest.mark.parametrize("family", [4, 6])


@BOTH
def test_data_is_delivered_and_acknowledged(established: Scenario) -> None:
    established.send("P. 1:101(100) ack 1")
    established.expect(". 1:1(0) ack 101", within=0.5)
    assert established.events() == {"readable"}
    assert len(established.read()) == 100


def test_data_without_push_is_delivered_as_well(plain: Scenario) -> None:
    plain.send(". 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    assert len(plain.read()) == 100


def test_an_acknowledgment_travels_with_the_answer(plain: Scenario) -> None:
    plain.send("P. 1:11(10) ack 1")
    plain.take()
    plain.read()
    plain.write(50)
    plain.expect("P. 1:51(50) ack 11")
    plain.send("P. 11:21(10) ack 51")
    plain.take()
    plain.read()
    plain.write(50)
    plain.expect("P. 51:101(50) ack 21")
    plain.send(". 21:21(0) ack 101")
    plain.expect_nothing(1)


def settle(scenario: Scenario, *, rounds: int = 40, size: int = 100) -> int:
    """Requests and answers, until no acknowledgment is hurried any more; returns the next sequence number."""
    first = 1
    for _ in range(rounds):
        scenario.send(f"P. {first}:{first + size}({size})")
        scenario.take()
        scenario.read()
        scenario.write(1)
        scenario.take()
        scenario.advance(0.01)
        first += size
    scenario.send(f". {first}:{first}(0)")
    scenario.take()
    return first


def test_an_acknowledgment_may_wait_for_company(plain: Scenario) -> None:
    """RFC 9293 MUST-58: less than 500 ms; ours: 40 ms."""
    first = settle(plain)
    plain.send(f"P. {first}:{first + 100}(100)")
    plain.expect(f". ack {first + 100}", after=0.04)


def test_every_second_full_segment_is_acknowledged_at_once(plain: Scenario) -> None:
    """RFC 9293 SHLD-18, RFC 5681 section 4.2."""
    first = settle(plain)
    plain.send(f". {first}:{first + 1460}(1460)")
    plain.take()
    plain.send(f". {first + 1460}:{first + 2920}(1460)")
    plain.expect(f". ack {first + 2920}")
    plain.send(f". {first + 2920}:{first + 4380}(1460)")
    plain.take()
    plain.send(f". {first + 4380}:{first + 5840}(1460)")
    plain.expect(f". ack {first + 5840}")


def test_an_acknowledgment_does_not_wait_twice(plain: Scenario) -> None:
    """A second small segment does not put the timer off."""
    first = settle(plain)
    plain.send(f"P. {first}:{first + 100}(100)")
    plain.expect_nothing(0.03)
    plain.send(f"P. {first + 100}:{first + 200}(100)")
    plain.expect(f". ack {first + 200}", within=0.011)


def test_asking_for_quick_acknowledgments_sends_the_one_that_waits(plain: Scenario) -> None:
    first = settle(plain)
    plain.send(f"P. {first}:{first + 100}(100)")
    plain.expect_nothing(0.03)
    plain.set_option("quickack", 1)
    plain.expect(f". ack {first + 100}")


def test_what_is_read_does_not_need_to_be_acknowledged_twice(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    plain.read()
    plain.expect_nothing(5)


def test_out_of_order_data_asks_for_what_is_missing(plain: Scenario) -> None:
    """RFC 5681 section 4.2: an immediate duplicate ACK, and an immediate ACK for what fills the gap."""
    plain.send("P. 201:301(100) ack 1")
    plain.expect(". 1:1(0) ack 1")
    assert not plain.can_read()
    plain.send(". 1:201(200) ack 1")
    plain.expect(". 1:1(0) ack 301")
    assert len(plain.read()) == 300


def test_a_gap_that_is_filled_in_part(plain: Scenario) -> None:
    plain.send(". 301:401(100) ack 1")
    plain.expect(". 1:1(0) ack 1")
    plain.send(". 1:201(200) ack 1")
    plain.expect(". 1:1(0) ack 201")
    plain.send(". 201:301(100) ack 1")
    plain.expect(". 1:1(0) ack 401")
    assert len(plain.read()) == 400


@pytest.mark.parametrize(
    "segments",
    [
        [(1, 101), (51, 151)],
        [(1, 101), (1, 151)],
        [(1, 101), (1, 101)],
        [(1, 101), (21, 81)],
        [(51, 151), (1, 101)],
        [(51, 151), (1, 151)],
        [(51, 101), (1, 151)],
        [(101, 201), (151, 251), (1, 101)],
        [(101, 201), (51, 151), (1, 101)],
        [(101, 201), (101, 201), (1, 101)],
        [(101, 201), (121, 181), (1, 101)],
        [(121, 181), (101, 201), (1, 101)],
        [(101, 201), (301, 401), (151, 351), (1, 101)],
        [(101, 201), (301, 401), (501, 601), (51, 651), (1, 101)],
        [(101, 201), (201, 301), (1, 101)],
        [(201, 301), (101, 201), (1, 101)],
        [(2, 3), (4, 5), (6, 7), (3, 4), (5, 6), (1, 2)],
        [(501, 601), (401, 501), (301, 401), (201, 301), (101, 201), (1, 101)],
    ],
)
def test_overlapping_segments_make_one_stream(segments: list[tuple[int, int]], established: Scenario) -> None:
    """RFC 9293 section 3.10.7.4: what is there already is trimmed, on either side; each byte is delivered once."""
    past = max(past for _, past in segments)
    answers = []
    for first, end in segments:
        established.send(f". {first}:{end}({end - first}) ack 1")
        answers += established.take()
    answers += established.take(0.5)
    assert answers[-1].ack == past
    assert len(established.read()) == past - 1


@pytest.mark.parametrize("seed", range(6))
def test_segments_in_any_order_make_one_stream(seed: int, established: Scenario) -> None:
    chance = random.Random(seed)
    pieces = [(first, min(first + chance.randrange(100, 600), 20001)) for first in range(1, 20001, 100)]
    received = 1
    for _ in range(20):  # it is more than a bounded queue takes out of order: what was dropped comes again
        chance.shuffle(pieces)
        for first, past in pieces:
            established.send(f". {first}:{past}({past - first}) ack 1")
            received = max(received, *(seen.ack for seen in established.take(0.001)))
        pieces = [piece for piece in pieces if piece[1] > received]
    assert len(established.read()) == 20000


def test_data_that_came_before_is_acknowledged_again(plain: Scenario) -> None:
    """Its acknowledgment may have been lost."""
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    plain.read()
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101")
    assert not plain.can_read()


@pytest.mark.stack(rcv_limit=4000)
def test_data_beyond_the_window_is_not_taken(plain: Scenario) -> None:
    """The part within it is, and the window's edge stays where it was."""
    edge = 4001
    plain.send(". 1:1461(1460) ack 1")
    plain.take()
    plain.send(". 1461:2921(1460) ack 1")
    plain.take()
    plain.send(". 2921:4381(1460) ack 1")
    assert plain.take(0.5)[-1].ack <= edge
    data = b""
    while plain.can_read():
        data += plain.read()
    plain.take()
    assert 2920 <= len(data) <= edge - 1


@pytest.mark.parametrize("first", [70000, 200000, 2**31 - 10])
def test_data_wholly_outside_the_window_is_dropped_and_answered(first: int, plain: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, first step."""
    plain.send(f"P. {first}:{first + 100}(100) ack 1")
    plain.expect(". 1:1(0) ack 1")
    assert plain.host.counter("tcp_window") == 1


def test_data_from_half_the_sequence_space_ago_is_dropped_and_answered(plain: Scenario) -> None:
    far = 2**32 - 1000
    plain.send(f"P. {far}:{far + 100}(100) ack 1")
    (answer,) = plain.take()
    assert (answer.tcp.flags, answer.ack) == (".", 1)


def test_data_without_acknowledgment_is_dropped(plain: Scenario) -> None:
    """RFC 9293 section 3.10.7.4, fifth step: if the ACK bit is off, drop the segment."""
    plain.send("P 1:101(100)")
    plain.expect_nothing(1)
    assert not plain.can_read()
    assert plain.host.counter("tcp_no_ack") == 1


@pytest.mark.parametrize("urgent", [0, 1, 50, 100, 101, 65535])
def test_urgent_data_is_data(urgent: int, plain: Scenario) -> None:
    """RFC 9293 MUST-30 to 32, RFC 6093: in line, whatever the pointer says."""
    plain.send(f"PU. 1:101(100) ack 1 urg {urgent}")
    plain.expect(". 1:1(0) ack 101", within=0.5)
    assert len(plain.read()) == 100


def test_an_urgent_pointer_without_data(plain: Scenario) -> None:
    plain.send("U. 1:1(0) ack 1 urg 100")
    plain.expect_nothing(1)
    plain.send("P. 1:101(100) ack 1")
    plain.expect(". 1:1(0) ack 101", within=0.5)


def test_one_byte_at_a_time(plain: Scenario) -> None:
    for first in range(1, 101):
        plain.send(f"P. {first}:{first + 1}(1) ack 1")
        plain.take()
    plain.take(0.5)
    assert len(plain.read()) == 100


def test_reading_in_pieces(plain: Scenario) -> None:
    plain.send("P. 1:1001(1000) ack 1")
    plain.take(0.5)
    sizes = [len(plain.read(300)) for _ in range(4)]
    assert sizes == [300, 300, 300, 100]
    with pytest.raises(BlockingIOError):
        plain.read()


def test_looking_without_taking(plain: Scenario) -> None:
    plain.send("P. 1:1001(1000) ack 1")
    plain.take()
    plain.send("P. 1001:1101(100) ack 1")
    plain.take(0.5)
    assert len(plain.peek()) == 1100
    plain.consume(1050)
    assert len(plain.peek()) == 50
    with pytest.raises(OSError, match="Invalid argument"):
        plain.consume(51)
    plain.consume(50)
    with pytest.raises(BlockingIOError):
        plain.peek()


def test_news_is_told_once_for_what_came_together(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1")
    plain.take(0.5)
    assert plain.events() == {"readable"}
    assert plain.events() == set()
    plain.send("P. 101:201(100) ack 1")
    plain.take(0.5)
    assert plain.events() == {"readable"}


def test_news_that_came_before_it_was_accepted(syn_received: Scenario) -> None:
    syn_received.send("P. 1:101(100) ack 1")
    syn_received.take(0.5)
    syn_received.accept()
    assert syn_received.events() >= {"readable"}
    assert len(syn_received.read()) == 100


# Sequence numbers wrap (RFC 9293 section 3.4).


@pytest.mark.parametrize("peer_iss", [2**32 - 1, 2**32 - 2, 2**32 - 51, 2**32 - 101, 2**31 - 51])
def test_the_peers_numbers_wrap(peer_iss: int, host: Host) -> None:
    scenario = states.established(host, peer_iss=peer_iss)
    scenario.send("P. 51:101(50) ack 1")
    scenario.expect(". 1:1(0) ack 1 <sack 51:101>")
    scenario.send("P. 1:51(50) ack 1")
    scenario.expect(". 1:1(0) ack 101")
    assert len(scenario.read()) == 100
    scenario.send("F. 101:101(0) ack 1")
    scenario.expect(". 1:1(0) ack 102", within=0.5)
    assert scenario.read() == b""


@pytest.mark.parametrize("before", [0, 1, 2, 700, 1460, 5000])
def test_our_numbers_wrap(before: int, host: Host) -> None:
    """The ISS grows with time, so that one can wait for the one that one wants."""
    first = states.syn_received(host, remote=("10.0.0.2", 5000))
    first.send("R 1:1(0)")
    assert first.peer.stack_iss is not None
    host.advance(((2**32 - before - first.peer.stack_iss) % 2**32) * 4e-6)
    scenario = states.established(host, remote=("10.0.0.2", 5000))
    assert scenario.peer.stack_iss is not None
    assert (scenario.peer.stack_iss + before) % 2**32 <= 2
    scenario.write(10000)
    scenario.expect_data(1, 10001, size=1460)
    scenario.send(". 1:1(0) ack 5841")
    scenario.send(". 1:1(0) ack 10001")
    scenario.close()
    scenario.expect("F. 10001:10001(0) ack 1")
    scenario.send("F. 1:1(0) ack 10002")
    scenario.expect(". 10002:10002(0) ack 2")


@pytest.mark.stack(rcv_limit=262144)
def test_many_wraps_of_the_low_half(host: Host) -> None:
    """300,000 bytes each way, from just below the wrap on."""
    scenario = states.established(host, peer_iss=2**32 - 1000)
    for first in range(1, 300_001, 1000):
        scenario.send(f"P. {first}:{first + 1000}(1000)")
        scenario.take()
        assert len(scenario.read()) == 1000
        scenario.write(1000)
        assert sum(len(seen.tcp.payload) for seen in scenario.take()) in (0, 1000, 2000)
    scenario.send(". 300001:300001(0)")
    scenario.take(0.5)
    assert scenario.info.bytes_in == 300_000
