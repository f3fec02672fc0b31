"""Queues of a network card, a packet device (packetdevice.py): an AF_XDP socket on each, one for each shard.

With --address the stack has a station of its own beside the kernel's: these addresses, and a MAC address that follows
from the names of host and interface. The card is asked to let our station and its multicast groups pass (packet(7),
memberships). Otherwise the stack shares the addresses of the interface, and its MAC address, with the kernel
(sharing.py). An XDP program (native/bpf) takes what is for it; everything else on the interface is the kernel's, as
before. The card is asked to put each flow into the queue of the shard that owns it (nic.py).

The supervisor has all of it: program, attachment, sockets, the frames' registration, memberships. It hands a shard the
socket of its queue and the memory in which its processes note which frames the kernel has. While no process has a
queue, packets wait in its rings, and then are dropped; no client is reset. All of that ends with the last descriptor,
whoever is killed. The card's settings are written down before they are changed (undo.py).

Somebody may set the interface down: connections go on when it is up again. Somebody may remove it: network processes
notice and end, and the next ones join it as soon as one of its name is there. Card and queues are set up in the
background then (joining.py).
What `trouble` says was seen in the background (linklooks.py); only that the interface is gone is asked at once, as it
takes no lock of the kernel's."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import mmap
import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from usnet_framework._native_xdp import Mode, Modes, Queue, XdpError, modes, xdp_socket
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import rtnetlink, sharing, undo
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.interrupts import are_put_off
from usnet_framework.shards.joining import Joining
from usnet_framework.shards.linklooks import LinkLooks, Trouble, unreadable
from usnet_framework.shards.linknews import LinkNews, Told
from usnet_framework.shards.netdev import XdpFeatures, xdp_features
from usnet_framework.shards.nic import MTU_MAX, Nic, Wanted, planned, queues_of
from usnet_framework.shards.privileges import capabilities_finding
from usnet_framework.shards.rtnetlink import IFF_LOOPBACK, MAC_BYTES
from usnet_framework.shards.sharing import SharedInterface
from usnet_framework.shards.stackplan import StackPlan
from usnet_framework.shards.station import (
    PACKET_MR_MULTICAST,
    PACKET_MR_UNICAST,
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

if TYPE_CHECKING:
    from usnet_framework._native_bpf import XdpProgram
    from usnet_framework.addresses import IpAddress

log = logging.getLogger("usnet.supervisor")

FRAME_BYTES = 4096
"""UN_STACK_FRAME_BYTES of native/src/engine/stack_setup.c: a chunk of the kernel's."""

CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_PERFMON", "CAP_BPF")

SAME_HOST = ("veth", "tun")
"""Kinds of interfaces whose packets come from a kernel of this host, and go to it: checksums may be left undone."""

KERNEL_MIN = (5, 11)
"""Since when memory that BPF takes is not charged to RLIMIT_MEMLOCK."""

AF_XDP = 44


