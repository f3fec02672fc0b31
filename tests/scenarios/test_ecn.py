"""Explicit congestion notification (RFC 3168 section 6)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states

pytestmark = pytest.mark.stack(ecn=True)

ECN_SYN = "SEW 0:0(0) win 65535 <mss 1000,sackOK,wscale 7>"


@pytest.fixture
def marked(host: Host) -> Scenario:
    """A connection that agreed on ECN."""
    listening = states.listening(host)
    listening.send(ECN_SYN)
    listening.expect("SE. 0:0(0) ack 1")
    listening.advance(0.1)
    listening.send(". 1:1(0) ack 1")
    listening.accept()
    assert "ecn" in listening.info.agreed
    return listening


def test_it_is_agreed_on(marked: Scenario) -> None:
    """RFC 3168 section 6.1.1."""
    assert marked.state == "established"


@pytest.mark.parametrize("flags", ["S", "SE", "SW"])
def test_only_with_both_flags(flags: str, listening: Scenario) -> None:
    listening.send(f"{flags} 0:0(0) win 65535 <mss 1000>")
    listening.expect("S. 0:0(0) ack 1")


@pytest.mark.stack(ecn=False)
def test_not_when_it_is_turned_off(listening: Scenario) -> None:
    listening.send(ECN_SYN)
    listening.expect("S. 0:0(0) ack 1")


def test_a_client_asks_for_it(host: Host) -> None:
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect("SEW 0:0(0)")
    client.send("SE. 0:0(0) ack 1 win 65535 <mss 1000>")
    client.expect(". 1:1(0) ack 1")
    assert "ecn" in client.info.agreed


@pytest.mark.stack(ecn=2)
def test_it_may_be_accepted_and_not_asked_for(host: Host) -> None:
    """Linux's default: what the peer asks for it gets, and paths that mistake it for an attack are not taken."""
    listening = states.listening(host)
    listening.send(ECN_SYN)
    listening.expect("SE. 0:0(0) ack 1")
    listening.advance(0.1)
    listening.send(". 1:1(0) ack 1")
    listening.accept()
    assert "ecn" in listening.info.agreed
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect("S 0:0(0)")
    client.send("SE. 0:0(0) ack 1 win 65535 <mss 1000>")
    client.expect(". 1:1(0) ack 1")
    assert "ecn" not in client.info.agreed


@pytest.mark.parametrize("flags", ["S.", "SEW."])
def test_a_server_that_does_not_agree(flags: str, host: Host) -> None:
    """RFC 3168 section 6.1.1: both flags in a SYN-ACK are a peer that reflects reserved bits."""
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect("SEW 0:0(0)")
    client.send(f"{flags} 0:0(0) ack 1 win 65535 <mss 1000>")
    client.expect(". 1:1(0) ack 1")
    assert "ecn" not in client.info.agreed
    client.write(100)
    client.expect("P. 1:101(100) ack 1")


def test_a_client_that_gets_no_answer_asks_without(host: Host) -> None:
    """RFC 3168 section 6.1.1.1: for the sake of a middlebox that drops it; some time."""
    client = Scenario(host, local_port=50000)
    client.connect()
    client.expect("SEW 0:0(0)")
    again = client.take(16)
    assert {seen.tcp.flags for seen in again} <= {"S", "SEW"}
    assert all(seen.ecn == 0 for seen in again)


def test_data_is_capable(marked: Scenario) -> None:
    """RFC 3168 section 5: ECT(0)."""
    marked.write(1500)
    marked.expect(". 1:1001(1000) ack 1 [ect0]")
    marked.expect("P. 1001:1501(500) ack 1 [ect0]")


def test_a_pure_acknowledgment_is_not(marked: Scenario) -> None:
    """RFC 3168 section 6.1.4."""
    marked.send("P. 1:101(100) ack 1")
    marked.expect(". 1:1(0) ack 101", within=0.5)


def test_a_retransmission_is_not(marked: Scenario) -> None:
    """RFC 3168 section 6.1.5."""
    marked.write(1000)
    marked.expect("P. 1:1001(1000) ack 1 [ect0]")
    seen = marked.expect("P. 1:1001(1000) ack 1", within=2)
    assert seen.ecn == 0


def test_a_fin_and_a_reset_are_not(marked: Scenario) -> None:
    marked.shutdown()
    marked.expect("F. 1:1(0) ack 1")
    marked.abort()
    assert [seen.ecn for seen in marked.take()] == [0]


