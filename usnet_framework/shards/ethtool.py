"""A network card's settings, read and changed by SIOCETHTOOL: what ethtool(8) does with -i, -l, -g, -x, -n and -k.

The structs and numbers are those of linux/ethtool.h, which the kernel keeps. Netlink's ethtool family is not used: it
has no rules, and can set the RSS key and table only since Linux 6.16.

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
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Self

SIOCETHTOOL, SIOCGIFMTU = 0x8946, 0x8921

_GDRVINFO, _GRINGPARAM, _SRINGPARAM, _GSTRINGS = 0x03, 0x10, 0x11, 0x1B
_GRXFH, _SRXFH, _GRXRINGS, _GRXCLSRLCNT, _GRXCLSRULE, _GRXCLSRLALL = 0x29, 0x2A, 0x2D, 0x2E, 0x2F, 0x30
_SRXCLSRLDEL, _SRXCLSRLINS, _GSSET_INFO, _GFEATURES, _SFEATURES = 0x31, 0x32, 0x37, 0x3A, 0x3B
_GCHANNELS, _SCHANNELS, _GRSSH, _SRSSH = 0x3C, 0x3D, 0x46, 0x47

_REQUEST = struct.Struct("16sP16x")  # struct ifreq, with its data
_MTU_REQUEST = struct.Struct("16si20x")
_DRVINFO = struct.Struct("=I32s32s32s32s32s12xIIIII")
_NUMBERS = struct.Struct("=9I")  # struct ethtool_channels and ethtool_ringparam
_RXFH = struct.Struct("=IIIIBB2xI")  # struct ethtool_rxfh, before its table and key
_RXNFC = struct.Struct("=IIQ168xI4x")  # struct ethtool_rxnfc, its struct ethtool_rx_flow_spec left out
_FLOW = struct.Struct("=I52s20x52s20x4xQI4x")  # that one: type, values, masks, queue, location
_FLOW_AT, _LOCATIONS_AT = 16, 188
_TCP_IPV4, _TCP_IPV6 = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")
_SET_INFO = struct.Struct("=IIQI")
_FEATURES, _HASH_FUNCTIONS = 4, 5  # ETH_SS_FEATURES, ETH_SS_RSS_HASH_FUNCS
_STRING_BYTES = 32
_ANY_LOCATION = 0xFFFFFFFF  # RX_CLS_LOC_ANY
_SPECIAL_LOCATIONS = 0x80000000  # RX_CLS_LOC_SPECIAL

FLOWS = {"tcp4": 0x01, "udp4": 0x02, "tcp6": 0x05, "udp6": 0x06}
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
class Rule:
    """Packets of TCP (`flow` tcp4 or tcp6) to an address and a port go to a queue. Of rules of others that match
    something else, `flow` is empty, and only `queue` and `location` mean something."""

    flow: str
    address: str
    port: int
    queue: int
    location: int = _ANY_LOCATION
    """Its place among the rules; by default the driver chooses one."""


@dataclass(frozen=True)
class Feature:
    """An offload. `changeable` is False when the driver, or this kind of interface, has it one way only."""

    active: bool
    requested: bool
    changeable: bool


class Ethtool:
    """An interface of the network namespace that this is made in. Nothing is checked before the first question."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

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
        return int(_RXNFC.unpack(self._ask(_RXNFC.pack(_GRXRINGS, 0, 0, 0)))[2])

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
        data = _RXNFC.unpack(self._ask(_RXNFC.pack(_GRXFH, FLOWS[flow], 0, 0)))[2]
        return frozenset(name for name, bit in FIELDS.items() if data & bit)

    def set_flow_fields(self, flow: str, fields: Collection[str]) -> None:
        self._ask(_RXNFC.pack(_SRXFH, FLOWS[flow], sum(FIELDS[name] for name in fields), 0))

    def rules(self) -> tuple[Rule, ...]:
        """In the order of their places."""
        count = _RXNFC.unpack(self._ask(_RXNFC.pack(_GRXCLSRLCNT, 0, 0, 0)))[3]
        answer = self._ask(_RXNFC.pack(_GRXCLSRLALL, 0, 0, count) + bytes(4 * count))
        return tuple(self._rule(place) for place in sorted(struct.unpack_from(f"={count}I", answer, _LOCATIONS_AT)))

    def insert_rule(self, rule: Rule) -> int:
        """Its place. EBUSY, ENOSPC: no place is left; EOPNOTSUPP besides: this kind is not supported, or the feature
        rx-ntuple-filter is off."""
        if rule.location == _ANY_LOCATION and not self._chooses_places():
            taken = {other.location for other in self.rules()}
            rule = replace(rule, location=next(place for place in range(len(taken) + 1) if place not in taken))
        request = _RXNFC.pack(_SRXCLSRLINS, 0, 0, 0)
        answer = self._ask(request[:_FLOW_AT] + _flow(rule) + request[_FLOW_AT + _FLOW.size :])
        return int(_FLOW.unpack_from(answer, _FLOW_AT)[4])

    def delete_rule(self, place: int) -> None:
        """ENOENT, or EINVAL with some drivers: there is none."""
        self._ask(self._of_rule(_SRXCLSRLDEL, place))

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
        mask, count = _SET_INFO.unpack(self._ask(_SET_INFO.pack(_GSSET_INFO, 0, 1 << which, 0)))[2:4]
        if not mask:
            return ()
        answer = self._ask(struct.pack("=III", _GSTRINGS, which, count) + bytes(_STRING_BYTES * count))
        starts = range(12, len(answer), _STRING_BYTES)
        return tuple(_text(answer[start : start + _STRING_BYTES]) for start in starts)

    def _chooses_places(self) -> bool:
        return bool(_RXNFC.unpack(self._ask(_RXNFC.pack(_GRXCLSRLCNT, 0, 0, 0)))[2] & _SPECIAL_LOCATIONS)

    def _rule(self, place: int) -> Rule:
        kind, values, masks, queue, _ = _FLOW.unpack_from(self._ask(self._of_rule(_GRXCLSRULE, place)), _FLOW_AT)
        for flow in ("tcp4", "tcp6"):
            spec, address = _specification(flow)
            _, destination, _, port = spec.unpack_from(values)
            rule = Rule(flow, str(address(destination)), port, queue & 0xFFFFFFFF, place)
            if kind == FLOWS[flow] and masks == _FLOW.unpack(_flow(rule))[2]:
                return rule
        return Rule("", "", 0, queue & 0xFFFFFFFF, place)

    def _of_rule(self, command: int, place: int) -> bytes:
        request = _RXNFC.pack(command, 0, 0, 0)
        flow = _FLOW.pack(0, b"", b"", 0, place)
        return request[:_FLOW_AT] + flow + request[_FLOW_AT + _FLOW.size :]


def _flow(rule: Rule) -> bytes:
    spec, address = _specification(rule.flow)
    size = len(address(rule.address).packed)
    values = spec.pack(bytes(size), address(rule.address).packed, 0, rule.port)
    masks = spec.pack(bytes(size), b"\xff" * size, 0, 0xFFFF)
    return _FLOW.pack(FLOWS[rule.flow], values, masks, rule.queue, rule.location)


def _specification(flow: str) -> tuple[struct.Struct, type[IPv4Address] | type[IPv6Address]]:
    return (_TCP_IPV4, IPv4Address) if flow == "tcp4" else (_TCP_IPV6, IPv6Address)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode(errors="replace")


def _bit(words: int, number: int) -> bool:
    return bool(words >> number % 32 & 1)
