"""AF_XDP sockets (native/include/usnet_xdp.h) as typed Python."""

from __future__ import annotations

import enum
import mmap
import os
from dataclasses import dataclass

from usnet_framework._native import c_text, checked
from usnet_framework._usnet import ffi, lib


class Mode(enum.IntEnum):
    """Who moves bytes between the card and the frames."""

    ANY = 0
    COPY = 1


class XdpError(OSError):
    """No socket; its text is a sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Queue:
    """What a socket is made for: a queue, and what those who use it are to know. `mtu`: bytes of an IP packet.
    `tx_checksum`: checksums are left to what is behind the queue; `is_polled`: who looks for packets does the driver's
    work. Both where it can be."""

    interface: str
    queue: int
    mac: bytes
    mtu: int
    mode: Mode = Mode.ANY
    tx_checksum: bool = False
    is_polled: bool = False


@dataclass(frozen=True)
class Modes:
    """What is in force of a socket; `zero_copy`: the driver uses the frames itself. `is_polled` is not known before the
    first packet, and never of drivers that do not tell whom to poll."""

    zero_copy: bool
    tx_checksum: bool
    is_polled: bool


def xdp_socket(queue: Queue, frames: mmap.mmap | int, frame_count: int, frame_bytes: int, memory_fd: int) -> int:
    """A descriptor. `frames`: their memory, or its address; `memory_fd`: an empty memfd for what is noted of them."""
    address = frames if isinstance(frames, int) else int(ffi.cast("uintptr_t", ffi.from_buffer(frames)))
    interface = ffi.new("char[]", os.fsencode(queue.interface))
    request = ffi.new(
        "struct usnet_xdp_request *",
        {
            "interface": interface,
            "queue": queue.queue,
            "mode": queue.mode,
            "mtu": queue.mtu,
            "mac": queue.mac,
            "frames": ffi.cast("void *", address),
            "frame_count": frame_count,
            "frame_bytes": frame_bytes,
            "memory_fd": memory_fd,
            "tx_checksum": queue.tx_checksum,
            "is_polled": queue.is_polled,
        },
    )
    why = ffi.new("const char **")
    fd = int(lib.usnet_xdp_socket(request, why))
    if fd < 0:
        raise XdpError(-fd, c_text(why[0]))
    return fd


def modes(fd: int, memory_fd: int) -> Modes:
    """Of a socket and the memory that it was made with."""
    found = ffi.new("struct usnet_xdp_modes *")
    checked(lib.usnet_xdp_modes(fd, memory_fd, found))
    return Modes(bool(found.zero_copy), bool(found.tx_checksum), bool(found.is_polled))
