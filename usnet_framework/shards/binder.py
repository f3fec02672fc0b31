"""Addresses that are bound, and unbound, while the server runs: `usnet-ctl bind` and `unbind`.

A socket is opened as at the start; then each shard's engine is told (handover.py). It is served from at once, as nobody
has to start anew for it. What is added stays through deaths of engines and workers and through reloads, and is
forgotten with the server. One change at a time: a later one waits for its turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from usnet_framework.errors import ControlError, StartupError
from usnet_framework.shards import limits
from usnet_framework.shards.changes import Changes
from usnet_framework.shards.keepalive import Keepalive
from usnet_framework.shards.listeners import LISTENERS_MAX, Bind, Listener, Listeners, open_listeners, parse_bind
from usnet_framework.shards.ownstack import OwnStack
from usnet_framework.shards.shard import Shard
from usnet_framework.shards.sharing import SharedInterface

log = logging.getLogger("usnet.supervisor")

SETTLE_S = 5.0  # an engine reads requests between two turns, and one that died is replaced in milliseconds
GIVE_BACK_S = 1.0  # from one look at all connections to the next


@dataclass(frozen=True)
class BinderSetup:
    """`stack` is None with the kernel backend. `guard(paths)` has socket files removed if we are killed: those of all
    listeners that were added; StartupError when it cannot."""

    listeners: Listeners
    shards: Sequence[Shard]
    changes: Changes
    stack: OwnStack | None
    backlog: int
    keepalive: Keepalive
    guard: Callable[[Sequence[Path]], Awaitable[None]]


class Binder:
    """Belongs to the thread of the loop; sockets are opened in another one, as names are looked up."""

    def __init__(self, setup: BinderSetup) -> None:
        self._setup = setup
        self._turn = asyncio.Lock()
        self._closed = False
        self._giving_back: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Refuse what is asked from now on, and wait for what was; not for ever for one that looks a name up."""
        self._closed = True
        for task in self._giving_back:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S), self._turn:
                pass

    async def bind(self, address: str) -> str:
        """Listen there too; what was done, in words. UsageError, StartupError, ControlError: one line."""
        bind = parse_bind(address, option="")
        async with self._turn:
            self._check_open(bind)
            self._check_new(bind)
            opened = await self._open(bind)
            try:
                await self._add(opened)
            except BaseException:
                self._setup.listeners.remove(opened.open)
                self._follow()
                self._end(opened.open)
                raise
            log.info("listening on %s", _named(opened.open))
            return f"listening on {_named(opened.open)} until the server is restarted; --bind keeps it"

    async def unbind(self, address: str) -> str:
        """Listen there no more; what was done, in words. UsageError, ControlError: one line."""
        bind = parse_bind(address, option="")
        async with self._turn:
            self._check_open(bind)
            listeners = self._setup.listeners
            gone = [one for one in listeners.open if one.is_named(bind)]
            if not gone:
                there = ", ".join(listeners.addresses) or "nothing"
                raise ControlError(f"{address}: is not listened on; there is {there}")
            listeners.remove(gone)
            self._follow()
            try:
                await self._settle()
            finally:
                self._end(gone)
            log.info("no longer listening on %s", _named(gone))
            if any(one.file is not None for one in gone):
                await self._setup.guard(self._added_files())
            return f"no longer listening on {_named(gone)}"

    def _check_open(self, bind: Bind) -> None:
        if self._closed:
            raise ControlError(f"{bind.asked}: the server is stopping")

    def _check_new(self, bind: Bind) -> None:
        if any(one.is_named(bind) for one in self._setup.listeners.open):
            raise ControlError(f"{bind.asked}: is listened on already; unbind it first, or use another address")

    async def _open(self, bind: Bind) -> Listeners:
        if bind.kind == "fd":
            raise StartupError(f"{bind.asked}: a descriptor is inherited when the server starts; give tcp:// or unix:")
        listeners = self._setup.listeners
        if self._setup.stack is not None:
            taken = [one.endpoint for one in listeners.open if one.endpoint is not None]
            opened = Listeners([await self._setup.stack.open_listener(bind, taken)])
        else:
            opened = await asyncio.to_thread(self._open_sockets, bind, [one.bind for one in listeners.open])
        for one in opened.open:
            one.added = True
        return opened

    def _open_sockets(self, bind: Bind, beside: Sequence[Bind]) -> Listeners:
        setup = self._setup
        return open_listeners([bind], len(setup.shards), setup.backlog, keepalive=setup.keepalive, beside=beside)

    async def _add(self, opened: Listeners) -> None:
        listeners = self._setup.listeners
        asked = opened.open[0].bind.asked
        self._check_open(opened.open[0].bind)
        if len(listeners.open) + len(opened.open) > LISTENERS_MAX:
            raise StartupError(f"{asked}: {LISTENERS_MAX} addresses are listened on, more are not possible; unbind one")
        limits.check_spare(asked)
        if opened.files:
            await self._setup.guard([*self._added_files(), *opened.paths])
        listeners.add(opened)
        self._follow()
        await self._settle()
        for error in (shard.handover.refusal(one) for shard in self._setup.shards for one in opened.open):
            if error:
                raise StartupError(f"{asked}: the network process refused it: {_why(error)}")

    def _end(self, listeners: Sequence[Listener]) -> None:
        for one in listeners:
            one.refuse()
            one.close()
            sharing = self._setup.stack.sharing if self._setup.stack is not None else None
            if one.endpoint is not None and sharing is not None:
                task = asyncio.create_task(self._give_back(sharing, one.endpoint))
                self._giving_back.add(task)
                task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, sharing: SharedInterface, endpoint: tuple[str, int]) -> None:
        """To the kernel, which resets what it knows nothing of: when all connections that came there have ended."""
        while await asyncio.to_thread(self._are_used, {(str(ip), port) for ip, port in sharing.ending(endpoint)}):
            await asyncio.sleep(GIVE_BACK_S)
        sharing.unserve(endpoint)

    def _are_used(self, ends: Collection[tuple[str, int]]) -> bool:
        for segment in [shard.segment for shard in self._setup.shards]:
            with suppress(ValueError):  # it was closed, and its connections with it
                if segment is not None and any(conn.local[:2] in ends for conn in segment.connections()):
                    return True
        return False

    def _added_files(self) -> list[Path]:
        return [one.file.path for one in self._setup.listeners.open if one.added and one.file is not None]

    def _follow(self) -> None:
        for shard in self._setup.shards:
            shard.handover.follow()

    async def _settle(self) -> None:
        """Until every engine has answered. One that does not in time is told again when it is replaced."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._setup.changes.until(lambda: all(shard.handover.settled for shard in self._setup.shards))


def _named(listeners: Sequence[Listener]) -> str:
    return ", ".join(one.address for one in listeners)


def _why(error: int) -> str:
    """What an engine refuses a listener with."""
    texts = {
        errno.EADDRNOTAVAIL: "the address has just been taken from the interface; name another one",
        errno.ENOSPC: f"it has {LISTENERS_MAX} listeners; unbind one",
    }
    return texts.get(error, os.strerror(error))
