"""What the kernel's verifier has to know of the XDP program, and older verifiers than that of this machine learn from
constants alone: read in the machine code that the package brings."""

from __future__ import annotations

import struct
from pathlib import Path

from usnet_framework import _bpf

LOAD_BYTES = struct.pack("<BBhi", 0x85, 0, 0, 189)  # bpf_xdp_load_bytes; r4 is the length
JUMPS = (5, 6)
MOVE, ADD_CONSTANT, AND_CONSTANT = 0xBF, 0x07, 0x57
HEADERS_MAX = 512


def range_of(code: bytes, at: int, register: int) -> tuple[int, int] | None:
    """What the instructions before this place say of a register; None: no constant bounds it."""
    added = 0
    while True:
        at -= 8
        operation, registers, _, constant = struct.unpack_from("<BBhi", code, at)
        if registers & 15 != register or operation & 7 in JUMPS:
            continue
        if operation == MOVE:
            register = registers >> 4
        elif operation == ADD_CONSTANT:
            added += constant
        else:
            return (added, added + constant) if operation == AND_CONSTANT else None


def test_as_much_of_a_frame_is_copied_as_there_is_room_for_and_not_nothing() -> None:
    code = Path(_bpf.__file__).read_bytes()
    assert code.count(LOAD_BYTES) == 1
    assert range_of(code, code.index(LOAD_BYTES), 4) == (1, HEADERS_MAX)
