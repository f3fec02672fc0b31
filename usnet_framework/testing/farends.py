"""Who is at the far end of a device under test: another device, the caller's hand, or a packet socket of the kernel."""

from __future__ import annotations

import select
import socket
import struct
from contextlib import suppress
from typing import Protocol

from usnet_framework._native_device import Device, Packet, Pool
from usnet_framework._native_stack import OutputFrame
from usnet_framework.testing.offload import Frame

PACKET_BYTES_MAX = 2**16 + 64

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR = 263, 15
SO_RCVBUFFORCE = 33
NEEDS_CHECKSUM = 1
CUT = {0x0800: 1, 0x86DD: 4}  # VIRTIO_NET_HDR_GSO_TCPV4 and …_TCPV6, by ether type
_VIRTIO = struct.Struct("=BBHHHH")


class FarEnd(Protocol):
    """It sends packets to the device, and takes what the device sent."""

    carries_offloads: bool
    """It can send and take frames that are not complete (`OutputFrame`)."""

    def send(self, frame: Frame) -> bool:
        """Put it on the way to the device; False: there is no room."""

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        """The oldest packet that the device sent; None when none comes in so many seconds."""

    def close(self) -> None:
        """After the device is closed. Everything is to be gone then."""


class WireFarEnd:
    """The other end of `Device.memory`, with a pool of its own."""

    def __init__(self, device: Device, frames: int = 2048) -> None:
        self.device = device
        self.carries_offloads = device.about.link.rx_coalesce
        self._pool = Pool(frames)
        device.attach(self._pool)

    def send(self, frame: Frame) -> bool:
        if not self.device.reserve(1):
            return False
        self.device.submit([packet_of(frame)])
        self.device.flush()
        return True

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        found = self.device.peek(1)
        if not found and self.device.about.fd >= 0 and self.device.sleep():
            select.select([self.device.about.fd], [], [], wait_s)
            found = self.device.peek(1)
        if not found:
            return None
        self.device.release(1)
        (packet,) = found
        data = b"".join(frame.data for frame in self._pool.chain(packet.frame))
        self._pool.drop(packet.frame)
        if packet.segment_bytes or packet.checksum_good or packet.checksum_partial:
            return unfinished(data, packet.segment_bytes)
        return data

    def close(self) -> None:
        self.device.close()
        left = self._pool.frames - self._pool.free
        self._pool.close()
        assert left == 0, f"{left} frames of the far end are nobody's"


class HandFarEnd:
    """Of `Device.hand`, wrapped or not."""

    carries_offloads = True

    def __init__(self, device: Device) -> None:
        self._device = device

    def send(self, frame: Frame) -> bool:
        with suppress(OSError):
            if isinstance(frame, OutputFrame):
                self._device.input(frame.data, checksum_good=True, segment_bytes=frame.segment_bytes)
            else:
                self._device.input(frame)
            return True
        return False

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        output = self._device.output()
        if output is None or output.needs_checksum:
            return output
        return output.data

    def close(self) -> None:
        pass


class PacketSocket:
    """A packet socket on an interface: the kernel's end of a TAP, or the other end of a veth. It needs CAP_NET_RAW.

    It takes only packets whose sender is `station`: the kernel may have something to say on the link as well.
    """

    carries_offloads = True

    def __init__(self, interface: str, station: bytes) -> None:
        self._station = station
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setblocking(False)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        with suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._socket.bind((interface, ETH_P_ALL))

    def send(self, frame: Frame) -> bool:
        with suppress(BlockingIOError):
            self._socket.send(_virtio_header(frame) + (frame if isinstance(frame, bytes) else frame.data))
            return True
        return False

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        while select.select([self._socket], [], [], wait_s)[0]:
            got = self._socket.recv(PACKET_BYTES_MAX)
            header, data = got[: _VIRTIO.size], got[_VIRTIO.size :]
            if data[6:12] == self._station:
                return _from_virtio(header, data)
        return None

    def close(self) -> None:
        self._socket.close()


def packet_of(frame: Frame) -> Packet:
    """As a device is given it, its headers apart from its payload."""
    if isinstance(frame, bytes):
        return Packet([frame[:54], frame[54:]] if len(frame) > 54 else [frame])
    head = frame.header_length
    return Packet(
        [piece for piece in (frame.data[:head], frame.data[head:]) if piece],
        needs_checksum=frame.needs_checksum,
        segment_bytes=frame.segment_bytes,
        is_ipv6=frame.data[12:14] == b"\x86\xdd",
        header_length=head,
        checksum_start=frame.checksum_start,
        checksum_offset=frame.checksum_offset,
    )


def unfinished(data: bytes, segment_bytes: int) -> OutputFrame:
    """A TCP packet whose checksum, or more, is left to be done; where things lie is read from its headers."""
    start = 14 + ((data[14] & 15) * 4 if data[14] >> 4 == 4 else 40)
    return OutputFrame(data, True, segment_bytes, start + (data[start + 12] >> 4) * 4, start, 16)


def _virtio_header(frame: Frame) -> bytes:
    if isinstance(frame, bytes):
        return bytes(_VIRTIO.size)
    kind = CUT[int.from_bytes(frame.data[12:14], "big")] if frame.segment_bytes else 0
    flags = NEEDS_CHECKSUM * frame.needs_checksum
    return _VIRTIO.pack(flags, kind, frame.header_length, frame.segment_bytes, frame.checksum_start,
                        frame.checksum_offset)  # fmt: skip


def _from_virtio(header: bytes, data: bytes) -> Frame:
    flags, kind, _, segment_bytes, _, _ = _VIRTIO.unpack(header)
    if not flags & NEEDS_CHECKSUM:
        return data
    return unfinished(data, segment_bytes if kind else 0)
