"""Netlink: the shape of its messages, and what rtnetlink(7) says of interfaces and ioctl does not: their kind, and who
takes their packets."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

Message = tuple[int, int, int, bytes]  # type, flags, number of the request, the rest

MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x10, 0x300, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
MAC_BYTES = 6  # of Ethernet
NAME_BYTES_MAX = 15  # IFNAMSIZ - 1
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_ERROR = struct.Struct("=i")  # the beginning of struct nlmsgerr
_INDEX = struct.Struct("=16si20x")  # struct ifreq
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_IFLA_ADDRESS, _IFLA_NUM_RX_QUEUES, _IFLA_XDP = 1, 32, 43
_IFLA_XDP_IDS = (4, 5, 6, 7)  # IFLA_XDP_PROG_ID, and where there are several: those of each kind
_IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_TUN_NUM_QUEUES = 18, 1, 2, 8
_IFLA_LINK, _IFLA_LINK_NETNSID = 5, 37
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 1 << 0, 1 << 3, 1 << 6
_SIOCGIFNAME, _SIOCGIFINDEX = 0x8910, 0x8933
_REPLY_BYTES_MAX = 1 << 16
_REPLY_TIMEOUT_S = 1.0  # others may have the lock of all network settings


def index_of(name: str) -> int:
    """Of an interface. OSError, with ENODEV: there is none. (The error of socket.if_nametoindex says nothing, and comes
    as well when there is no descriptor left to ask with.)"""
    packed = os.fsencode(name)
    if len(packed) > NAME_BYTES_MAX:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        reply = fcntl.ioctl(query, _SIOCGIFINDEX, _INDEX.pack(packed, 0))
    return int(_INDEX.unpack(reply)[1])


def name_of(index: int) -> str:
    """Of the interface that has this number. OSError, with ENODEV: there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        reply = fcntl.ioctl(query, _SIOCGIFNAME, _INDEX.pack(b"", index))
    return os.fsdecode(_INDEX.unpack(reply)[0].rstrip(b"\0"))


def tun_queues(name: str) -> int:
    """How many queues of a multi-queue interface are open; 0 as well where there is none, or only one is possible."""
    with suppress(OSError, KeyError, struct.error):
        reply = _ask_for_link(index_of(name))
        info = dict(attributes(dict(attributes(reply[_LINK.size :]))[_IFLA_LINKINFO]))
        if info[_IFLA_INFO_KIND].rstrip(b"\0") != b"tun":
            return 0  # the numbers of what follows mean something else
        (queues,) = struct.unpack("=I", dict(attributes(info[_IFLA_INFO_DATA]))[_IFLA_TUN_NUM_QUEUES])
        return int(queues)
    return 0


@dataclass(frozen=True)
class Link:
    """Of an interface. `kind`: "veth", "tun", …; "" for hardware. `queues`: that there may be to receive from. `peer`:
    what it leads to, such as the other end of a veth pair; "" for none, and for one in another network namespace.
    `xdp_programs`: their numbers."""

    kind: str
    queues: int
    peer: str
    xdp_programs: frozenset[int]
    mac: bytes
    """Empty where it has none."""
    flags: int
    """IFF_UP and so on."""


def link(name: str) -> Link:
    """OSError; with ENODEV: there is no such interface."""
    reply = _ask_for_link(index_of(name))
    found = dict(attributes(reply[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    xdp = dict(attributes(found.get(_IFLA_XDP, b"")))
    return Link(
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        queues=int.from_bytes(found.get(_IFLA_NUM_RX_QUEUES, b"\1"), sys.byteorder),
        peer=_peer(found),
        xdp_programs=frozenset(number_in(xdp[one]) for one in _IFLA_XDP_IDS if one in xdp),
        mac=found.get(_IFLA_ADDRESS, b""),
        flags=_LINK.unpack_from(reply)[3],
    )


def outlives_namespace(name: str) -> bool:
    """Whether the kernel moves it into the first network namespace when its own one ends: hardware does not end.
    OSError; with ENODEV: there is no such interface."""
    found = link(name)
    return not found.kind and not found.flags & IFF_LOOPBACK


def _ask_for_link(index: int) -> bytes:
    """What the kernel says of an interface: struct ifinfomsg and attributes. OSError, with ENODEV: there is none."""
    with asked(_RTM_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0)) as kernel:
        reply = answer(kernel)
    if MESSAGE.unpack_from(reply)[1] != _RTM_NEWLINK:
        error = error_in(reply[MESSAGE.size :])
        raise OSError(error, os.strerror(error))
    return reply[MESSAGE.size :]


@contextmanager
def asked(what: int, flags: int, body: bytes) -> Iterator[socket.socket]:
    """A socket of rtnetlink by which the kernel was asked this. OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_REPLY_TIMEOUT_S)
        kernel.send(MESSAGE.pack(MESSAGE.size + len(body), what, NLM_F_REQUEST | flags, 1, 0) + body)
        yield kernel


def answer(kernel: socket.socket) -> bytes:
    """What it says next. OSError, with ETIMEDOUT: nothing for too long. (Python's own has neither number nor text.)"""
    try:
        return kernel.recv(_REPLY_BYTES_MAX)
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, f"the kernel has not answered for {_REPLY_TIMEOUT_S:g} s") from None


def _peer(found: dict[int, bytes]) -> str:
    index = number_in(found.get(_IFLA_LINK, b""))
    with suppress(OSError):
        return socket.if_indextoname(index) if index and _IFLA_LINK_NETNSID not in found else ""
    return ""


def attribute(kind: int, content: bytes) -> bytes:
    """One, filled up to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)


def number_in(content: bytes) -> int:
    """Of an attribute that holds one; 0 where it is empty."""
    return int.from_bytes(content, sys.byteorder)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each attribute of a message."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[max(length + 3 & ~3, _ATTRIBUTE.size) :]


def messages_in(packet: bytes) -> Iterator[Message]:
    at = 0
    while at + MESSAGE.size <= len(packet):
        length, kind, flags, number, _ = MESSAGE.unpack_from(packet, at)
        yield kind, flags, number, packet[at + MESSAGE.size : at + length]
        at += max(length + 3 & ~3, MESSAGE.size)


def error_in(rest: bytes) -> int:
    """The errno of an NLMSG_ERROR; 0: it is none, what was asked for was done."""
    return -int(_ERROR.unpack_from(rest)[0])
