"""What every device promises (native/src/device/device.h), as tests that run over any of them.

Derive from `DeviceConformance` in a test module, say how the device is opened and who sits at its far end, and pytest
runs the tests that are inherited:

    class TestMyDevice(DeviceConformance):
        def open(self) -> Bench:
            device = Device.at(my_library.my_device_open())
            return Bench(device, far=PacketSocket("veth1", STATION))

`Device` has the constructors of our own devices and takes any other by its address; `captured` and `faulty` wrap it.
Packets are made from a number and checked against it: Ethernet of the type that is left to experiments (0x88b5), and
TCP where the device is to complete or to cut it. They come from STATION when the device sends them.

Every test begins with a new device and ends with all frames free. What a device does not offer is skipped.
"""

from __future__ import annotations

import contextlib
import random
import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from usnet_framework._native_device import BATCH_MAX, PIECES_MAX, Device, Packet, Piece, Pool, Received
from usnet_framework._native_stack import OutputFrame
from usnet_framework.testing import offload, packets
from usnet_framework.testing.farends import FarEnd, HandFarEnd, PacketSocket, WireFarEnd, packet_of, unfinished
from usnet_framework.testing.offload import Frame
from usnet_framework.testing.segments import Tcp

__all__ = ["STATION", "Bench", "Device", "DeviceConformance", "FarEnd", "HandFarEnd", "PacketSocket", "Pool",
           "WireFarEnd"]  # fmt: skip

STATION = bytes.fromhex("020000000051")
"""The MAC address that packets of the device have as their source."""

FAR_STATION = bytes.fromhex("020000000052")
EXPERIMENTAL = 0x88B5
WAIT_S = 1.0
ENDS = {4: ("10.9.0.1", "10.9.0.2"), 6: ("fd09::1", "fd09::2")}
FLOOD_MAX = 4096
"""Packets that are tried where nobody says how many are on their way before there is no more room."""


@dataclass
class Bench:
    """A device that was opened, not attached, and who sits at its far end.

    slots: packets on their way from the device before there is no more room, where that can be said. keeps_mtu: a
    packet larger than the MTU does not pass, and is an error in the device's counters. held: frames that stand in rings
    which outlive the device, once it is closed.
    """

    device: Device
    far: FarEnd
    slots: int | None = None
    keeps_mtu: bool = False
    held: Callable[[], int] = lambda: 0


class Run:
    """A device under test with the pool that it receives into."""

    def __init__(self, bench: Bench, pool: Pool) -> None:
        self.device = bench.device
        self.far = bench.far
        self.bench = bench
        self.pool = pool
        self.link = bench.device.about.link

    # Packets by number.

    def length_of(self, number: int) -> int:
        """From the smallest Ethernet frame to the MTU."""
        return 60 + number * 97 % (self.link.mtu + 14 - 60 + 1)

    def far_sends(self, number: int, length: int) -> None:
        assert self.far.send(packet(number, length)), f"no room on the way for packet {number} to the device"

    def device_gets(self, number: int, length: int) -> None:
        same(self.next(), packet(number, length), f"packet {number}, received")

    def device_sends(self, number: int, length: int) -> None:
        assert self.device.reserve(1) == 1, f"no room for packet {number}"
        self.device.submit([packet_of(packet(number, length, from_device=True))])
        self.device.flush()

    def far_gets(self, number: int, length: int) -> None:
        same(self.far_next(), packet(number, length, from_device=True), f"packet {number}, sent")

    def nothing_is_left(self) -> None:
        assert self.device.peek() == [], "a packet came that nobody sent"
        assert self.far.receive(0) is None, "the device sent a packet twice"

    # Any packets.

    def wait(self, seconds: float = WAIT_S) -> bool:
        """As an owner waits: whether there is something to look at."""
        if not self.device.sleep():
            return True
        fd = self.device.about.fd
        return fd >= 0 and bool(select.select([fd], [], [], seconds)[0])

    def rests(self) -> None:
        """Nothing is there to look at, and the owner sleeps: at the latest after it has looked in vain."""
        for _ in range(3):
            if not self.wait(0):
                return
            assert self.device.peek() == [], "a packet came that nobody sent"
        raise AssertionError("it says again and again that there is something to look at")

    def peek(self, count: int) -> list[Received]:
        """Until so many packets have come."""
        end_s = time.monotonic() + WAIT_S
        while len(found := self.device.peek(count)) < count:
            assert self.wait(), f"{len(found)} of {count} packets came"
            assert time.monotonic() < end_s, f"{len(found)} of {count} packets came, and it does not sleep"
        return found

    def take(self) -> Received:
        """The next packet, which is ours from now on."""
        (received,) = self.peek(1)
        self.device.release(1)
        return received

    def read(self, received: Received) -> bytes:
        """Its bytes, with all that has to hold of its frames."""
        frames = self.pool.chain(received.frame)
        for frame in frames:
            assert frame.references == 1, f"a frame with {frame.references} references"
            assert frame.data, "an empty frame in a chain"
            assert frame.offset + len(frame.data) <= self.pool.frame_bytes, "a frame that ends behind its end"
        data = b"".join(frame.data for frame in frames)
        assert len(data) == received.length, f"{received.length} bytes said, {len(data)} in the chain"
        return data

    def next(self) -> bytes:
        received = self.take()
        data = self.read(received)
        self.pool.drop(received.frame)
        return data

    def far_next(self) -> bytes:
        """The next packet that the device sent, which has to be complete."""
        frame = self.far.receive(WAIT_S)
        assert frame is not None, "nothing was sent"
        assert isinstance(frame, bytes), "a packet that is not complete"
        return frame

    def send(self, *sent: Packet) -> None:
        assert self.device.reserve(len(sent)) == len(sent), "no room"
        self.device.submit(sent)
        self.device.flush()

    def skip_unless(self, offered: bool | int, what: str) -> None:
        if not offered:
            pytest.skip(f"the device does not {what}")


