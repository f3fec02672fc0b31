"""Ports of netmap, a packet device (packetdevice.py): a ring pair for each shard, mapped from the module's memory.

    --interface eth1       a network card: as many ring pairs as it has queues, one for each shard
    --interface vale0:us   a port of a VALE switch, which is made on the fly; more shards get a port more each

The server has a station of its own at either. A card in netmap mode is cut off from the kernel's stack, so packets are
carried between the two: each shard passes on what comes and is not for our station, and the first one carries what the
kernel sends. Before that the card is asked to put each flow into the ring of the shard that owns it (nic.py); it gets
its settings back when it has left netmap mode. How many rings it has stays as it is: the module may have counted them
when the driver was loaded.

A switch knows by what was sent which port a station sits at, so all that comes for ours comes through the port that
sent last; shards hand packets to the owner of their flow. What is for all stations comes to each port, and the first
shard alone takes it.

The supervisor has the descriptors and hands each shard its own, with a small memory beside it. Rings and buffers are
the module's. They live as long as the descriptor, so what waits in a ring outlives the process that reads it. With the
last descriptor, whoever is killed, the card is the kernel's again and the switch has no such port any more.

Somebody may remove the interface: network processes notice and end, and the next ones join it as soon as one of its
name is there. It is registered in the background then (joining.py). What `trouble` says was seen in the background
(linklooks.py); only that the interface is gone is asked at once, as it takes no lock of the kernel's."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from usnet_framework._native_netmap import About, NetmapError, Pair, netmap_file, netmap_port
from usnet_framework.errors import InUse, StartupError, UsageError
from usnet_framework.shards import rtnetlink
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.joining import Joining, NotYet
from usnet_framework.shards.linklooks import LinkLooks, Trouble, unreadable
from usnet_framework.shards.nic import Nic, Wanted, planned, queues_of
from usnet_framework.shards.stackplan import StackPlan, check_interface
from usnet_framework.shards.station import (
    PACKET_MR_PROMISC,
    check_up,
    existing,
    interface_finding,
    join,
    link_trouble,
    name_now,
    our_station,
    packet_socket,
    removed,
)

log = logging.getLogger("usnet.supervisor")

SWITCH = "vale"
PORT_BYTES_MAX = 59
"""Of the name of a switch's port: with the number of a shard it fits into 63 bytes (UN_NETMAP_NAME_BYTES of
native/src/device/netmap_abi.h)."""

ETHERNET_BYTES = 18  # with a VLAN tag
BUFFER_PARAMETER = Path("/sys/module/netmap/parameters/buf_size")

SWITCH_MTU = 1500
"""A switch has none; that of Ethernet."""

OFFLOADS = ("tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-ip-generic", "tx-tcp-segmentation",
            "tx-tcp6-segmentation", "tx-generic-segmentation")  # fmt: skip

OF_THE_CARD = ("driver", "card queues", "card steering", "MTU")
"""Of what is found out about a card (nic.py). The rest is of packets that come through the kernel."""


class Netmap:
    """The port, open."""

    sharing = None

    def __init__(self, plan: StackPlan, queues: int) -> None:
        """StartupError: one line, why it cannot be."""
        self._plan = plan
        self._queues = queues
        self._is_card = not is_of_a_switch(plan.interface)
        self._mac = _station(plan.interface)
        self._index = 0
        self._kind = ""  # of the interface; empty: hardware
        self._looks = LinkLooks(self._find, looked=lambda: None)
        self._is_back = False  # the server has served on another interface of its name
        self._joining = Joining(self._register)
        self._open()

    def _open(self) -> None:
        """A card is not touched before the first of its pairs is handed down."""
        self._name = self._plan.interface
        self._about: About | None = None
        self._nic: Nic | None = None  # not set up yet, or a switch
        self._kernels: tuple[int, ...] = ()
        self._offloads: list[str] = []
        with ExitStack() as opened:
            self._pairs = [self._open_file(shard, opened) for shard in range(self._queues)]
            if self._is_card:
                self._host = self._open_file(self._queues, opened)
                self._check_card()
            else:
                self._register()
            self._opened = opened.pop_all()

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        """In the loop that runs. Packets are copied out of the module's buffers and into them: it need not know of
        frames. NotYet: it is being set up."""
        if not self._joining.is_under_way and self._is_gone():
            self._open_again()
        if self._joining.is_under_way or self._about is None:
            try:
                if self._is_back:
                    self._joining.finish(self._name)
                else:
                    self._register()
            except NotYet:
                raise
            except BaseException:
                self._index = 0  # what is registered stays so: next time all files are opened anew
                raise
        if self._is_card:
            self._looks.follow()
        return (*self._pairs[shard], *(self._kernels if shard == 0 else ()))

    def drops(self) -> Mapping[str, int]:
        """What finds no room in a ring is counted by the sender, or by the card."""
        return {}

    def options(self, shard: int) -> dict[str, int]:
        """What comes may come from this host, without its checksum: from another port of the switch that a kernel
        feeds, or through an interface that is no card."""
        return {"accept_partial_checksum": int(not self._is_card or bool(self._kind))}

    def look(self) -> None:
        """Also which offloads the card has on."""
        if self._is_card:
            self._looks.look()
            with suppress(OSError), Ethtool(self._name) as card:
                features = card.features()
                self._offloads = [one for one in OFFLOADS if one in features and features[one].active]
            if (nic := self._nic) is not None:
                nic.look()

    def findings(self) -> list[Finding]:
        whose, is_gone = f"with our station {self._mac.hex(':')}", self._whereabouts() is not None
        interface = interface_finding(self._plan.interface, self._name, whose, self._interface_trouble())
        card = [] if self._nic is None else [one for one in self._nic.findings() if one.what in OF_THE_CARD]
        return [interface, *self._rings(), *([self._kernel()] if self._is_card and not is_gone else []), *card]

    def modes(self) -> dict[str, str]:
        return {"copies": "stack", "checksums": "stack"}

    def trouble(self) -> str | None:
        self._looks.ask_again()
        found = self._interface_trouble()
        return None if found is None else found[0]

    def _interface_trouble(self) -> Trouble | None:
        """Why packets do not come, and what to do."""
        return self._whereabouts() or self._looks.seen.trouble

    def _whereabouts(self) -> Trouble | None:
        """Why it is not there for us, as far as can be found out, and what to do."""
        if self._joining.is_under_way:
            return f"interface {self._name} is being joined again", "wait a second"
        try:
            return removed(self._name) if self._is_gone() else None
        except OSError as error:
            return unreadable(error)

    def _find(self) -> tuple[Trouble | None, int | None]:
        """In any thread. OSError: there is no such interface."""
        name = self._name
        return link_trouble(name, rtnetlink.link(name)), None

    def _rings(self) -> list[Finding]:
        if self._about is None:
            return []
        about, queues = self._about, self._queues
        found = f"{queues} pair{'s' if queues > 1 else ''}, {about.tx_slots} slots to send, {about.rx_slots} to receive"
        copied = f"copied, from and to buffers of {about.buffer_bytes} bytes"
        return [Finding("ring pairs", str(queues), found), Finding("packets", "copied", copied)]

    def _kernel(self) -> Finding:
        """The module has none of the card's offloads for what it carries, and drops what waits for one."""
        what, asked = "the kernel's packets", "carried between the card and the kernel"
        if not self._offloads:
            return Finding(what, asked, asked)
        reason = "netmap drops packets of the kernel's whose checksum, or cutting, is left to the card"
        fix = f"ethtool -K {self._name} {' '.join(f'{offload} off' for offload in self._offloads)}"
        return Finding(what, asked, "only those that need nothing of the card", reason, fix, ok=False)

    def _is_gone(self) -> bool:
        """For good, whatever has its name meanwhile; the other name that somebody may have given to it is taken.
        OSError: that cannot be found out."""
        if not self._is_card:
            return False
        name = name_now(self._index, self._name)
        if name is not None and name != self._name:
            self._name = name
            if self._nic is not None:
                self._nic.rename(name)
        return name is None

    def _open_again(self) -> None:
        """StartupError: it is not back yet."""
        name = self._plan.interface
        existing(name)
        self._end()
        self._joining.forget()
        try:
            self._open()
        except BaseException:
            self._index = 0  # of no interface: it is still gone
            raise
        self._is_back = True
        log.warning("interface %s was removed; it is joined again", name)

    def close(self) -> None:
        """The card's settings are put back whatever else cannot be closed."""
        with ExitStack() as closing:
            if self._joining.close(self._name):
                closing.callback(self._end)
            closing.callback(self._looks.close)

    def _end(self) -> None:
        """The card is in netmap mode no more; then its settings."""
        with ExitStack() as closing:
            if self._nic is not None:
                closing.callback(self._nic.close)
            closing.callback(self._opened.close)

    # Steps of opening.

    def _open_file(self, shard: int, opened: ExitStack) -> tuple[int, int]:
        """StartupError."""
        try:
            fd = netmap_file()
        except NetmapError as error:
            raise StartupError(f"--backend netmap: {error}") from None
        opened.callback(os.close, fd)
        memory = os.memfd_create(f"usnet-pair-{shard}", os.MFD_CLOEXEC)
        opened.callback(os.close, memory)
        return fd, memory

    def _check_card(self) -> None:
        """As far as that can be told without touching it. StartupError."""
        name = self._name
        link = existing(name)
        self._index, self._kind = rtnetlink.index_of(name), link.kind
        self._looks.begin(self._index)
        check_up(name, link)
        if (rings := queues_of(name)) is not None:
            self._check_rings(rings, rings)
        mtu, most = _mtu_of(name), _buffer_bytes() - ETHERNET_BYTES
        if mtu > most:
            raise StartupError(
                f"--interface {name}: packets of {mtu} bytes do not fit into a buffer of netmap's; "
                f"ip link set {name} mtu {most}"
            )
        self.look()

    def _check_rings(self, tx_rings: int, rx_rings: int) -> None:
        """StartupError: a shard has no pair, or a ring no shard."""
        name, queues, pairs = self._name, self._queues, min(tx_rings, rx_rings)
        if pairs < queues:
            raise StartupError(
                f"--queues {queues}: {name} has {pairs} ring pairs; use --queues {pairs}, or "
                f"ethtool -L {name} combined {queues}"
            )
        if rx_rings > queues:
            raise StartupError(
                f"--queues {queues}: {name} has {rx_rings} rings, and nobody would take what comes through the others; "
                f"use --queues {rx_rings}, or ethtool -L {name} combined {queues}"
            )

    def _register(self) -> None:
        """All pairs. InUse, StartupError."""
        if self._is_card:
            self._nic = Nic(_wanted(self._name, self._queues))
        mtu = _mtu_of(self._name) if self._is_card else SWITCH_MTU
        for shard in range(self._queues):
            about = self._register_pair(shard, mtu)
            if self._is_card:
                self._check_rings(about.tx_rings, about.rx_rings)
        if self._is_card:
            self._register_host(mtu)
            self._take_all()
        if self._nic is not None:
            self._nic.repeat_hash()  # a driver starts its card anew for netmap, and some forget what was set
        self._about = about

    def _register_host(self, mtu: int) -> None:
        """The kernel's pair, and what the first shard waits for: packets from either side. StartupError."""
        pair = Pair(port=self._name, is_card=True, ring=0, mtu=mtu, mac=self._mac, is_host=True)
        self._port(*self._host, pair)
        wait = self._opened.enter_context(select.epoll())
        for fd in (self._pairs[0][0], self._host[0]):
            wait.register(fd, select.EPOLLIN)
        self._kernels = (*self._host, wait.fileno())

    def _register_pair(self, shard: int, mtu: int) -> About:
        """StartupError."""
        pair = Pair(
            port=self._name if self._is_card or shard == 0 else f"{self._name}_{shard}",
            is_card=self._is_card,
            ring=shard if self._is_card else 0,
            mtu=mtu,
            mac=self._mac,
            ignores_groups=not self._is_card and shard > 0,
            shares=self._is_card,
        )
        return self._port(*self._pairs[shard], pair)

    def _port(self, fd: int, memory: int, pair: Pair) -> About:
        """StartupError."""
        try:
            return netmap_port(fd, pair, memory)
        except NetmapError as error:
            kind = InUse if error.errno == errno.EBUSY else StartupError
            raise kind(f"--interface {self._name}: {error}") from None

    def _take_all(self) -> None:
        """Have the card let pass what is for our station. StartupError."""
        member = self._opened.enter_context(packet_socket(self._name))
        try:
            join(member, self._index, PACKET_MR_PROMISC)
        except OSError as error:
            raise StartupError(
                f"--interface {self._name}: does not let pass what is for our station ({error.strerror}); "
                "use another interface"
            ) from None


