"""An interface whose addresses a server shares with the kernel.

The kernel keeps ARP, neighbour discovery and routes, and all traffic but that of served ports (servedports.py) and of
the outgoing ports (outgoing.py). What it knows is followed (kernelfollower.py) and written into a table that engines
read (native/include/usnet_kernel.h). When it changes, first the table does, then what takes packets: none is to come to
an address that engines have not heard of.

The table has room for a few addresses: those that are served stay, then come those that a listener names, then the
others in the kernel's order. The kernel keeps what finds no room."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import logging
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Protocol

from usnet_framework._native_kernel import ADDRESSES_MAX, table_bytes, write_table
from usnet_framework.addresses import IpAddress, IpInterface, no_host
from usnet_framework.errors import StartupError
from usnet_framework.shards import outgoing, servedports, undo
from usnet_framework.shards.backoff import DELAY_MAX_S, Backoff
from usnet_framework.shards.cardsettings import shown
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.kernelfollower import KernelFollower
from usnet_framework.shards.kernelview import Address, KernelView
from usnet_framework.shards.outgoing import name_of, ports_named
from usnet_framework.shards.servedports import Endpoint, Place, ServedPorts, look
from usnet_framework.shards.stackplan import StackPlan

log = logging.getLogger("usnet.supervisor")

F_ADD_SEALS, F_SEALS = 1033, 0x2 | 0x4 | 0x10
"""F_SEAL_SHRINK, _GROW and _FUTURE_WRITE."""

NO_ROOM = f"a server shares {ADDRESSES_MAX} addresses of an interface, and this one has more"
FEWER = "share an interface that has fewer, or give the server an --address of its own"


class Program(servedports.Program, Protocol):
    def set_outgoing(self, first: int, last: int) -> None: ...


class SharedInterface:
    """What there is of it lasts from `open` to `close`; what is asked of it lasts longer, for another interface of its
    name. `table_fd`: the table, to be read."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._endpoints = list(plan.engine.listeners)
        self._addresses: list[Address] = []
        self._served: list[IpInterface] = []  # the table has these
        self._unserved: dict[IpInterface, tuple[str, str]] = {}  # usable, but not for us: why, and what to do
        self._left_out = 0
        self._wake: Callable[[], None] | None = None
        self._opened = ExitStack()

    def open(self, index: int, program: Program) -> None:
        """InUse, StartupError: one line, why it cannot be. A port that somebody has got while the server was without
        its interface is waited for."""
        name, ports = self._plan.interface, self._plan.outgoing
        if ports is not None:
            before_us = [ports_named(name) for name in undo.left(name, "ports")]  # about to be put back
            outgoing.check_free(ports, before_us)
            if self._wake is None:  # else it is looked at but once, when they are reserved
                outgoing.check_unused(ports, _ips(self._plan))
            program.set_outgoing(*ports)
        self._served = []
        self._refused: set[Place] = set()
        self._backoff = Backoff(free=0)
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        with ExitStack() as opened:
            opened.callback(self._give_up)
            self._memory, self.table_fd = _table(opened)
            self._ports = ServedPorts(program, index, all_shared=ports is not None, endpoints=self._endpoints)
            opened.callback(self._ports.close)
            self._follower = _follower(name, index, self._publish)
            opened.callback(self._follower.close)
            if self._wake is not None:
                self._follower.start()
            else:
                if unclear := self._ports.unclear():
                    self._ports.clear_up(unclear, look(unclear))
                for endpoint in self._endpoints:
                    self._ports.check(endpoint)
            self._opened = opened.pop_all()

    def options(self) -> dict[str, int]:
        """Of engines."""
        first, last = self._plan.outgoing or (0, 0)
        return {"shared": 1, "outgoing_low": first, "outgoing_high": last}

    def addresses(self) -> list[str]:
        """That the interface has now, with their prefixes."""
        return [str(address.own) for address in self._addresses]

    def reserve(self, journal: undo.Journal) -> None:
        """The outgoing ports, if there are any, until the journal is closed. It waits a second, at most, while another
        server reserves its own. In any thread. StartupError."""
        ports = self._plan.outgoing
        if ports is None:
            return
        try:
            with outgoing.alone:
                outgoing.check_free(ports)  # once more: another server may have been quicker
                journal.change("ports", name_of(ports), True)
        except OSError as error:
            raise StartupError(f"--outgoing-ports {name_of(ports)}: cannot be reserved: {_why_not(error)}") from None
        outgoing.check_unused(ports, _ips(self._plan))  # once more: until now they were the kernel's

    def follow(self, wake: Callable[[], None]) -> None:
        """From now on, in the loop that runs; `wake` has engines look at the table."""
        self._wake = wake
        self._follower.start()
        self._go_on()

    def ask(self, neighbour: bytes) -> None:
        """An engine has something to send to it; IPv4 in its mapped form."""
        self._follower.ask([neighbour])

    async def serve(self, endpoint: Endpoint) -> None:
        """All of it that there is, or nothing. InUse: the kernel has somebody else there. StartupError."""
        for own, (why, fix) in self._unserved.items():
            if str(own.ip) == endpoint[0]:
                where = servedports.shown((own.ip, endpoint[1]))
                raise StartupError(f"{where}: the address is not served: {why}; {fix}")
        ports = self._ports  # it may be gone in the end, and what there is then is waited for
        ports.serve(endpoint)
        self._endpoints.append(endpoint)
        try:
            await _clear_up(ports)
            ports.check(endpoint)
        except BaseException:
            self.unserve(endpoint)
            raise
        self._go_on()

    def unserve(self, endpoint: Endpoint) -> None:
        """The kernel has it again."""
        self._endpoints.remove(endpoint)
        self._ports.unserve(endpoint)
        self._go_on()

    def ending(self, endpoint: Endpoint) -> set[Place]:
        """What the kernel gets back when it is unserved."""
        return self._ports.ending(endpoint)

    def close(self) -> None:
        self._opened.close()

    # What is in force.

    def findings(self) -> list[Finding]:
        addresses = [self._finding(address) for address in self._addresses]
        missing = [self._missing(ip) for ip in self._absent()]
        again = f"the server tries again, every {DELAY_MAX_S:g} s at least"
        refused = [
            Finding(servedports.shown(place), "served", "not served", str(why), again, ok=False)
            for place, why in self._ports.refused.items()
        ]
        return [*addresses, *missing, *refused, *self._outgoing(), *self._overflow()]

    def trouble(self) -> str | None:
        """Why clients do not reach all that is to be served, one line."""
        name = self._plan.interface
        if not self._served:
            return f"interface {name} has no address{' that can be served' if self._addresses else ''}"
        for ip in self._absent():
            return f"interface {name} has no address {ip}"
        for ip in self._ports.missing():
            return f"address {ip} of interface {name} is not served"
        for place, why in self._ports.refused.items():
            return f"{servedports.shown(place)} is not served: {why}"
        return None

    def _absent(self) -> list[str]:
        """Addresses that are listened on and that the interface has not at all."""
        has = {str(address.own.ip) for address in self._addresses}
        return [ip for ip in self._ports.missing() if ip not in has]

    def _finding(self, address: Address) -> Finding:
        what, asked = "address", str(address.own)
        if not address.usable:
            reason = "the kernel asks whether another station has it, or has found one"
            return Finding(what, asked, "not served", reason, "give one of the two another address", ok=False)
        if address.own in self._unserved:
            return Finding(what, asked, "not served", *self._unserved[address.own], ok=False)
        return Finding(what, asked, "shared with the kernel")

    def _missing(self, ip: str) -> Finding:
        name = self._plan.interface
        fix = f"ip address add {ip}/PREFIX dev {name}, or unbind it"
        return Finding("address", ip, "not served", f"{name} has no such address now", fix, ok=False)

    def _outgoing(self) -> list[Finding]:
        if self._plan.outgoing is None:
            return []
        what, asked = "outgoing ports", name_of(self._plan.outgoing)
        if outgoing.is_reserved(self._plan.outgoing):
            return [Finding(what, asked, f"{asked}, reserved")]
        reason = "somebody has changed net.ipv4.ip_local_reserved_ports since: the kernel takes them as well"
        return [Finding(what, asked, f"{asked}, not reserved", reason, "restart the server", ok=False)]

    def _overflow(self) -> list[Finding]:
        if not self._left_out:
            return []
        found = f"all but {self._left_out}"
        reason = "there is no room for more in the table that network processes read"
        return [Finding("routes and neighbours", "all", found, reason, FEWER, ok=False)]

    # What the kernel says.

    def _publish(self, view: KernelView) -> None:
        """OSError: not all of it; it has to be published again."""
        served, unserved = self._chosen(view.addresses)
        self._left_out = write_table(self._memory, served, view.routes, view.neighbours)
        fresh = unserved.keys() - self._unserved.keys()
        self._addresses, self._served, self._unserved = view.addresses, served, unserved
        if self._wake is not None:  # what there is at the start is reported with the other findings
            for own in fresh:
                log.warning("address %s of %s is not served: %s; %s", own, self._plan.interface, *unserved[own])
            self._wake()
        self._ports.follow([own.ip for own in served])
        self._go_on()

    def _chosen(self, addresses: Sequence[Address]) -> tuple[list[IpInterface], dict[IpInterface, tuple[str, str]]]:
        """What is served, and why others are not."""
        usable = [address.own for address in addresses if address.usable]
        unserved = {own: (f"it is {why}", "name another one") for own in usable if (why := no_host(own)) is not None}
        named = {host for host, _ in self._endpoints}
        hosts = [own for own in usable if own not in unserved]
        hosts.sort(key=lambda own: (own not in self._served, str(own.ip) not in named))
        return hosts[:ADDRESSES_MAX], unserved | dict.fromkeys(hosts[ADDRESSES_MAX:], (NO_ROOM, FEWER))

    # What cannot be served at once. Nothing tells that a port is free again.

    def _go_on(self) -> None:
        """After each change: what is unclear is looked at; what is refused then is tried again, as long as it is."""
        if self._wake is None or self._looking is not None:
            return
        if self._ports.unclear():
            self._looking = asyncio.get_running_loop().create_task(self._look())
            return
        self._log_refused()
        if not self._ports.refused:
            self._backoff.succeeded()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._backoff.failed(), self._try_again)

    async def _look(self) -> None:
        try:
            await _clear_up(self._ports)
        finally:
            if self._looking is asyncio.current_task():
                self._looking = None
        self._go_on()

    def _try_again(self) -> None:
        self._timer = None
        with suppress(OSError):  # the follower tells of it, and does not give up
            self._ports.try_again()
        self._go_on()

    def _give_up(self) -> None:
        """Nothing is tried or looked at any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _log_refused(self) -> None:
        refused = self._ports.refused
        for place in refused.keys() - self._refused:
            log.warning("%s is not served: %s", servedports.shown(place), refused[place])
        for place in filter(self._ports.holds, self._refused - refused.keys()):
            log.info("%s is served from now on", servedports.shown(place))
        self._refused = set(refused)


def changes(plan: StackPlan) -> list[str]:
    """A line for each setting of the machine that the server will change."""
    if plan.outgoing is None:
        return []
    is_touched = outgoing.is_touched(plan.outgoing)
    return [shown(plan.interface, "ports", name_of(plan.outgoing), is_touched, True)]


def own_addresses(name: str, index: int) -> list[str]:
    """That an interface has, with their prefixes. StartupError: the kernel does not tell."""
    views: list[KernelView] = []
    _follower(name, index, views.append).close()
    return [str(address.own) for address in views[-1].addresses]


def addresses_of(name: str, index: int) -> list[str]:
    """The same. StartupError: it has none, too."""
    found = own_addresses(name, index)
    if not found:
        raise StartupError(
            f"--interface {name}: has no address to share with the kernel; ip address add CIDR dev {name}, "
            "or give the server one of its own with --address"
        )
    return found


def _ips(plan: StackPlan) -> list[IpAddress]:
    return [ipaddress.ip_interface(address).ip for address in plan.addresses]


def _why_not(error: OSError) -> str:
    """Reserving ports: the change is written down first."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}; it takes CAP_NET_ADMIN, and a /proc/sys that can be written"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; the server writes down what it changes: make room in {undo.default_folder()}"
    return str(error.strerror)


