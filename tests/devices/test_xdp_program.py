"""Which frames leave the kernel: the XDP program is run on frames that nobody sends (BPF_PROG_TEST_RUN).

No queue has a socket, so what is for our stack is dropped and counted as such."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.privilege import needs_xdp

from usnet_framework._native_bpf import XdpProgram
from usnet_framework.testing import packets
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Ip, Ipv4, Ipv6, Udp
from usnet_framework.testing.segments import Tcp

pytestmark = needs_xdp

OURS, KERNELS, PEER = (bytes.fromhex(f"02000000005{end}") for end in "123")
SHARED = {4: "10.0.0.1", 6: "fd00::1"}
OWN = {4: "10.0.0.9", 6: "fd00::9"}
CLIENT = {4: "10.0.0.2", 6: "fd00::2"}
PORT = 7000
OUTGOING = (40000, 40999)
DROP, PASS = 1, 2
FAMILIES = pytest.mark.parametrize("family", [4, 6])
needs_buffers = pytest.mark.skipif(
    tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 18),
    reason="before Linux 6.18 the program cannot be tried on a frame in several buffers",
)
BUFFERS = [None, *(pytest.param(first, marks=needs_buffers) for first in (0, 20))]


@pytest.fixture(scope="module", params=BUFFERS, ids=str)
def first(request: pytest.FixtureRequest) -> int | None:
    """Bytes in the first buffer of each frame; None: all."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def program(first: int | None) -> Iterator[XdpProgram]:
    program = XdpProgram(large=first is not None)
    program.set_station(OURS)
    for family in (4, 6):
        program.own(ipaddress.ip_address(OWN[family]))
        program.share(ipaddress.ip_address(SHARED[family]))
        program.serve(ipaddress.ip_address(SHARED[family]), PORT)
        program.serve(ipaddress.ip_address(SHARED[family]), 53, packets.PROTOCOL_UDP)
    yield program
    program.close()


@pytest.fixture
def goes(program: XdpProgram, first: int | None) -> Where:
    return Where(program, first)


@pytest.fixture
def outgoing(program: XdpProgram, first: int | None) -> Iterator[Where]:
    program.set_outgoing(*OUTGOING)
    yield Where(program, first)
    program.set_station(OURS)


class Where:
    """Where a frame goes: "stack", "kernel", or "nowhere" as a fragment."""

    def __init__(self, program: XdpProgram, first: int | None) -> None:
        self._program = program
        self._first = first

    def __call__(self, payload: bytes | Ip, ether_type: int | None = None, to: bytes = KERNELS,
                 vlan: int | None = None) -> str:  # fmt: skip
        if not isinstance(payload, bytes):
            payload, ether_type = payload.build(), payload.ETHER_TYPE
        assert ether_type is not None
        return self.frame(Ethernet(to, PEER, ether_type, payload, vlan).build())

    def frame(self, frame: bytes) -> str:
        before = self._program.counters()
        first = len(frame) if self._first is None else min(self._first, len(frame))
        action = self._program.action(frame, first=first)
        after = self._program.counters()
        risen = [name for name in after if after[name] != before[name]]
        return {(PASS, ()): "kernel", (DROP, ("not_served",)): "stack", (DROP, ("fragments",)): "nowhere"}[
            action, tuple(risen)
        ]


def tcp(family: int, to: str, port: int, payload: bytes = b"") -> Ip:
    source = CLIENT[family]
    return packets.ip_packet(source, to, Tcp.PROTOCOL, Tcp(40000, port, 1, 1, ".", payload=payload).build(source, to))


def udp(family: int, to: str, port: int) -> Ip:
    source = CLIENT[family]
    return packets.ip_packet(source, to, packets.PROTOCOL_UDP, Udp(40000, port, b"question").build(source, to))


def icmp(family: int, kind: int, payload: bytes, to: str | None = None) -> Ip:
    to = to or SHARED[family]
    protocol = packets.PROTOCOL_ICMP if family == 4 else packets.PROTOCOL_ICMPV6
    return packets.ip_packet(CLIENT[family], to, protocol, Icmp(kind, payload=payload).build(CLIENT[family], to))


