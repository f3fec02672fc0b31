"""What serving does not need, and is worth setting on a machine whose card's queues are served (--tune).

    card rings       as many packets as a queue of ours has places    a burst waits in the card, and is not lost
    card interrupts  of queue i to the core of shard i                a packet is handled where it is used
    polling          with --poll busy, interrupts are put off          network processes do the work of the driver
    RPS              off for the queues that are served               it hands packets to cores that shards need
    qdisc            at the sending end of a veth pair, a pfifo       a queue of the other end has 256 places; what
                                                                      finds none is lost, unless it waits before it

What is to be set is a pure function of what is found and of where the shards run. With --tune it is set through the
card's journal (undo.py), so that it is put back; without it `usnet-ctl doctor` says what to set, with the command. A
setting that is refused is a finding and no error.

Not here, as they have no part in it: the queueing discipline of the interface itself and XPS, since a packet is sent to
the queue that its device names; GRO, which comes later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from usnet_framework.shards import rtnetlink
from usnet_framework.shards.cardsettings import Change
from usnet_framework.shards.ethtool import Rings
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.interrupts import Interrupt, interrupts, is_balanced, share_one_core
from usnet_framework.shards.placement import Plan
from usnet_framework.shards.qdisc import root_qdisc
from usnet_framework.shards.sysfs import texts

RECEIVED, SENT = 2048, 1024
"""FILL_SLOTS and TX_SLOTS of the packet device: the kernel has no more packets of a queue of ours."""

QDISC = "pfifo limit 1000"

POLLING = {"napi_defer_hard_irqs": "2", "gro_flush_timeout": "200000"}
"""Polls that find nothing, and then nanoseconds, before the interrupt of a queue is allowed again: what the kernel asks
for with SO_PREFER_BUSY_POLL (Documentation/networking/napi.rst)."""


@dataclass(frozen=True)
class Tuning:
    """`asked`: by --tune. `cores`: of the process of each shard that reads its queue, None when it is not pinned.
    `usable`: cores that processes may use. `poll`: the mode in force."""

    asked: bool = False
    cores: tuple[int | None, ...] = ()
    usable: tuple[int, ...] = ()
    poll: str = "adaptive"


NOT_TUNED = Tuning()


@dataclass(frozen=True)
class Surroundings:
    """Of an interface, as they are now. `rps`: of each queue, the file and the mask of cores in it. `polling`: of each
    of POLLING, what there is. `sender`: the other end of a veth pair, "" when it is in another network namespace, None
    for all other interfaces; `qdisc`: that end's own."""

    interface: str
    rings: Rings | None = None
    interrupts: tuple[Interrupt, ...] = ()
    rps: tuple[tuple[str, str], ...] = ()
    polling: tuple[tuple[str, str], ...] = ()
    sender: str | None = None
    qdisc: str | None = None
    is_balanced: bool = False


@dataclass(frozen=True)
class _Topic:
    """`changes` are those that are missing, `fix` the commands that make them, or what else there is to do. `is_bad`:
    worth a warning without --tune."""

    what: str
    wanted: str
    found: str
    why: str = ""
    fix: str = ""
    changes: Sequence[Change] = ()
    is_bad: bool = False


def tuning_of(asked: bool, plan: Plan) -> Tuning:
    """For the shards of a plan."""
    inline = plan.layout == "inline"
    cores = (shard.worker_cores[0] if inline else shard.network_core for shard in plan.shards)
    return Tuning(asked, tuple(cores), plan.cores, plan.poll)


def surroundings(interface: str, rings: Rings | None, root: Path = Path("/")) -> Surroundings:
    """OSError: there is no such interface."""
    link = rtnetlink.link(interface)
    sender = link.peer if link.kind == "veth" else None
    return Surroundings(
        interface=interface,
        rings=rings,
        interrupts=interrupts(interface, root),
        rps=tuple(texts(interface, "queues/rx-*/rps_cpus", root).items()),
        polling=tuple((name, text) for name in POLLING for text in texts(interface, name, root).values()),
        sender=sender,
        qdisc=root_qdisc(sender) if sender else None,
        is_balanced=is_balanced(root),
    )


def missing(found: Surroundings, queues: int, tuning: Tuning) -> list[Change]:
    """What is to be set, for the first `queues`."""
    return [change for topic in _topics(found, queues, tuning) for change in topic.changes]


def to_come(found: Surroundings, queues: int, tuning: Tuning) -> list[str]:
    """For --check: what is missing and has no name yet, since the driver makes the queues first."""
    there = {one.queue for one in found.interrupts} - {None}
    if not there or None in tuning.cores:
        return []
    return [
        f"{found.interface} interrupts of queue {queue}, once it is there: the driver's -> {core}"
        for queue, core in enumerate(tuning.cores[:queues])
        if queue not in there
    ]


def findings(found: Surroundings, queues: int, tuning: Tuning, refused: Mapping[str, str]) -> list[Finding]:
    """`refused`: by the name of a change, or else its kind, what the kernel or the driver said."""
    return [_finding(topic, tuning, refused) for topic in _topics(found, queues, tuning)]