def test_congestion_is_echoed_until_it_was_heard(marked: Scenario) -> None:
    """RFC 3168 section 6.1.3."""
    marked.send("P. 1:101(100) ack 1", ip={"traffic_class": 3})
    marked.expect("E. 1:1(0) ack 101", within=0.5)
    marked.send("P. 101:201(100) ack 1", ip={"traffic_class": 2})
    marked.expect("E. 1:1(0) ack 201", within=0.5)
    marked.send("PW. 201:301(100) ack 1", ip={"traffic_class": 2})
    marked.expect(". 1:1(0) ack 301", within=0.5)


def test_data_echoes_it_as_well(marked: Scenario) -> None:
    marked.send("P. 1:101(100) ack 1", ip={"traffic_class": 3})
    marked.take(0.5)
    marked.write(100)
    marked.expect("PE. 1:101(100) ack 101 [ect0]")


def test_a_segment_that_says_heard_and_was_marked_again(marked: Scenario) -> None:
    """RFC 3168 section 6.1.3: the new mark is echoed."""
    marked.send("P. 1:101(100) ack 1", ip={"traffic_class": 3})
    marked.expect("E. 1:1(0) ack 101", within=0.5)
    marked.send("PW. 101:201(100) ack 1", ip={"traffic_class": 3})
    marked.expect("E. 1:1(0) ack 201", within=0.5)


def test_marks_on_a_connection_without_agreement_mean_nothing(plain: Scenario) -> None:
    plain.send("P. 1:101(100) ack 1", ip={"traffic_class": 3})
    plain.expect(". 1:1(0) ack 101", within=0.5)


def test_an_echo_reduces_the_window_and_says_so(marked: Scenario) -> None:
    """RFC 3168 section 6.1.2: as a loss would, without sending anything again."""
    marked.write(30_000)
    marked.take(0.1)
    before = marked.info.cwnd
    marked.send("E. 1:1(0) ack 1001")
    sent = marked.take()
    assert marked.info.ssthresh < before
    assert not marked.info.in_loss
    for step in range(2, 12):
        marked.send(f"E. 1:1(0) ack {step * 1000 + 1}")
        sent += marked.take()
    assert all(seen.first >= 10_001 for seen in sent)
    assert ["W" in seen.tcp.flags for seen in sent][:2] == [True, False]


def test_an_echo_reduces_the_window_once_per_round_trip(marked: Scenario) -> None:
    marked.write(60_000)
    marked.take(0.1)
    marked.send("E. 1:1(0) ack 1001")
    marked.take()
    threshold = marked.info.ssthresh
    for step in range(2, 9):
        marked.send(f"E. 1:1(0) ack {step * 1000 + 1}")
        marked.take()
    assert marked.info.ssthresh == threshold


def test_an_echo_lets_the_window_not_grow(marked: Scenario) -> None:
    """RFC 3168 section 6.1.2: neither before it is reduced, nor by the echoes that follow."""
    marked.write(60_000)
    marked.take(0.1)
    before = marked.info.cwnd
    for step in range(1, 9):
        marked.send(f"E. 1:1(0) ack {step * 1000 + 1}")
        marked.take()
        assert marked.info.cwnd == marked.info.ssthresh == before * 7 // 10
    marked.send(". 1:1(0) ack 10001")
    marked.take()
    assert marked.info.cwnd > marked.info.ssthresh


def test_a_loss_right_behind_an_echo_is_repaired(host: Host) -> None:
    """RFC 6582 section 3.2 step 1 holds back only after something was sent again."""
    peer = states.listening(host)
    peer.send("SEW 0:0(0) win 65535 <mss 1000>")
    peer.expect("SE. 0:0(0) ack 1")
    peer.advance(0.1)
    peer.send(". 1:1(0) ack 1")
    peer.accept()
    peer.write(10_000)
    peer.take(0.1)
    peer.send("E. 1:1(0) ack 1001")
    peer.send(". 1:1(0) ack 10001")
    peer.write(5000)
    peer.take(0.1)
    for _ in range(3):
        peer.send(". 1:1(0) ack 10001")
    assert [seen.first for seen in peer.take()] == [10_001]


def test_an_echo_of_nothing_does_no_harm(marked: Scenario) -> None:
    """Not agreed on in this direction, or nothing was in flight."""
    before = marked.info.cwnd
    for _ in range(10):
        marked.send("E. 1:1(0) ack 1")
    marked.expect_nothing(1)
    assert marked.info.cwnd >= before / 2
    marked.write(1000)
    assert len(marked.take()) == 1


def test_the_bits_of_an_application_are_others(marked: Scenario) -> None:
    """RFC 2474 section 3, RFC 3168 section 5: of one octet six bits are the application's, two are ours."""
    marked.set_option("tos", 0xB9)
    marked.write(100)
    seen = marked.expect("P. 1:101(100) ack 1 [ect0]")
    assert seen.ip is not None
    assert seen.ip.traffic_class == 0xB8 | 2
