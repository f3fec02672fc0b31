"""The suite that every device has to pass, over our own ones and over wrappers around them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_tap

from usnet_framework._native_tap import tap_queue
from usnet_framework.testing import Link
from usnet_framework.testing.conformance import (
    STATION,
    Bench,
    Device,
    DeviceConformance,
    HandFarEnd,
    PacketSocket,
    WireFarEnd,
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
