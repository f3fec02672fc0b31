"""Descriptors and locked memory: how much this machine grants, and what can be served with it.

Every connection is a descriptor of the process that owns it; every child costs the supervisor a few. Both are known
before anything starts, so asking for too much is refused at once and in numbers, not by EMFILE under load. With a stack
of our own connections are entries of a table, and a device may have all frames locked in memory.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from usnet_framework.errors import StartupError
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.privileges import OF_DEVICES, capabilities

SUPERVISOR_RESERVE = 160  # standard streams, loop, libraries; 64 clients of metrics, 32 of the control socket
NETWORK_RESERVE = 64  # standard streams, memories, wake-ups, epoll
INLINE_RESERVE = 256  # the same, and whatever the application opens
PER_SHARD = 6  # control socket, pidfd, public memory, an answer of its engine; two to rebuild with
PER_WORKER = 7  # control socket, pidfd, port memory, two pipes that wake: both ends while a network process starts
PER_SPARE = 2  # control socket, pidfd
PER_QUEUE = 4  # queue, wake-up of a packet device; arena, frames
SPARE = 64  # to rebuild a shard with, and for clients of metrics and control socket
STACK_CONNECTIONS_AUTO = 1 << 14
"""Connections of one shard on a stack of our own when nobody says: its tables are made at start, 10 KB for each
connection in all, most of it only taken when it is used."""
CONNECTIONS_AUTO = 1 << 17
"""Connections of one shard when nobody says how many: tables are sized at start, and a limit of descriptors may be a
billion (container engines set it so)."""


@dataclass(frozen=True)
class Demand:
    """What a plan needs. `max_connections` is of the whole server, None as many as can be. `own_stack`: connections are
    no descriptors. `held`: sockets that keep ports of shared addresses."""

    layout: str
    shards: int
    workers: int
    spares: int
    listeners: int
    max_connections: int | None
    own_stack: bool = False
    held: int = 0

    @property
    def supervisor(self) -> int:
        """Descriptors of the supervisor."""
        workers = self.shards * self.workers * PER_WORKER + self.spares * PER_SPARE
        per_shard = PER_SHARD + self.listeners + (PER_QUEUE if self.own_stack else 0)
        return SUPERVISOR_RESERVE + self.shards * per_shard + workers + self.held

    @property
    def reserve(self) -> int:
        """Descriptors of the process that owns connections, which are not connections."""
        fixed = INLINE_RESERVE if self.layout == "inline" else NETWORK_RESERVE
        return fixed + self.listeners + 3 * self.workers  # port memory, two pipes


def raise_descriptor_limit() -> int:
    """Raise the soft limit of this process and its children to the hard one; the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def check_supervisor(demand: Demand, limit: int) -> None:
    """StartupError when descriptors do not suffice for the processes."""
    if demand.supervisor > limit:
        held = f" and {demand.held} ports of shared addresses" if demand.held else ""
        raise StartupError(
            f"--workers {demand.workers}: {demand.shards} shards of so many{held} need {demand.supervisor} "
            f"descriptors, the limit is {limit}; use fewer, or raise it (ulimit -Hn, LimitNOFILE=)"
        )


def check_spare(asked: str) -> None:
    """After something was opened while the server runs. StartupError: with the descriptors that are left now, this
    process could not replace what dies."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    left = limit - len(os.listdir("/proc/self/fd"))
    if left < SPARE:
        raise StartupError(
            f"{asked}: {left} of {limit} descriptors would be left, too few to replace what dies; unbind another "
            "address, or raise the limit (ulimit -Hn, LimitNOFILE=)"
        )


def connections_per_shard(demand: Demand, limit: int) -> int:
    """How many connections one shard may have; StartupError when descriptors do not allow what was asked."""
    check_supervisor(demand, limit)
    asked = -(-demand.max_connections // demand.shards) if demand.max_connections is not None else None
    if demand.own_stack:
        return asked if asked is not None else STACK_CONNECTIONS_AUTO
    allowed = limit - demand.reserve
    if allowed < (asked or 1):
        raise StartupError(
            f"--max-connections {demand.max_connections or 'auto'}: each of {demand.shards} shards needs "
            f"{(asked or 1) + demand.reserve} descriptors, the limit is {limit}; use more --queues, or raise it "
            "(ulimit -Hn, LimitNOFILE=)"
        )
    return asked if asked is not None else min(allowed, CONNECTIONS_AUTO)


def finding(demand: Demand, limit: int, per_shard: int) -> Finding:
    asked = "auto" if demand.max_connections is None else str(demand.max_connections)
    bound = "tables are made at start" if demand.own_stack else f"each process may have {limit} descriptors"
    reason = f"{demand.shards} x {per_shard}; {bound}"
    return Finding("connections", asked, str(demand.shards * per_shard), reason)


def allow_locked(shards: int, frames_bytes: int) -> Finding:
    """That the frames of all shards may be locked in memory, as a device will have them. The soft limit is raised as
    far as that takes. StartupError: they may not."""
    needed = shards * frames_bytes
    asked = f"{shards} x {_mib(frames_bytes)} of frames"
    if capabilities() >> OF_DEVICES["CAP_IPC_LOCK"] & 1:
        return Finding("locked memory", asked, asked, "the server has CAP_IPC_LOCK")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < needed:
        try:
            resource.setrlimit(
                resource.RLIMIT_MEMLOCK, (needed, hard if hard == resource.RLIM_INFINITY else max(hard, needed))
            )
        except (ValueError, OSError):
            raise StartupError(
                f"{asked} are locked in memory, the limit is {_mib(hard)}; give the server CAP_IPC_LOCK, raise the "
                "limit (ulimit -Hl, LimitMEMLOCK=), or use a smaller --max-connections"
            ) from None
    return Finding("locked memory", asked, asked, "the limit (ulimit -l) allows it")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
