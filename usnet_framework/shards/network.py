"""A shard's network process as the supervisor sees it: a keeper (`usnet-network`) and the engine that it keeps.

They speak over one SOCK_SEQPACKET pair in the fixed messages of native/src/engine/control.h. An engine may die at any
moment; the keeper starts the next one, which reads the requests that nobody read. Requests are only sent while an
engine serves, and what was not confirmed is sent again by whoever asked when the next one is READY."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from usnet_framework.errors import StartupError
from usnet_framework.installed import installed
from usnet_framework.shards.child import Child
from usnet_framework.shards.enginewords import MESSAGE, Hearer, Kind, Message, receive
from usnet_framework.shards.ownstack import StackSetup
from usnet_framework.shards.privileges import Privileges
from usnet_framework.shards.seat import Seat

RESUMES = 1  # flag of ATTACH
POISONED = 2  # flag of LOST, confirmed
REFUSED = 4  # flag of READY
HUNG = 8  # flag of LOST
LEFT = 32  # flag of LOST
OF_A_PORT = (Kind.ATTACH, Kind.LOST, Kind.VACANT, Kind.BAD)


class NetworkOwner(Hearer, Protocol):
    """The shard. Every method is called in the loop."""

    def engine_ready(self, pid: int, epoch: int, refused: bool) -> None: ...
    def upgrade_confirmed(self, error: int) -> None: ...
    def engine_died(self, pid: int, wait_status: int) -> None: ...
    def seat_of(self, port: int) -> Seat | None: ...
    def network_exited(self, status: int) -> None: ...


@dataclass(frozen=True)
class NetworkSetup:
    """What a keeper is given besides the options of its engine, which stand in the segment; descriptors are inherited.
    `stack` is None with the kernel backend."""

    shard: int
    public_fd: int
    port_fds: Sequence[int]
    port_wake_fds: Sequence[int]
    wake_fds: Sequence[int]
    listener_fds: Sequence[int]
    engine_fd: int
    engine_name_fd: int
    core: int | None
    cleanup: Sequence[Path]
    privileges: Privileges
    stack: StackSetup | None = None

    def arguments(self) -> list[str]:
        arguments = [
            *("--shard", str(self.shard)),
            *("--public", str(self.public_fd)),
            *("--ports", _joined(self.port_fds)),
            *("--port-wakes", _joined(self.port_wake_fds)),
            *("--wakes", _joined(self.wake_fds)),
            *("--listeners", _joined(self.listener_fds)),
            *("--engine", str(self.engine_fd)),
            *("--engine-name", str(self.engine_name_fd)),
            *self.privileges.of_network_process(),
        ]
        if self.core is not None:
            arguments += ["--core", str(self.core)]
        if self.stack is not None:
            arguments += self.stack.arguments()
        return arguments + _cleanup(self.cleanup)

    def fds(self) -> list[int]:
        stack = self.stack.fds() if self.stack is not None else []
        ports = [*self.port_fds, *self.port_wake_fds, *self.wake_fds]
        return [self.public_fd, *ports, *self.listener_fds, self.engine_fd, self.engine_name_fd, *stack]


class NetworkProcess:
    """`pid` is the keeper's, `engine_pid` the engine's, None while there is none."""

    def __init__(self, setup: NetworkSetup, owner: NetworkOwner) -> None:
        self.engine_pid: int | None = None
        self._owner: NetworkOwner | None = owner
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._child = _spawn(setup.arguments(), theirs, setup.fds(), self._ended)
        self._control.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._control, self._readable)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def attach(self, port: int, serial: int, resumes: bool) -> None:
        """A worker sits there, and gets the new connections of its seat. Refused while events of the last one there are
        being copied to the other port, which is free then."""
        self._send(Kind.ATTACH, port, serial, RESUMES if resumes else 0)

    def lost(self, port: int, serial: int, hung: bool = False, left: bool = False) -> None:
        """`hung`: it was killed because it made no progress. `left`: in order."""
        self._send(Kind.LOST, port, serial, HUNG if hung else LEFT if left else 0)

    def divert(self, port: int, away: bool) -> None:
        """New connections are to go elsewhere, or here again."""
        self._send(Kind.DIVERT, port, 0, int(away))

    def drain(self) -> None:
        self._send(Kind.DRAIN)

    def upgrade(self, engine_fd: int) -> None:
        """Go on with an engine out of this file."""
        self.ask(MESSAGE.pack(Kind.UPGRADE, 0, 0, 0, 0, 0), [engine_fd])

    def quit(self) -> None:
        """Reset what is left and exit; for a keeper without an engine the end of the socket says it."""
        if self.engine_pid is None:
            self.kill()
        self._send(Kind.QUIT)

    def kill(self) -> None:
        """The engine dies with its keeper."""
        self._child.kill()

    def discard(self) -> None:
        """Kill it and hear no more of it."""
        self._owner = None
        self._child.kill()

    async def wait(self) -> None:
        await self._child.wait()

    def ask(self, packet: bytes, fds: Sequence[int] = ()) -> bool:
        """A request, if there is an engine. Was it sent?"""
        if self.engine_pid is not None:
            with suppress(OSError):  # it is dead or its socket is full: its end is noticed, or it asks again when READY
                socket.send_fds(self._control, [packet], fds)
                return True
        return False

    def _send(self, kind: Kind, port: int = 0, serial: int = 0, flags: int = 0) -> None:
        self.ask(MESSAGE.pack(kind, port, serial, flags, 0, 0))

    def _readable(self) -> None:
        with suppress(BlockingIOError, ConnectionResetError):
            while packet := receive(self._control):
                if (message := Message.read(packet)) is not None:
                    self._tell(message)
        # At the end of file the keeper is about to be gone; its pidfd tells.

    def _tell(self, message: Message) -> None:
        owner, kind = self._owner, message.kind
        if owner is None:
            return
        if kind in OF_A_PORT:
            if (seat := owner.seat_of(message.port)) is not None:
                _tell_seat(seat, message)
        elif kind == Kind.READY:
            self.engine_pid = message.first
            owner.engine_ready(message.first, message.second, bool(message.flags & REFUSED))
        elif kind == Kind.UPGRADE:
            owner.upgrade_confirmed(message.error)
        elif kind == Kind.DIED:
            self.engine_pid = None
            owner.engine_died(message.first, message.second)
        else:
            message.tell(owner)

    def _ended(self, status: int) -> None:
        self._readable()
        self._loop.remove_reader(self._control)
        self._control.close()
        self.engine_pid = None
        if self._owner is not None:
            self._owner.network_exited(status)


def _tell_seat(seat: Seat, message: Message) -> None:
    port, serial = message.port, message.serial
    if message.kind == Kind.ATTACH:
        (seat.refuse_attach if message.first else seat.confirm_attach)(port, serial)
    elif message.kind == Kind.LOST:
        seat.confirm_lost(port, serial, bool(message.flags & POISONED))
    elif message.kind == Kind.VACANT:
        seat.vacant(port, serial)
    else:
        seat.bad(port, serial)


class Guard:
    """`usnet-network --guard`: removes socket files if we are killed, where no keeper does it: there is none in the
    inline layout, and with --user it may not."""

    def __init__(self, cleanup: Sequence[Path]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._child = _spawn(["--guard", *_cleanup(cleanup)], theirs, [], lambda status: None)

    async def close(self) -> None:
        """End it, before it takes the end of its socket for the end of this process."""
        self._child.kill()
        await self._child.wait()
        self._control.close()


def _spawn(arguments: list[str], control: socket.socket, fds: Sequence[int], on_exit: Callable[[int], None]) -> Child:
    program = installed("bin/usnet-network")
    fd = control.fileno()
    command = [str(program), "--parent", str(os.getpid()), "--control", str(fd), *arguments]
    try:
        return Child(command, [fd, *fds], on_exit)
    except (FileNotFoundError, PermissionError) as error:
        raise StartupError(f"cannot start {program}: {error.strerror}; install usnet_framework again") from None
    except OSError as error:  # the machine has no room for a process or a descriptor
        raise StartupError(f"cannot start {program}: {error.strerror}") from None


def _joined(fds: Sequence[int]) -> str:
    return ",".join(map(str, fds))


def _cleanup(paths: Sequence[Path]) -> list[str]:
    return [word for path in paths for word in ("--cleanup", str(path))]
