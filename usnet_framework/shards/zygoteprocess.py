"""A zygote as the supervisor sees it; its own side is zygote.py.

It is asked for workers in order and answers in order. The application ran in it, so nothing that it says is believed: a
process that it names must be a child of ours that it made (child.py: Clone), and whatever makes no sense ends it. An
import has `timeout_s`, a fork FORK_TIMEOUT_S; then it is killed.

When this process has no descriptor left for a worker, that worker has failed. Its process leaves, as the other end of
its socket is closed, and its end is taken a moment later.

    importing -> ready     workers are forked
              -> unfit     a worker may be made of it (`become`), and it is no zygote any more
              -> failed    it leaves
    any       -> ended     with workers that it was asked for and did not make: they come back"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from contextlib import suppress
from typing import Protocol

from usnet_framework.shards import interpreter
from usnet_framework.shards.child import Clone, reap_group, reap_lost
from usnet_framework.shards.messages import CANNOT_FORK, NO_DESCRIPTOR, Message, receive_packet, send, unpack
from usnet_framework.shards.release import Release
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

MODULE = "usnet_framework.shards.zygote"
FORK_TIMEOUT_S = 5.0  # milliseconds, unless hooks of the application hang
LEAVE_S = 1.0  # what it gets for its exit hooks
REAP_S = 0.02

_SAID: dict[str, dict[str, type]] = {
    "ready": {},
    "unfit": {"reasons": list},
    "failed": {"error": str},
    "forked": {},
    "unforked": {"error": str},
}
_ANSWERS = ("forked", "unforked")


class ZygoteOwner(Protocol):
    """Its generation."""

    def zygote_ready(self) -> None: ...
    def zygote_unfit(self, reasons: list[str]) -> None: ...
    def zygote_failed(self, error: str) -> None: ...
    def zygote_exited(self, status: int, asked: list[WorkerProcess]) -> None: ...


class ZygoteProcess:
    """`load` is its first message, and that of all workers it makes."""

    def __init__(self, release: Release, load: Message, timeout_s: float, owner: ZygoteOwner) -> None:
        """OSError when no process can be made."""
        self._load = load
        self._owner: ZygoteOwner | None = owner
        self._is_importing = True
        self._is_worker = False
        self._mad = False  # it said nonsense
        self.is_ready = False
        self.has_forked = False
        self._asked: deque[tuple[WorkerProcess, socket.socket]] = deque()
        self._loop = asyncio.get_running_loop()
        self._child, self._control = interpreter.start(MODULE, release, self._ended, leads=True)
        self._loop.add_reader(self._control, self._readable)
        self._deadline = self._loop.call_later(timeout_s, self._overdue, timeout_s)
        self._send({"type": "load", **{name: value for name, value in load.items() if name != "stack_fd"}})

    @property
    def pid(self) -> int:
        return self._child.pid

    def fork(self, worker: WorkerProcess) -> None:
        """The worker begins when it is made. OSError when there are no descriptors for that."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        worker.is_being_made = True
        self._asked.append((worker, ours))
        with theirs:
            self._send({"type": "fork"}, [theirs.fileno()])
        if len(self._asked) == 1:
            self._await_fork()

    def become(self, worker: WorkerProcess) -> None:
        """An unfit one: the worker is made of it."""
        self._owner = None
        self._is_worker = True
        self._loop.remove_reader(self._control)
        self._child.leads = False
        worker.begin(self._child, self._control, self._load)

    def close(self) -> None:
        """Have it leave; its owner hears no more of it."""
        self._owner = None
        self._deadline.cancel()
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._loop.call_later(LEAVE_S, self._child.kill)

    @property
    def running(self) -> bool:
        return self._child.running

    async def wait(self) -> None:
        await self._child.wait()

    def _send(self, message: Message, fds: list[int] | None = None) -> None:
        try:
            send(self._control, message, fds or ())
        except BlockingIOError:
            self._child.kill()  # it does not read
        except OSError:
            pass  # it is dead; its pidfd tells

    # Deadlines.

    def _overdue(self, timeout_s: float) -> None:
        self._child.kill()
        if self._owner is not None:
            self._owner.zygote_failed(f"importing the application took longer than {timeout_s:g} s (--start-timeout)")

    def _await_fork(self) -> None:
        self._deadline.cancel()
        self._deadline = self._loop.call_later(FORK_TIMEOUT_S, self._not_forked)

    def _not_forked(self) -> None:
        log.error("the zygote did not fork within %g s; it is killed", FORK_TIMEOUT_S, extra={"pid": self.pid})
        self._child.kill()

    # What it says.

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            while (said := self._hear()) is not None:
                self._tell(*said)
                if self._is_worker:
                    return  # whose socket it is now
            self._loop.remove_reader(self._control)
            if self._owner is not None and self._child.running:  # it cannot be asked for anything any more
                self._loop.call_later(LEAVE_S, self._child.kill)

    def _hear(self) -> tuple[Message, list[int]] | None:
        """None: it will say no more, or nothing that is worth reading. BlockingIOError: not yet."""
        if self._mad:
            return None
        try:
            packet, fds = receive_packet(self._control)
        except ConnectionResetError:
            return None
        if not packet:
            return None
        try:
            return self._understand(packet, fds), fds
        except ValueError as nonsense:
            self._mad = True
            for fd in fds:
                os.close(fd)
            why = " ".join(str(nonsense).split()) or "no msgpack"
            log.error("the zygote spoke nonsense to the supervisor (%s); it is killed", why, extra={"pid": self.pid})
            self._child.kill()
            return None

    def _understand(self, packet: bytes, fds: list[int]) -> Message:
        """ValueError: nonsense, or at the wrong time."""
        message = unpack(packet)
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str) or kind not in _SAID:
            raise ValueError("no message of a zygote")
        if not all(isinstance(message.get(name), expected) for name, expected in _SAID[kind].items()):
            raise ValueError(f"{kind} lacks what goes with it")
        if len(fds) > (kind == "forked"):  # fewer: the kernel leaves out what we have no number for
            raise ValueError(f"{kind} with {len(fds)} descriptors")
        if not (self._asked if kind in _ANSWERS else self._is_importing):
            raise ValueError(f"{kind} at the wrong time")
        return message  # type: ignore[no-any-return]

    def _tell(self, message: Message, fds: list[int]) -> None:
        if message["type"] in _ANSWERS:
            self._made(message, fds)
            return
        self._is_importing = False
        self._deadline.cancel()
        if self._owner is None:
            return
        if message["type"] == "ready":
            self.is_ready = True
            self._owner.zygote_ready()
        elif message["type"] == "unfit":
            self._owner.zygote_unfit([str(reason) for reason in message["reasons"]])
        else:
            self._owner.zygote_failed(message["error"])

    def _made(self, message: Message, fds: list[int]) -> None:
        worker, control = self._asked.popleft()
        self._deadline.cancel()
        if self._asked:
            self._await_fork()
        worker.is_being_made = False
        if message["type"] == "unforked" or not fds:
            self._let_go(worker, control, message.get("error", NO_DESCRIPTOR))
            return
        try:
            process = Clone(fds[0], self._child, worker.vanish)
        except ValueError as nonsense:
            control.close()
            log.error("the zygote lied to the supervisor (%s); it is killed", nonsense, extra={"pid": self.pid})
            self._child.kill()
            worker.vanish(-signal.SIGKILL)
        except OSError as error:
            self._let_go(worker, control, f"{CANNOT_FORK}: {error.strerror}")
        else:
            self.has_forked = True
            worker.begin(process, control, self._load)

    def _let_go(self, worker: WorkerProcess, control: socket.socket, error: str) -> None:
        control.close()
        worker.fail(error)
        self._loop.call_later(LEAVE_S, self._reap_lost)

    def _reap_lost(self) -> None:
        if self.running:
            reap_lost(self.pid)

    # Its end.

    def _ended(self, status: int) -> None:
        self._deadline.cancel()
        self._readable()  # its last words may not have been read yet
        self._loop.remove_reader(self._control)
        self._control.close()
        self._reap(self.pid)
        asked = [worker for worker, _ in self._asked]
        for worker, control in self._asked:
            worker.is_being_made = False
            control.close()
        self._asked.clear()
        if self._owner is not None:
            self._owner.zygote_exited(status, asked)
        else:
            for worker in asked:
                worker.vanish(status)

    def _reap(self, leader: int) -> None:
        """What it made and we never heard of was killed with it (child.py: leads)."""
        if not reap_group(leader):
            self._loop.call_later(REAP_S, self._reap, leader)


