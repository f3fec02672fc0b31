"""The oracle itself: published examples, build and parse are inverse, and nothing malformed is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usnet_framework.testing import packets
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Ipv4, Ipv6, Malformed, Udp
from usnet_framework.testing.segments import FLAGS, Options, Tcp

MAC = st.binary(min_size=6, max_size=6)
V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str)
PORT = st.integers(1, 65535)
U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
ENDS = (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2"))

OPTIONS = st.builds(
    Options,
    mss=st.none() | U16,
    sack_permitted=st.booleans(),
    timestamps=st.none() | st.tuples(U32, U32),
    wscale=st.none() | U8,
    sack=st.lists(st.tuples(U32, U32), max_size=2).map(tuple),
)
SEGMENTS = st.builds(
    Tcp,
    source_port=PORT,
    destination_port=PORT,
    seq=U32,
    ack=U32,
    flags=st.sets(st.sampled_from("SFRPUEW")).map(lambda found: "".join(f for f in FLAGS if f in found | {"."})),
    window=U16,
    urgent=U16,
    options=OPTIONS,
    payload=st.binary(max_size=50),
)


def test_the_checksum_of_the_rfc() -> None:
    """RFC 1071 section 3."""
    assert packets.one_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_a_checksum_over_an_odd_number_of_bytes() -> None:
    assert packets.checksum(b"\x01") == packets.checksum(b"\x01\x00")


def test_an_ipv4_header_as_it_was_captured() -> None:
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    ip = Ipv4.parse(header + bytes(0x73 - 20))
    assert (ip.source, ip.destination, ip.protocol) == ("192.168.0.1", "192.168.0.199", 17)
    assert ip.build()[:20] == header


@given(st.builds(Ethernet, MAC, MAC, st.sampled_from([0x0800, 0x0806, 0x86DD]), st.binary(), st.none() | U16))
def test_ethernet(frame: Ethernet) -> None:
    assert Ethernet.parse(frame.build()) == frame


@given(st.builds(Arp, st.sampled_from([1, 2]), MAC, V4, MAC, V4))
def test_arp(arp: Arp) -> None:
    assert Arp.parse(arp.build()) == arp


@given(
    st.builds(
        Ipv4,
        source=V4,
        destination=V4,
        protocol=U8,
        payload=st.binary(max_size=50),
        hop_limit=U8,
        traffic_class=U8,
        identification=U16,
        dont_fragment=st.booleans(),
        more_fragments=st.booleans(),
        fragment_offset=st.integers(0, 0x1FFF).map(lambda eights: eights * 8),
        options=st.integers(0, 10).map(lambda words: bytes([1, 1, 1, 0]) * words),
    )
)
def test_ipv4(ip: Ipv4) -> None:
    assert Ipv4.parse(ip.build()) == ip
    assert Ipv4.parse(ip.build() + bytes(6)) == ip  # Ethernet padding


@given(
    st.builds(
        Ipv6,
        source=V6,
        destination=V6,
        protocol=st.sampled_from([6, 17, 58, 59]),
        payload=st.binary(max_size=50),
        hop_limit=U8,
        traffic_class=U8,
        flow_label=st.integers(0, 2**20 - 1),
        extensions=st.lists(
            st.tuples(
                st.sampled_from([0, 43, 60]), st.integers(0, 3).map(lambda more: bytes([more]) + bytes(6 + 8 * more))
            )
            | st.tuples(st.just(44), st.binary(min_size=7, max_size=7)),
            max_size=3,
        ).map(tuple),
    )
)
def test_ipv6(ip: Ipv6) -> None:
    assert Ipv6.parse(ip.build()) == ip


@pytest.mark.parametrize("ends", ENDS)
@given(st.builds(Udp, PORT, PORT, st.binary(max_size=50)))
def test_udp(ends: tuple[str, str], udp: Udp) -> None:
    assert Udp.parse(udp.build(*ends), *ends) == udp


@pytest.mark.parametrize("ends", ENDS)
@given(st.builds(Icmp, U8, U8, st.binary(min_size=4, max_size=4), st.binary(max_size=50)))
def test_icmp(ends: tuple[str, str], icmp: Icmp) -> None:
    assert Icmp.parse(icmp.build(*ends), *ends) == icmp


@pytest.mark.parametrize("ends", ENDS)
@given(SEGMENTS)
def test_tcp(ends: tuple[str, str], tcp: Tcp) -> None:
    assert Tcp.parse(tcp.build(*ends), *ends) == tcp


@given(SEGMENTS, st.data())
def test_every_flipped_bit_of_a_segment_is_seen(tcp: Tcp, data: st.DataObject) -> None:
    built = bytearray(tcp.build(*ENDS[0]))
    bit = data.draw(st.integers(0, len(built) * 8 - 1))
    built[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        Tcp.parse(bytes(built), *ENDS[0])


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("0304", "length"),
        ("02", "length"),
        ("0200", "length"),
        ("0203050101010101", "length of TCP option 2"),
        ("fe0401", "length"),
        ("fe04ffff", "option 254"),
        ("0402040200000000", "twice"),
        ("00020405b4", "behind the end"),
        ("050a00000000", "length"),
    ],
)
def test_malformed_options(options: str, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        Options.parse(bytes.fromhex(options))


@pytest.mark.parametrize(
    "tcp",
    [Tcp(1, 2, reserved=1), Tcp(1, 2, data_offset=4), Tcp(1, 2, data_offset=15), Tcp(0, 2), Tcp(1, 2, checksum_xor=1)],
)
def test_malformed_segments(tcp: Tcp) -> None:
    with pytest.raises(Malformed):
        Tcp.parse(tcp.build(*ENDS[0]), *ENDS[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 5),
        ("header_length", 4),
        ("header_length", 6),
        ("total_length", 19),
        ("total_length", 99),
        ("checksum_xor", 1),
    ],
)
def test_malformed_ipv4(field: str, value: int) -> None:
    ip = Ipv4("10.0.0.1", "10.0.0.2", 6, b"x")
    assert Ipv4.parse(ip.build()) == ip
    with pytest.raises(Malformed):
        Ipv4.parse(replace(ip, **{field: value}).build())


def test_a_partial_checksum_is_one_for_a_device_to_complete() -> None:
    built = bytearray(Udp(1, 2, b"abc").build(*ENDS[0]))
    built[6:8] = packets.one_complement_sum(packets.pseudo_header(*ENDS[0], 17, len(built))).to_bytes(2, "big")
    assert Udp.parse(bytes(built), *ENDS[0], partial=True).payload == b"abc"
    with pytest.raises(Malformed):
        Udp.parse(bytes(built), *ENDS[0])


@pytest.mark.parametrize("ip", [Ipv4(*ENDS[0], 17, bytes(range(100))), Ipv6(*ENDS[1], 17, bytes(range(100)))])
def test_fragments_make_the_packet(ip: Ipv4 | Ipv6) -> None:
    fragments = [packets.parse_ip(fragment.build()) for fragment in ip.fragments(48)]
    assert [len(fragment.payload) for fragment in fragments] == [48, 48, 4]
    assert b"".join(fragment.payload for fragment in fragments) == ip.payload


def test_addresses_of_neighbour_discovery() -> None:
    """RFC 4291 section 2.7.1 and RFC 2464 section 7."""
    assert packets.solicited_node("4037::1:800:200e:8c6c") == "ff02::1:ff0e:8c6c"
    assert packets.multicast_mac("ff02::1:ff0e:8c6c").hex() == "3333ff0e8c6c"
