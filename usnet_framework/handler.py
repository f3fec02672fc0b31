"""The base class of an application: its callbacks, when each is called, and the two types they are given.

One instance serves all connections of a worker process, in the thread of its event loop. Callbacks that a class does
not define are never called, so that a connection costs no Python object before its handler wants one.

A callback other than `on_error` may be `async def`: it then runs as a task of the loop; further input of its connection
waits until it is done. What it sends before it waits is sent, so it cannot be begun again: if the worker dies
meanwhile, the connection is reset. Tasks that a handler starts itself are cancelled when their worker leaves, and no
connection is told; those it starts with `spawn` are waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from usnet_framework.connection import Connection
from usnet_framework.values import endpoint_text

logger = logging.getLogger(__name__)

Result = Coroutine[Any, Any, None] | None
"""What a callback returns: nothing, or the coroutine of an `async def`. Anything else, a task for instance, is not
waited for."""

ShutdownReason = Literal["stop", "reload"]
"""The server stops; another worker takes this one's place."""


class CloseReason(IntEnum):
    """Why a connection ended; `enum un_reason` of native/src/shard/segment.h."""

    NONE = 0
    PEER = 1
    """The peer closed, and so did we."""
    LOCAL = 2
    """`Connection.close`."""
    ABORTED = 3
    """`Connection.abort`."""
    RESET = 4
    """The peer reset it."""
    IDLE = 5
    """Nothing was sent or received for the idle timeout."""
    ERROR = 6
    """A callback raised."""
    WORKER_LOST = 7
    """A worker died and the connection could not be carried over."""
    NETWORK_LOST = 8
    """The network process died, and how much it had sent is not known: of a unix socket, in a system call."""
    POISONED = 9
    """Its event was being handled at two consecutive deaths of a worker."""
    SHUTDOWN = 10
    """The server stopped."""
    SYSTEM = 11
    """The kernel reported another error: a timeout, an unreachable peer, no memory."""
    STALLED = 12
    """The peer took nothing of its output for the send timeout."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Where a handler runs; given to `on_start`."""

    shard: int
    """Number of the shard."""
    seat: int
    """Number of the worker within its shard."""
    serial: int
    """Which process this is on that seat; above 1 it replaces one that left or died."""
    layout: str
    """"split" or "inline"."""


class Handler:
    """Derive from this and override what you need."""

    def on_warm(self) -> Result:
        """Once, first of all, while the worker has no place yet: what takes long and needs none, such as a model, a
        pool of connections, a cache. A reload waits for it before it takes anything away from the code that serves,
        and so does a replacement, which is ready before it is needed. It may be called in a worker that never serves;
        `on_stop` does not follow then. Not in time (`--start-timeout`): the worker is killed."""

    def on_start(self, shard: Shard) -> Result:
        """Once, before the first event. An earlier worker may still serve beside this one."""

    def on_shutdown(self, why: ShutdownReason, deadline: float) -> Result:
        """It is time to come to an end: the server stops, or a successor serves beside this worker and gets what is
        new. Events go on to come until nothing is left to do, or until `deadline` (time.monotonic()); then connections
        that are not finished are reset. `conn.close_when_idle()` ends what waits for a next request. Called again when
        the reason changes. What an `async def` does here is waited for, as with `spawn`."""

    def on_stop(self) -> Result:
        """Once, after the last event, when the worker leaves in good order. A killed one does not get here. Then tasks
        that still run are cancelled."""

    def on_connect(self, conn: Connection) -> Result:
        """A connection was accepted; before anything else of it."""

    def on_data(self, conn: Connection, data: memoryview) -> Result:
        """Bytes were received. The read-only view shows the receive buffer itself; keep it as long as you like, but a
        worker that holds many of them gets copies from then on."""

    def on_eof(self, conn: Connection) -> Result:
        """The peer will send no more; sending is still possible. The default closes."""
        conn.close()
        return None

    def on_drain(self, conn: Connection) -> Result:
        """After `conn.send` returned False: little waits now, go on sending. It does not wait for a task of the
        connection, since the task may be waiting for it; a connection that ends meanwhile has it called too, and
        `conn.send` raises ConnectionClosed then."""

    def on_close(self, conn: Connection, reason: CloseReason) -> Result:
        """The connection is gone; the last callback of it."""

    def on_resume(self, conn: Connection) -> Result:
        """An earlier worker opened this connection and left or died; before the first event of it here. `conn.state`
        is what was committed, `conn.context` is empty, and reading is still paused if it was. Defining this method
        says that the handler can go on with such connections; without it they are reset. So are those that a dead
        worker left half done: a coroutine was running, or output waited in its memory. A connection without events
        stays unknown to the new worker: a broadcast from there does not reach it before it sends something."""

    def on_error(self, conn: Connection, exception: BaseException) -> bool | None:
        """A callback raised. Return True to keep the connection; the default logs and has it reset."""
        if isinstance(exception, asyncio.CancelledError):
            logger.warning("connection %d from %s: a callback was cancelled", conn.id, endpoint_text(conn.peer))
        else:
            peer = endpoint_text(conn.peer)
            logger.error("connection %d from %s: a callback raised", conn.id, peer, exc_info=exception)
        return None

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that a reload and a stop wait for, as long as their time-outs allow. It belongs to the worker,
        not to a connection: a connection moves to a successor meanwhile. An exception is logged. RuntimeError: no loop
        runs."""
        task = asyncio.get_running_loop().create_task(coroutine)
        spawned_tasks(self).add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def _spawned_ended(self, task: asyncio.Task[Any]) -> None:
        spawned_tasks(self).discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a spawned task raised", exc_info=error)


def spawned_tasks(handler: Handler) -> set[asyncio.Task[Any]]:
    """Those that still run. Made when first needed: a derived class need not call our __init__."""
    tasks: set[asyncio.Task[Any]] = handler.__dict__.setdefault("_spawned", set())
    return tasks