class DeviceConformance:
    """The tests. Override `open`, and `make_pool` where the device cannot receive into any memory."""

    def open(self) -> Bench:
        """A new device and its far end."""
        raise NotImplementedError

    def make_pool(self, frames: int, frame_bytes: int) -> Pool:
        """That the next device which is opened will receive into."""
        return Pool(frames, frame_bytes)

    @contextlib.contextmanager
    def running(self, frames: int = 256, frame_bytes: int = 2048) -> Iterator[Run]:
        pool = self.make_pool(frames, frame_bytes)
        bench = self.open()
        bench.device.attach(pool)
        try:
            yield Run(bench, pool)
        finally:
            bench.device.close()
            bench.far.close()
            left = frames - pool.free - bench.held()
            pool.close()
        assert left == 0, f"{left} frames are nobody's, now that the device is closed"

    # Packets.

    def test_packets_come_in_order_and_whole(self) -> None:
        with self.running() as run:
            for first in range(0, 300, 10):
                for number in range(first, first + 10):
                    run.far_sends(number, run.length_of(number))
                for number in range(first, first + 10):
                    run.device_gets(number, run.length_of(number))
            run.nothing_is_left()

    def test_packets_go_in_order_and_whole(self) -> None:
        with self.running() as run:
            for first in range(0, 300, 10):
                for number in range(first, first + 10):
                    run.device_sends(number, run.length_of(number))
                for number in range(first, first + 10):
                    run.far_gets(number, run.length_of(number))
            run.nothing_is_left()

    def test_a_packet_larger_than_a_frame_is_a_chain(self) -> None:
        with self.running(512, 256) as run:
            for number in range(50):
                length = run.link.mtu + 14 - 20 * number
                run.far_sends(number, length)
                run.device_gets(number, length)

    def test_a_packet_larger_than_the_mtu_is_an_error_where_the_wire_says_so(self) -> None:
        with self.running() as run:
            large = packet(1, run.link.mtu + 100, from_device=True)
            run.send(packet_of(large))
            got = run.far.receive(0 if run.bench.keeps_mtu else WAIT_S)
            same(got, None if run.bench.keeps_mtu else large, "a packet larger than the MTU")
            same(run.device.counters()["tx_errors"], int(run.bench.keeps_mtu), "tx_errors")
            run.device_sends(2, 100)
            run.far_gets(2, 100)

    # Batches.

    def test_a_batch_is_sent_as_it_was_submitted(self) -> None:
        with self.running() as run:
            batch = [packet_of(packet(number, 60 + number, from_device=True)) for number in range(BATCH_MAX)]
            room = run.device.reserve(BATCH_MAX)
            assert 0 < room <= BATCH_MAX
            run.device.submit(batch[:room])
            run.device.flush()
            for number in range(room):
                run.far_gets(number, 60 + number)
            run.nothing_is_left()

    def test_what_was_peeked_is_peeked_again_until_it_is_released(self) -> None:
        with self.running() as run:
            for number in range(6):
                run.far_sends(number, 100 + number)
            first = run.peek(6)
            assert run.device.peek(4) == first[:4]
            run.device.release(2)
            run.far_sends(6, 106)
            assert run.peek(5)[:4] == first[2:]
            run.device.release(4)
            last = run.take()
            assert run.device.peek() == []
            for number, received in enumerate([*first, last]):
                same(run.read(received), packet(number, 100 + number), f"packet {number}")
                run.pool.drop(received.frame)

    # Frames.

    def test_released_frames_are_not_touched_again(self) -> None:
        with self.running() as run:
            kept = []
            for number in range(20):
                run.far_sends(number, run.length_of(number))
                kept.append(run.take())
            for number in range(1000, 1100):
                run.far_sends(number, run.length_of(number))
                run.device_gets(number, run.length_of(number))
            for number, received in enumerate(kept):
                same(run.read(received), packet(number, run.length_of(number)), f"packet {number}, kept")
                run.pool.drop(received.frame)

    def test_a_packet_may_be_in_as_many_pieces_as_are_allowed(self) -> None:
        with self.running() as run:
            data = packet(5, 54 + 11 * (PIECES_MAX - 1), from_device=True)
            rest = [data[at : at + 11] for at in range(54, len(data), 11)]
            run.send(Packet([data[:54], *rest]))
            run.far_gets(5, len(data))

    def test_a_sent_frame_is_not_written_and_comes_back(self) -> None:
        """Whatever references the device takes, they are gone when it has sent, or when it is closed."""
        with self.running() as run:
            frame, data = run.pool.take(), packet(9, 1000, from_device=True)
            assert frame is not None
            run.pool.write(frame, data)
            run.send(Packet([data[:54], Piece(frame, 54, len(data) - 54)]))
            run.far_gets(9, len(data))
            same(run.pool.read(frame, len(data)), data, "a frame that was sent")
            run.pool.drop(frame)

    def test_a_frame_may_be_on_its_way_several_times(self) -> None:
        """A retransmission may overtake the end of the first transmission: other headers, the same payload."""
        with self.running() as run:
            frame, data = run.pool.take(), packet(9, 1000, from_device=True)
            assert frame is not None
            run.pool.write(frame, data)
            heads = [data[:14] + bytes([number]) * 40 for number in range(8)]
            run.send(*(Packet([head, Piece(frame, 54, len(data) - 54)]) for head in heads))
            run.pool.drop(frame)
            for head in heads:
                same(run.far_next(), head + data[54:], "a packet with the payload of another one")

    def test_without_a_frame_nothing_comes_and_nothing_breaks(self) -> None:
        with self.running(64) as run:
            taken = []
            while (frame := run.pool.take()) is not None:
                taken.append(frame)
            run.far.send(packet(1, 100))  # it waits, has no room, or goes to frames that were taken before
            run.wait(0.01)
            run.device.peek(1)
            for frame in taken:
                run.pool.drop(frame)
            run.far_sends(2, 100)
            got = run.next()
            if got == packet(1, 100):
                got = run.next()
            same(got, packet(2, 100), "a packet that came when there were frames again")

    # Back-pressure.

    def test_what_was_reserved_is_taken_and_no_more_is_promised_than_there_is(self) -> None:
        with self.running(1024) as run:
            limit = run.bench.slots or 64
            sent = 0
            while sent < FLOOD_MAX and (room := run.device.reserve(7)):
                assert room <= 7
                run.device.submit([packet_of(packet(sent + i, 100, from_device=True)) for i in range(room)])
                run.device.flush()
                sent += room
                if run.bench.slots is None and sent >= limit:
                    break
            if run.bench.slots is not None:
                same(sent, run.bench.slots, "packets on their way when there is no more room")
                assert run.device.counters()["tx_full"] > 0
            for number in range(sent):
                run.far_gets(number, 100)
            same(run.device.reserve(5), 5, "room when all has arrived")
            same(run.device.counters()["tx_errors"], 0, "tx_errors")
            run.nothing_is_left()

    # Sleep and wake.

    def test_a_sleeper_is_told(self) -> None:
        with self.running() as run:
            run.rests()
            run.far_sends(1, 100)
            assert run.wait(), "a packet came, and nobody was told"
            run.device_gets(1, 100)
            run.rests()
            run.far_sends(2, 100)
            run.far_sends(3, 100)
            run.device_gets(2, 100)
            assert run.wait(), "a second packet came, and nobody was told"
            run.device_gets(3, 100)
            run.rests()

    def test_who_has_packets_to_look_at_does_not_sleep(self) -> None:
        with self.running() as run:
            run.far_sends(1, 100)
            run.far_sends(2, 100)
            run.peek(2)
            assert not run.device.sleep(), "two packets were peeked and not released"
            run.device_gets(1, 100)
            assert not run.device.sleep(), "one packet was peeked and not released"
            run.device_gets(2, 100)

    # Begin and end.

    def test_closed_with_packets_on_their_way(self) -> None:
        with self.running() as run:
            for number in range(10):
                run.far_sends(number, 1000)
                run.device_sends(number, 1000)
            run.peek(1)

    def test_attached_anew_it_forgets_the_frames_it_held(self) -> None:
        with self.running() as run:
            for number in range(9):
                run.far_sends(number, 1000)
            run.peek(1)
            run.pool.forget(run.device)
            run.device.attach(run.pool)
            while run.device.peek(1):  # it may keep packets elsewhere than in frames
                run.next()
            run.far_sends(20, 1000)
            got = run.next()
            while got != packet(20, 1000):
                got = run.next()

    def test_attached_anew_it_sends_as_before(self) -> None:
        with self.running() as run:
            run.device_sends(1, 500)
            run.pool.forget(run.device)
            run.device.attach(run.pool)
            run.device_sends(2, 500)
            run.far_gets(1, 500)
            run.far_gets(2, 500)

    # Counters and capabilities.

    def test_counters_add_up(self) -> None:
        with self.running() as run:
            lengths = [run.length_of(number) for number in range(20)]
            for number, length in enumerate(lengths):
                run.far_sends(number, length)
                run.device_gets(number, length)
                run.device_sends(number, length + 1 if length < run.link.mtu else 60)
                assert run.far.receive() is not None
            counters = run.device.counters()
            sent = sum(length + 1 if length < run.link.mtu else 60 for length in lengths)
            same((counters["rx_packets"], counters["rx_bytes"]), (20, sum(lengths)), "received")
            same((counters["tx_packets"], counters["tx_bytes"]), (20, sent), "sent")
            same([counters[name] for name in ("rx_errors", "rx_dropped", "tx_errors")], [0, 0, 0], "errors")

    def test_capabilities_make_sense(self) -> None:
        with self.running() as run:
            about, link = run.device.about, run.link
            assert link.mtu >= 1280, "IPv6 asks for 1280 bytes"
            assert about.queue < about.queues
            assert len(link.mac) == 6
            assert not link.mac[0] & 1, "a group's MAC address"
            assert any(link.mac), "no MAC address"
            assert not link.tx_segment_bytes or link.tx_checksum, "who cuts segments completes their checksums"
            assert about.name

    # Offloads.

    @pytest.mark.parametrize("family", [4, 6])
    def test_a_checksum_that_is_left_to_the_device_is_completed(self, family: int) -> None:
        with self.running() as run:
            run.skip_unless(run.link.tx_checksum, "complete checksums")
            for number in range(40):
                whole, left = tcp(number, family, 1 + number * 31, from_device=True)
                run.send(packet_of(left))
                got = run.far.receive()
                assert got is not None
                same(offload.complete(got), [whole], f"segment {number}")

    @pytest.mark.parametrize("family", [4, 6])
    def test_a_super_segment_is_cut(self, family: int) -> None:
        with self.running(2048) as run:
            run.skip_unless(run.link.tx_segment_bytes, "cut segments")
            size = run.link.mtu - (52 if family == 4 else 72)
            for payload in (size + 1, 10 * size, min(run.link.tx_segment_bytes, 40 * size)):
                _, left = tcp(payload, family, payload, from_device=True, segment_bytes=size)
                run.send(packet_of(left))
                got = far_segments(run, len(offload.complete(left)))
                same(got, offload.complete(left), f"{payload} bytes in segments of {size}")
            run.nothing_is_left()

    @pytest.mark.parametrize("family", [4, 6])
    def test_a_checksum_that_nobody_has_to_verify_is_said_to_be_good(self, family: int) -> None:
        with self.running() as run:
            run.skip_unless(run.link.rx_checksum, "verify checksums")
            run.skip_unless(run.far.carries_offloads, "get them from this far end")
            _, left = tcp(1, family, 1000)
            assert run.far.send(left)
            received = run.take()
            assert received.checksum_good or received.checksum_partial
            run.pool.drop(received.frame)

    @pytest.mark.parametrize("family", [4, 6])
    def test_segments_that_were_joined_come_as_one_packet(self, family: int) -> None:
        with self.running(512) as run:
            run.skip_unless(run.link.rx_coalesce, "join segments")
            run.skip_unless(run.far.carries_offloads, "get joined ones from this far end")
            _, left = tcp(2, family, 30000, segment_bytes=1400)
            assert run.far.send(left)
            received = run.take()
            same(received.segment_bytes, 1400, "payload of the parts")
            got = unfinished(run.read(received), received.segment_bytes)
            same(offload.complete(got), offload.complete(left), "the parts")
            run.pool.drop(received.frame)


