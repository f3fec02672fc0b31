"""The simulated network: what cables do to packets, what behaviours do, and stacks that go on elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from usnet_framework.testing import Application, Clock, Network, Node, Profile, SimulationFailed, packets
from usnet_framework.testing.applications import Answerer, Asker, Echo, Peer, Quitter, Reader, Resetter, Sender
from usnet_framework.testing.links import Wire
from usnet_framework.testing.offload import Frame, complete, marked
from usnet_framework.testing.segments import Tcp
from usnet_framework.testing.stations import OFFLOADS, Offload

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}
SMALL = {"conn_max": 8, "frames": 256, "sents": 256, "neighbours": 16}
REST_S = 70.0
"""Longer than TIME-WAIT."""


def pair(network: Network, family: int = 4, up: Profile | None = None, offload: Offload = "none") -> tuple[Node, Node]:
    """A client with a cable that `up` describes, and a server."""
    *addresses, prefix = ADDRESSES[family]
    client, server = (network.node(f"{address}/{prefix}", offload=offload, **SMALL) for address in addresses)
    client.up.profile = up or Profile(delay_s=0.005)
    return client, server


def converse(network: Network, client: Peer, server: Peer, family: int = 4, up: Profile | None = None,
             offload: Offload = "none") -> tuple[Node, Node]:  # fmt: skip
    """Until both ends are over."""
    nodes = pair(network, family, up, offload)
    nodes[1].listen(80, lambda: server)
    nodes[0].connect((nodes[1].addresses[0], 80), client)
    assert network.run(3600, until=lambda: client.is_over and server.is_over)
    return nodes


# Cables.


def sent_through(
    profile: Profile, frames: list[Frame], answers: list[Frame] | None = None
) -> list[tuple[float, Frame]]:
    """When which frames come out of a cable into which these were put all at once."""
    clock = Clock()
    arrived: list[tuple[float, Frame]] = []
    answers = [] if answers is None else answers
    wire = Wire(clock, "seed", lambda frame: arrived.append((clock.now_s, frame)), answers.append)
    wire.profile = profile
    for frame in frames:
        wire.send(frame)
    while clock.next_ns() is not None:
        clock.step()
    return arrived


def frame_of(number: int, family: int = 4, size: int = 100) -> bytes:
    source, destination, _ = ADDRESSES[family]
    body = Tcp(1, 2, seq=number, flags=".", payload=bytes(size)).build(source, destination)
    ip = replace(packets.ip_packet(source, destination, packets.PROTOCOL_TCP, body), traffic_class=2)
    return packets.Ethernet(bytes(6), bytes(6), ip.ETHER_TYPE, ip.build()).build()


FRAMES: list[Frame] = [frame_of(number) for number in range(1000)]


def test_a_perfect_cable_keeps_frames_in_order() -> None:
    assert [frame for _, frame in sent_through(Profile(), FRAMES)] == FRAMES


def test_a_cable_that_delays_keeps_frames_in_order() -> None:
    arrived = sent_through(Profile(delay_s=0.25), FRAMES)
    assert [frame for _, frame in arrived] == FRAMES
    assert {when for when, _ in arrived} == {0.25}


def test_loss() -> None:
    arrived = [frame for _, frame in sent_through(Profile(loss=0.2), FRAMES)]
    assert 700 < len(arrived) < 900
    assert arrived == [frame for frame in FRAMES if frame in set(arrived)]


def test_duplication() -> None:
    arrived = [frame for _, frame in sent_through(Profile(duplicate=0.2), FRAMES)]
    assert 1100 < len(arrived) < 1300
    assert set(arrived) == set(FRAMES)


def test_reordering() -> None:
    arrived = sent_through(Profile(reorder=0.2, reorder_s=0.1), FRAMES)
    assert sorted(frame for _, frame in arrived) == sorted(FRAMES)  # type: ignore[type-var]
    assert 100 < sum(when > 0 for when, _ in arrived) < 300
    assert max(when for when, _ in arrived) <= 0.1


@pytest.mark.parametrize("family", [4, 6])
def test_corruption_is_one_byte_that_checksums_find(family: int) -> None:
    frames: list[Frame] = [frame_of(number, family) for number in range(300)]
    for frame, (_, got) in zip(frames, sent_through(Profile(corrupt=1.0), frames), strict=True):
        assert isinstance(frame, bytes)
        assert isinstance(got, bytes)
        assert sum(one != other for one, other in zip(frame, got, strict=True)) == 1
        assert got[:14] == frame[:14]


def test_rate() -> None:
    arrived = sent_through(Profile(rate_bps=8000, queue_bytes=10**6), [bytes(100)] * 10)
    assert [when for when, _ in arrived] == pytest.approx([0.1 * number for number in range(1, 11)])


def test_a_full_queue_drops() -> None:
    assert len(sent_through(Profile(rate_bps=8000, queue_bytes=1000), [bytes(100)] * 100)) == 11


@pytest.mark.parametrize("family", [4, 6])
def test_marks_leave_checksums_right(family: int) -> None:
    frame = marked(frame_of(1, family))
    ip = packets.parse_ip(frame[14:])
    assert ip.traffic_class == 3
    assert marked(frame) == frame


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_that_does_not_fit_is_announced(family: int) -> None:
    answers: list[Frame] = []
    assert not sent_through(Profile(mtu=1300), [frame_of(1, family, 1400)], answers)
    assert isinstance(answers[0], bytes)
    ip = packets.parse_ip(answers[0][14:])
    icmp = packets.Icmp.parse(ip.payload, ip.source, ip.destination)
    assert (icmp.type, icmp.code) == {4: (3, 4), 6: (2, 0)}[family]
    assert icmp.number == 1300


def test_a_packet_that_does_not_fit_may_vanish() -> None:
    answers: list[Frame] = []
    assert not sent_through(Profile(mtu=1300, announce_mtu=False), [frame_of(1, size=1400)], answers)
    assert not answers


# Offloads.


class Recorder(Application):
    """Opens, writes much, and that is all."""

    def on_open(self) -> None:
        self.socket.write(bytes(20_000))


def seen_by(seen: list[Frame], network: Network) -> Callable[[Frame], None]:
    """What a switch does, and a list of what comes to it."""

    def switch(frame: Frame) -> None:
        seen.append(frame)
        network.switch(frame)

    return switch


def tcp_of(frame: Frame) -> Tcp | None:
    """The segment in a frame, checksums verified."""
    ethernet = packets.Ethernet.parse(complete(frame)[0])
    if ethernet.ether_type == packets.ETHER_ARP:
        return None
    ip = packets.parse_ip(ethernet.payload)
    return Tcp.parse(ip.payload, ip.source, ip.destination) if ip.protocol == packets.PROTOCOL_TCP else None


@pytest.mark.parametrize("family", [4, 6])
def test_super_segments_are_cut_into_right_segments(family: int) -> None:
    with Network() as network:
        client, server = pair(network, family, offload="card")
        seen: list[Frame] = []
        client.up.deliver = seen_by(seen, network)
        server.listen(80, Application)
        client.connect((server.addresses[0], 80), Recorder())
        network.run(1)
        data = [segment for frame in seen if (segment := tcp_of(frame)) and segment.payload]
        assert client.stack.counters("tcp")["out_segments"] < len(data)
        assert sum(len(segment.payload) for segment in data) == 20_000
        for one, other in pairwise(data):
            assert other.seq == (one.seq + len(one.payload)) % 2**32


@pytest.mark.parametrize("offload", list(OFFLOADS))
@pytest.mark.parametrize("family", [4, 6])
def test_bulk_over_every_kind_of_link(family: int, offload: Offload) -> None:
    with Network(1) as network:
        sender = Sender(500_000)
        converse(network, sender, reader := Reader(), family, Profile(delay_s=0.01, loss=0.01, rate_bps=50e6), offload)
        assert reader.received == 500_000


# Behaviours.

PAIRS = {
    "echo": (lambda: Sender(100_000, echoed=True), Echo),
    "small writes": (lambda: Sender(5000, piece=7), Reader),
    "slow reader": (lambda: Sender(150_000), lambda: Reader(chunk=10_000, pause_s=0.05)),
    "shut window": (lambda: Sender(300_000), lambda: Reader(hold_s=0.5)),
    "half-close": (lambda: Sender(1000), lambda: Reader(answer=100_000)),
    "both ways": (lambda: Sender(100_000), lambda: Sender(100_000)),
    "requests": (lambda: Asker(20, 300, 5000), lambda: Answerer(300, 5000)),
    "requests now and then": (lambda: Asker(3, 300, 5000, 0.3), lambda: Answerer(300, 5000)),
}
LOSSY = Profile(delay_s=0.01, loss=0.02, duplicate=0.02, reorder=0.05, corrupt=0.02)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("up", [None, LOSSY], ids=["good cable", "bad cable"])
def test_behaviours_get_everything_through(name: str, up: Profile | None) -> None:
    client, server = (make() for make in PAIRS[name])
    with Network(1, check_every=1) as network:
        nodes = converse(network, client, server, up=up)
        assert client.sent == server.received > 0
        assert server.sent == client.received
        assert client.has_eof
        assert server.has_eof
        network.run(REST_S)
        assert [node.stack.usage().conns for node in nodes] == [0, 0]


@pytest.mark.parametrize("kind", [Quitter, Resetter])
@pytest.mark.parametrize("after", [0, 50_000])
def test_who_gives_up_resets_the_other(kind: type[Quitter], after: int) -> None:
    with Network(1) as network:
        sender = Sender(3_000_000)
        converse(network, sender, quitter := kind(after))
        assert sender.reason == "reset"
        assert after <= quitter.received < sender.sent


def test_a_port_without_listener_refuses() -> None:
    with Network(1) as network:
        client, server = pair(network)
        sender = client.connect((server.addresses[0], 81), Sender(1))
        assert network.run(10, until=lambda: sender.is_over)
        assert sender.reason == "refused"


def test_a_cut_cable_is_survived() -> None:
    with Network(1) as network:
        client, server = pair(network, up=Profile(delay_s=0.01, rate_bps=1e6))
        server.listen(80, Reader)
        sender = client.connect((server.addresses[0], 80), Sender(200_000))
        network.run(0.5)
        client.up.is_cut = client.down.is_cut = True
        network.run(20)
        assert not sender.is_over
        client.up.is_cut = client.down.is_cut = False
        assert network.run(60, until=lambda: sender.is_over)
        assert sender.reason == "close"


def test_a_wrong_byte_is_found() -> None:
    with Network(1) as network:
        sender = Sender(1000)
        sender.send = lambda end, piece=0: sender.socket.write(b"x" * 10) < 0  # type: ignore[method-assign]
        with pytest.raises(SimulationFailed, match="wrong at position 0 of Reader's input"):
            converse(network, sender, Reader())


# Stacks that go on elsewhere.


@pytest.mark.parametrize("name", PAIRS)
def test_nobody_notices_that_a_stack_moves(name: str) -> None:
    """After each moment at which something happened, both are copied and continued; they announce themselves anew."""
    client, server = (make() for make in PAIRS[name])
    with Network(1, check_every=1) as network:
        nodes = pair(network, up=Profile(delay_s=0.01, loss=0.01))
        nodes[1].listen(80, lambda: server)
        nodes[0].connect((nodes[1].addresses[0], 80), client)
        while not (client.is_over and server.is_over):
            before_s = network.now_s
            while network.now_s == before_s:
                assert network.step()
            assert network.now_s < 1000
            for node in nodes:
                node.move()
        assert client.received == server.sent
        assert server.received == client.sent


# Time.


def test_time_passes_where_nothing_happens() -> None:
    with Network() as network:
        network.run(3.5)
        assert network.now_s == 3.5


def test_what_is_captured_can_be_read(tmp_path: Path) -> None:
    with open(tmp_path / "pcap", "wb") as file, Network(capture=file) as network:
        client, server = pair(network)
        server.listen(80, Reader)
        client.connect((server.addresses[0], 80), Sender(1000))
        network.run(10)
    data = (tmp_path / "pcap").read_bytes()
    assert data[:4] == bytes.fromhex("4d3cb2a1")
    at, count = 24, 0
    while at < len(data):
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        count += 1
    assert at == len(data)
    assert count > 5