def is_of_a_switch(name: str) -> bool:
    return name.startswith(SWITCH) and ":" in name


def check_name(name: str) -> None:
    """UsageError: no interface has it, and no port of a switch."""
    if ":" not in name:
        check_interface(name)
    elif not re.fullmatch(rf"{SWITCH}[A-Za-z0-9_]*:[A-Za-z0-9_]+", name) or len(name) > PORT_BYTES_MAX:
        raise UsageError(
            f"--interface {name}: not a name of a port: {SWITCH}SWITCH:PORT, each of letters, digits and underscores, "
            f"up to {PORT_BYTES_MAX} bytes; or the name of an interface"
        )


def rings_of(name: str) -> int | None:
    """That an interface receives on; None: as many as there are shards."""
    return None if is_of_a_switch(name) else queues_of(name)


def changes(plan: StackPlan, queues: int) -> list[str]:
    name = plan.interface
    if is_of_a_switch(name):
        return [f"{name}: none -> {queues} port{'s' if queues > 1 else ''} of a VALE switch"]
    mode = f"{name}: the kernel's -> in netmap mode, with our station {_station(name).hex(':')}"
    return [*planned(_wanted(name, queues)), mode]


def _wanted(name: str, queues: int) -> Wanted:
    return Wanted(name, queues, mtu_max=_buffer_bytes() - ETHERNET_BYTES)


def _mtu_of(name: str) -> int:
    with Ethtool(name) as card:
        return card.mtu()


def _buffer_bytes() -> int:
    """That a card is going to have; the registration finds out."""
    with suppress(OSError, ValueError):
        return int(BUFFER_PARAMETER.read_text(encoding="ascii"))
    return 2048


def _station(name: str) -> bytes:
    return our_station(f"netmap\0{name}")
