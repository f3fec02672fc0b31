"""The memory that engines copy packets into for a capture (native/include/usnet_capture.h) as typed Python."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

from usnet_framework._native import checked
from usnet_framework._usnet import ffi, lib

SNAPLEN_MAX: int = lib.USNET_CAPTURE_SNAPLEN_MAX
PROGRAM_MAX: int = lib.USNET_CAPTURE_PROGRAM_MAX
INSTRUCTION_BYTES = 8  # struct bpf_insn

HEAD = struct.Struct("<IHHQQQII")  # struct usnet_captured; C asserts its size
READ_BYTES = 1 << 20  # at once, of one shard: some of the largest records
IN, FOREIGN = 1, 2  # flags


class Captured(NamedTuple):
    """A packet; `drops` has bit i + 1 for the i-th reason, `conn` is 0 for none."""

    time_ns: int
    flags: int
    conn: int
    drops: int
    original: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets that passed, those that were wanted, and of these those that found no room."""

    seen: int
    matched: int
    lost: int


def memory_bytes(data_bytes: int) -> int:
    """Of a memory with so many bytes for packets: a power of two, 1 MiB at least."""
    return int(lib.usnet_capture_bytes(data_bytes))


def write_head(memory: mmap, snaplen: int, drops_only: bool, program: bytes) -> None:
    """Make fresh memory one for a capture; `program` as libpcap compiles it, empty: every packet. ValueError: it is
    none, or snaplen is out of bounds."""
    count, rest = divmod(len(program), INSTRUCTION_BYTES)
    if rest or count > PROGRAM_MAX or not 0 < snaplen <= SNAPLEN_MAX:
        raise ValueError("no program of a filter, or no length of a packet")
    with ffi.from_buffer("uint8_t[]", memory, require_writable=True) as start:
        if lib.usnet_capture_format(start, len(memory), snaplen, drops_only, ffi.from_buffer(program), count) < 0:
            raise ValueError("no program of a filter")


class CaptureMemory:
    """The reader's end. The memory stays as it is while there is one."""

    def __init__(self, memory: mmap) -> None:
        self._start = ffi.from_buffer("uint8_t[]", memory, require_writable=True)
        self._bytes = len(memory)
        self._buffer = ffi.new("uint8_t[]", READ_BYTES)

    def close(self) -> None:
        ffi.release(self._start)

    def read(self) -> Iterator[Captured]:
        """What has come, oldest first; READ_BYTES at most, so there may be more when there was anything. OSError: the
        engine has written nonsense."""
        taken = checked(lib.usnet_capture_read(self._start, self._bytes, self._buffer, READ_BYTES))
        data = bytes(ffi.buffer(self._buffer, taken))
        at = 0
        while at < taken:
            size, _, flags, time_ns, conn, drops, captured, original = HEAD.unpack_from(data, at)
            begin = at + HEAD.size
            yield Captured(time_ns, flags, conn, drops, original, data[begin : begin + captured])
            at += size

    def counts(self) -> Counts:
        counts = ffi.new("struct usnet_capture_counts *")
        lib.usnet_capture_count(self._start, counts)
        return Counts(counts.seen, counts.matched, counts.lost)
