"""A worker process as the supervisor sees it; its own side is worker.py.

It belongs to somebody at every moment of its life (`owner`): the pool of spares while it imports and waits, then the
seat that it sits on. The owner is told what the worker says, and of its end; after the end nothing is told.

The application can write to whatever the worker has open. What makes no sense, or is not what the worker has to say
next, ends it, and nothing more of it is read: whoever says a thing twice would be handed out twice."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from usnet_framework.shards.child import Child
from usnet_framework.shards.messages import Message, hear, send

log = logging.getLogger("usnet.supervisor")


class WorkerOwner(Protocol):
    """Who has the worker now. `error` and `status` as in messages.py and child.py."""

    def worker_ready(self, worker: WorkerProcess) -> None: ...
    def worker_started(self, worker: WorkerProcess) -> None: ...
    def worker_attached(self, worker: WorkerProcess) -> None: ...
    def worker_left(self, worker: WorkerProcess) -> None: ...
    def worker_failed(self, worker: WorkerProcess, error: str) -> None: ...
    def worker_exited(self, worker: WorkerProcess, status: int) -> None: ...


class WorkerProcess:
    """`generation`: which reload of the code it imports; `resumes` is known once it is ready."""

    def __init__(self, load: Message, generation: int, owner: WorkerOwner) -> None:
        """Spawn and have it import. `stack_fd` of `load` is a descriptor of ours, which it gets. OSError when no
        process can be made."""
        self.owner: WorkerOwner | None = owner
        self.generation = generation
        self.resumes = False
        self.died_ns = 0  # when its end was noticed
        self._expected: tuple[str, ...] = ("ready", "failed")  # what it may say next
        self._retiring = False
        self._mad = False  # it said nonsense
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            module = "usnet_framework.shards.worker"
            fd = theirs.fileno()
            try:
                self._child = Child([sys.executable, "-P", "-m", module, str(fd), str(os.getpid())], [fd], self._ended)
            except OSError:
                self._control.close()
                raise
        self._control.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._control, self._readable)
        stack = [load["stack_fd"]] if "stack_fd" in load else []
        self._send({"type": "load", **{name: value for name, value in load.items() if name != "stack_fd"}}, stack)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

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
        self._child.kill()

    def discard(self) -> None:
        """Kill it and hear no more of it."""
        self.owner = None
        self._child.kill()

    async def wait(self) -> None:
        await self._child.wait()

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        try:
            send(self._control, message, fds)
        except BlockingIOError:
            self._child.kill()  # it has not read a handful of messages: it never will
        except OSError:
            pass  # it is dead; its pidfd tells

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            while (message := self._hear()) is not None:
                self._tell(message)
            if self._expected:  # and cannot be said any more, unless it has died
                self._child.kill()
            self._loop.remove_reader(self._control)

    def _hear(self) -> Message | None:
        """None: it will say no more, or nothing that is worth reading. BlockingIOError: not yet."""
        if self._mad:
            return None
        try:
            message = hear(self._control)
            if message is None:
                return None
            if message["type"] not in self._expected:
                raise ValueError(f"{message['type']} at the wrong time")
        except ValueError as nonsense:
            self._mad = True
            why = " ".join(str(nonsense).split()) or "no msgpack"
            log.error("worker spoke nonsense to the supervisor (%s); it is killed", why, extra={"pid": self.pid})
            self._child.kill()
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
        self._readable()  # its last words may not have been read yet
        self._loop.remove_reader(self._control)
        self._control.close()
        if self.owner is not None:
            self.owner.worker_exited(self, status)
