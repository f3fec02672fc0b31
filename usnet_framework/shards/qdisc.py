"""The queueing discipline at the root of an interface, by rtnetlink(7): as `tc qdisc show`, `replace` and `delete` do.

In the form of tc: "pfifo limit 1000", and of every other kind its name alone, as nobody sets those here. None stands
for what the kernel chooses by itself, which is back when the one at the root is deleted."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from usnet_framework.shards.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    answer,
    asked,
    attribute,
    attributes,
    error_in,
    index_of,
    messages_in,
)

_TC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, info
_LIMIT = struct.Struct("=I")  # struct tc_fifo_qopt
_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_ACK, _REPLACE = 0x4, 0x100
_TCA_KIND, _TCA_OPTIONS = 1, 2
_ROOT = 0xFFFFFFFF
_PFIFO = "pfifo limit "


def root_qdisc(interface: str) -> str | None:
    """OSError: there is no such interface. One that is down has none of its own."""
    # All are asked for, as the kernel shows a single one to whoever listens besides.
    index = index_of(interface)
    for kind, body in _ask(_RTM_GETQDISC, NLM_F_DUMP, _TC.pack(0, 0, 0, 0, 0)):
        if kind == _RTM_NEWQDISC:
            _, owner, handle, parent, _ = _TC.unpack_from(body)
            if (owner, parent) == (index, _ROOT) and handle != 0:
                return _text(dict(attributes(body[_TC.size :])))
    return None


def can_be_set(qdisc: str | None) -> bool:
    """Whether `set_root_qdisc` takes it."""
    return qdisc is None or qdisc.startswith(_PFIFO)


def set_root_qdisc(interface: str, qdisc: str | None) -> None:
    """None, or a pfifo. OSError: EPERM CAP_NET_ADMIN is lacking, ENODEV there is no such interface, ENOENT there is
    none to delete."""
    root = _TC.pack(0, index_of(interface), 0, _ROOT, 0)
    if qdisc is None:
        replies = _ask(_RTM_DELQDISC, _ACK, root)
    else:
        limit = _LIMIT.pack(int(qdisc.removeprefix(_PFIFO)))
        what = attribute(_TCA_KIND, b"pfifo\0") + attribute(_TCA_OPTIONS, limit)
        replies = _ask(_RTM_NEWQDISC, _ACK | _REPLACE | NLM_F_CREATE, root + what)
    for _ in replies:
        pass


def _text(found: dict[int, bytes]) -> str:
    kind = found[_TCA_KIND].rstrip(b"\0").decode(errors="replace")
    return f"{_PFIFO}{_LIMIT.unpack_from(found[_TCA_OPTIONS])[0]}" if kind == "pfifo" else kind


def _ask(what: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """The kinds and bodies of the messages that answer, up to the one that ends them. OSError."""
    with asked(what, flags, body) as kernel:
        while True:
            for kind, _, _, rest in messages_in(answer(kernel)):
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    if error := error_in(rest):
                        raise OSError(error, os.strerror(error))
                    return
                yield kind, rest
