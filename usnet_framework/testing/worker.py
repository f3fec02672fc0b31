"""A worker under test: a handler and the loop that drives it, in the test's process and in virtual time.

Its life is that of shards/worker.py: on_warm, on_start, then a port until `retire`; what it has begun is finished, then
on_stop, and what still runs is cancelled. It lives in its loop's turns, so the network goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from usnet_framework._dispatch import Port
from usnet_framework.handler import Handler, Result, Shard, ShutdownReason, spawned_tasks
from usnet_framework.shards.worker import FLUSH_POLL_S, call, cancel_tasks, resumes
from usnet_framework.testing.death import Doomed, bury
from usnet_framework.testing.links import Clock
from usnet_framework.testing.stations import SimulationFailed
from usnet_framework.testing.virtualloop import VirtualLoop

START_S = 60.0
"""`--start-timeout`: for on_warm, and for on_start."""

Make = Callable[[], Handler]


@dataclass(frozen=True)
class Curse:
    """So many workers in a row die in this method: when it ends, or when so many of its lines have run."""

    during: str
    line: int | None
    times: int


class Worker:
    """Made, it begins to start as soon as its loop turns. `wake` is called when it has something to do. Whatever
    making the handler raises."""

    def __init__(self, make: Make, shard: Shard, clock: Clock, wake: Callable[[], None]) -> None:
        self.handler = make()
        self.serial = shard.serial
        self.resumes = resumes(type(self.handler))
        self.is_started = False
        self.is_dead = False
        self.is_retired = False
        self._shard = shard
        self._port: Port | None = None
        self._doomed: Doomed | None = None
        self.curse: Curse | None = None  # of the one that follows, once it is dead
        self._events = 0
        self._deadline_s = 0.0
        self._context = contextvars.copy_context()  # of all callbacks that belong to no connection
        self._loop = VirtualLoop(clock, wake)
        self._told_to_leave = asyncio.Event()
        self._life = self._loop.create_task(self._live(), context=self._context)

    @property
    def has_left(self) -> bool:
        return self.is_started and self._life.done()

    @property
    def failure(self) -> BaseException | None:
        """What ended its life before its time: of on_warm, on_start or on_stop."""
        if not self._life.done():
            return None
        if self._life.cancelled():  # by the handler
            return asyncio.CancelledError()
        return self._life.exception()

    @property
    def is_busy(self) -> bool:
        """It has begun what is not done, or not in a commit yet."""
        return (self._port is not None and self._port.pending_work) or bool(spawned_tasks(self.handler))

    @property
    def is_pressed(self) -> bool:
        """It waits for space, whose return nobody announces."""
        return self._port is not None and self._port.pressed

    def turn(self) -> int:
        """Do what is to be done now: how much that was. Afterwards it may be dead."""
        if self._doomed is None:
            return self._turn()
        done = self._doomed.run(self._turn)
        if not self._doomed.is_dead:
            return int(done)
        self.die()
        return 1

    def sit_down(self, public_fd: int, port_fd: int, number: int) -> None:
        """At this port, where the engine expects it."""
        self._port = Port(public_fd, port_fd, number, handler=self.handler, resumes=self.resumes)
        self._loop.serve(self._look)

    def tell_shutdown(self, why: ShutdownReason, seconds: float) -> None:
        """What the handler does then is waited for, as if it had spawned it."""
        deadline = self._loop.time() + seconds
        self._loop.call_soon(self._spawn, self.handler.on_shutdown, why, deadline, context=self._context)

    def retire(self, seconds: float) -> None:
        """Take no more events, finish what was begun, in so many seconds at most, and leave."""
        if not self.is_retired:
            self.is_retired = True
            self._deadline_s = self._loop.time() + seconds
            self._told_to_leave.set()

    def close(self) -> None:
        """It has left."""
        self.end_doom()
        self._loop.close()

    # SIGKILL.

    def doom(self, curse: Curse) -> None:
        """It dies there. ValueError: nobody can die there."""
        doomed = Doomed(self.handler, curse.during, curse.line)
        self.end_doom()
        self._doomed = doomed
        self.curse = replace(curse, times=curse.times - 1) if curse.times > 1 else None

    def end_doom(self) -> None:
        if self._doomed is not None:
            self._doomed.end()
        self._doomed = self.curse = None

    def die(self) -> None:
        """It is no more: nothing of it runs, and nothing is cleaned up."""
        if self._doomed is None or not self._doomed.is_dead:
            self.end_doom()
        self.is_dead = True
        bury(self, self.handler, self._life)
        self._loop.die()
        if self._port is not None and self._doomed is None:
            self._port.close()  # else it is in the midst of something

    # Its life, in its loop.

    async def _live(self) -> None:
        await self._in_time(self.handler.on_warm)
        await self._in_time(self.handler.on_start, self._shard)
        self.is_started = True
        await self._told_to_leave.wait()
        if self._port is not None:
            self._port.stop()
            await self._finish(self._port)

    async def _finish(self, port: Port) -> None:
        while self.is_busy and self._loop.time() < self._deadline_s:
            await asyncio.sleep(FLUSH_POLL_S)
        port.commit()
        try:
            await call(self.handler.on_stop)
        finally:
            await cancel_tasks()
            port.commit()  # what on_stop and the finally blocks sent
            self._port = None
            port.close()

    async def _in_time(self, callback: Callable[..., Result], *arguments: Any) -> None:
        task = self._loop.create_task(call(callback, *arguments), context=self._context)
        await asyncio.sleep(0)
        if not task.done():  # else no timer need be left behind
            await asyncio.wait({task}, timeout=START_S)
        if not task.done():
            name = getattr(callback, "__qualname__", callback)
            raise SimulationFailed(f"{name} took longer than {START_S:g} s (--start-timeout)")
        task.result()

    def _spawn(self, callback: Callable[..., Result], *arguments: Any) -> None:
        self.handler.spawn(call(callback, *arguments))

    def _turn(self) -> int:
        self._events = 0
        done = self._loop.turn()
        if self._port is not None:  # still
            self._port.commit()
            done += not self._port.sleep()  # something became ready, for instance by a timer
            self._port.awake()
        return done + self._events

    def _look(self) -> None:
        """What the selector of a worker's loop does."""
        if self._port is not None:
            self._events += self._port.run()
