"""What can be changed on a machine for a network card, each kind read and written in one form, so that a change can be
written down and undone (undo.py). A value is what JSON has; None: there is none.

    kind       name                    value
    channels   -                       [receiving, sending, other, combined] queues
    rings      -                       [receiving, sending] packets a queue
    rss        -                       [hash function, key in hexadecimal, table; the driver's own table is null]
    flow       tcp4, udp6, …           the fields that are hashed (ethtool.FIELDS), sorted
    feature    as ethtool -k has it    whether it is on
    sysfs      queues/rx-0/rps_cpus …  the text in it (sysfs.py)
    qdisc      an interface            the queueing discipline at its root (qdisc.py); the kernel's own is null
    ports      FIRST-LAST              whether the kernel leaves any of them alone (outgoing.py)
    file       a path                  the text in it: of /proc/sys, /proc/irq

OSError: it cannot be read, or the kernel or the driver refuses the value."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from usnet_framework.shards import sysfs
from usnet_framework.shards.ethtool import Channels, Ethtool, Rss
from usnet_framework.shards.outgoing import alone, is_touched, ports_named, reserve
from usnet_framework.shards.qdisc import can_be_set, root_qdisc, set_root_qdisc


@dataclass(frozen=True)
class Change:
    """Of a setting: what it is, and what it is to be."""

    kind: str
    name: str
    before: Any
    value: Any


@dataclass(frozen=True)
class Kind:
    """`of_card` is False when the interface has no part in it."""

    read: Callable[[Ethtool, str], Any]
    write: Callable[[Ethtool, str, Any], None]
    shown: Callable[[Any], str]
    of_card: bool = True


def _channels(card: Ethtool, _: str) -> list[int]:
    found = card.channels()
    return [found.rx, found.tx, found.other, found.combined]


def _set_channels(card: Ethtool, _: str, value: list[int]) -> None:
    rx, tx, other, combined = value
    card.set_channels(replace(card.channels(), rx=rx, tx=tx, other=other, combined=combined))


def _shown_channels(value: list[int]) -> str:
    rx, tx, _, combined = value
    return f"{rx + combined} receiving" if rx == tx else f"{rx + combined} receiving, {tx + combined} sending"


def queues(channels: Channels) -> int:
    """That receive."""
    return channels.rx + channels.combined


def own_table(entries: int, queues: int) -> tuple[int, ...]:
    """What drivers begin with, and go back to: all queues in turn (ethtool_rxfh_indir_default of the kernel)."""
    return tuple(entry % queues for entry in range(entries))


def _rss(card: Ethtool, _: str) -> list[Any]:
    found = card.rss()
    is_own = found.table == own_table(len(found.table), max(card.rx_queues(), 1))
    return [found.function, found.key.hex(), None if is_own else list(found.table)]


def _set_rss(card: Ethtool, _: str, value: list[Any]) -> None:
    function, key, table = value
    found = card.rss()
    wanted = Rss(function, bytes.fromhex(key), tuple(table or ()), found.transform)
    if (wanted.function, wanted.key) == (found.function, found.key):  # drivers refuse to set what cannot be changed
        wanted = replace(wanted, function="", key=b"")
    if wanted.table or wanted.key or wanted.function:
        card.set_rss(wanted)
    if table is None:
        card.reset_table()


def _rings(card: Ethtool, _: str) -> list[int]:
    found = card.rings()
    return [found.rx, found.tx]


def _shown_rss(value: list[Any]) -> str:
    function, key, table = value
    spread = "the driver's own table" if table is None else f"a table of {len(table)} over {len(set(table))} queues"
    return f"{function or 'hash'} with key {key[:8] or 'none'}…, {spread}"


KINDS: dict[str, Kind] = {
    "channels": Kind(_channels, _set_channels, _shown_channels),
    "rings": Kind(
        _rings,
        lambda card, _, value: card.set_rings(replace(card.rings(), rx=value[0], tx=value[1])),
        lambda value: f"{value[0]} receiving, {value[1]} sending",
    ),
    "rss": Kind(_rss, _set_rss, _shown_rss),
    "flow": Kind(
        lambda card, name: sorted(card.flow_fields(name)),
        lambda card, name, value: card.set_flow_fields(name, value),
        lambda value: ", ".join(value) or "nothing",
    ),
    "feature": Kind(
        lambda card, name: card.features()[name].active,
        lambda card, name, value: card.set_feature(name, value),
        lambda value: "on" if value else "off",
    ),
    "sysfs": Kind(
        lambda card, name: sysfs.read(card.interface, name),
        lambda card, name, value: sysfs.write(card.interface, name, value),
        lambda value: value or "empty",
    ),
    "qdisc": Kind(
        lambda _, name: root_qdisc(name),
        lambda _, name, value: _set_qdisc(name, value),
        lambda value: value or "the kernel's own",
    ),
    "ports": Kind(
        lambda _, name: is_touched(ports_named(name)),
        lambda _, name, value: _reserve(name, value),
        lambda value: "reserved" if value else "the kernel's",
        of_card=False,
    ),
    "file": Kind(
        lambda _, name: Path(name).read_text(encoding="ascii").strip(),
        lambda _, name, value: _write(Path(name), value),
        lambda value: value or "empty",
        of_card=False,
    ),
}


def _reserve(name: str, value: bool) -> None:
    """Without waiting: EBUSY while another server changes the list, unless the caller has the turn."""
    with alone.within(0.0):
        reserve(ports_named(name), value)


def _set_qdisc(name: str, value: str | None) -> None:
    """EBUSY: somebody has chosen one that could not be put back."""
    if not can_be_set(root_qdisc(name)):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
    set_root_qdisc(name, value)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(f"{text}\n")


def shown(interface: str, kind: str, name: str, before: Any, value: Any) -> str:
    """A change, as people read it."""
    text = KINDS[kind].shown
    what = name if kind == "file" else " ".join(filter(None, (interface, kind, name)))
    return f"{what}: {text(before)} -> {text(value)}"
