"""Queues of a TAP interface (native/include/usnet_tap.h) as typed Python."""

from __future__ import annotations

import os
from typing import Any

from usnet_framework._native import c_text
from usnet_framework._usnet import ffi, lib


class TapError(OSError):
    """No queue, or no steering; its text is a sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def tap_queue(name: str, multi_queue: bool) -> int:
    """A descriptor of one more queue of an interface, which is created when there is none of that name."""
    why = ffi.new("const char **")
    return _checked(lib.usnet_tap_queue(os.fsencode(name), multi_queue, why), why)


def steer_tap(fd: int, queues: int) -> None:
    """Let the kernel put frames into the queue of the shard that owns their flow."""
    why = ffi.new("const char **")
    _checked(lib.usnet_tap_steer(fd, queues, why), why)


def _checked(result: int, why: Any) -> int:
    if result < 0:
        raise TapError(-result, c_text(why[0]))
    return result