def packet(number: int, length: int, from_device: bool = False) -> bytes:
    """A packet that no other number has."""
    ends = (FAR_STATION + STATION) if from_device else (STATION + FAR_STATION)
    head = ends + EXPERIMENTAL.to_bytes(2, "big")
    return head + random.Random(number).randbytes(length - len(head))


def tcp(
    number: int, family: int, payload: int, *, from_device: bool = False, segment_bytes: int = 0
) -> tuple[bytes, OutputFrame]:
    """A TCP segment as it is when everything is done, and with its checksum, or its cutting, left to the device."""
    source, destination = ENDS[family] if from_device else ENDS[family][::-1]
    segment = Tcp(40000, 80, number, 1, "P.", payload=random.Random(number).randbytes(payload))
    ip = packets.ip_packet(source, destination, Tcp.PROTOCOL, segment.build(source, destination))
    stations = (FAR_STATION, STATION) if from_device else (STATION, FAR_STATION)
    whole = packets.Ethernet(*stations, ip.ETHER_TYPE, ip.build()).build()
    left = unfinished(whole, segment_bytes)
    at = left.checksum_start + left.checksum_offset
    pseudo = packets.pseudo_header(source, destination, Tcp.PROTOCOL, len(whole) - left.checksum_start)
    return whole, OutputFrame(
        data=whole[:at] + packets.one_complement_sum(pseudo).to_bytes(2, "big") + whole[at + 2 :],
        needs_checksum=True,
        segment_bytes=segment_bytes,
        header_length=left.header_length,
        checksum_start=left.checksum_start,
        checksum_offset=left.checksum_offset,
    )


def far_segments(run: Run, count: int) -> list[bytes]:
    """What arrives, cut as far as that was left to be done."""
    found: list[bytes] = []
    while len(found) < count:
        frame = run.far.receive()
        assert frame is not None, f"{len(found)} of {count} segments were sent"
        found += offload.complete(frame)
    return found


def same(got: Frame | Sequence[object] | int | None, expected: object, what: str) -> None:
    """AssertionError that names what differs, without a thousand bytes of packet."""
    if got == expected:
        return
    texts = [f"{len(value)} bytes {value[:24].hex()}…" if isinstance(value, bytes) else repr(value)[:400]
             for value in (expected, got)]  # fmt: skip
    raise AssertionError(f"{what}: expected {texts[0]}, got {texts[1]}")
