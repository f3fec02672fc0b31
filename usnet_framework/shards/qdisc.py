"""The queueing discipline at the root of an interface, by rtnetlink(7): as `tc qdisc show`, `replace` and `delete` do.

In the form of tc: "pfifo limit 1000", and of every other kind its name alone, as nobody sets those here. None stands
for what the kernel chooses by itself, which is back when the one at the root is deleted."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from usnet_framework.shards.rtnetlink import MESSAGE, attribute, attributes, index_of

_TC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, info
_LIMIT = struct.Struct("=I")  # struct tc_fifo_qopt
_ERROR = struct.Struct("=i")
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 2, 3, 36, 37, 38
_REQUEST, _ACK, _REPLACE, _DUMP, _CREATE = 0x1, 0x4, 0x100, 0x300, 0x400
_TCA_KIND, _TCA_OPTIONS = 1, 2
_ROOT = 0xFFFFFFFF
_REPLY_BYTES_MAX = 1 << 16
_REPLY_TIMEOUT_S = 1.0
_PFIFO = "pfifo limit "


def root_qdisc(interface: str) -> str | None:
    """OSError: there is no such interface. One that is down has none of its own."""
    # All are asked for, as the kernel shows a single one to whoever listens besides.
    index = index_of(interface)
    for kind, body in _ask(_RTM_GETQDISC, _DUMP, _TC.pack(0, 0, 0, 0, 0)):
        if kind == _RTM_NEWQDISC:
            _, owner, handle, parent, _ = _TC.unpack_from(body)
            if (owner, parent) == (index, _ROOT) and handle != 0:
                return _text(dict(attributes(body[_TC.size :])))
    return None


def set_root_qdisc(interface: str, qdisc: str | None) -> None:
    """None, or a pfifo. OSError: EPERM CAP_NET_ADMIN is lacking, ENODEV there is no such interface, ENOENT there is
    none to delete."""
    root = _TC.pack(0, index_of(interface), 0, _ROOT, 0)
    if qdisc is None:
        replies = _ask(_RTM_DELQDISC, _ACK, root)
    else:
        limit = _LIMIT.pack(int(qdisc.removeprefix(_PFIFO)))
        what = attribute(_TCA_KIND, b"pfifo\0") + attribute(_TCA_OPTIONS, limit)
        replies = _ask(_RTM_NEWQDISC, _ACK | _REPLACE | _CREATE, root + what)
    for _ in replies:
        pass


def _text(found: dict[int, bytes]) -> str:
    kind = found[_TCA_KIND].rstrip(b"\0").decode(errors="replace")
    return f"{_PFIFO}{_LIMIT.unpack_from(found[_TCA_OPTIONS])[0]}" if kind == "pfifo" else kind


def _ask(what: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """The kinds and bodies of the messages that answer, up to the one that ends them. OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_REPLY_TIMEOUT_S)
        kernel.send(MESSAGE.pack(MESSAGE.size + len(body), what, _REQUEST | flags, 1, 0) + body)
        while True:
            reply = kernel.recv(_REPLY_BYTES_MAX)
            while reply:
                length, kind, *_ = MESSAGE.unpack_from(reply)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    (error,) = _ERROR.unpack_from(reply, MESSAGE.size)
                    if error:
                        raise OSError(-error, os.strerror(-error))
                    return
                yield kind, reply[MESSAGE.size : length]
                reply = reply[length + 3 & ~3 :]
