"""Ring pairs of netmap ports (native/include/usnet_netmap.h) as typed Python."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from usnet_framework._native import c_text
from usnet_framework._usnet import ffi, lib


class NetmapError(OSError):
    """No port; its text is a sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Pair:
    """What is opened: the pair `ring` of a card, or the only one of a switch's port or a pipe. `mtu`: bytes of an IP
    packet; `ignores_groups`: another port of ours on the same switch takes what is for a group; `shares`: what is not
    for `mac` is the kernel's; `is_host`: the pair is that of the kernel's stack."""

    port: str
    is_card: bool
    ring: int
    mtu: int
    mac: bytes
    ignores_groups: bool = False
    shares: bool = False
    is_host: bool = False


@dataclass(frozen=True)
class About:
    """Of a port that was opened: its rings, the slots of each, the bytes of each slot's buffer."""

    tx_rings: int
    rx_rings: int
    tx_slots: int
    rx_slots: int
    buffer_bytes: int


def netmap_file() -> int:
    """/dev/netmap, open."""
    why = ffi.new("const char **")
    return _checked(lib.usnet_netmap_file(why), why)


def netmap_port(fd: int, pair: Pair, memory_fd: int) -> About:
    """Register the port with an open file. `memory_fd`: an empty memfd for what the users of the pair have to know."""
    port = ffi.new("char[]", os.fsencode(pair.port))
    request = ffi.new(
        "struct usnet_netmap_request *",
        {
            "port": port,
            "is_card": pair.is_card,
            "ring": pair.ring,
            "mtu": pair.mtu,
            "mac": pair.mac,
            "ignores_groups": pair.ignores_groups,
            "shares": pair.shares,
            "is_host": pair.is_host,
            "memory_fd": memory_fd,
        },
    )
    about, why = ffi.new("struct usnet_netmap_about *"), ffi.new("const char **")
    _checked(lib.usnet_netmap_port(fd, request, about, why), why)
    return About(about.tx_rings, about.rx_rings, about.tx_slots, about.rx_slots, about.buffer_bytes)


def _checked(result: int, why: Any) -> int:
    if result < 0:
        raise NetmapError(-result, c_text(why[0]))
    return result
