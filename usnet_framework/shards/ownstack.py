"""What the stacks of a server have and their engines do not live long enough to hold: a packet device, memory for each
shard, and the memory that shards share.

A shard's arena holds all that its stack knows, its frames the packets and payload. Both are memfds of the supervisor
and outlive network process and keeper. So the engine of the next keeper resets the connections that it finds in the
arena before it begins it anew, and a device may have the frames registered for good. Frames lie in huge pages where
there are any."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from usnet_framework.errors import StartupError
from usnet_framework.shards import hugepages
from usnet_framework.shards.addressbook import AddressBook
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.listeners import Bind, Listener
from usnet_framework.shards.packetdevice import KINDS, PacketDevice
from usnet_framework.shards.segment import Segment, memory_file
from usnet_framework.shards.sharing import SharedInterface
from usnet_framework.shards.stackplan import StackPlan, plan_listener

SECRET_BYTES = 16  # UN_EXCHANGE_SECRET_BYTES of native/src/engine/exchange.h


@dataclass(frozen=True)
class StackSetup:
    """What one engine over a stack is given besides its options; descriptors are inherited or sent along."""

    device: str
    device_fds: tuple[int, ...]
    arena_fd: int
    frames_fd: int
    exchange_fd: int
    exchange_wake_fds: tuple[int, ...]

    def fds(self) -> list[int]:
        return [*self.device_fds, self.arena_fd, self.frames_fd, self.exchange_fd, *self.exchange_wake_fds]

    def arguments(self) -> list[str]:
        """Of usnet-network."""
        return [
            *("--device", self.device),
            *("--device-fds", ",".join(map(str, self.device_fds))),
            *("--arena", str(self.arena_fd)),
            *("--frames", str(self.frames_fd)),
            *("--exchange", str(self.exchange_fd)),
            *("--exchange-wakes", ",".join(map(str, self.exchange_wake_fds))),
        ]


class OwnStack:
    """Of a whole server, open. `kind` names the device."""

    def __init__(self, kind: str, plan: StackPlan, shards: int) -> None:
        """StartupError: one line, why it cannot be."""
        self._kind = kind
        self._plan = plan
        self._memories: dict[int, tuple[int, int]] = {}
        self._huge = 0  # memories of frames in huge pages
        self._frames_bytes = 0  # of one
        self._refused: dict[int, str] = {}  # by shard: why it has no queue of the device
        self.addresses = AddressBook()
        """What the link says of them, as shard 0 tells it."""
        with ExitStack() as opened:
            self._device: PacketDevice = KINDS[kind].open(plan, shards)
            opened.callback(self._device.close)
            self._exchange = os.memfd_create("usnet-exchange", os.MFD_CLOEXEC)
            opened.callback(os.close, self._exchange)
            os.write(self._exchange, secrets.token_bytes(SECRET_BYTES))
            self._wakes: tuple[int, ...] = ()
            for _ in range(shards):
                self._wakes += (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),)
                opened.callback(os.close, self._wakes[-1])
            if self.sharing is not None:
                self.sharing.follow(self._wake)
            self._opened = opened.pop_all()

    @property
    def sharing(self) -> SharedInterface | None:
        """None: the addresses are nobody else's."""
        return self._device.sharing

    def drops(self) -> Mapping[str, int]:
        """Packets for us that were dropped before any shard had them, by reason."""
        return self._device.drops()

    def options(self, shard: int) -> dict[str, int]:
        """Of the engine of a shard."""
        return {"queue": shard, "queues": len(self._wakes), **self._device.options(shard)}

    def setup(self, shard: int, segment: Segment) -> StackSetup:
        """For an engine on this segment. StartupError when there is no memory, or the device refuses."""
        try:
            arena_fd, frames_fd = self._memory(shard, segment)
        except OSError as error:
            raise StartupError(f"shard {shard}: no memory for its stack: {error.strerror}") from None
        device_fds = self._queue(shard, frames_fd)
        if shard == 0:
            self.addresses.forget()
        return StackSetup(self._kind, device_fds, arena_fd, frames_fd, self._exchange, self._wakes)

    def _queue(self, shard: int, frames_fd: int) -> tuple[int, ...]:
        """What the device hands down. StartupError, which is among the findings until the next try."""
        try:
            fds = tuple(self._device.hand_down(shard, frames_fd))
        except StartupError as error:
            self._refused[shard] = str(error)
            raise
        except OSError as error:  # such as that the interface was removed meanwhile
            self._refused[shard] = str(error)
            raise StartupError(f"shard {shard}: no queue of {self._plan.interface} for its stack: {error}") from None
        self._refused.pop(shard, None)
        return fds

    async def open_listener(self, bind: Bind, taken: Collection[tuple[str, int]]) -> Listener:
        """One more, beside what is taken. UsageError, StartupError."""
        addresses = self._plan.addresses if self.sharing is None else self.sharing.addresses()
        endpoint, shown = plan_listener(bind, self._plan, addresses, taken)
        if self.sharing is not None:
            await self.sharing.serve(endpoint)
        return Listener(bind, shown, endpoint=endpoint)

    def look(self) -> None:
        """Find out for `findings` what takes a while. In any thread."""
        self._device.look()

    def findings(self) -> list[Finding]:
        """As things are now."""
        plan = self._plan
        return [
            *self._device.findings(),
            *(_refusal(shard, why) for shard, why in sorted(self._refused.items())),
            *([self._pages()] if self._memories else []),
            *(self.addresses.finding(address) for address in plan.addresses if not plan.shared),
            *(Finding("gateway", gateway, "for all that is not on the link") for gateway in plan.engine.gateways),
        ]

    def modes(self) -> dict[str, str]:
        """How packets come and go, for metrics: names and values; what is not known yet is left out."""
        pages = "huge pages" if self._huge == len(self._memories) else "ordinary pages"
        frames = {"frames": pages} if self._memories else {}
        return {"interface": self._plan.interface, **frames, **self._device.modes()}

    def unreachable(self) -> list[str]:
        """Why packets do not come, or addresses are not served, now; a line for each."""
        taken = (self.addresses.taken(address) for address in self._plan.addresses)
        return [reason for reason in (self._device.trouble(), *taken) if reason is not None]

    def close(self) -> None:
        self._opened.close()

    def _wake(self) -> None:
        """All engines."""
        for wake in self._wakes:
            os.eventfd_write(wake, 1)

    def _memory(self, shard: int, segment: Segment) -> Sequence[int]:
        """The same for each segment of a shard, as the options that its size follows from are."""
        if shard not in self._memories:
            sizes = segment.stack_sizes()
            with ExitStack() as opened:
                arena_fd = memory_file(f"usnet-arena-{shard}", sizes.arena_bytes)
                opened.callback(os.close, arena_fd)
                frames_fd = self._frames(shard, sizes.frames_bytes)
                opened.callback(os.close, frames_fd)
                self._opened.push(opened.pop_all())
            self._memories[shard] = (arena_fd, frames_fd)
        return self._memories[shard]

    def _frames(self, shard: int, size: int) -> int:
        """In huge pages where there are any. StartupError: they are required."""
        name, self._frames_bytes = f"usnet-frames-{shard}", size
        if (fd := hugepages.huge_memory_file(name, size)) is not None:
            self._huge += 1
            return fd
        if "hugepages" in self._plan.require:
            why = hugepages.lack(size) or "others were quicker; try again"
            raise StartupError(f"--require hugepages: shard {shard}: {why}")
        return memory_file(name, size)

    def _pages(self) -> Finding:
        """Of the frames."""
        what = "huge pages"
        asked = "all frames" if "hugepages" in self._plan.require else "all frames, if there are any"
        others = len(self._memories) - self._huge
        if others == 0:
            return Finding(what, asked, "all frames")
        why = hugepages.lack(self._frames_bytes, others) or "there were too few; restart the server"
        reason, _, fix = why.partition("; ")
        return Finding(what, asked, f"the frames of {self._huge} of {len(self._memories)} shards", reason, fix)


def _refusal(shard: int, why: str) -> Finding:
    reason, _, fix = why.partition("; ")
    return Finding(f"queue of shard {shard}", "joined", "not joined", reason, fix or "the server tries again", ok=False)
