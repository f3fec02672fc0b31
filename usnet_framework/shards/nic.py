"""A network card, made to put each flow into the queue of the shard that owns it (P6).

What is to be changed is a pure function of what the card reports and what is wanted: `plan`. The changes are made
through a journal (undo.py), so that the card gets its settings back at the end, or from the next server. Queues are
added when there are too few and never taken away: those that are too many get nothing, as the table names only the
first ones.

A driver that lacks a setting or refuses it is no error: frames that come through another queue cross to their owner. So
what is in force is asked of the card, and `findings` say what it is and what it costs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from usnet_framework.errors import StartupError
from usnet_framework.shards import rtnetlink, tune
from usnet_framework.shards.cardsettings import Change, own_table, queues, shown
from usnet_framework.shards.ethtool import FIELDS, TOEPLITZ, Channels, Driver, Ethtool, Feature, Rings, Rss
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.station import removed
from usnet_framework.shards.steering import agrees, steering_key, steering_table
from usnet_framework.shards.tune import NOT_TUNED, Surroundings, Tuning
from usnet_framework.shards.undo import LETTING_GO_S, Journal

T = TypeVar("T")

MERGING = ("rx-lro", "rx-gro-hw")
"""Offloads that make one packet of several before we see it: it would fit into no frame."""

HASHED = ("tcp4", "tcp6")
"""Kinds of flows (ethtool.FLOWS) that are to be hashed by addresses and ports."""

INTERRUPTS = "file"
"""The kind of their changes."""
MTU_MAX = 3498
"""So a frame with its Ethernet header fits into a page beside what the kernel keeps there: more is given by no driver
in one piece, and by some in several."""


@dataclass(frozen=True)
class Wanted:
    """Shard i reads queue i, of the first `queues`."""

    interface: str
    queues: int
    tuning: Tuning = NOT_TUNED
    mtu_max: int = MTU_MAX
    """What is longer is dropped."""


@dataclass(frozen=True)
class Card:
    """What a card reports. None, or nothing in it: its driver has no such setting."""

    driver: Driver
    queues: int
    """That receive, now."""
    channels: Channels | None = None
    rss: Rss | None = None
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each kind of flow: what is hashed."""
    features: Mapping[str, Feature] = field(default_factory=dict)
    rings: Rings | None = None
    mtu: int = 0

    @property
    def queues_max(self) -> int:
        if self.channels is None:
            return self.queues
        return self.channels.combined_max or self.channels.rx_max

    @property
    def senders_max(self) -> int:
        """Queues that can send: the kernel sends nothing for a socket whose number is none of them."""
        if self.channels is None:
            return self.queues_max
        return self.channels.combined_max or self.channels.tx_max


def queues_of(interface: str) -> int | None:
    """That receive, now; None: there is no such interface."""
    try:
        with Ethtool(interface) as card:
            return _queues_now(card)
    except OSError:
        return None


def read_card(card: Ethtool) -> Card:
    """OSError: there is no such interface."""
    channels = _had(card.channels)
    fields = {flow: _had(partial(card.flow_fields, flow)) for flow in HASHED}
    return Card(
        driver=_had(card.driver) or Driver("none", "", "", ""),
        queues=_queues_now(card),
        channels=channels,
        rss=_had(card.rss),
        fields={flow: found for flow, found in fields.items() if found is not None},
        features=card.features(),
        rings=_had(card.rings),
        mtu=card.mtu(),
    )


def plan(card: Card, wanted: Wanted) -> list[Change]:
    """In the order in which they are made: queues before the table, which names them. StartupError: there are too few
    queues."""
    _check_queues(card, wanted)
    later = replace(card, queues=max(card.queues, wanted.queues))
    return [*_merging(card), *_queues(card, wanted), *_hash(later, wanted, card.queues), *_fields(card)]


def planned(wanted: Wanted) -> list[str]:
    """For --check: a line for each change that a server would make. StartupError, as starting would raise."""
    with Ethtool(wanted.interface) as card:
        around = _around(card, wanted)
        changes = [*plan(_read(card), wanted), *tune.missing(around, wanted.queues, wanted.tuning)]
    name = wanted.interface
    known = [shown(name, change.kind, change.name, change.before, change.value) for change in changes]
    return known + tune.to_come(around, wanted.queues, wanted.tuning)


