"""Frames of a simulation in a file that Wireshark reads, with virtual time stamps.

The format is pcap with nanoseconds; time counts from 1970, as a clock that begins at 1000 seconds says. Devices that
are not simulated are captured by `Device.captured`.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

SECOND_NS = 10**9
MAGIC_NS = 0xA1B23C4D
ETHERNET = 1
FRAME_BYTES_MAX = 2**18


class Capture:
    """Writes to a file that somebody else opened, and closes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(struct.pack("<IHHiIII", MAGIC_NS, 2, 4, 0, 0, FRAME_BYTES_MAX, ETHERNET))

    def write(self, now_ns: int, frame: bytes) -> None:
        seconds, ns = divmod(now_ns, SECOND_NS)
        self._file.write(struct.pack("<IIII", seconds, ns, len(frame), len(frame)) + frame)
