"""A worker process as the supervisor sees it; its own side is worker.py.

It belongs to somebody at every moment of its life (`owner`): the pool of spares while it imports and waits, then the
seat that it sits on. The owner is told what the worker says, and of its end; after the end nothing is told.

The application can write to whatever the worker has open. What makes no sense, or is not what the worker has to say
next, ends it, and nothing more of it is read: whoever says a thing twice would be handed out twice."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from usnet_framework.shards.child import Process
from usnet_framework.shards.messages import Message, hear, send

log = logging.getLogger("usnet.supervisor")

LEAVE_S = 1.0
"""What a process gets to end that has closed its control socket and was to say something."""


class WorkerOwner(Protocol):
    """Who has the worker now. `error` and `status` as in messages.py and child.py."""

    def worker_ready(self, worker: WorkerProcess) -> None: ...
    def worker_started(self, worker: WorkerProcess) -> None: ...
    def worker_attached(self, worker: WorkerProcess) -> None: ...
    def worker_left(self, worker: WorkerProcess) -> None: ...
    def worker_failed(self, worker: WorkerProcess, error: str) -> None: ...
    def worker_exited(self, worker: WorkerProcess, status: int) -> None: ...


class WorkerProcess:
    """`generation`: which reload of the code it has; `resumes` is known once it is ready. There is no process before
    `begin`, and it may never come to that."""

    def __init__(self, generation: int, owner: WorkerOwner) -> None:
        self.owner: WorkerOwner | None = owner
        self.generation = generation
        self.resumes = False
        self.died_ns = 0  # when its end was noticed
        self.is_being_made = False  # by a zygote, which has been asked
        self._doomed = False  # killed before there was a process
        self._expected: tuple[str, ...] = ("ready", "failed")  # what it may say next
        self._retiring = False
        self._mad = False  # it said nonsense
        self._heard_all = False
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._process: Process | None = None
        self._control: socket.socket | None = None

    def begin(self, process: Process, control: socket.socket, load: Message) -> None:
        """It is this process from now on; `load` is its first message; `stack_fd` there is a descriptor of
        ours, which it gets."""
        process.on_exit = self._ended
        self._process = process
        self._control = control
        self._loop.add_reader(control, self._readable)
        if self._doomed:
            process.kill()
        else:
            stack = [load["stack_fd"]] if "stack_fd" in load else []
            self._send({"type": "load", **{name: value for name, value in load.items() if name != "stack_fd"}}, stack)

    def fail(self, error: str) -> None:
        """It never comes to a process: what `worker_failed` says."""
        if self.owner is not None and not self._doomed:
            self.owner.worker_failed(self, error)
        self.vanish(-signal.SIGKILL)

    def vanish(self, status: int) -> None:
        """It never comes to a process: the one that was to make it has ended so."""
        if self.running:
            self._ended(status)

    @property
    def pid(self) -> int:
        """0: there is no process yet."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        return not self._exited.done()

    def start(self, message: Message) -> None:
        """Have it run on_start, for the seat that is meant."""
        self._expected = ("started", "failed")
        self._send({"type": "start", **message})

    def attach(self, message: Message, fds: Sequence[int]) -> None:
        self._expected = ("attached", "failed")
        self._send({"type": "attach", **message}, fds)

    def give_way(self, timeout_s: float) -> None:
        """A successor serves beside it."""
        self._send({"type": "yield", "timeout": timeout_s})

    def drain(self, timeout_s: float) -> None:
        self._send({"type": "drain", "timeout": timeout_s})

    def retire(self, timeout_s: float) -> None:
        self._retiring = True
        self._expected = self._expected or ("left",)
        self._send({"type": "retire", "timeout": timeout_s})

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        elif not self._doomed:
            self._doomed = True
            if not self.is_being_made:
                self._loop.call_soon(self.vanish, -signal.SIGKILL)

    def discard(self) -> None:
        """Kill it and hear no more of it."""
        self.owner = None
        self.kill()

    async def wait(self) -> None:
        await asyncio.shield(self._exited)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Called a turn of the loop after its end."""
        self._exited.add_done_callback(lambda _: call())

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if self._control is None:
            return
        try:
            send(self._control, message, fds)
        except BlockingIOError:
            self.kill()  # it has not read a handful of messages: it never will
        except OSError:
            pass  # it is dead; its pidfd tells

    def _readable(self) -> None:
        assert self._control is not None, "it has begun"
        with suppress(BlockingIOError):
            while (message := self._hear(self._control)) is not None:
                self._tell(message)
            if self._expected and self.running:  # it cannot say that any more; it may be about to say why, on stderr
                self._loop.call_later(LEAVE_S, self.kill)
            self._loop.remove_reader(self._control)
            self._heard_all = True

    def _hear(self, control: socket.socket) -> Message | None:
        """None: it will say no more, or nothing that is worth reading. BlockingIOError: not yet."""
        if self._mad:
            return None
        try:
            message = hear(control)
            if message is None:
                return None
            if message["type"] not in self._expected:
                raise ValueError(f"{message['type']} at the wrong time")
        except ValueError as nonsense:
            self._mad = True
            why = " ".join(str(nonsense).split()) or "no msgpack"
            log.error("worker spoke nonsense to the supervisor (%s); it is killed", why, extra={"pid": self.pid})
            self.kill()
            return None
        self._expected = ("left",) if message["type"] == "attached" and self._retiring else ()
        return message

    def _tell(self, message: Message) -> None:
        if self.owner is None:
            return
        if message["type"] == "ready":
            self.resumes = message["resumes"]
            self.owner.worker_ready(self)
        elif message["type"] == "started":
            self.owner.worker_started(self)
        elif message["type"] == "attached":
            self.owner.worker_attached(self)
        elif message["type"] == "left":
            self.owner.worker_left(self)
        elif message["type"] == "failed":
            self.owner.worker_failed(self, message["error"])

    def _ended(self, status: int) -> None:
        self.died_ns = time.monotonic_ns()
        self._exited.set_result(status)
        if self._control is not None:
            if not self._heard_all:
                self._readable()  # its last words
            if not self._heard_all:
                self._loop.remove_reader(self._control)
            self._control.close()
        if self.owner is not None:
            self.owner.worker_exited(self, status)
