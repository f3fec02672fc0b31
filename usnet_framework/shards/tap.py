"""The TAP interface of a server, a packet device (packetdevice.py): one queue for each shard.

The supervisor alone needs the privilege, and it holds what the processes use: an interface that was made here is there
for as long as the server, and what waits in a queue outlives the process that reads it. Nothing is configured beyond
what serving takes: an interface that we made is set up; its kernel end's addresses are the user's business."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from usnet_framework._native_tap import TapError, steer_tap, tap_queue
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import rtnetlink
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.stackplan import StackPlan

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sH22x")


class Tap:
    """The interface, open."""

    def __init__(self, plan: StackPlan, queues: int) -> None:
        """StartupError: one line, why it cannot be."""
        self._plan = plan
        self._fds: list[int] = []
        self._created = not _exists(plan.interface)
        if rtnetlink.tun_queues(plan.interface) > 0:  # the kernel refuses this only where there is a single one
            raise InUse(
                f"--interface {plan.interface}: is used by another process, whose packets would come here; "
                "stop it or use another interface"
            )
        try:
            self._queues = self._open_queues(queues)
            self._steering = self._steer(queues)
            self._up = self._set_up()
        except BaseException:
            self.close()
            raise

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        """The kernel copies into frames: it need not know of them."""
        return [self._queues[shard]]

    def options(self, shard: int) -> dict[str, int]:
        """What comes from a TAP interface comes from this host: it may lack checksums."""
        return {"accept_partial_checksum": 1}

    def findings(self) -> list[Finding]:
        plan = self._plan
        how = "created, and removed when the server ends" if self._created else "joined"
        return [
            Finding("interface", plan.interface, f"{plan.interface}, {how}"),
            self._up,
            Finding("offloads", "checksum and segmentation", "checksum and segmentation, both ways"),
            self._steering,
        ]

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def _open_queues(self, queues: int) -> tuple[int, ...]:
        opened = []
        for _ in range(queues):
            opened.append(self._open_queue(multi_queue=queues > 1))
            self._fds.append(opened[-1])
        return tuple(opened)

    def _open_queue(self, multi_queue: bool) -> int:
        name = self._plan.interface
        try:
            return tap_queue(name, multi_queue)
        except TapError as error:
            refused = error
        if not (multi_queue or self._created) and refused.errno == errno.EINVAL:
            with suppress(TapError):
                return tap_queue(name, multi_queue=True)  # made for several queues, of which we need one
        kind = InUse if refused.errno == errno.EBUSY else StartupError
        raise kind(f"--interface {name}: {refused}")

    def _steer(self, queues: int) -> Finding:
        what = "steering"
        if queues == 1:
            return Finding(what, "one queue", "one queue")
        asked = "each flow to the queue of its shard"
        try:
            steer_tap(self._queues[0], queues)
        except TapError as error:
            found = "flows come through any queue and are handed over"
            return Finding(what, asked, found, str(error), "give the server CAP_BPF, or use one queue", ok=False)
        return Finding(what, asked, asked)

    def _set_up(self) -> Finding:
        name = self._plan.interface
        if self._created:
            try:
                _set_link_up(name)
            except OSError as error:
                raise StartupError(f"--interface {name}: cannot be set up: {error.strerror}") from None
            return Finding("link", "up", "up", "set up by the server; the address of the kernel's end is yours to set")
        if _link_is_up(name):
            return Finding("link", "up", "up")
        return Finding("link", "up", "down", "it was there already", f"ip link set {name} up", ok=False)


def _exists(name: str) -> bool:
    with suppress(OSError):
        return socket.if_nametoindex(name) > 0
    return False


def _flags(query: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(query, SIOCGIFFLAGS, _IFREQ.pack(os.fsencode(name), 0))
    flags: int = _IFREQ.unpack(answer)[1]
    return flags


def _link_is_up(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        return bool(_flags(query, name) & IFF_UP)


def _set_link_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        fcntl.ioctl(query, SIOCSIFFLAGS, _IFREQ.pack(os.fsencode(name), _flags(query, name) | IFF_UP))
