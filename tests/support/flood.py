"""Frames that nobody asked for, from the kernel's end of a veth pair to a server at the other one.

    Hostile(random.Random(7), recorded("clients0", talk)).frames()         # noise, and real ones that were changed
    python -P tests/support/flood.py clients0 STATION ADDRESS PORT SECONDS    # SYNs from 1,000 spoofed addresses

The program says "begins", and at the end how many it sent."""

from __future__ import annotations

import errno
import itertools
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from usnet_framework.testing.packets import ETHER_IPV4, ETHER_IPV6, PROTOCOL_TCP, Ethernet, Ipv4
from usnet_framework.testing.segments import Options, Tcp

SPOOFED = [f"198.18.{number // 250}.{number % 250 + 1}" for number in range(1000)]
"""Of RFC 2544: nobody has them."""

LENGTH_MIN, LENGTH_MAX = 15, 1514
"""Of what the kernel lets a packet socket send."""


class Wire:
    """An interface, to put frames on as they are."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, 0))
        self.mac: bytes = self._socket.getsockname()[4]

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Once there is room."""
        while True:
            try:
                self._socket.send(frame)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the interface's queue is full
                    raise


def recorded(interface: str, talk: Callable[[], object]) -> list[bytes]:
    """What the kernel sends from there by IP while it talks."""
    frames = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:  # ETH_P_ALL
        tap.bind((interface, 3))
        tap.setblocking(False)
        talk()
        try:
            while True:
                frame, (_, ether_type, kind, *_) = tap.recvfrom(65536)
                if kind == socket.PACKET_OUTGOING and ether_type in (ETHER_IPV4, ETHER_IPV6):
                    frames.append(frame)
        except BlockingIOError:
            return frames


class Hostile:
    """Frames without end: noise, and changed ones of `originals`, which are sent to the server."""

    def __init__(self, chance: random.Random, originals: Sequence[bytes]) -> None:
        self._chance = chance
        self._originals = originals
        self._changes = (self._flip, self._overwrite, self._cut, self._extend, self._splice)

    def frames(self) -> Iterator[bytes]:
        while True:
            frame = self._noise() if self._chance.random() < 0.2 else self._changed()
            yield frame[:LENGTH_MAX].ljust(LENGTH_MIN, b"\0")

    def _noise(self) -> bytes:
        """With the right head, so that it goes up as far as possible."""
        head = self._chance.choice(self._originals)[: self._chance.choice((12, 14, 34))]
        return head + self._chance.randbytes(self._chance.randrange(LENGTH_MAX - len(head)))

    def _changed(self) -> bytes:
        frame = bytearray(self._chance.choice(self._originals))
        for _ in range(self._chance.randint(1, 3)):
            self._chance.choice(self._changes)(frame)
        return bytes(frame)

    def _at(self, frame: bytearray) -> int:
        """Behind the address that brings it here."""
        return self._chance.randrange(6, max(len(frame), 7))

    def _flip(self, frame: bytearray) -> None:
        if (at := self._at(frame)) < len(frame):
            frame[at] ^= 1 << self._chance.randrange(8)

    def _overwrite(self, frame: bytearray) -> None:
        at = self._at(frame)
        frame[at : at + 4] = self._chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", self._chance.randbytes(4)))

    def _cut(self, frame: bytearray) -> None:
        del frame[self._at(frame) :]

    def _extend(self, frame: bytearray) -> None:
        frame += self._chance.randbytes(self._chance.randrange(64))

    def _splice(self, frame: bytearray) -> None:
        at = self._at(frame)
        frame[at:] = self._chance.choice(self._originals)[at:]


def syns(station: bytes, mac: bytes, address: str, port: int) -> list[bytes]:
    """One from each spoofed address."""
    frames = []
    for number, source in enumerate(SPOOFED):
        segment = Tcp(1024 + number, port, seq=number * 4099, flags="S", window=64240, options=Options(mss=1460))
        packet = Ipv4(source, address, PROTOCOL_TCP, segment.build(source, address))
        frames.append(Ethernet(station, mac, ETHER_IPV4, packet.build()).build())
    return frames


def with_port(frame: bytes, port: int) -> bytes:
    """The same from another port, whose checksum is as right as before."""
    (old,), (total,) = struct.unpack_from("!H", frame, 34), struct.unpack_from("!H", frame, 50)
    total = (~total & 0xFFFF) + (~old & 0xFFFF) + port
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return frame[:34] + struct.pack("!H", port) + frame[36:50] + struct.pack("!H", ~total & 0xFFFF) + frame[52:]


def flood(interface: str, station: bytes, address: str, port: int, seconds: float) -> int:
    """How many SYNs were sent."""
    with Wire(interface) as wire:
        frames = syns(station, wire.mac, address, port)
        print("begins", flush=True)
        end_s = time.monotonic() + seconds
        for round_ in itertools.count():
            if time.monotonic() >= end_s:
                return round_ * len(frames)
            for frame in frames:
                wire.send(with_port(frame, 1024 + round_ % 60000))
    raise AssertionError("rounds do not end")


if __name__ == "__main__":
    interface, station, address, port, seconds = sys.argv[1:]
    print(flood(interface, bytes.fromhex(station.replace(":", "")), address, int(port), float(seconds)))
