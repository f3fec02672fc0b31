"""A network card's settings, read and changed by SIOCETHTOOL: what ethtool(8) does with -i, -l, -g, -x and -k.

The structs and numbers are those of linux/ethtool.h, which the kernel keeps. Netlink's ethtool family is not used: it
can set the RSS key and table only since Linux 6.16.

    with Ethtool("eth1") as card:
        card.set_rss(replace(card.rss(), table=(0, 1) * 64))

Everything raises OSError: ENODEV there is no such interface (any more), EOPNOTSUPP the driver has no such setting,
EINVAL it refuses the value, EBUSY something uses what would be changed, EPERM CAP_NET_ADMIN is lacking (reading takes
none)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

SIOCETHTOOL, SIOCGIFMTU = 0x8946, 0x8921

_GDRVINFO, _GRINGPARAM, _SRINGPARAM, _GSTRINGS = 0x03, 0x10, 0x11, 0x1B
_GRXFH, _SRXFH, _GRXRINGS = 0x29, 0x2A, 0x2D
_GSSET_INFO, _GFEATURES, _SFEATURES = 0x37, 0x3A, 0x3B
_GCHANNELS, _SCHANNELS, _GRSSH, _SRSSH = 0x3C, 0x3D, 0x46, 0x47

_REQUEST = struct.Struct("16sP16x")  # struct ifreq, with its data
_MTU_REQUEST = struct.Struct("16si20x")
_DRVINFO = struct.Struct("=I32s32s32s32s32s12xIIIII")
_NUMBERS = struct.Struct("=9I")  # struct ethtool_channels and ethtool_ringparam
_RXFH = struct.Struct("=IIIIBB2xI")  # struct ethtool_rxfh, before its table and key
_RXNFC = struct.Struct("=IIQ176x")  # struct ethtool_rxnfc: command, flow type, data; the rest is of rules
_SET_INFO = struct.Struct("=IIQI")
_FEATURES, _HASH_FUNCTIONS = 4, 5  # ETH_SS_FEATURES, ETH_SS_RSS_HASH_FUNCS
_STRING_BYTES = 32

FLOWS = {"tcp4": 0x01, "tcp6": 0x05}
"""Kinds of flows whose hash can be set apart: TCP_V4_FLOW and so on."""

FIELDS = {"source address": 1 << 4, "destination address": 1 << 5, "source port": 1 << 6, "destination port": 1 << 7}
"""What of a packet is hashed: RXH_IP_SRC and so on."""

TOEPLITZ = "toeplitz"
"""As the kernel names the hash function."""


@dataclass(frozen=True)
class Driver:
    name: str
    version: str
    firmware: str
    bus: str
    """Its address on the bus, such as 0000:00:03.0; empty when it is on none."""


@dataclass(frozen=True)
class Channels:
    """Queues by what they do; `combined` ones both receive and send. The `_max` are what the card has."""

    rx: int
    tx: int
    other: int
    combined: int
    rx_max: int
    tx_max: int
    other_max: int
    combined_max: int


@dataclass(frozen=True)
class Rings:
    """Packets that a queue holds, each way."""

    rx: int
    tx: int
    rx_max: int
    tx_max: int


@dataclass(frozen=True)
class Rss:
    """How the card spreads flows: queue = table[hash of the flow modulo the length of the table]."""

    function: str
    """Of `hash_functions`; empty when the driver does not say."""
    key: bytes
    """40 bytes or more; empty when the driver has none to show."""
    table: tuple[int, ...]
    """Queues; empty when the driver has none to show."""
    transform: int = 0
    """What is done to a flow before it is hashed: RXH_XFRM_* of the kernel."""


@dataclass(frozen=True)
class Feature:
    """An offload. `changeable` is False when the driver, or this kind of interface, has it one way only."""

    active: bool
    requested: bool
    changeable: bool


class Ethtool:
    """An interface of the network namespace that this is made in. Nothing is checked before the first question.

    `interface` is its name, which may be set to another one when it was renamed."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._named: dict[int, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def driver(self) -> Driver:
        found = _DRVINFO.unpack(self._ask(_DRVINFO.pack(_GDRVINFO, b"", b"", b"", b"", b"", *[0] * 5)))
        return Driver(*(_text(part) for part in found[1:5]))

    def mtu(self) -> int:
        """Bytes of the largest packet, its link header not counted."""
        answer = fcntl.ioctl(self._socket, SIOCGIFMTU, _MTU_REQUEST.pack(os.fsencode(self.interface), 0))
        return int(_MTU_REQUEST.unpack(answer)[1])

    def channels(self) -> Channels:
        found = _NUMBERS.unpack(self._ask(_NUMBERS.pack(_GCHANNELS, *[0] * 8)))
        return Channels(*found[5:9], *found[1:5])

    def set_channels(self, channels: Channels) -> None:
        """The card stops for a moment, with many drivers. EINVAL: more than there are, or the table (`rss`) names one
        that would be gone."""
        counts = (channels.rx, channels.tx, channels.other, channels.combined)
        self._ask(_NUMBERS.pack(_SCHANNELS, *[0] * 4, *counts))

    def rx_queues(self) -> int:
        """How many there are now, as the driver counts them for RSS."""
        return int(_RXNFC.unpack(self._ask(_RXNFC.pack(_GRXRINGS, 0, 0)))[2])

    def rings(self) -> Rings:
        found = _NUMBERS.unpack(self._ask(_NUMBERS.pack(_GRINGPARAM, *[0] * 8)))
        return Rings(rx=found[5], tx=found[8], rx_max=found[1], tx_max=found[4])

    def set_rings(self, rings: Rings) -> None:
        """The drivers round up, to a power of two as a rule."""
        found = list(_NUMBERS.unpack(self._ask(_NUMBERS.pack(_GRINGPARAM, *[0] * 8))))
        found[0], found[5], found[8] = _SRINGPARAM, rings.rx, rings.tx
        self._ask(_NUMBERS.pack(*found))

    def hash_functions(self) -> tuple[str, ...]:
        """Names that the kernel has, in the order of their bits."""
        return self._strings(_HASH_FUNCTIONS)

    def rss(self) -> Rss:
        entries, key_bytes = _RXFH.unpack(self._ask(_RXFH.pack(_GRSSH, 0, 0, 0, 0, 0, 0)))[2:4]
        answer = self._ask(_RXFH.pack(_GRSSH, 0, entries, key_bytes, 0, 0, 0) + bytes(4 * entries + key_bytes))
        function, transform = _RXFH.unpack_from(answer)[4:6]
        table = struct.unpack_from(f"={entries}I", answer, _RXFH.size)
        key_at = _RXFH.size + 4 * entries
        names = [name for bit, name in enumerate(self.hash_functions()) if function >> bit & 1]
        return Rss(names[0] if names else "", answer[key_at : key_at + key_bytes], table, transform)

    def set_rss(self, rss: Rss) -> None:
        """Key and table have the lengths that `rss()` shows; what is empty stays as it is. EINVAL as well: the table
        names a queue that is not there."""
        function = 1 << self.hash_functions().index(rss.function) if rss.function else 0
        entries = len(rss.table) if rss.table else 0xFFFFFFFF  # ETH_RXFH_INDIR_NO_CHANGE
        head = _RXFH.pack(_SRSSH, 0, entries, len(rss.key), function, rss.transform, 0)
        self._ask(head + struct.pack(f"={len(rss.table)}I", *rss.table) + rss.key)

    def reset_table(self) -> None:
        """The table is the driver's own from now on: all queues in turn, however many there are."""
        self._ask(_RXFH.pack(_SRSSH, 0, 0, 0, 0, self.rss().transform, 0))

    def flow_fields(self, flow: str) -> frozenset[str]:
        """What of such packets (FLOWS) is hashed, of FIELDS."""
        data = _RXNFC.unpack(self._ask(_RXNFC.pack(_GRXFH, FLOWS[flow], 0)))[2]
        return frozenset(name for name, bit in FIELDS.items() if data & bit)

    def set_flow_fields(self, flow: str, fields: Collection[str]) -> None:
        self._ask(_RXNFC.pack(_SRXFH, FLOWS[flow], sum(FIELDS[name] for name in fields)))

    def features(self) -> dict[str, Feature]:
        """By the names that the kernel has, such as tx-tcp-segmentation, rx-gro, rx-ntuple-filter."""
        names = self._strings(_FEATURES)
        blocks = (len(names) + 31) // 32
        answer = self._ask(struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks))
        words = struct.unpack_from(f"={4 * blocks}I", answer, 8)
        return {
            name: Feature(
                active=_bit(words[number // 32 * 4 + 2], number),
                requested=_bit(words[number // 32 * 4 + 1], number),
                changeable=_bit(words[number // 32 * 4], number),
            )
            for number, name in enumerate(names)
            if name
        }

    def set_feature(self, name: str, on: bool) -> None:
        """EOPNOTSUPP: it cannot be changed here, or not now. KeyError: the kernel has no such feature."""
        names = self._strings(_FEATURES)
        if name not in names:
            raise KeyError(name)
        blocks = [0] * (2 * ((len(names) + 31) // 32))  # which to change, and to what
        block, bit = divmod(names.index(name), 32)
        blocks[2 * block], blocks[2 * block + 1] = 1 << bit, on << bit
        self._ask(struct.pack(f"=II{len(blocks)}I", _SFEATURES, len(blocks) // 2, *blocks))
        if self.features()[name].active != on:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), self.interface)

    def _ask(self, request: bytes) -> bytes:
        """The request as the kernel has filled it in."""
        data = array("B", request)
        name = os.fsencode(self.interface)
        fcntl.ioctl(self._socket, SIOCETHTOOL, _REQUEST.pack(name, data.buffer_info()[0]))
        return data.tobytes()

    def _strings(self, which: int) -> tuple[str, ...]:
        """Names that the kernel has, which stay the same."""
        if which not in self._named:
            self._named[which] = self._read_strings(which)
        return self._named[which]

    def _read_strings(self, which: int) -> tuple[str, ...]:
        mask, count = _SET_INFO.unpack(self._ask(_SET_INFO.pack(_GSSET_INFO, 0, 1 << which, 0)))[2:4]
        if not mask:
            return ()
        answer = self._ask(struct.pack("=III", _GSTRINGS, which, count) + bytes(_STRING_BYTES * count))
        starts = range(12, len(answer), _STRING_BYTES)
        return tuple(_text(answer[start : start + _STRING_BYTES]) for start in starts)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode(errors="replace")


def _bit(words: int, number: int) -> bool:
    return bool(words >> number % 32 & 1)
