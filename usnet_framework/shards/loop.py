"""The event loop of a worker: asyncio's own, with a selector that serves the port first.

The loop is there before the port: a spare has one for `on_warm`, a worker that starts for `on_start`. Until `serve` it
is asyncio's loop and nothing else.

asyncio asks its selector what is ready once per turn. Ours dispatches a batch of events from shared memory right there,
without a system call while events keep coming; descriptors of other libraries, signals and threads are looked at every
16th turn then, and whenever the port is empty. Timers and tasks run between batches as usual.

When the port is empty, what was sent outside of a batch is committed and the worker waits, as `poll` says: "adaptive"
spins for a time that grows while spinning catches events and shrinks while it does not, then sleeps; "sleep" never
spins; "busy" never sleeps, and gives the GIL away while it looks. Spinning pays only when the network process has a
core of its own: who chooses "adaptive" has to know that.

A child that a fork of the worker makes gets an epoll set of its own: the parent's is shared with it, and what the child
registers or closes there, be it by a finalizer, would be so for the parent. Nothing that the loop had scheduled runs in
the child, and its next turn raises WorkerForked.

In the inline layout the engine is in this process, and its turn is the wait: one `epoll_wait` on the engine's set, in
which the loop's own set is a member. There it is the engine that spins.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import select
import selectors
import signal
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from usnet_framework._dispatch import Engine, Port, keep_for_good
from usnet_framework.errors import WorkerForked

LOOK_EVERY = 16
"""Batches between two looks at other descriptors: a delay below 1 ms, a sixteenth of a system call per batch."""

SPIN_MAX_NS = 50_000
"""A sleep and its wake-up cost about 10 us on another core; longer spins do not pay."""

SPIN_MIN_NS = 1_000
"""Short enough to be always affordable, so that a change for the better is noticed."""

PRESSED_S = 0.01
"""Longest wait while something waits for send frames, whose return nobody announces."""

Ready = list[tuple[selectors.SelectorKey, int]]


def _pressed_timeout(timeout: float | None) -> float:
    return PRESSED_S if timeout is None else min(timeout, PRESSED_S)


Look = Callable[[float | None], Ready]
"""Wait so many seconds at most for other descriptors, None: for ever; 0 or less: not at all."""


class Turns(Protocol):
    """How a loop with a port waits."""

    def select(self, timeout: float | None = None) -> Ready: ...
    def close(self) -> None: ...


class PortTurns:
    """Serves a port whose engine is another process."""

    def __init__(self, look: Look, port: Port, poll: str) -> None:
        self._look = look
        self._port = port
        self._busy = poll == "busy"
        self._spins = poll == "adaptive"
        self._spin_ns = SPIN_MAX_NS
        self._batches = 0

    def select(self, timeout: float | None = None) -> Ready:
        if self._port.run():
            self._batches += 1
            return [] if self._batches % LOOK_EVERY else self._look(0)
        self._port.commit()
        if timeout is not None and timeout <= 0:
            return self._look(0)
        if self._busy:
            self._port.spin(SPIN_MAX_NS)
            return self._look(0)
        if self._spins and self._spin(timeout):
            self._port.run()
            return []
        return self._sleep(timeout)

    def close(self) -> None:
        """The port stays open."""

    def _spin(self, timeout: float | None) -> bool:
        most = self._spin_ns if timeout is None else min(self._spin_ns, int(timeout * 1e9))
        caught = self._port.spin(most)
        self._spin_ns = min(self._spin_ns * 2, SPIN_MAX_NS) if caught else max(self._spin_ns // 2, SPIN_MIN_NS)
        return caught

    def _sleep(self, timeout: float | None) -> Ready:
        if self._port.pressed:
            timeout = _pressed_timeout(timeout)
        if not self._port.sleep():
            return []
        try:
            ready = self._look(timeout)
        finally:
            self._port.awake()
        self._port.run()
        return ready


class EngineTurns:
    """Serves a port whose engine is in this process; `fd` is the epoll set of the loop."""

    def __init__(self, look: Look, port: Port, engine: Engine, poll: str, fd: int) -> None:
        self._look = look
        self._port = port
        self._engine = engine
        self._busy = poll == "busy"
        self._batches = 0
        self._fd = fd
        engine.watch(fd)

    def select(self, timeout: float | None = None) -> Ready:
        port = self._port
        port.commit()
        may_wait = not self._busy and port.sleep()
        try:
            self._engine.turn(self._milliseconds(timeout) if may_wait else 0)
        finally:
            port.awake()
        if port.run():
            self._batches += 1
            if self._batches % LOOK_EVERY:
                return []
        return self._look(0)

    def _milliseconds(self, timeout: float | None) -> int:
        if self._port.pressed:
            timeout = _pressed_timeout(timeout)
        return -1 if timeout is None else max(0, math.ceil(timeout * 1000))

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # the engine was closed before, or is the parent's
            self._engine.unwatch(self._fd)


class _Selector(selectors.EpollSelector):
    _selector: Any  # the epoll set: of the base class
    _turns: Turns | None = None

    def serve(self, turns: Turns) -> None:
        self._turns = turns
        self.select = turns.select  # type: ignore[method-assign]  # asked for once per turn: no call in between

    def serve_no_more(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.close()
            self.select = super().select  # type: ignore[method-assign]

    def close(self) -> None:
        self.serve_no_more()
        super().close()

    def leave_to_parent(self) -> None:
        """In a child of a fork. To close a copy of the descriptor changes nothing for the parent."""
        self._selector.close()
        self._selector = select.epoll()
        self.select = _refuse  # type: ignore[method-assign]


def _refuse(timeout: float | None = None) -> Ready:
    raise WorkerForked("this process is a fork of the worker, with which its loop stays; end it with os._exit")


def _register_edges(epoll_fd: int, port: Port) -> None:
    """Watch what is seldom read: each write is an edge. selectors know levels only."""
    epoll = select.epoll.fromfd(os.dup(epoll_fd))
    try:
        for fd in (port.wake_fd, port.port_wake_fd):
            if fd >= 0:
                epoll.register(fd, select.EPOLLIN | select.EPOLLET)
    finally:
        epoll.close()


class WorkerLoop(asyncio.SelectorEventLoop):
    """Closing it leaves port and engine open."""

    def __init__(self) -> None:
        self._worker_selector = _Selector()
        self._context = contextvars.copy_context()
        super().__init__(self._worker_selector)
        _loops.add(self)

    def run_forever(self) -> None:
        """In a context of its own: callbacks of connections may spoil it. Handles and tasks have theirs anyway."""
        self._context.run(super().run_forever)

    def serve(self, port: Port, poll: str, engine: Engine | None = None) -> None:
        """From its next turn on it serves the port; `engine`: in this process. ValueError: no such `poll`."""
        if poll not in ("adaptive", "busy", "sleep"):
            raise ValueError(f"poll: {poll!r} is none of adaptive, busy, sleep")
        selector = self._worker_selector
        _register_edges(selector.fileno(), port)
        port.use_context(self._context)
        turns = (
            PortTurns(selector.select, port, poll)
            if engine is None
            else EngineTurns(selector.select, port, engine, poll, selector.fileno())
        )
        selector.serve(turns)

    def serve_no_more(self) -> None:
        """Before the port is closed, while the loop goes on."""
        self._worker_selector.serve_no_more()

    def leave_to_parent(self) -> None:
        """In a child of a fork: what is scheduled is the parent's to do, and so are the tasks."""
        forget_tasks(self)
        for handle in getattr(self, "_ready", ()):  # the turn that forked goes on with these
            handle.cancel()
        self._worker_selector.leave_to_parent()


_loops: weakref.WeakSet[WorkerLoop] = weakref.WeakSet()
def forget_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Nobody will finish the tasks of this loop: nothing is said of that, and no `finally` of theirs runs, as the
    process ends."""
    for task in asyncio.all_tasks(loop):
        keep_for_good(task)


def _leave_to_parent() -> None:
    for loop in list(_loops):
        loop.leave_to_parent()
    if _loops:
        with contextlib.suppress(ValueError):  # of the main thread alone
            signal.set_wakeup_fd(-1)  # it is the parent's loop that a signal of the child would wake


os.register_at_fork(after_in_child=_leave_to_parent)
