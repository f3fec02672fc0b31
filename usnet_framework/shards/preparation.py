"""Everything that can be refused before the first process is started.

First what is asked for must mean something on this machine, which takes nothing but reading; then sockets are opened,
or the interface of a packet backend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from usnet_framework._native import POLL_MODES, SYSCALL_MODES, StackAddresses, frames_bytes
from usnet_framework.app import parse_app
from usnet_framework.config import Config
from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards import activation, doctor, hugepages, limits, privileges, quarantine, undo
from usnet_framework.shards.control import listen
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.keepalive import Keepalive
from usnet_framework.shards.listeners import Bind, Listener, Listeners, open_listeners, parse_binds
from usnet_framework.shards.ownstack import OwnStack
from usnet_framework.shards.packetdevice import KINDS
from usnet_framework.shards.placement import Plan, Wish, plan
from usnet_framework.shards.privileges import Privileges
from usnet_framework.shards.segment import EngineOptions
from usnet_framework.shards.stackplan import StackPlan, plan_stack
from usnet_framework.shards.topology import interface_node, read_topology
from usnet_framework.shards.tune import tuning_of
from usnet_framework.shards.unixpath import UnixListener

LINGER_NS = 5_000_000_000
"""How long a closed connection may wait for the peer's FIN, its receive side discarding, or for the peer to take
some of the output that is left: short of keeping descriptors for those that never close."""


@dataclass(frozen=True)
class Intent:
    """What is asked for, understood. `stack` is None with the kernel backend. `unserved`: sockets that systemd passed
    and that no bind names."""

    plan: Plan
    binds: Sequence[Bind]
    privileges: Privileges
    stack: StackPlan | None
    unserved: Sequence[int] = ()


@dataclass(frozen=True)
class Prepared:
    """`options` are those of each shard's engine; `control` is None when it is off, `stack` with the kernel backend."""

    plan: Plan
    listeners: Listeners
    stack: OwnStack | None
    control: UnixListener | None
    options: Sequence[EngineOptions]
    config: Config
    fixed: Sequence[Finding]

    def look(self) -> None:
        """Find out for `findings` what takes a while. In any thread."""
        if self.stack is not None:
            self.stack.look()

    @property
    def findings(self) -> list[Finding]:
        """What is in force, as it is now."""
        listening = doctor.listener_findings(self.config.backlog, self.listeners, len(self.plan.shards))
        kept = doctor.quarantine_finding(self.config)
        return [*self.fixed, kept, *listening, *(self.stack.findings() if self.stack is not None else [])]

    def modes(self) -> dict[str, str]:
        """How packets come and go; empty with the kernel backend."""
        return self.stack.modes() if self.stack is not None else {}

    def unreachable(self) -> list[str]:
        """Why clients do not reach what is to be served, as it is now."""
        return self.stack.unreachable() if self.stack is not None else []

    @property
    def socket_files(self) -> list[Path]:
        return self.listeners.paths + ([self.control.path] if self.control is not None else [])

    def close(self) -> None:
        """All of it, whatever one part raises."""
        with ExitStack() as closing:
            if self.control is not None:
                closing.callback(self.control.close)
            if self.stack is not None:
                closing.callback(self.stack.close)
            closing.callback(self.listeners.close)

    def put_back(self, patience_s: float) -> None:
        """Once it is closed: what the kernel refused while it let go of queues. In any thread; OSError."""
        if self.config.interface is not None:
            undo.put_back(self.config.interface, patience_s=patience_s)


def understand(config: Config) -> Intent:
    """Place the processes and parse the rest. UsageError; StartupError for what this machine has not."""
    transport = config.transport()
    parse_app(config.app)
    _check_working_directory()
    _check_quarantine(config)
    binds = parse_binds(config.bind)
    unserved = activation.unserved(binds)
    asked = privileges.understand(config)
    node = interface_node(config.interface) if config.interface is not None else None
    wish = Wish(_queues(config, transport), config.workers, config.layout, config.cores, config.poll, node)
    placed = plan(read_topology(), wish)
    if transport not in KINDS:
        return Intent(placed, binds, asked, None, unserved)
    stack = _understand_stack(config, transport, binds, placed)
    return Intent(placed, binds, asked, replace(stack, tuning=tuning_of(config.tune, placed)), unserved)


def changes(config: Config, intent: Intent) -> list[str]:
    """A line for each setting of the machine that the server will change while it is there. StartupError."""
    if intent.stack is None:
        return []
    return KINDS[config.transport()].changes(intent.stack, len(intent.plan.shards))


def _queues(config: Config, transport: str) -> int | None:
    """None: as many as the machine has room for."""
    if config.queues is None and transport in KINDS and config.interface is not None:
        return KINDS[transport].queues_of(config.interface)
    return config.queues