class Nic:
    """One that is ours and set up. `journal` is for further changes that have to be undone."""

    def __init__(self, wanted: Wanted, folder: Path | None = None, patience_s: float = LETTING_GO_S) -> None:
        """InUse, StartupError: one line, why it cannot be. `folder` is where the journal is, `patience_s` of it."""
        self._wanted = wanted
        self._card = Ethtool(wanted.interface)
        self._refused: dict[str, str] = {}
        with ExitStack() as opened:
            opened.callback(self._card.close)
            self.journal = Journal(self._card, folder, patience_s)
            opened.callback(self.journal.close)
            self._set_up()
            self.look()
            self._opened = opened.pop_all()

    def rename(self, interface: str) -> None:
        """Somebody has: it is called so from now on."""
        self._wanted = replace(self._wanted, interface=interface)
        self._card.interface = interface

    def look(self) -> None:
        """Ask the card for all that `findings` tell. It takes as long as its driver does, and may be done in any
        thread."""
        self._seen = _look(self._wanted)

    def findings(self) -> list[Finding]:
        """As things were at the last look."""
        if isinstance(self._seen, Finding):
            return [self._seen]
        wanted, (card, around) = self._wanted, self._seen
        needed = [*card_findings(card, wanted, self._refused), *self._packet_size(card)]
        return [*needed, *tune.findings(around, wanted.queues, wanted.tuning, self._refused)]

    def trouble(self) -> tuple[str, str] | None:
        """Why some flows do not come now, and what to do: one question to the card, and a few more when it has other
        queues than ours. In any thread, as `look`. OSError: there is no such interface any more."""
        name, wanted = self._wanted.interface, self._wanted.queues
        with Ethtool(name) as card:
            queues = _queues_now(card)
            if queues == wanted:
                return None
            rss, channels = _had(card.rss), _had(card.channels)
        named = (rss.table if rss is not None else ()) or range(queues)
        if queues > wanted and max(named) < wanted:
            return None  # the others get nothing
        reason = f"interface {name} receives on {queues} queues, of which {wanted} are served"
        fix = _take_away(name, channels, wanted)
        if queues < wanted:
            reason = f"interface {name} receives on {queues} queues, and {wanted} are to be served"
        return reason, f"{fix or 'set its queues as they were'}, or restart the server with --queues {queues}"

    def mtu_now(self) -> int | None:
        """In any thread. None: there is no such interface any more."""
        with suppress(OSError), Ethtool(self._wanted.interface) as card:
            return card.mtu()
        return None

    def _packet_size(self, card: Card) -> list[Finding]:
        if card.mtu == self._mtu:
            return []
        reason = "the MTU was changed since the server started"
        if card.mtu < self._mtu:
            reason += ", and longer packets may be lost"
        fix = "restart the server"
        return [Finding("packet size", f"as the MTU, {card.mtu}", str(self._mtu), reason, fix, ok=False)]

    def close(self) -> None:
        """After everything that uses its queues: some drivers change none that are used. What is refused because the
        kernel has not let go of them yet is for undo.put_back."""
        self._opened.close()

    def repeat_hash(self) -> None:
        """Once a program is attached. For that the driver virtio_net tells its device the number of queues, after which
        the device chooses them in a way of its own (automatic receive steering), while the driver shows our hash."""
        with suppress(OSError):
            if (rss := self._card.rss()).table:
                self._card.set_rss(rss)

    def tune(self) -> None:
        """With --tune, the interrupts, once the queues are used: for that some drivers set them up anew."""
        if changes := [one for one in _optional(self._card, self._wanted) if one.kind == INTERRUPTS]:
            for change in changes:
                self._change(change)
            self.look()

    def _set_up(self) -> None:
        card = _read(self._card)
        self._mtu = card.mtu
        before_use = (change for change in _optional(self._card, self._wanted) if change.kind != INTERRUPTS)
        for change in [*plan(card, self._wanted), *before_use]:
            self._change(change)
        _check_in_force(_read(self._card), self._wanted, self._refused)

    def _change(self, change: Change) -> None:
        try:
            self.journal.change(change.kind, change.name, change.value)
        except OSError as error:
            self._refused[change.name or change.kind] = str(error.strerror)


