"""Segments to nobody, and to a listener that did not ask for them (RFC 9293 sections 3.5.2, 3.10.7.1 and 3.10.7.2)."""

from __future__ import annotations

import pytest

from usnet_framework.testing import Host, Scenario, states
from usnet_framework.testing.host import PEER
from usnet_framework.testing.segments import Tcp

BOTH = pytest.mark.parametrize("family", [4, 6])


def syn(port: int) -> Tcp:
    return Tcp(5000, port, flags="S", window=1000)


@pytest.fixture
def stranger(host: Host) -> Scenario:
    """Sends to a port where nobody is. Our numbers are as on the wire, for there is no connection."""
    return Scenario(host, local_port=81)


@BOTH
def test_a_syn_to_a_closed_port(stranger: Scenario) -> None:
    stranger.send("S 5:5(0) win 1000")
    stranger.expect("R. 0:0(0) ack 6 win 0")


def test_a_reset_counts_the_data_that_it_refuses(stranger: Scenario) -> None:
    stranger.send("P 5:15(10) win 1000")
    stranger.expect("R. 0:0(0) ack 15 win 0")


def test_a_reset_counts_syn_data_and_fin(stranger: Scenario) -> None:
    stranger.send("SF 5:15(10) win 1000")
    stranger.expect("R. 0:0(0) ack 17 win 0")


def test_an_acknowledgment_gives_the_reset_its_number(stranger: Scenario) -> None:
    stranger.send(". 1:1(0) ack 77")
    stranger.expect("R 77:77(0) win 0")


def test_data_that_acknowledges_gives_the_reset_its_number(stranger: Scenario) -> None:
    stranger.send("P. 1:101(100) ack 4000000000")
    (reset,) = stranger.take()
    assert (reset.tcp.flags, reset.tcp.seq) == ("R", 4000000000)


@pytest.mark.parametrize("reset", ["R 5:5(0)", "R. 5:5(0) ack 77", "SR 5:5(0)", "R 5:15(10)"])
def test_a_reset_is_never_answered(reset: str, stranger: Scenario) -> None:
    stranger.send(reset)
    stranger.expect_nothing(10)


@pytest.mark.stack(resets_per_s=5)
def test_resets_are_limited(host: Host) -> None:
    for _ in range(20):
        stranger = Scenario(host, local_port=81)
        stranger.send("S 0:0(0) win 1000")
        stranger.take()
    assert host.counter("out_resets") + host.counter("tcp_rst_rate") == 20
    assert host.counter("out_resets") <= 6


@pytest.mark.parametrize("segment", ["R 5:5(0)", "R. 5:5(0) ack 9", "SR 5:5(0)", "SR. 5:5(0) ack 9"])
def test_a_listener_ignores_resets(segment: str, listening: Scenario) -> None:
    listening.send(segment)
    listening.expect_nothing()


@pytest.mark.parametrize("segment", [". 5:5(0) ack 9", "P. 5:15(10) ack 9", "F. 5:5(0) ack 9", "S. 5:5(0) ack 9"])
def test_a_listener_resets_what_acknowledges(segment: str, listening: Scenario) -> None:
    listening.send(segment)
    listening.expect("R 9:9(0) win 0")


@pytest.mark.parametrize("segment", ["F 5:5(0)", "- 5:5(0)", "P 5:15(10)", "FPU 5:15(10)", "U 5:15(10)"])
def test_a_listener_ignores_what_neither_opens_nor_acknowledges(segment: str, listening: Scenario) -> None:
    listening.send(segment)
    listening.expect_nothing()


def test_syn_and_fin_together_open_nothing_or_as_syn(listening: Scenario) -> None:
    """Nobody sends that; whatever becomes of it, the listener goes on."""
    listening.send("SF 0:0(0) win 1000")
    assert {seen.tcp.flags for seen in listening.take()} <= {"S."}
    fresh = states.syn_received(listening.host)
    fresh.send(". 1:1(0) ack 1")
    fresh.accept()


@pytest.mark.parametrize("flags", ["SFRPU.EW", "SFPU", "FRPU.", "SFRPU"])
def test_a_christmas_tree_does_no_harm(flags: str, listening: Scenario) -> None:
    listening.send(f"{flags} 0:10(10)" + (" ack 5" if "." in flags else ""))
    listening.take()
    states.established(listening.host)


# Nobody is answered who cannot have asked (RFC 9293 MUST-57, MUST-63; RFC 1122 section 3.2.1.3).


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (PEER[4], "255.255.255.255"),
        (PEER[4], "10.0.0.255"),
        (PEER[4], "224.0.0.1"),
        ("224.0.0.1", "10.0.0.1"),
        ("255.255.255.255", "10.0.0.1"),
        ("10.0.0.255", "10.0.0.1"),
        ("127.0.0.1", "10.0.0.1"),
        ("0.0.0.0", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        (PEER[6], "ff02::1"),
        ("ff02::1", "fd00::1"),
        ("::", "fd00::1"),
        ("::1", "fd00::1"),
        ("fd00::1", "fd00::1"),
    ],
)
def test_a_syn_that_cannot_be_meant(source: str, destination: str, host: Host) -> None:
    host.listen(80)
    for port in (80, 81):
        host.send_body(syn(port), source, destination)
        host.expect_nothing()
    assert host.counter("ip_source") + host.counter("ip_destination") == 2


def test_a_syn_for_somebody_else(host: Host) -> None:
    host.listen(80)
    host.send_body(syn(80), destination="10.0.0.9")
    host.expect_nothing()
    assert host.counter("ip_destination") == 1
