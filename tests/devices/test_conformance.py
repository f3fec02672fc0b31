"""The suite that every device has to pass, over our own ones and over wrappers around them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_tap, needs_xdp
from support.server import wait

from usnet_framework._native_bpf import XdpProgram
from usnet_framework._native_tap import tap_queue
from usnet_framework._native_xdp import Queue, xdp_socket
from usnet_framework.testing import Link
from usnet_framework.testing.conformance import (
    STATION,
    Bench,
    Device,
    DeviceConformance,
    HandFarEnd,
    PacketSocket,
    Pool,
    Run,
    WireFarEnd,
    packet,
)

SLOTS = 128
PLAIN = Link(slots=SLOTS)
OFFLOADS = Link(slots=SLOTS, tx_segment_bytes=65000, tx_checksum=True, rx_checksum=True, rx_coalesce=True)
JUMBO = Link(slots=SLOTS, mtu=9000)


def wire(link: Link) -> Bench:
    near, far = Device.memory(link)
    return Bench(near, WireFarEnd(far), slots=SLOTS, keeps_mtu=True)


def by_hand(link: Link) -> Bench:
    device = Device.hand(link)
    return Bench(device, HandFarEnd(device), slots=SLOTS)


class TestMemory(DeviceConformance):
    def open(self) -> Bench:
        return wire(PLAIN)


class TestMemoryWithOffloads(DeviceConformance):
    def open(self) -> Bench:
        return wire(OFFLOADS)


class TestMemoryWithLargePackets(DeviceConformance):
    def open(self) -> Bench:
        return wire(JUMBO)


class TestHand(DeviceConformance):
    def open(self) -> Bench:
        return by_hand(PLAIN)


class TestHandWithOffloads(DeviceConformance):
    def open(self) -> Bench:
        return by_hand(OFFLOADS)


class TestCapture(DeviceConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "capture.pcapng"

    def open(self) -> Bench:
        bench = wire(OFFLOADS)
        bench.device = bench.device.captured(self.path)
        return bench


class TestFaultWithoutFaults(DeviceConformance):
    def open(self) -> Bench:
        bench = wire(OFFLOADS)
        bench.device = bench.device.faulty(seed=1)
        return bench


class TestFaultAroundCaptureAroundHand(DeviceConformance):
    def open(self) -> Bench:
        bench = by_hand(PLAIN)
        bench.device = bench.device.captured("/dev/null").faulty(seed=1)
        return bench


class OverTap(DeviceConformance):
    """In a network namespace of its own, where the kernel says nothing by itself."""

    interface = "usnet0"

    @pytest.fixture(autouse=True)
    def _namespace(self) -> Iterator[None]:
        with network_namespace():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            yield

    def bench(self, device: Device) -> Bench:
        subprocess.run(["ip", "link", "set", self.interface, "up"], check=True)
        return Bench(device, PacketSocket(self.interface, STATION))


@needs_tap
class TestTap(OverTap):
    def open(self) -> Bench:
        return self.bench(Device.tap(self.interface))


@needs_tap
class TestTapOfSeveralQueues(OverTap):
    def open(self) -> Bench:
        return self.bench(Device.tap_queue(tap_queue(self.interface, multi_queue=True)))


@needs_tap
class TestCaptureAroundTap(OverTap):
    def open(self) -> Bench:
        return self.bench(Device.tap(self.interface).captured("/dev/null"))


class OverXdp(DeviceConformance):
    """One end of a veth pair in a network namespace of its own; what is sent to our station comes to the device."""

    native: bool
    near, far = "near", "far"
    mtu = 1500
    tx_checksum = False
    is_polled = False

    @pytest.fixture(autouse=True)
    def _namespace(self) -> Iterator[None]:
        with network_namespace(), ExitStack() as self.opened:
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            for command in (
                f"link add {self.near} type veth peer name {self.far}",
                f"link set {self.near} up mtu {self.mtu}",
                f"link set {self.far} up mtu {self.mtu}",
            ):
                subprocess.run(["ip", *command.split()], check=True)
            yield

    def make_pool(self, frames: int, frame_bytes: int) -> Pool:
        if frame_bytes not in (2048, 4096):
            pytest.skip(f"the kernel has no frames of {frame_bytes} bytes")
        self.pool = super().make_pool(frames, frame_bytes)
        return self.pool

    def open(self) -> Bench:
        program = XdpProgram(large=self.mtu > 3498)
        self.opened.callback(program.close)
        program.attach(self.near, native=self.native)
        program.set_station(STATION)
        memory = os.memfd_create("test", os.MFD_CLOEXEC)
        queue = Queue(
            self.near, 0, STATION, self.mtu, tx_checksum=self.tx_checksum, is_polled=self.is_polled
        )
        fd = xdp_socket(queue, self.pool.address, self.pool.frames, self.pool.frame_bytes, memory)
        program.set_queue(0, fd)
        notes = os.dup(memory)
        self.opened.callback(os.close, notes)
        device = Device.xdp(fd, memory)
        return Bench(device, PacketSocket(self.far, STATION), keeps_mtu=True, held=lambda: self.noted(notes))

    def noted(self, memory: int) -> int:
        """Frames that have a note, as native/src/device/afxdp_memory.h has them."""
        notes = os.pread(memory, self.pool.frames, os.fstat(memory).st_size - self.pool.frames)
        return self.pool.frames - notes.count(0)


@needs_xdp
class TestXdpInTheDriver(OverXdp):
    native = True

    def test_packets_that_find_no_frame_are_counted(self) -> None:
        """The kernel has a quarter of them to receive into."""
        with self.running(64) as run:
            for number in range(20):
                run.far_sends(number, 100)
            run.peek(16)

            def lost() -> int:
                for _ in range(256):  # the kernel is not asked each time
                    run.device.flush()
                return run.device.counters()["rx_dropped"]

            wait("those that are too many are counted", lambda: lost() == 4)
            assert run.device.counters()["rx_no_frame"] >= 4


@needs_xdp
class TestXdpBehindTheDriver(OverXdp):
    native = False


@needs_xdp
class TestXdpThatIsPolled(OverXdp):
    native = True
    is_polled = True


@needs_xdp
class TestXdpWithChecksums(OverXdp):
    native = True
    tx_checksum = True

    def test_it_completes_checksums(self) -> None:
        with self.running() as run:
            assert run.link.tx_checksum


class OverXdpWithLargePackets(OverXdp):
    """Each in as many frames as it takes, both ways."""

    mtu = 9000
    tx_checksum = True

    @contextmanager
    def running(self, frames: int = 1024, frame_bytes: int = 4096) -> Iterator[Run]:
        """The kernel has enough of them for ten packets at any time."""
        with super().running(frames, frame_bytes) as run:
            yield run

    @pytest.mark.parametrize("frame_bytes", [2048, 4096])
    def test_a_packet_larger_than_a_frame_comes_and_goes_in_several(self, frame_bytes: int) -> None:
        with self.running(frame_bytes=frame_bytes) as run:
            for number, length in enumerate([1700, 2024, 2025, 3840, 3841, 4072, 4073, 7680, 7681, 9014]):
                run.far_sends(number, length)
                received = run.take()
                assert len(run.pool.chain(received.frame)) == -(-length // (frame_bytes - 256))
                assert run.read(received) == packet(number, length)
                run.pool.drop(received.frame)
                run.device_sends(number, length)
                run.far_gets(number, length)
            run.nothing_is_left()


@needs_xdp
class TestXdpWithLargePacketsInTheDriver(OverXdpWithLargePackets):
    native = True


@needs_xdp
class TestXdpWithLargePacketsBehindTheDriver(OverXdpWithLargePackets):
    native = False


@needs_xdp
class TestCaptureAroundXdp(OverXdp):
    native = True

    def open(self) -> Bench:
        bench = super().open()
        bench.device = bench.device.captured("/dev/null")
        return bench