class Afxdp:
    """The interface, open."""

    def __init__(self, plan: StackPlan, queues: int) -> None:
        """StartupError: one line, why it cannot be."""
        self._plan = plan
        self._wanted = _wanted(plan, queues)
        self.sharing = SharedInterface(plan) if plan.shared else None
        self._frames: dict[int, int] = {}  # of shards that have asked for a queue
        self._is_back = False  # the server has served on another interface of its name
        self._joining = Joining(lambda: self._set_up(dict(self._frames)))
        self._looks = LinkLooks(self._find, self._hear)
        self._news: LinkNews | None = None  # not all queues are joined yet
        self._told: Told | None = None
        check_kernel(os.uname().release)
        self._open()

    def _open(self) -> None:
        self._name = self._plan.interface
        self._nic: Nic | None = None  # not set up yet
        self._queues: dict[int, tuple[int, int]] = {}
        self._native: bool | None = None  # None: not attached yet
        self._why_generic = ""
        self._attached: frozenset[int] = frozenset()  # our program
        self._link = _checked_link(self._name)
        self._index = rtnetlink.index_of(self._name)
        self._looks.begin(self._index)
        self._check()
        self._mac = our_station(self._name) if self.sharing is None else self._link.mac
        self._member: socket.socket | None = None  # of our station
        with ExitStack() as opened:
            self._program = self._load()
            opened.callback(self._program.close)
            if self.sharing is not None:
                self.sharing.open(self._index, self._program)
                opened.callback(self.sharing.close)
            else:
                self._member = opened.enter_context(packet_socket(self._name))
                self._be_a_station()
            self._opened = opened.pop_all()

    def _check(self) -> None:
        """StartupError, before anything is changed."""
        has = self._features()
        self._mtu = _checked_mtu(self._name, has)
        self._wanted = replace(self._wanted, mtu_max=max(MTU_MAX, self._mtu))
        planned(self._wanted)
        self._check_required(has)
        if self.sharing is not None and len(self._link.mac) != MAC_BYTES:
            raise StartupError(f"--interface {self._name}: has no MAC address to share; use one of Ethernet")
        if self.sharing is None:
            self._check_addresses()

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        """In the loop that runs. NotYet: it is being set up."""
        self._frames[shard] = frames_fd
        if not self._joining.is_under_way and self._is_gone():
            self._open_again()
        if not self._is_back:
            self._set_up({shard: frames_fd})
        elif self._joining.is_under_way or shard not in self._queues:
            self._joining.finish(self._name)
        if len(self._queues) == self._wanted.queues:
            self._follow()
        return self._queues[shard] if self.sharing is None else (*self._queues[shard], self.sharing.table_fd)

    def _follow(self) -> None:
        """All queues are joined: from now on what happens to the interface is logged."""
        if self._told is None:
            self._told = Told(self._worth_telling, asyncio.get_running_loop().call_later)
        if self._news is None:
            self._news = LinkNews(self._changed)
        self._looks.follow()
        self._told.look()

    def drops(self) -> Mapping[str, int]:
        return self._program.counters()

    def options(self, shard: int) -> dict[str, int]:
        """The kernel passes on no word about checksums: those of a kernel of this host may be partial."""
        shared = {} if self.sharing is None else self.sharing.options()
        return {"accept_partial_checksum": int(self._link.kind in SAME_HOST), **shared}

    def look(self) -> None:
        self._looks.look()
        if (nic := self._nic) is not None:
            nic.look()

    def findings(self) -> list[Finding]:
        interface = self._interface_finding()
        if self._whereabouts() is not None:
            return [interface]
        card = [] if self._nic is None else [capabilities_finding(*CAPABILITIES), *self._nic.findings()]
        shared = [] if self.sharing is None else self.sharing.findings()
        return [interface, *shared, *self._modes(), *self._dropped(), *card]

    def _interface_finding(self) -> Finding:
        whose = "shared with the kernel" if self._plan.shared else f"with our station {self._mac.hex(':')}"
        return interface_finding(self._plan.interface, self._name, whose, self._interface_trouble())

    def modes(self) -> dict[str, str]:
        if self._joining.is_under_way or self._native is None or not self._queues:
            return {}
        found = self._sockets()
        return {
            "program": "driver" if self._native else "generic",
            "copies": "none" if found.zero_copy else "kernel",
            "checksums": "interface" if found.tx_checksum else "stack",
            "polled_by": "us" if found.is_polled else "interrupts",
        }

    def trouble(self) -> str | None:
        self._looks.ask_again()
        self._hear()
        return self._trouble()

    def _hear(self) -> None:
        if self._told is not None:
            self._told.hear(self._worth_telling())

    def _worth_telling(self) -> str | None:
        return self._trouble() or self._other_mtu()

    def _other_mtu(self) -> str | None:
        mtu = self._looks.seen.mtu
        if mtu in (None, self._mtu):
            return None
        return f"interface {self._name} has an MTU of {mtu} now; the stacks go on with {self._mtu} until a restart"

    def _trouble(self) -> str | None:
        if (found := self._interface_trouble()) is not None:
            return found[0]
        return None if self.sharing is None else self.sharing.trouble()

    def _changed(self, index: int | None) -> None:
        """This interface, if it is ours."""
        if self._told is not None and index in (self._index, None):
            self._told.look()
            self._looks.ask()

    def _find(self) -> tuple[Trouble | None, int | None]:
        """Why packets do not come, and the MTU, under the kernel's lock of network settings. In any thread. OSError:
        there is no such interface."""
        nic, name = self._nic, self._name
        if (found := self._link_trouble(name)) is not None or nic is None or self._lacks_queues():
            return found, None
        return nic.trouble(), nic.mtu_now()

    def _interface_trouble(self) -> Trouble | None:
        """Why packets do not come, and what to do."""
        if (found := self._whereabouts()) is not None:
            return found
        if (found := self._looks.seen.trouble) is None and self._lacks_queues():
            return f"not all queues of interface {self._name} are joined yet", "wait a second"
        return found

    def _whereabouts(self) -> Trouble | None:
        """Why it is not there for us, as far as can be found out, and what to do."""
        if self._joining.is_under_way:
            return f"interface {self._name} is being joined again", "wait a second"
        try:
            if not self._is_gone():
                return None
        except OSError as error:
            return unreadable(error)
        return removed(self._name)

    def _link_trouble(self, name: str) -> Trouble | None:
        """OSError: there is no such interface."""
        link = rtnetlink.link(name)
        if (found := link_trouble(name, link)) is not None:
            return found
        if not self._attached <= link.xdp_programs:
            return f"the XDP program of interface {name} was detached", "restart the server"
        if self._plan.shared and link.mac != self._mac:
            return f"interface {name} has another MAC address than when the server started", "restart the server"
        return None

    def _lacks_queues(self) -> bool:
        return len(self._queues) < self._wanted.queues

    def _is_gone(self) -> bool:
        """For good, whatever has its name meanwhile; the other name that somebody may have given to it is taken. It may
        be back with its number, from another network namespace; its queues are not. OSError: that cannot be found
        out."""
        name = name_now(self._index, self._name)
        if name is None:
            return True
        if name != self._name:
            self._name = name
            if self._nic is not None:
                self._nic.rename(name)
        return not all(_has_queue(fd) for fd, _ in self._queues.values())

    def _open_again(self) -> None:
        """StartupError: it is not back yet."""
        name = self._plan.interface
        existing(name)
        self._end()  # first, as an interface that is back may have our program
        self._joining.forget()
        self._is_back = True
        try:
            self._open()
        except BaseException:
            self._index = 0  # of no interface: it is still gone
            raise
        log.warning("interface %s was removed; it is joined again", name)

    def close(self) -> None:
        """The card's settings are put back whatever else cannot be closed."""
        with ExitStack() as closing:
            if self._joining.close(self._name):
                closing.callback(self._end)
            if self._news is not None:
                closing.callback(self._news.close)
            closing.callback(self._looks.close)
            if self._told is not None:
                closing.callback(self._told.close)

    def _end(self) -> None:
        with ExitStack() as closing:
            if self._nic is not None:
                closing.callback(self._nic.close)
            closing.callback(self._opened.close)

    # Steps of opening.

    def _load(self) -> XdpProgram:
        try:
            from usnet_framework._native_bpf import BpfError, XdpProgram  # nobody else needs libbpf
        except ImportError as error:
            raise StartupError(f"--backend afxdp: {error}") from None
        try:
            program = XdpProgram(large=self._mtu > MTU_MAX)
        except BpfError as error:
            raise StartupError(f"--backend afxdp: {error}") from None
        return program

    def _check_addresses(self) -> None:
        """StartupError: one is the kernel's, whose traffic would come to our station."""
        kernels = [ipaddress.ip_interface(own).ip for own in sharing.own_addresses(self._name, self._index)]
        for address in self._plan.addresses:
            if ipaddress.ip_interface(address).ip in kernels:
                raise StartupError(
                    f"--address {address}: {self._name} has it already; leave --address out to share it with the "
                    "kernel, or name another one"
                )

    def _be_a_station(self) -> None:
        self._program.set_station(self._mac)
        for address in self._addresses():
            self._program.own(address)

    def _addresses(self) -> list[IpAddress]:
        """Those of the stack, with the link-local one that its MAC address gives (RFC 4291 appendix A)."""
        mac = self._mac
        identifier = bytes([mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]])
        link_local = ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
        return [*(ipaddress.ip_interface(address).ip for address in self._plan.addresses), link_local]

    def _features(self) -> XdpFeatures | None:
        """None: the driver does not tell, or what it has may depend on a number of queues that it is yet to get."""
        queues = queues_of(self._name)
        return xdp_features(self._name) if queues is not None and queues >= self._wanted.queues else None

    def _completes_checksums(self) -> bool:
        """What comes from this host is not looked at; a card has to be able to do it."""
        has = self._features()
        return self._link.kind in SAME_HOST or (has is not None and has.tx_checksum)

    def _check_required(self, has: XdpFeatures | None) -> None:
        """As far as the driver tells. StartupError."""
        required = self._plan.require
        if "native" in required and has is not None and not has.native:
            raise self._lacking("native", f"the driver of {self._name} has no native XDP")
        if "zerocopy" in required and has is not None and not has.zero_copy:
            raise self._lacking("zerocopy", f"the driver of {self._name} has no zero-copy")

    def _lacking(self, required: str, why: str) -> StartupError:
        return StartupError(f"--require {required}: {why}; leave it out, or use another interface")

    def _set_up(self, frames: Mapping[int, int]) -> None:
        """The card, and queues for these shards. InUse, StartupError."""
        self._set_up_card()
        for shard, frames_fd in frames.items():
            if shard in self._queues:
                continue
            try:
                self._queues[shard] = self._open_queue(shard, frames_fd)
            except XdpError as error:
                kind = InUse if error.errno == errno.EBUSY else StartupError
                raise kind(f"--interface {self._name}: {error}") from None

    def _set_up_card(self) -> None:
        """The card first, as some drivers change no queue that is used. StartupError."""
        if self._nic is None:
            self._nic = self._changed_card()
        if self._native is None:
            self._attach()
            self._nic.repeat_hash()
            self._nic.tune()

    def _changed_card(self) -> Nic:
        """All of it or nothing. StartupError."""
        with ExitStack() as opened:
            nic = Nic(self._wanted)
            opened.callback(nic.close)
            if self.sharing is not None:
                self.sharing.reserve(nic.journal)
            opened.pop_all()
        return nic

    def _attach(self) -> None:
        """In the driver, or behind it where it cannot do so. StartupError."""
        if self._member is not None:
            self._join(self._member)
        native = self._attach_in(native=True)
        if not native and "native" in self._plan.require:
            raise self._lacking("native", self._why_generic)
        self._native = native or self._attach_in(native=False)
        self._attached = rtnetlink.link(self._name).xdp_programs

    def _attach_in(self, native: bool) -> bool:
        """Whether it is in the driver; StartupError when it is nowhere."""
        try:
            self._program.attach(self._name, native=native)
        except OSError as error:
            if native and error.errno in (errno.EOPNOTSUPP, errno.ERANGE, errno.EINVAL):
                self._why_generic = str(error)
                return False
            kind = InUse if error.errno in (errno.EBUSY, errno.EEXIST) else StartupError
            raise kind(f"--interface {self._name}: {error}") from None
        return native

    def _join(self, member: socket.socket) -> None:
        """What the card has to let pass. Its driver may ignore this where it lets everything pass anyway."""
        wanted = [(PACKET_MR_UNICAST, self._mac)]
        # The group of each IPv6 address: RFC 4291 section 2.7.1, on Ethernet RFC 2464 section 7.
        groups = [b"\x33\x33\xff" + one.packed[13:] for one in self._addresses() if one.version == 6]
        wanted += [(PACKET_MR_MULTICAST, group) for group in groups]
        for kind, mac in wanted:
            try:
                join(member, self._index, kind, mac)
            except OSError as error:
                raise StartupError(
                    f"--interface {self._name}: does not take a second MAC address ({error.strerror}); "
                    "use another interface"
                ) from None

    def _open_queue(self, shard: int, frames_fd: int) -> tuple[int, int]:
        """XdpError; StartupError: the kernel copies, and may not."""
        bytes_ = os.fstat(frames_fd).st_size
        queue = Queue(
            interface=self._name,
            queue=shard,
            mac=self._mac,
            mtu=self._mtu,
            mode=Mode.ANY if self._native else Mode.COPY,  # what goes past the driver's program is copied
            tx_checksum=self._completes_checksums(),
            is_polled=self._plan.poll == "busy" and are_put_off(self._name),
        )
        with ExitStack() as opened:
            memory = os.memfd_create(f"usnet-queue-{shard}", os.MFD_CLOEXEC)
            opened.callback(os.close, memory)
            with mmap.mmap(frames_fd, bytes_) as frames:  # registered pages stay pinned
                fd = xdp_socket(queue, frames, bytes_ // FRAME_BYTES, FRAME_BYTES, memory)
            opened.callback(os.close, fd)
            self._check_copies(shard, modes(fd, memory))
            self._program.set_queue(shard, fd)
            self._opened.push(opened.pop_all())
        return fd, memory

    def _check_copies(self, shard: int, found: Modes) -> None:
        if "zerocopy" in self._plan.require and not found.zero_copy:
            raise self._lacking("zerocopy", f"the driver of {self._name} has no zero-copy for queue {shard}")

    # What is in force.

    def _sockets(self) -> Modes:
        """Of all of them."""
        found = [modes(*queue) for queue in self._queues.values()]
        return Modes(
            zero_copy=all(one.zero_copy for one in found),
            tx_checksum=all(one.tx_checksum for one in found),
            is_polled=all(one.is_polled for one in found),
        )

    def _modes(self) -> list[Finding]:
        if self._native is None or not self._queues:
            return []
        return [self._program_finding(), *self._socket_findings(self._sockets())]

    def _program_finding(self) -> Finding:
        what, asked = "XDP", "in the driver"
        if self._native:
            return Finding(what, asked, asked)
        return Finding(what, asked, "behind the driver", self._why_generic, "use a driver that has it", ok=False)

    def _socket_findings(self, found: Modes) -> list[Finding]:
        asked = "the card uses our frames" if "zerocopy" in self._plan.require else "as the driver can"
        copies = "the card uses our frames" if found.zero_copy else "the kernel copies"
        checksums = "the interface" if found.tx_checksum else "the stack"
        findings = [
            Finding("packets", asked, copies),
            Finding("checksums of what is sent", "by the interface, if it can be asked", f"by {checksums}"),
        ]
        if self._plan.poll == "busy":
            findings.append(self._polling_finding(found))
        return findings

    def _polling_finding(self, found: Modes) -> Finding:
        what, asked = "the driver's work", "by network processes (--poll busy)"
        if found.is_polled:
            return Finding(what, asked, "by network processes")
        reason, fix = "no packet has come yet, or this kernel and driver do not have it", "use --poll adaptive"
        if not are_put_off(self._name):
            folder = f"/sys/class/net/{self._name}"
            reason = "the interface does not put interrupts off, which takes both of these before the server starts"
            fix = f"echo 2 > {folder}/napi_defer_hard_irqs; echo 200000 > {folder}/gro_flush_timeout"
        return Finding(what, asked, "by interrupts", reason, fix)

    def _dropped(self) -> list[Finding]:
        counters = self.drops()
        reasons = {
            "not_served": "their queue had no network process when they came",
            "fragments": "fragments of TCP to a shared address: its sender, or a router on the way, cuts segments",
        }
        return [
            Finding("packets for us", "to a network process", f"{counters[name]} were dropped", reason)
            for name, reason in reasons.items()
            if counters.get(name)
        ]


def changes(plan: StackPlan, queues: int) -> list[str]:
    name = plan.interface
    station = f"{name} station: the kernel's -> the kernel's and ours, {our_station(name).hex(':')}"
    what = sharing.changes(plan) if plan.shared else [station]
    return [*planned(_wanted(plan, queues)), *what, f"{name} XDP program: none -> ours"]


def _wanted(plan: StackPlan, queues: int) -> Wanted:
    return Wanted(plan.interface, queues, tuning=plan.tuning)


def check_kernel(release: str) -> None:
    """StartupError: it lacks something that cannot be done without."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and (int(found[1]), int(found[2])) < KERNEL_MIN:
        needed = ".".join(map(str, KERNEL_MIN))
        raise StartupError(f"--backend afxdp: takes Linux {needed} or newer, and this is {release}; upgrade the kernel")


def addresses_of(name: str) -> list[str]:
    """Of an interface, with their prefixes, which a server can share with the kernel. StartupError."""
    existing(name)
    return sharing.addresses_of(name, rtnetlink.index_of(name))


def _checked_link(name: str) -> rtnetlink.Link:
    """StartupError: one line, why it cannot be served on."""
    link = existing(name)
    if link.flags & IFF_LOOPBACK:
        raise StartupError(
            f"--interface {name}: is the loopback, and no card; name a card, or use --backend kernel for clients on "
            "this host"
        )
    check_up(name, link)
    if link.xdp_programs and (pid := undo.holder(name)) is not None:
        raise undo.in_use(name, pid)
    if link.xdp_programs:
        raise InUse(
            f"--interface {name}: another XDP program is attached to it; stop its owner, or ip link set {name} xdp off"
        )
    return link


def _checked_mtu(name: str, has: XdpFeatures | None) -> int:
    """StartupError: a packet would not fit into a frame, and cannot come in several."""
    with Ethtool(name) as card:
        mtu = card.mtu()
    if mtu > MTU_MAX and not (has is not None and has.large):
        why = "its driver gives none in several" if has is not None else "nothing tells that it gives them in several"
        raise StartupError(
            f"--interface {name}: packets of {mtu} bytes do not fit into a frame, and {why}; "
            f"ip link set {name} mtu {MTU_MAX}"
        )
    return mtu


def _has_queue(fd: int) -> bool:
    """Of a socket that was bound: whether its interface has not been taken from it since."""
    with socket.socket(AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(fd)) as queue:
        try:
            queue.recv(1, socket.MSG_DONTWAIT)  # it never gives anything
        except OSError as error:
            return error.errno != errno.ENXIO
    return True