# An address that the kernel has as well.


@FAMILIES
def test_a_served_port_is_ours_and_no_other(goes: Where, family: int) -> None:
    assert goes(tcp(family, SHARED[family], PORT)) == "stack"
    assert goes(tcp(family, SHARED[family], 22)) == "kernel"
    assert goes(tcp(family, CLIENT[family], PORT)) == "kernel"
    assert goes(udp(family, SHARED[family], 53)) == "stack"
    assert goes(udp(family, SHARED[family], PORT)) == "kernel"
    assert goes(tcp(family, SHARED[family], 53)) == "kernel"


def test_options_lie_before_the_ports(goes: Where) -> None:
    served, other = (replace(tcp(4, SHARED[4], port), options=b"\x01" * 40) for port in (PORT, 22))
    assert goes(served) == "stack"
    assert goes(other) == "kernel"


def test_extension_headers_lie_before_the_ports(goes: Where) -> None:
    options = tuple((kind, b"\x01" + bytes(14)) for kind in (packets.HOP_BY_HOP, packets.DESTINATION_OPTIONS))
    assert goes(replace(tcp(6, SHARED[6], PORT), extensions=options)) == "stack"
    assert goes(replace(tcp(6, SHARED[6], 22), extensions=options)) == "kernel"
    assert goes(replace(tcp(6, SHARED[6], PORT), extensions=options[1:] * 6)) == "kernel"  # too many


@FAMILIES
def test_fragments_of_tcp_are_dropped_and_those_of_others_pass(goes: Where, family: int) -> None:
    whole = tcp(family, SHARED[family], 22, bytes(64))
    assert [goes(fragment) for fragment in whole.fragments(32)] == ["nowhere"] * 3
    whole = udp(family, SHARED[family], 53)
    assert [goes(fragment) for fragment in whole.fragments(8)] == ["kernel"] * 2
    whole = tcp(family, CLIENT[family], PORT, bytes(64))
    assert {goes(fragment) for fragment in whole.fragments(32)} == {"kernel"}


def test_an_atomic_fragment_is_whole(goes: Where) -> None:
    (only,) = tcp(6, SHARED[6], PORT).fragments(64)
    assert goes(only) == "stack"


@FAMILIES
def test_an_error_goes_to_whoever_sent_the_packet_that_it_quotes(goes: Where, family: int) -> None:
    unreachable = 3 if family == 4 else 1
    for port, where in ((PORT, "stack"), (22, "kernel")):
        segment = Tcp(port, 40000, 1, 1, ".").build(SHARED[family], CLIENT[family])
        quoted = packets.ip_packet(SHARED[family], CLIENT[family], Tcp.PROTOCOL, segment)
        assert goes(icmp(family, unreachable, quoted.build()[: 48 if family == 6 else 28])) == where
        if isinstance(quoted, Ipv4):
            options = replace(quoted, options=b"\x01" * 8).build()
            assert goes(icmp(family, unreachable, options[:36])) == where


@FAMILIES
def test_an_outgoing_port_of_a_shared_address_is_ours(outgoing: Where, family: int) -> None:
    first, last = OUTGOING
    for port, where in ((first, "stack"), (last, "stack"), (first - 1, "kernel"), (last + 1, "kernel")):
        assert outgoing(tcp(family, SHARED[family], port)) == where
        segment = Tcp(port, 80, 1, 1, ".").build(SHARED[family], CLIENT[family])
        quoted = packets.ip_packet(SHARED[family], CLIENT[family], Tcp.PROTOCOL, segment).build()
        assert outgoing(icmp(family, 3 if family == 4 else 1, quoted)) == where
    assert outgoing(udp(family, SHARED[family], OUTGOING[0])) == "kernel"
    assert outgoing(tcp(family, CLIENT[family], OUTGOING[0])) == "kernel"
    assert outgoing(tcp(family, SHARED[family], PORT)) == "stack"


def test_without_outgoing_ports_none_is_ours(goes: Where) -> None:
    assert {goes(tcp(4, SHARED[4], port)) for port in (0, OUTGOING[0], 65535)} == {"kernel"}