def _look(wanted: Wanted) -> tuple[Card, Surroundings] | Finding:
    """What there is; else why not. With a socket of its own, as the caller's may be closed meanwhile."""
    name = wanted.interface
    try:
        with Ethtool(name) as ethtool:
            card = read_card(ethtool)
        return card, tune.surroundings(name, card.rings)
    except OSError as error:
        if error.errno != errno.ENODEV:
            return Finding("card", name, "not known", f"its settings cannot be read: {error.strerror}", ok=False)
        return Finding("card", name, "none", *removed(name), ok=False)


def _around(card: Ethtool, wanted: Wanted) -> Surroundings:
    """What --tune is about: nothing without it, nor when the interface is gone."""
    if wanted.tuning.asked:
        with suppress(OSError):
            return tune.surroundings(wanted.interface, _had(card.rings))
    return Surroundings(wanted.interface)


def _optional(card: Ethtool, wanted: Wanted) -> list[Change]:
    return tune.missing(_around(card, wanted), wanted.queues, wanted.tuning)


def _queues_now(card: Ethtool) -> int:
    channels = _had(card.channels)
    return queues(channels) if channels is not None else rtnetlink.link(card.interface).queues


def _read(card: Ethtool) -> Card:
    """StartupError."""
    try:
        return read_card(card)
    except OSError as error:
        gone = "there is no such interface"
        why = gone if error.errno == errno.ENODEV else f"its settings cannot be read: {error.strerror}"
        raise StartupError(f"--interface {card.interface}: {why}") from None


def _had(ask: Callable[[], T]) -> T | None:
    """None: the driver has no such setting, or reading it takes a privilege."""
    try:
        return ask()
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            return None
        raise


# The plan, in parts.


def _check_queues(card: Card, wanted: Wanted) -> None:
    asked = f"--queues {wanted.queues}: {wanted.interface}"
    if wanted.queues > card.queues_max:
        raise StartupError(f"{asked} has {card.queues_max} ({card.driver.name}); use --queues {card.queues_max}")
    if wanted.queues > card.senders_max:
        most = card.senders_max
        raise StartupError(f"{asked} sends from {most} ({card.driver.name}); use --queues {most}")
    if wanted.queues < card.queues and not (card.rss is not None and card.rss.table):
        way = _take_away(wanted.interface, card.channels, wanted.queues)
        raise StartupError(
            f"{asked} receives on {card.queues} queues, and its driver ({card.driver.name}) cannot leave one out; "
            f"use --queues {card.queues}{f', or {way}' if way else ''}"
        )


def _take_away(interface: str, channels: Channels | None, queues: int) -> str:
    """The command that leaves so many that receive; empty where their number is fixed."""
    if channels is None:
        return ""
    if channels.combined_max:
        return f"ethtool -L {interface} combined {max(queues - channels.rx, 1)}"
    return f"ethtool -L {interface} rx {queues}"


def _check_in_force(card: Card, wanted: Wanted, refused: Mapping[str, str]) -> None:
    if wanted.queues > card.queues or _queues(card, wanted):
        why = refused.get("channels", "the driver has not made them")
        raise StartupError(
            f"--queues {wanted.queues}: {wanted.interface} stays at {card.queues}: {why}; use --queues {card.queues}"
        )


def _merging(card: Card) -> list[Change]:
    found = {name: card.features[name] for name in MERGING if name in card.features}
    return [
        Change("feature", name, True, False) for name, feature in found.items() if feature.active and feature.changeable
    ]


def _queues(card: Card, wanted: Wanted) -> list[Change]:
    """Shard i receives from queue i, and sends from it."""
    now = card.channels
    if now is None or min(now.rx, now.tx) + now.combined >= wanted.queues:
        return []
    before = [now.rx, now.tx, now.other, now.combined]
    if now.combined_max:
        after = [now.rx, now.tx, now.other, wanted.queues - min(now.rx, now.tx)]
    else:
        after = [max(now.rx, wanted.queues), max(now.tx, wanted.queues), now.other, now.combined]
    return [Change("channels", "", before, after)]


def _hash(card: Card, wanted: Wanted, queues_now: int) -> list[Change]:
    if card.rss is None:
        return []
    now, after = card.rss, _wanted_rss(card, wanted)
    if after == now:
        return []
    is_own = now.table == own_table(len(now.table), queues_now)
    before = [now.function, now.key.hex(), None if is_own else list(now.table)]
    return [Change("rss", "", before, [after.function, after.key.hex(), list(after.table)])]


