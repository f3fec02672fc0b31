"""What rtnetlink(7) says of interfaces and ioctl does not: how many queues there are, and whether somebody reads those
of a TAP interface."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_RTM_NEWLINK, _RTM_GETLINK, _NLM_F_REQUEST = 16, 18, 1
_IFLA_NUM_RX_QUEUES = 32
_IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_TUN_NUM_QUEUES = 18, 1, 2, 8
_REPLY_BYTES_MAX = 1 << 16
_REPLY_TIMEOUT_S = 1.0


def tun_queues(name: str) -> int:
    """How many queues of a multi-queue interface are open; 0 as well where there is none, or only one is possible."""
    with suppress(OSError, KeyError, struct.error):
        reply = _ask_for_link(socket.if_nametoindex(name))
        info = dict(_attributes(dict(_attributes(reply))[_IFLA_LINKINFO]))
        if info[_IFLA_INFO_KIND].rstrip(b"\0") != b"tun":
            return 0  # the numbers of what follows mean something else
        (queues,) = struct.unpack("=I", dict(_attributes(info[_IFLA_INFO_DATA]))[_IFLA_TUN_NUM_QUEUES])
        return int(queues)
    return 0


def rx_queues(name: str) -> int:
    """How many queues the kernel has for receiving; with a driver of channels, how many there can be. OSError: there is
    no such interface."""
    reply = _ask_for_link(socket.if_nametoindex(name))
    (queues,) = struct.unpack("=I", dict(_attributes(reply))[_IFLA_NUM_RX_QUEUES])
    return int(queues)


def _ask_for_link(index: int) -> bytes:
    """The attributes of an interface. OSError when there is none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_REPLY_TIMEOUT_S)
        length = _MESSAGE.size + _LINK.size
        kernel.send(_MESSAGE.pack(length, _RTM_GETLINK, _NLM_F_REQUEST, 1, 0) + _LINK.pack(0, 0, index, 0, 0))
        reply = kernel.recv(_REPLY_BYTES_MAX)
    if _MESSAGE.unpack_from(reply)[1] != _RTM_NEWLINK:
        raise OSError(f"no interface {index}")
    return reply[length:]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[max(length + 3 & ~3, _ATTRIBUTE.size) :]
