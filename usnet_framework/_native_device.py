"""Devices (usnet_device.h, and the constructors of usnet.h) as typed Python: what a stack does with a device, by hand.

A `Device` receives into the frames of a `Pool`. Who opens a device closes it; a wrapper (`captured`, `faulty`) closes
what it wraps, and C code what it was given (`give_away`). A device by hand is fed and emptied inside of either.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from usnet_framework._native import c_text, checked
from usnet_framework._native_stack import COUNTERS, Link, OutputFrame
from usnet_framework._usnet import ffi, lib

NO_FRAME = 2**32 - 1
BATCH_MAX = 64
"""Packets of one submit or peek."""

PIECES_MAX = 64
"""Of one packet."""


class DeviceError(OSError):
    """There is no such device; the text is a sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class About:
    """What a device is and can: what is in force, not what was asked for."""

    name: str
    link: Link
    fd: int
    """Readable when a packet may be there; -1: it is looked at by its owner."""
    queues: int
    queue: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a pool, as it is now."""

    number: int
    offset: int
    data: bytes
    """The bytes that count, behind `offset`."""
    next: int
    """NO_FRAME at the end of a chain."""
    references: int


@dataclass(frozen=True, slots=True)
class Received:
    """A packet that came: the first frame of its chain."""

    frame: int
    length: int
    checksum_good: bool
    checksum_partial: bool
    """The sender's kernel left it to a device that is not there."""
    segment_bytes: int
    """Of a packet that was joined from several: the payload each had, else 0."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a frame of the pool."""

    frame: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet to send. Pieces that are bytes are lent until `submit` returns; the first piece holds all headers."""

    pieces: Sequence[bytes | Piece]
    needs_checksum: bool = False
    segment_bytes: int = 0
    """Not 0: to be cut into segments of so many bytes of payload."""
    is_ipv6: bool = False
    header_length: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0


class Pool:
    """Frames. ValueError: frame_bytes has to be a multiple of 64, at most 32768."""

    def __init__(self, frames: int, frame_bytes: int = 2048) -> None:
        self.frames = frames
        self.frame_bytes = frame_bytes
        self.handle: Any = lib.usnet_pool_create(frames, frame_bytes)
        if not self.handle:
            raise ValueError(f"there is no pool of {frames} frames of {frame_bytes} bytes: {os.strerror(ffi.errno)}")

    def close(self) -> None:
        """After the devices that are attached to it."""
        lib.usnet_pool_destroy(self.handle)
        self.handle = None

    @property
    def free(self) -> int:
        """How many frames are."""
        return int(lib.usnet_pool_free(self.handle))

    def take(self) -> int | None:
        """A frame, with one reference; None: there is no free one."""
        frame = int(lib.usnet_pool_take(self.handle))
        return None if frame == NO_FRAME else frame

    def drop(self, frame: int) -> None:
        """One reference of each frame of a chain."""
        checked(lib.usnet_pool_drop(self.handle, frame))

    def forget(self, device: Device) -> None:
        """All frames are free, whoever had them, but those in rings of this device that outlive its owner: as where the
        owner of both is adopted by another process."""
        lib.usnet_pool_forget(self.handle, device._open())

    def look(self, frame: int) -> Frame:
        found = self._look(frame)
        data = bytes(ffi.buffer(found.bytes + found.offset, found.length))
        return Frame(frame, found.offset, data, found.next, found.references)

    def chain(self, frame: int) -> list[Frame]:
        """From a packet's first frame to its last."""
        found = [self.look(frame)]
        while found[-1].next != NO_FRAME:
            found.append(self.look(found[-1].next))
        return found

    def write(self, frame: int, data: bytes, offset: int = 0) -> None:
        ffi.memmove(self._look(frame).bytes + offset, data, len(data))

    def read(self, frame: int, length: int, offset: int = 0) -> bytes:
        return bytes(ffi.buffer(self._look(frame).bytes + offset, length))

    @property
    def address(self) -> int:
        """Of the first frame's first byte."""
        return int(ffi.cast("uintptr_t", self._look(0).bytes))

    def _look(self, frame: int) -> Any:
        found = ffi.new("struct usnet_frame *")
        checked(lib.usnet_pool_look(self.handle, frame, found))
        return found