@FAMILIES
def test_a_ping_of_the_kernels_address_is_the_kernels(goes: Where, family: int) -> None:
    assert goes(icmp(family, 8 if family == 4 else 128, b"ping")) == "kernel"


# An address of our own.


@FAMILIES
def test_whatever_is_sent_to_our_station_is_ours(goes: Where, family: int) -> None:
    whole = tcp(family, OWN[family], 22, bytes(64))
    assert goes(whole, to=OURS) == "stack"
    assert {goes(fragment, to=OURS) for fragment in whole.fragments(32)} == {"stack"}
    assert goes(icmp(family, 8 if family == 4 else 128, b"ping", OWN[family]), to=OURS) == "stack"
    assert goes(b"\x00" * 46, 0x88B5, to=OURS) == "stack"


def test_arp_about_it_is_ours(goes: Where) -> None:
    def asks(target: str, sender: str = CLIENT[4]) -> str:
        request = Arp(Arp.REQUEST, PEER, sender, bytes(6), target)
        return goes(request.build(), packets.ETHER_ARP, to=packets.BROADCAST_MAC)

    assert asks(OWN[4]) == "stack"
    assert asks(CLIENT[4], sender=OWN[4]) == "stack"  # another station claims it
    assert asks(SHARED[4]) == "kernel"


def test_neighbour_discovery_about_it_is_ours(goes: Where) -> None:
    def asks(target: str) -> str:
        group = packets.solicited_node(target)
        message = packets.neighbour_solicitation(target, PEER).build(CLIENT[6], group)
        packet = Ipv6(CLIENT[6], group, packets.PROTOCOL_ICMPV6, message, hop_limit=255)
        return goes(packet, to=packets.multicast_mac(group))

    assert asks(OWN[6]) == "stack"
    assert asks(SHARED[6]) == "kernel"


# Neither.


def test_other_frames_are_the_kernels(goes: Where) -> None:
    assert goes(b"\x00" * 46, 0x88B5) == "kernel"
    assert goes(tcp(4, SHARED[4], PORT), vlan=7) == "kernel"


@FAMILIES
def test_a_frame_that_ends_too_early_is_the_kernels(goes: Where, family: int) -> None:
    """Wherever it is cut: the kernel runs the program on 14 bytes at least."""
    packet = tcp(family, SHARED[family], PORT)
    frame = Ethernet(KERNELS, PEER, packet.ETHER_TYPE, packet.build()).build()
    ports_end = 14 + (20 if family == 4 else 40) + 4
    assert {goes.frame(frame[:length]) for length in range(14, ports_end)} == {"kernel"}
    assert goes.frame(frame[:ports_end]) == "stack"


@pytest.mark.parametrize("words", [0, 4])
def test_a_header_that_is_too_short_is_the_kernels(goes: Where, words: int) -> None:
    assert goes(replace(tcp(4, SHARED[4], PORT), header_length=words)) == "kernel"


def test_an_extension_header_that_ends_behind_the_frame_is_the_kernels(goes: Where) -> None:
    packet = replace(tcp(6, SHARED[6], PORT), extensions=((packets.DESTINATION_OPTIONS, b"\xff" + bytes(6)),))
    assert goes(packet) == "kernel"


def test_what_is_not_served_any_more_is_the_kernels(program: XdpProgram, goes: Where) -> None:
    address = ipaddress.ip_address(SHARED[4])
    program.serve(address, 7001)
    assert goes(tcp(4, SHARED[4], 7001)) == "stack"
    program.unserve(address, 7001)
    assert goes(tcp(4, SHARED[4], 7001)) == "kernel"


def test_fragments_to_an_address_that_is_not_shared_any_more_are_the_kernels(program: XdpProgram, goes: Where) -> None:
    address = "10.0.0.3"
    program.share(ipaddress.ip_address(address))
    (first, *_) = tcp(4, address, 22, bytes(64)).fragments(32)
    assert goes(first) == "nowhere"
    program.unshare(ipaddress.ip_address(address))
    assert goes(first) == "kernel"
