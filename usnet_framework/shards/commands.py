"""What a server answers over its control socket (control.py), a coroutine for each command."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from usnet_framework._native import ConnectionInfo
from usnet_framework.config import Config
from usnet_framework.errors import ControlError
from usnet_framework.shards import conntable
from usnet_framework.shards.binder import Binder
from usnet_framework.shards.connfilter import parse
from usnet_framework.shards.control import Command, Parts
from usnet_framework.shards.crowds import crowd_findings
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.look import open_connections
from usnet_framework.shards.reload import ReloadRefused
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.shard import Shard
from usnet_framework.shards.splitshard import SplitShard
from usnet_framework.shards.steering import flow_findings
from usnet_framework.shards.undo import leftovers
from usnet_framework.shards.upgrade import UpgradeRefused

log = logging.getLogger("usnet.supervisor")

Outcome = asyncio.Future[int | ReloadRefused]


class Server(Protocol):
    """The supervisor."""

    config: Config

    @property
    def segments(self) -> Mapping[int, Segment]: ...
    @property
    def shards(self) -> Sequence[Shard]: ...
    def status(self) -> dict[str, Any]: ...
    def drops(self) -> dict[str, int]: ...
    async def look(self) -> None: ...
    def findings(self) -> list[Finding]: ...
    def rights(self) -> list[Finding]: ...
    def binder(self) -> Binder: ...
    def reload(self) -> Outcome: ...
    def rollback(self) -> Outcome: ...
    def settings_news(self) -> str: ...
    def stop(self) -> None: ...


class Commands:
    """Each raises UsnetError with what is to be answered instead."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._started_ns = time.monotonic_ns()

    def by_name(self) -> dict[str, Command]:
        return {
            "status": self.status,
            "conns": self.conns,
            "stack": self.stack,
            "neigh": self.neigh,
            "routes": self.routes,
            "addr": self.addr,
            "reload": self.reload,
            "rollback": self.rollback,
            "bind": self.bind,
            "unbind": self.unbind,
            "upgrade": self.upgrade,
            "doctor": self.doctor,
            "stop": self.stop,
            "stopped": self.stopped,
        }

    async def status(self) -> dict[str, Any]:
        await self._server.look()
        return self._server.status()

    async def conns(self, where: str = "", details: bool = False) -> Parts:
        """`where`: a filter (connfilter.py). `details`: with what the transport knows."""
        return Parts(conntable.connections(self._server.shards, parse(where), details))

    async def stack(self) -> dict[str, Any]:
        """Counters since the start of each stack, and of what was dropped before any stack had it."""
        self._needs_stack("nstat")
        segments = self._server.segments
        return {
            "server": f"{os.getpid()}:{self._started_ns}",
            "now_ns": time.monotonic_ns(),
            "started_ns": self._started_ns,
            "shards": [{"shard": shard, "counters": segments[shard].stack_counters()} for shard in sorted(segments)],
            "drops": self._server.drops(),
        }

    async def neigh(self) -> Parts:
        return self._table("neigh", "ip neigh")

    async def routes(self) -> Parts:
        return self._table("routes", "ip route")

    async def addr(self) -> Parts:
        return self._table("addr", "ip addr")

    def _table(self, kind: str, otherwise: str) -> Parts:
        self._needs_stack(otherwise)
        return Parts(conntable.tables(self._server.shards, kind))

    def _needs_stack(self, otherwise: str) -> None:
        """ControlError."""
        if self._server.config.transport() == "kernel":
            raise ControlError(f"backend kernel has no stack of its own; ask the kernel: {otherwise}")

    async def reload(self) -> str:
        done = workers(await _outcome(self._server.reload()))
        return f"reloaded {done}{self._server.settings_news()}"

    async def rollback(self) -> str:
        return f"rolled back {workers(await _outcome(self._server.rollback()))}"

    async def bind(self, address: str) -> str:
        return await self._server.binder().bind(address)

    async def unbind(self, address: str) -> str:
        return await self._server.binder().unbind(address)

    async def upgrade(self) -> str:
        """Shard by shard: one that is refused leaves those behind it as they are."""
        self._server.binder()
        split = [shard for shard in self._server.shards if isinstance(shard, SplitShard)]
        if not split:
            raise UpgradeRefused("layout inline: workers carry the engine themselves; restart the server")
        began_s = time.monotonic()
        versions = [await shard.upgrade() for shard in split]
        log.info("network processes go on as usnet %s after %.0f ms", versions[-1], (time.monotonic() - began_s) * 1e3)
        return f"{len(versions)} network process{'es' if len(versions) > 1 else ''} upgraded to usnet {versions[-1]}"

    async def doctor(self) -> list[dict[str, Any]]:
        server = self._server
        await server.look()
        connections = await open_connections(server.segments.values())
        counters: list[dict[str, int]] = []
        if server.config.transport() != "kernel":
            segments = server.segments
            counters = [segments[shard].stack_counters() for shard in sorted(segments)]
        seen = await asyncio.to_thread(_seen_in, connections, counters, server.config)
        found = [*server.findings(), *server.rights(), *seen, *leftovers()]
        return [finding.as_dict() for finding in found]

    async def stop(self) -> str:
        self._server.stop()
        return "stopping"

    async def stopped(self) -> None:
        """Never answered: the connection ends when the loop does, and nothing is left by then."""
        await asyncio.get_running_loop().create_future()


def _seen_in(
    connections: Sequence[ConnectionInfo], counters: Sequence[Mapping[str, int]], config: Config
) -> list[Finding]:
    """In a thread: there may be very many. `counters`: of each shard's stack."""
    flows = flow_findings(connections, counters) if counters else []
    return [*crowd_findings(connections, config, time.monotonic_ns()), *flows]


def workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


async def _outcome(change: Outcome) -> int:
    """ReloadRefused."""
    outcome = await asyncio.shield(change)
    if isinstance(outcome, ReloadRefused):
        raise outcome
    return outcome
