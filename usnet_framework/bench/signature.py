"""How a reply says which process gave it: handlers.Signed writes it, the client of `usnet-bench kill` reads it."""

from __future__ import annotations

import struct

_PROCESS_ID = struct.Struct("<I")
SIGNATURE_BYTES = _PROCESS_ID.size


def sign(process: int) -> bytes:
    return _PROCESS_ID.pack(process)


def signer(signed: bytes) -> int:
    """The process whose signature these bytes begin with."""
    process: int = _PROCESS_ID.unpack_from(signed)[0]
    return process