def _finding(topic: _Topic, tuning: Tuning, refused: Mapping[str, str]) -> Finding:
    asked = topic.wanted if tuning.asked or topic.is_bad else "any"
    if not topic.changes:
        return Finding(topic.what, asked, topic.found, topic.why, topic.fix)
    if not tuning.asked:
        fix = f"start the server with --tune, or {topic.fix}"
        return Finding(topic.what, asked, topic.found, topic.why, fix, ok=not topic.is_bad)
    told = {refused.get(change.name or change.kind, "changed since") for change in topic.changes}
    return Finding(topic.what, asked, topic.found, f"{topic.why}: {', '.join(sorted(told))}", topic.fix, ok=False)


# The topics.


def _topics(found: Surroundings, queues: int, tuning: Tuning) -> Iterator[_Topic]:
    """Those that the interface has."""
    if found.rings is not None:
        yield _rings(found.interface, found.rings)
    if served := [one for one in found.interrupts if one.queue is not None and one.queue < queues]:
        yield _interrupts(served, found.is_balanced, tuning)
    if found.polling and tuning.asked and tuning.poll == "busy":
        yield _polling(found.interface, found.polling)
    if found.rps:
        yield _rps(found.interface, found.rps[:queues])
    if found.sender is not None:
        yield _qdisc(found.sender, found.qdisc)


def _rings(interface: str, now: Rings) -> _Topic:
    wanted = [max(now.rx, min(now.rx_max, RECEIVED)), max(now.tx, min(now.tx_max, SENT))]
    what, told, is_so = "card rings", _packets(*wanted), wanted == [now.rx, now.tx]
    if is_so:
        return _Topic(what, told, told)
    return _Topic(
        what=what,
        wanted=told,
        found=_packets(now.rx, now.tx),
        why=f"with {told} a burst waits in the card, and is not lost",
        fix=f"ethtool -G {interface} rx {wanted[0]} tx {wanted[1]}",
        changes=[Change("rings", "", [now.rx, now.tx], wanted)],
    )


def _packets(received: int, sent: int) -> str:
    return f"{received} packets received, {sent} sent"


def _interrupts(served: Sequence[Interrupt], balanced: bool, tuning: Tuning) -> _Topic:
    """Where processes are not pinned, they only have to go to more cores than one."""
    is_pinned = bool(tuning.cores) and None not in tuning.cores
    is_bad = not is_pinned and share_one_core(served) and len(tuning.usable) > 1
    cores = tuning.cores if is_pinned else tuning.usable if is_bad else ()
    missing = _misplaced(served, cores)
    topic = _Topic(
        what="card interrupts",
        wanted="each queue's to the core of its shard" if is_pinned else "spread over the cores",
        found=", ".join(f"{one.name} to {one.cores or 'nobody knows'}" for one in served),
        is_bad=is_bad,
    )
    stop = ["stop irqbalance, or ban them from it"] if balanced and is_pinned else []
    if not missing:
        return replace(topic, why="irqbalance runs, and may move them" if stop else "", fix=", ".join(stop))
    why = "all go to one core" if is_bad else "a packet is handled on another core than it is used on"
    fix = "; ".join([*stop, *(f"echo {change.value} > {change.name}" for change in missing)])
    return replace(topic, why=f"{why}, as irqbalance runs" if stop else why, fix=fix, changes=missing)


def _misplaced(served: Sequence[Interrupt], cores: Sequence[int | None]) -> list[Change]:
    """Those that are to go elsewhere, queue by queue to the cores in turn; none when there are no cores."""
    pairs = [(one, cores[(one.queue or 0) % len(cores)]) for one in served if cores]
    return [
        Change("file", one.file, one.cores, str(core))
        for one, core in pairs
        if core is not None and not one.goes_to(core)
    ]


def _polling(interface: str, now: Sequence[tuple[str, str]]) -> _Topic:
    """What somebody has set stays. Without --tune the device says it, as it knows who does the work."""
    off = [name for name, text in now if text == "0"]
    return _Topic(
        what="polling",
        wanted="interrupts are put off",
        found="interrupts come at once" if off else "interrupts are put off",
        why="the work of the driver is done by interrupts as well" if off else "",
        fix="; ".join(f"echo {POLLING[name]} > {_path(interface, name)}" for name in off),
        changes=[Change("sysfs", name, "0", POLLING[name]) for name in off],
    )


def _rps(interface: str, rps: Sequence[tuple[str, str]]) -> _Topic:
    on = [(file, mask) for file, mask in rps if mask.strip("0,")]
    if not on:
        return _Topic("RPS", "off", "off")
    return _Topic(
        what="RPS",
        wanted="off",
        found=", ".join(f"{Path(file).parent.name} to cores of the mask {mask}" for file, mask in on),
        why="packets are handed to other cores, also to those that shards need",
        fix="; ".join(f"echo 0 > {_path(interface, file)}" for file, _ in on),
        changes=[Change("sysfs", file, mask, re.sub("[^,]", "0", mask)) for file, mask in on],
    )


def _path(interface: str, name: str) -> str:
    return f"/sys/class/net/{interface}/{name}"


def _qdisc(sender: str, qdisc: str | None) -> _Topic:
    what, why = f"qdisc of {sender or 'the other end'}", "what finds no place in a queue of the interface is lost"
    fix = f"tc qdisc replace dev {sender or 'NAME'} root {QDISC}"
    if not sender:
        why = f"it is in another network namespace; without one {why}"
        return _Topic(what, QDISC, "not known", why, f"there: {fix}")
    if qdisc is not None:
        return _Topic(what, QDISC, qdisc, "" if qdisc == QDISC else "somebody has chosen it")
    return _Topic(what, QDISC, "none", why, fix, [Change("qdisc", sender, None, QDISC)])
