"""Filters in libpcap's language, compiled by libpcap itself: `tcp port 443 and host 10.0.0.1`, as tcpdump has it.

What comes out is a program of classic BPF, which engines run over each packet (native/src/engine/capture_filter.c). It
is compiled in the process that asks: names of hosts are looked up there, and no server waits for that. What libpcap
compiles for the kernel alone is refused there, too.

The library is loaded when there is a filter, by ctypes. Five functions and two structs, unchanged for decades, are
needed; bindings on PyPI bring a build and are made for capturing, which is not needed.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import suppress
from ctypes.util import find_library
from enum import IntEnum

from usnet_framework._native_capture import INSTRUCTION_BYTES, PROGRAM_MAX
from usnet_framework.errors import ControlError, UsageError

_OPTIMIZE = 1
_NETMASK_UNKNOWN = 0xFFFFFFFF
_SNAPLEN = 262144  # what a program returns for a packet that it takes: anything but 0 is a yes

_INSTRUCTION = struct.Struct("=HBBI")  # struct bpf_insn: code, two jumps, a number
_LOADS = (0x20, 0x28, 0x30)  # BPF_LD | BPF_ABS of a word, a half, a byte
_JUMP = 0x05  # BPF_JMP | BPF_JA
_OF_THE_KERNEL = range(0xFFFFF000, 0xFFFFF040)  # SKF_AD_OFF and what follows: places that are in no packet
_BACK = 1 << 31


class Link(IntEnum):
    """What packets begin with: the number of libpcap."""

    ETHERNET = 1
    IP = 12


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def compile_filter(text: str, link: Link) -> bytes:
    """The program, an array of struct bpf_insn. UsageError: it does not parse, or no engine could run it; ControlError:
    there is no libpcap."""
    if "\0" in text:
        raise UsageError("FILTER: there is a zero byte in it")
    library = _load()
    handle = library.pcap_open_dead(link, _SNAPLEN)
    if not handle:
        raise ControlError("FILTER: libpcap has no memory for it")
    program = _Program()
    try:
        source = text.encode(errors="surrogateescape")
        if library.pcap_compile(handle, ctypes.byref(program), source, _OPTIMIZE, _NETMASK_UNKNOWN) != 0:
            why = library.pcap_geterr(handle).decode(errors="replace")
            raise UsageError(f"FILTER: {text!r} is none in libpcap's language (man pcap-filter): {why}")
        size = program.count * INSTRUCTION_BYTES
        instructions = ctypes.string_at(program.instructions, size) if size else b""
        library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)
    _check(instructions)
    return instructions


def _check(instructions: bytes) -> None:
    """UsageError: engines see a packet's bytes and nothing else, run on, never back, and not for long."""
    if (count := len(instructions) // INSTRUCTION_BYTES) > PROGRAM_MAX:
        raise UsageError(
            f"FILTER: it has {count} instructions, engines run {PROGRAM_MAX} at most; ask for less, such as a network "
            "instead of its hosts"
        )
    for code, _, _, number in _INSTRUCTION.iter_unpack(instructions):
        if code in _LOADS and number in _OF_THE_KERNEL:
            raise UsageError(
                "FILTER: inbound, outbound and ifindex are not in a packet, and engines look nowhere else; leave them "
                "out: direction and shard of each packet stand in the file"
            )
        if code == _JUMP and number >= _BACK:
            raise UsageError("FILTER: protochain makes a loop, and engines run none; use proto, or leave it out")


def _load() -> ctypes.CDLL:
    """ControlError."""
    for name in _names():
        with suppress(OSError):
            return _typed(ctypes.CDLL(name))
    raise ControlError("FILTER: libpcap compiles filters and is not here; install it (Debian: libpcap0.8)")


def _names() -> Iterator[str]:
    """Debian's, others', and last what takes a compiler or ldconfig to find."""
    yield "libpcap.so.0.8"
    yield "libpcap.so.1"
    if (name := find_library("pcap")) is not None:
        yield name


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    program = ctypes.POINTER(_Program)
    library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_compile.argtypes = [ctypes.c_void_p, program, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
    library.pcap_geterr.argtypes = [ctypes.c_void_p]
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_freecode.argtypes = [program]
    library.pcap_freecode.restype = None
    library.pcap_close.argtypes = [ctypes.c_void_p]
    library.pcap_close.restype = None
    return library