async def _clear_up(ports: ServedPorts) -> None:
    """In a thread: the kernel may have many connections to look at."""
    while unclear := ports.unclear():
        ports.clear_up(unclear, await asyncio.to_thread(look, unclear))


def _follower(name: str, index: int, publish: Callable[[KernelView], None]) -> KernelFollower:
    """That knows what there is, and has told it. StartupError."""
    try:
        follower = KernelFollower(index, publish)
    except OSError as error:
        raise StartupError(f"--interface {name}: no socket of rtnetlink: {error.strerror}") from None
    try:
        follower.catch_up()
    except OSError as error:
        follower.close()
        raise StartupError(f"--interface {name}: the kernel does not tell its addresses: {error}") from None
    try:
        follower.publish()
    except OSError as error:
        follower.close()
        raise StartupError(f"--interface {name}: its packets cannot be taken from the kernel: {error}") from None
    return follower


def _table(opened: ExitStack) -> tuple[mmap.mmap, int]:
    """Its memory, and a descriptor by which it can be read and no more."""
    writable = os.memfd_create("usnet-kernel-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(writable, table_bytes())
        memory = mmap.mmap(writable, table_bytes())
        opened.callback(memory.close)
        fcntl.fcntl(writable, F_ADD_SEALS, F_SEALS)
        readable = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, readable)
    finally:
        os.close(writable)
    return memory, readable
