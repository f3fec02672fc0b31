"""An interface whose addresses a server shares with the kernel.

The kernel keeps ARP, neighbour discovery and routes, and all traffic but that of served ports (servedports.py) and of
the outgoing ports (outgoing.py). What it knows is followed (kernelfollower.py) and written into a table that engines
read (native/include/usnet_kernel.h). When it changes, first the table does, then what takes packets: none is to come to
an address that engines have not heard of."""

from __future__ import annotations

import fcntl
import ipaddress
import mmap
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from usnet_framework._native_kernel import ADDRESSES_MAX, IpAddress, table_bytes, write_table
from usnet_framework.errors import StartupError
from usnet_framework.shards import outgoing, servedports
from usnet_framework.shards.cardsettings import shown
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.kernelfollower import KernelFollower
from usnet_framework.shards.kernelview import Address, KernelView
from usnet_framework.shards.outgoing import name_of, ports_named
from usnet_framework.shards.servedports import Endpoint, ServedPorts
from usnet_framework.shards.stackplan import StackPlan
from usnet_framework.shards.undo import Journal, left

F_ADD_SEALS, F_SEALS = 1033, 0x2 | 0x4 | 0x10
"""F_SEAL_SHRINK, _GROW and _FUTURE_WRITE."""


class Program(servedports.Program, Protocol):
    def set_outgoing(self, first: int, last: int) -> None: ...


class SharedInterface:
    """What there is of it lasts from `open` to `close`; what is asked of it lasts longer, for another interface of its
    name. `table_fd`: the table, to be read."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._endpoints = list(plan.engine.listeners)
        self._addresses: list[Address] = []
        self._left_out = 0
        self._wake: Callable[[], None] | None = None
        self._opened = ExitStack()

    def open(self, index: int, program: Program) -> None:
        """InUse, StartupError: one line, why it cannot be."""
        name, ports = self._plan.interface, self._plan.outgoing
        if ports is not None:
            before_us = [ports_named(name) for name in left(name, "ports")]  # about to be put back
            outgoing.check_free(ports, _ips(self._plan), before_us)
            program.set_outgoing(*ports)
        with ExitStack() as opened:
            self._memory, self.table_fd = _table(opened)
            self._ports = ServedPorts(program, index, all_shared=ports is not None)
            opened.callback(self._ports.close)
            self._follower = _follower(name, index, self._publish)
            opened.callback(self._follower.close)
            for endpoint in self._endpoints:
                self._ports.serve(endpoint)
            if self._wake is not None:
                self._follower.start()
            self._opened = opened.pop_all()

    def options(self) -> dict[str, int]:
        """Of engines."""
        first, last = self._plan.outgoing or (0, 0)
        return {"shared": 1, "outgoing_low": first, "outgoing_high": last}

    def addresses(self) -> list[str]:
        """That the interface has now, with their prefixes."""
        return [str(address.own) for address in self._addresses]

    def reserve(self, journal: Journal) -> None:
        """The outgoing ports, if there are any, until the journal is closed. StartupError."""
        ports = self._plan.outgoing
        if ports is None:
            return
        try:
            journal.change("ports", name_of(ports), True)
        except OSError as error:
            raise StartupError(
                f"--outgoing-ports {name_of(ports)}: cannot be reserved: {error.strerror}; it takes CAP_NET_ADMIN, and "
                "a /proc/sys that can be written"
            ) from None
        outgoing.check_unused(ports, _ips(self._plan))  # once more: until now they were the kernel's

    def follow(self, wake: Callable[[], None]) -> None:
        """From now on, in the loop that runs; `wake` has engines look at the table."""
        self._wake = wake
        self._follower.start()

    def ask(self, neighbour: bytes) -> None:
        """An engine has something to send to it; IPv4 in its mapped form."""
        self._follower.ask([neighbour])

    def serve(self, endpoint: Endpoint) -> None:
        """InUse: the kernel has somebody else there."""
        self._ports.serve(endpoint)
        self._endpoints.append(endpoint)

    def unserve(self, endpoint: Endpoint) -> None:
        """The kernel has it again."""
        self._endpoints.remove(endpoint)
        self._ports.unserve(endpoint)

    def close(self) -> None:
        self._opened.close()

    # What is in force.

    def findings(self) -> list[Finding]:
        missing = [self._missing(ip) for ip in self._ports.missing()]
        refused = [
            Finding(servedports.shown(place), "served", "not served", reason, ok=False)
            for place, reason in self._ports.refused.items()
        ]
        return [*map(_finding, self._addresses), *missing, *refused, *self._outgoing(), *self._overflow()]

    def trouble(self) -> str | None:
        """Why clients do not reach all that is to be served, one line."""
        name = self._plan.interface
        if not any(address.usable for address in self._addresses):
            return f"interface {name} has no address"
        for ip in self._ports.missing():
            return f"interface {name} has no address {ip}"
        for place, reason in self._ports.refused.items():
            return f"{servedports.shown(place)} is not served: {reason}"
        return None

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
        fix = "share an interface that has fewer, or give the server an --address of its own"
        return [Finding("addresses, routes and neighbours", "all", found, reason, fix, ok=False)]

    def _publish(self, view: KernelView) -> None:
        self._addresses = view.addresses
        usable = [address.own for address in view.addresses if address.usable]
        self._left_out = write_table(self._memory, usable, view.routes, view.neighbours)
        if self._wake is not None:
            self._wake()
        self._ports.follow([own.ip for own in usable[:ADDRESSES_MAX]])


def changes(plan: StackPlan) -> list[str]:
    """A line for each setting of the machine that the server will change."""
    if plan.outgoing is None:
        return []
    is_reserved = outgoing.is_reserved(plan.outgoing)
    return [shown(plan.interface, "ports", name_of(plan.outgoing), is_reserved, True)]


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


def _finding(address: Address) -> Finding:
    if address.usable:
        return Finding("address", str(address.own), "shared with the kernel")
    reason = "the kernel asks whether another station has it, or has found one"
    return Finding("address", str(address.own), "not served", reason, "give one of the two another address", ok=False)


def _follower(name: str, index: int, publish: Callable[[KernelView], None]) -> KernelFollower:
    """That knows what there is. StartupError."""
    try:
        follower = KernelFollower(index, publish)
    except OSError as error:
        raise StartupError(f"--interface {name}: no socket of rtnetlink: {error.strerror}") from None
    try:
        follower.catch_up()
    except OSError as error:
        follower.close()
        raise StartupError(f"--interface {name}: the kernel does not tell its addresses: {error}") from None
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