def _wanted_rss(card: Card, wanted: Wanted) -> Rss:
    now = card.rss
    assert now is not None
    table = steering_table(len(now.table), wanted.queues)
    return Rss(TOEPLITZ if now.function else "", steering_key(len(now.key)), table, now.transform)


def _fields(card: Card) -> list[Change]:
    if card.rss is None or not card.rss.table:
        return []  # whatever the driver hashes, it is not for our queues
    return [
        Change("flow", flow, sorted(card.fields[flow]), sorted(FIELDS))
        for flow in HASHED
        if flow in card.fields and card.fields[flow] != frozenset(FIELDS)
    ]


# What is in force.


def driver_finding(driver: Driver) -> Finding:
    """Its name, with what it says of its version, firmware and place."""
    details = {"version": driver.version, "firmware": driver.firmware, "bus": driver.bus}
    told = ", ".join(f"{name} {text}" for name, text in details.items() if text)
    return Finding("driver", "any", f"{driver.name} ({told})" if told else driver.name)


def card_findings(card: Card, wanted: Wanted, refused: Mapping[str, str]) -> list[Finding]:
    """Of a card as it reports itself now. `refused`: by the kind of change, what the driver said."""
    return [
        driver_finding(card.driver),
        Finding("card queues", str(wanted.queues), f"{card.queues} of {card.queues_max}"),
        _steering_finding(card, wanted, refused),
        _merging_finding(card, wanted),
        _mtu_finding(card, wanted),
        Finding("kernel", "5.11 or newer", os.uname().release),
    ]


def _steering_finding(card: Card, wanted: Wanted, refused: Mapping[str, str]) -> Finding:
    what = "card steering"
    if wanted.queues == card.queues == 1:
        return Finding(what, "one queue", "one queue")
    asked = f"each flow to the queue of its shard, of {wanted.queues}"
    trouble = _steering_trouble(card, wanted, refused)
    if not trouble:
        return Finding(what, asked, f"key {steering_key(4).hex()}…, {len(card.rss.table) if card.rss else 0} entries")
    return Finding(
        what,
        asked,
        "flows come through any queue and are handed over",
        "; ".join(trouble),
        "use a card whose driver takes an RSS key and table, or one queue",
        ok=False,
    )


def _steering_trouble(card: Card, wanted: Wanted, refused: Mapping[str, str]) -> list[str]:
    name = card.driver.name
    if card.rss is None or not card.rss.table:
        return [f"the driver {name} has no table for its hash"]
    told = _wanted_rss(card, wanted)
    because = f": {refused['rss']}" if "rss" in refused else ""
    trouble = []
    if card.rss.table != told.table:
        trouble.append(f"the table is another one{because}")
    if wanted.queues > 1 and (not card.rss.key or card.rss.key != told.key):
        trouble.append(f"the key is another one{because}")
    if not agrees(len(card.rss.table), wanted.queues):
        trouble.append(f"a table of {len(card.rss.table)} entries cannot name all owners")
    for flow in HASHED if wanted.queues > 1 else ():
        if card.fields.get(flow) != frozenset(FIELDS):
            fields = ", ".join(sorted(card.fields.get(flow, ()))) or "nothing that it tells"
            trouble.append(f"of {flow} it hashes {fields}")
    return trouble


def _merging_finding(card: Card, wanted: Wanted) -> Finding:
    what, asked = "card offloads", "no packets merged (LRO, hardware GRO)"
    on = [name for name in MERGING if name in card.features and card.features[name].active]
    if not on:
        return Finding(what, asked, asked)
    fix = f"ethtool -K {wanted.interface} {' '.join(f'{name} off' for name in on)}"
    return Finding(what, asked, f"{', '.join(on)} on", "the driver keeps it on, or it was put on since", fix, ok=False)


def _mtu_finding(card: Card, wanted: Wanted) -> Finding:
    asked, found = f"at most {wanted.mtu_max}", str(card.mtu)
    if card.mtu <= wanted.mtu_max:
        return Finding("MTU", asked, found)
    reason, fix = "longer packets are dropped", f"ip link set {wanted.interface} mtu {wanted.mtu_max}"
    return Finding("MTU", asked, found, reason, fix, ok=False)