def _understand_stack(config: Config, transport: str, binds: Sequence[Bind], placed: Plan) -> StackPlan:
    kind, queues = KINDS[transport], len(placed.shards)
    name = config.interface or kind.interface
    if name is None:
        raise UsageError(f"--backend {transport}: no --interface is given; name the one to serve on")
    if queues > kind.queues_max:
        raise UsageError(f"--queues {queues}: an interface of --backend {transport} has at most {kind.queues_max}")
    for required in config.require:
        if required not in kind.has:
            raise UsageError(f"--require {required}: --backend {transport} has no such thing; leave it out")
    planned = plan_stack(
        name, config.address, config.gateway, binds, transport, kind.addresses, config.outgoing_ports, kind.check_name
    )
    return replace(planned, require=frozenset(config.require), poll=placed.poll)


def _check_working_directory() -> None:
    """Paths are relative to it, those of the defaults too."""
    try:
        os.getcwd()
    except OSError as error:
        raise StartupError(f"the working directory is gone: {error.strerror}; start in one that is there") from None


def _check_quarantine(config: Config) -> None:
    """A folder that somebody has named has to be usable; that of the default is reported (doctor.py)."""
    why = quarantine.trouble(Path(config.quarantine).absolute())
    if why is not None and config.quarantine != Config.quarantine:
        raise StartupError(f"--quarantine {config.quarantine}: {why}; use a folder that this user may write")


def prepare(config: Config, intent: Intent) -> Prepared:
    """Open the sockets or the interface, or nothing: StartupError."""
    placed = intent.plan
    limit = limits.raise_descriptor_limit()
    demand = demand_of(config, intent)
    limits.check_supervisor(demand, limit)
    listeners, stack = _open(config, intent)
    try:
        sockets = sum(bool(one.sockets) for one in listeners.open)  # a name may be several addresses
        demand = replace(demand, listeners=sockets)
        connection_limit = limits.connections_per_shard(demand, limit)
        findings = [
            *doctor.backend_findings(config, placed),
            *placed.findings,
            limits.finding(demand, limit, connection_limit),
            *memory_findings(config, intent),
            privileges.finding(intent.privileges),
            *activation.finding(intent.unserved),
        ]
        control = listen(config.control) if config.control != "off" else None
    except BaseException:
        listeners.close()
        if stack is not None:
            stack.close()
        raise
    common = {"connection_limit": connection_limit}
    options = [_engine_options(config, intent, stack, shard.shard, common) for shard in placed.shards]
    return Prepared(placed, listeners, stack, control, options, config, findings)


def memory_findings(config: Config, intent: Intent) -> list[Finding]:
    """Of the frames of a packet backend. StartupError: they may not be locked, or not lie where it is required."""
    if intent.stack is None:
        return []
    shards, limit = len(intent.plan.shards), limits.raise_descriptor_limit()
    size = frames_bytes(limits.connections_per_shard(demand_of(config, intent), limit))
    if "hugepages" in intent.stack.require and (why := hugepages.lack(size, shards)) is not None:
        raise StartupError(f"--require hugepages: {why}")
    return [limits.allow_locked(shards, size)] if KINDS[config.transport()].locks_frames else []


def demand_of(config: Config, intent: Intent) -> limits.Demand:
    """Of descriptors, before names are resolved."""
    return limits.Demand(
        layout=intent.plan.layout,
        shards=len(intent.plan.shards),
        workers=config.workers,
        spares=config.spares,
        listeners=len(intent.binds) if intent.stack is None else 0,
        max_connections=config.max_connections,
        own_stack=intent.stack is not None,
        held=intent.stack.held if intent.stack is not None else 0,
    )


def _engine_options(
    config: Config, intent: Intent, stack: OwnStack | None, shard: int, common: Mapping[str, int]
) -> EngineOptions:
    """All that the engine of a shard is asked to do; nothing of it is handed on in any other way."""
    numbers = {
        **config.engine_options(),
        **common,
        **Keepalive.after(config.keepalive).engine_options(),
        "linger_ns": LINGER_NS,
        "poll_mode": POLL_MODES[intent.plan.poll],
        "syscalls": SYSCALL_MODES[config.syscalls],
        **(stack.options(shard) if stack is not None else {}),
    }
    return EngineOptions(numbers=numbers, addresses=intent.stack.engine if intent.stack else StackAddresses())


def _open(config: Config, intent: Intent) -> tuple[Listeners, OwnStack | None]:
    """With a stack of our own nobody has a listening socket, only addresses to show."""
    shards = len(intent.plan.shards)
    if intent.stack is None:
        return open_listeners(intent.binds, shards, config.backlog, keepalive=Keepalive.after(config.keepalive)), None
    stack = OwnStack(config.transport(), intent.stack, shards)
    endpoints = zip(intent.binds, intent.stack.shown, intent.stack.engine.listeners, strict=True)
    return Listeners([Listener(bind, shown, endpoint=endpoint) for bind, shown, endpoint in endpoints]), stack