class Device:
    """A device, by a constructor below or around the address of a C one. One thread uses it."""

    def __init__(self, handle: Any, inner: Device | None = None, keep: object = None) -> None:
        self._handle = handle
        self._inner = inner
        self._keep = keep  # what C has a pointer to
        self._is_wrapped = False
        self._pool: Pool | None = None

    @classmethod
    def at(cls, address: int) -> Self:
        """One that C code made: the address of a `struct usnet_device`, or of the `struct un_device` that it is."""
        return cls(ffi.cast("struct usnet_device *", address))

    @classmethod
    def tap(cls, interface: str) -> Self:
        """One queue of a TAP interface, which is created when there is none. DeviceError."""
        why = ffi.new("const char **")
        return cls(_made(lib.usnet_device_tap(os.fsencode(interface), why), why))

    @classmethod
    def tap_queue(cls, fd: int, queue: int = 0, queues: int = 1) -> Self:
        """Over a queue that was opened elsewhere, whose descriptor is the device's from then on. DeviceError."""
        why = ffi.new("const char **")
        return cls(_made(lib.usnet_tap_device(fd, queue, queues, why), why))

    @classmethod
    def xdp(cls, fd: int, memory_fd: int, queue: int = 0, queues: int = 1) -> Self:
        """Over an AF_XDP socket and the memory beside it (_native_xdp.py), whose descriptors are the device's from then
        on. DeviceError."""
        why = ffi.new("const char **")
        return cls(_made(lib.usnet_xdp_device(fd, memory_fd, queue, queues, why), why))

    @classmethod
    def netmap(cls, port: str) -> Self:
        """One ring pair of a netmap port, by its name: vale0:us, eth1-2. DeviceError."""
        why = ffi.new("const char **")
        return cls(_made(lib.usnet_device_netmap(os.fsencode(port), why), why))

    @classmethod
    def netmap_pair(cls, fd: int, memory_fd: int, queue: int = 0, queues: int = 1) -> Self:
        """Over a pair that was opened elsewhere (_native_netmap.py), and the memory beside it; both descriptors are the
        device's from then on. DeviceError."""
        why = ffi.new("const char **")
        return cls(_made(lib.usnet_netmap_device(fd, memory_fd, queue, queues, why), why))

    def carries(self, host_fd: int, host_memory_fd: int, wait_fd: int) -> None:
        """It carries what the kernel sends to the card. The descriptors, of the kernel's pair and of an epoll instance
        over both, are the device's from then on."""
        why = ffi.new("const char **")
        if (status := lib.usnet_netmap_carries(self._open(), host_fd, host_memory_fd, wait_fd, why)) < 0:
            raise DeviceError(-status, c_text(why[0]))

    @classmethod
    def memory(cls, link: Link | None = None) -> tuple[Self, Self]:
        """Two ends of a wire in this process. OSError (EINVAL): `slots` is no power of two, or one end would leave
        undone what the other does not take."""
        ends = ffi.new("struct usnet_device *[2]")
        checked(lib.usnet_device_memory(ends, _link(link)))
        return cls(ends[0]), cls(ends[1])

    @classmethod
    def hand(cls, link: Link | None = None) -> Self:
        """Frames in and out by `input` and `output`."""
        handle = lib.usnet_device_hand(_link(link))
        if not handle:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        return cls(handle)

    # Wrappers.

    def captured(self, path: str | os.PathLike[str], clock_ns: Callable[[], int] | None = None) -> Device:
        """This device, with all that passes written to a file for Wireshark (pcapng); `clock_ns`: nanoseconds of Unix
        time, the system's unless given. DeviceError: the file cannot be made."""
        why = ffi.new("const char **")
        clock = ffi.NULL if clock_ns is None else ffi.callback("uint64_t(void *)", lambda _: clock_ns())
        wrapper = _made(lib.usnet_device_pcap(self._open(), os.fsencode(path), clock, ffi.NULL, why), why)
        self._is_wrapped = True
        return Device(wrapper, self, clock)

    def faulty(self, *, seed: int = 0, loss: float = 0.0, duplicate: float = 0.0, corrupt: float = 0.0,
               reorder: float = 0.0) -> Device:  # fmt: skip
        """This device, with faults in both directions. Probabilities are from 0 to 1; equal seeds, equal faults."""
        chances = {"loss": loss, "duplicate": duplicate, "corrupt": corrupt, "reorder": reorder}
        scaled = {name: round(chance * 1_000_000) for name, chance in chances.items()}
        wrapper = lib.usnet_device_fault(self._open(), ffi.new("struct usnet_faults *", {"seed": seed, **scaled}))
        if not wrapper:
            raise MemoryError
        self._is_wrapped = True
        return Device(wrapper, self)

    def give_away(self) -> int:
        """To C code that closes it from now on: the address of its `struct usnet_device`. Not to be used any more after
        that, but for `input` and `output`."""
        handle = self._open()
        self._is_wrapped = True
        return int(ffi.cast("uintptr_t", handle))

    # By hand.

    def input(self, frame: bytes, *, checksum_good: bool = False, checksum_partial: bool = False,
              segment_bytes: int = 0) -> None:  # fmt: skip
        """A frame comes, as of `Stack.input`."""
        flags = lib.USNET_INPUT_CHECKSUM_GOOD * checksum_good | lib.USNET_INPUT_CHECKSUM_PARTIAL * checksum_partial
        checked(lib.usnet_device_input(self._open(), frame, len(frame), flags, segment_bytes))

    def output(self) -> OutputFrame | None:
        """The oldest frame that was sent."""
        frame, info = ffi.new("uint8_t[]", 2**16 + 64), ffi.new("struct usnet_output *")
        length = checked(lib.usnet_device_output(self._open(), frame, len(frame), info))
        if length == 0:
            return None
        return OutputFrame(
            data=bytes(ffi.buffer(frame, length)),
            needs_checksum=bool(info.flags & (lib.USNET_OUTPUT_CHECKSUM | lib.USNET_OUTPUT_SEGMENT)),
            segment_bytes=info.segment_bytes if info.flags & lib.USNET_OUTPUT_SEGMENT else 0,
            header_length=info.header_length,
            checksum_start=info.checksum_start,
            checksum_offset=info.checksum_offset,
        )

    # To look at.

    @property
    def about(self) -> About:
        found = ffi.new("struct usnet_device_about *")
        lib.usnet_device_describe(self._open(), found)
        plain = {field.name: getattr(found.link, field.name) for field in fields(Link)}
        link = Link(**plain | {"mac": bytes(found.link.mac)})
        return About(c_text(found.name), link, found.fd, found.queues, found.queue)

    def counters(self) -> dict[str, int]:
        names = [name for name, _ in COUNTERS["device"]]
        values = ffi.new("uint64_t[]", len(names))
        checked(lib.usnet_device_counters(self._open(), values, len(names)))
        return dict(zip(names, values, strict=True))

    # The verbs.

    def attach(self, pool: Pool) -> None:
        """Receive into this pool. First of all; or anew, once the pool has forgotten who had its frames."""
        self._pool = pool
        lib.usnet_device_attach(self._open(), pool.handle)

    def reserve(self, count: int) -> int:
        """How many packets may be submitted now."""
        return int(lib.usnet_device_reserve(self._open(), count))

    def submit(self, packets: Sequence[Packet]) -> None:
        """As many as were reserved at most, and at most BATCH_MAX. Bytes that were lent are overwritten afterwards, so
        that a device which has not copied them is found out."""
        lent: list[Any] = []
        sends = ffi.new("struct usnet_send[]", len(packets))
        for send, packet in zip(sends, packets, strict=True):
            pieces = ffi.new("struct usnet_send_piece[]", [self._piece(piece, lent) for piece in packet.pieces])
            lent.append(pieces)
            send.pieces, send.count = pieces, len(pieces)
            send.output = _output(packet)
        checked(lib.usnet_device_submit(self._open(), sends, len(packets)))
        for piece in lent:
            ffi.memmove(piece, b"\xee" * ffi.sizeof(piece), ffi.sizeof(piece))

    def _piece(self, piece: bytes | Piece, lent: list[Any]) -> dict[str, Any]:
        if isinstance(piece, Piece):
            if self._pool is None:
                raise ValueError("a piece of a frame needs the pool that the device is attached to")
            at = self._pool._look(piece.frame).bytes + piece.offset
            return {"bytes": at, "length": piece.length, "frame": piece.frame}
        lent.append(ffi.new("uint8_t[]", piece))
        return {"bytes": lent[-1], "length": len(piece), "frame": NO_FRAME}

    def flush(self) -> None:
        """Put on the wire what was submitted."""
        lib.usnet_device_flush(self._open())

    def peek(self, most: int = BATCH_MAX) -> list[Received]:
        """Packets that have come, oldest first."""
        found = ffi.new("struct usnet_received[]", most)
        count = lib.usnet_device_peek(self._open(), found, most)
        return [
            Received(
                frame=packet.frame,
                length=packet.length,
                checksum_good=bool(packet.flags & lib.USNET_INPUT_CHECKSUM_GOOD),
                checksum_partial=bool(packet.flags & lib.USNET_INPUT_CHECKSUM_PARTIAL),
                segment_bytes=packet.segment_bytes,
            )
            for packet in found[0:count]
        ]

    def release(self, count: int) -> None:
        """So many of them, the oldest, are the caller's now."""
        lib.usnet_device_release(self._open(), count)

    def sleep(self) -> bool:
        """Before one waits for `about.fd`. False: there is something to do at once."""
        return bool(lib.usnet_device_sleep(self._open()))

    def close(self) -> None:
        """With what it wraps. What somebody else closes is only forgotten."""
        if self._handle is not None and not self._is_wrapped:
            lib.usnet_device_close(self._handle)
        self._forget()

    def _forget(self) -> None:
        self._handle = None
        if self._inner is not None:
            self._inner._forget()

    def _open(self) -> Any:
        if self._handle is None:
            raise OSError(errno.EBADF, "the device is closed")
        return self._handle


def _made(handle: Any, why: Any) -> Any:
    if not handle:
        raise DeviceError(ffi.errno or errno.EINVAL, c_text(why[0]))
    return handle


def _link(link: Link | None) -> Any:
    link = link or Link()
    return ffi.new("struct usnet_link *", {field.name: getattr(link, field.name) for field in fields(Link)})


def _output(packet: Packet) -> dict[str, int]:
    flags = lib.USNET_OUTPUT_CHECKSUM * (packet.needs_checksum or packet.segment_bytes > 0)
    flags |= lib.USNET_OUTPUT_SEGMENT * (packet.segment_bytes > 0) | lib.USNET_OUTPUT_IPV6 * packet.is_ipv6
    return {
        "flags": flags,
        "segment_bytes": packet.segment_bytes,
        "header_length": packet.header_length,
        "checksum_start": packet.checksum_start,
        "checksum_offset": packet.checksum_offset,
    }
