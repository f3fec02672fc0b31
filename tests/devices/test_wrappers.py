"""Devices around devices, as Python makes them: capture with a clock of its own, faults by seed, who closes what."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from usnet_framework._native_device import Device, DeviceError, Packet, Pool


def blocks(capture: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of each block of a pcapng file."""
    found, at = [], 0
    while at < len(capture):
        kind, length = struct.unpack_from("<II", capture, at)
        found.append((kind, capture[at + 8 : at + length - 4]))
        at += length
    return found


def test_what_passes_is_captured_with_the_time_of_its_caller(tmp_path: Path) -> None:
    now_ns = 10**18
    inner = Device.hand()
    device = inner.captured(tmp_path / "file", lambda: now_ns)
    pool = Pool(16)
    device.attach(pool)
    inner.input(b"in" * 40)
    assert [packet.length for packet in device.peek()] == [80]
    now_ns += 7
    device.submit([Packet([b"out" * 30])])
    device.close()
    pool.close()
    seen = [(struct.unpack_from("<II", body, 4), body[20:23]) for kind, body in blocks((tmp_path / "file").read_bytes())
            if kind == 6]  # fmt: skip
    assert [(high << 32 | low, data) for (high, low), data in seen] == [(10**18, b"ini"), (10**18 + 7, b"out")]


def test_a_file_that_cannot_be_made_is_said_and_the_device_is_still_ours() -> None:
    device = Device.hand()
    with pytest.raises(DeviceError, match="/nowhere/at/all: No such file"):
        device.captured("/nowhere/at/all")
    assert device.about.name == "hand"
    device.close()


def arrivals(seed: int) -> list[int]:
    """Which of 500 packets arrive, in which order."""
    near, far = Device.memory()
    device = near.faulty(seed=seed, loss=0.05, duplicate=0.05, reorder=0.05)
    pools = Pool(1024), Pool(1024)
    device.attach(pools[0])
    far.attach(pools[1])
    found = []
    for number in range(500):
        device.reserve(1)
        device.submit([Packet([bytes(60) + number.to_bytes(2)])])
        device.flush()
        for packet in far.peek():
            found.append(int.from_bytes(pools[1].look(packet.frame).data[-2:]))
            far.release(1)
            pools[1].drop(packet.frame)
    device.close()
    far.close()
    for pool in pools:
        assert pool.free == pool.frames
        pool.close()
    return found


def test_equal_seeds_have_equal_faults() -> None:
    first = arrivals(1)
    assert first == arrivals(1)
    assert first != arrivals(2)
    assert len(set(first)) < 500 < len(first) + 100
    assert first != sorted(first)


def test_who_wraps_closes() -> None:
    inner = Device.hand()
    middle = inner.faulty()
    outer = middle.faulty(seed=1)
    middle.close()  # it is another one's
    inner.close()
    assert outer.about.name == "fault"
    outer.close()
    outer.close()
    for device in (inner, middle, outer):
        with pytest.raises(OSError, match="closed"):
            device.counters()


def test_what_is_no_device_or_pool_is_said() -> None:
    with pytest.raises(DeviceError, match="cannot be the name of an interface"):
        Device.tap("a/b")
    with pytest.raises(DeviceError, match="no queue of a TAP interface"):
        Device.tap_queue(0)
    with pytest.raises(ValueError, match="frames of 100 bytes"):
        Pool(10, 100)
    with pytest.raises(ValueError, match="0 frames"):
        Pool(0)
    near, far = Device.memory()
    with pytest.raises(OSError, match="Invalid argument"):
        near.input(bytes(60))
    near.close()
    far.close()
