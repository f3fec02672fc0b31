"""Packet devices: what brings frames to the stacks of a server, and the table of those that there are.

The supervisor opens a device, as it alone has the privilege, and holds it for as long as the server lives. A network
process gets descriptors of its queue and opens it from them in C: native/src/device/kinds.h, by the same name. So what
waits in a queue outlives the process that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from usnet_framework.config import REQUIREMENTS
from usnet_framework.shards import afxdp, netmap, tap
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.nic import queues_of
from usnet_framework.shards.sharing import SharedInterface
from usnet_framework.shards.stackplan import StackPlan, check_interface


class PacketDevice(Protocol):
    """Open, with a queue for each shard."""

    @property
    def sharing(self) -> SharedInterface | None:
        """None: the addresses of the stacks are nobody else's."""

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        """Descriptors of the queue of a shard, in the order that its kind has in C; they stay open here. `frames_fd` is
        the memory that packets lie in, the same at each call and never smaller: a device whose hardware writes into it
        has it registered. Called before a network process starts, the first or the next one. OSError: it cannot be.
        NotYet: it is being made ready."""

    def drops(self) -> Mapping[str, int]:
        """Packets for us that were dropped before any shard had them, by reason."""

    def options(self, shard: int) -> dict[str, int]:
        """Of the shard's engine: what the device is to it."""

    def look(self) -> None:
        """Find out for `findings` what takes a while. In any thread."""

    def findings(self) -> list[Finding]:
        """What is in force, as it is now, or was at the last look."""

    def modes(self) -> dict[str, str]:
        """How packets come and go, by names for metrics; what is not known yet is left out."""

    def trouble(self) -> str | None:
        """Why no packets can come now, one line; None when they can."""

    def close(self) -> None:
        """After the processes that use it; what was changed on the machine is as it was, but for what the kernel still
        refuses (undo.put_back)."""


@dataclass(frozen=True)
class Kind:
    """`open` gets what is to be served and the number of queues, and raises StartupError with one line."""

    open: Callable[[StackPlan, int], PacketDevice]
    interface: str | None
    """When nobody names one; None: it has to be named."""
    queues_max: int
    queues_of: Callable[[str], int | None] = lambda _: None
    """How many queues an interface receives on; None: as many as there are shards."""
    changes: Callable[[StackPlan, int], list[str]] = lambda _plan, _queues: []
    """A line for each setting of the machine that opening will change, and closing change back."""
    has: frozenset[str] = frozenset({"hugepages"})
    """What of config.REQUIREMENTS may be asked of it."""
    check_name: Callable[[str], None] = check_interface
    """UsageError: nothing of the kind has such a name."""
    locks_frames: bool = False
    """Something else than our processes writes into frames, so all of them stay in memory."""
    addresses: Callable[[str], Sequence[str]] | None = None
    """Of an interface, with their prefixes: those that stacks share with the kernel where no --address is given. None:
    one has to be given."""


QUEUES_MAX = 256
"""UN_QUEUES_MAX of native/src/shard/options.h; as many as the kernel gives a TAP interface (MAX_TAP_QUEUES)."""

KINDS: dict[str, Kind] = {
    "tap": Kind(tap.Tap, "usnet0", QUEUES_MAX, changes=tap.changes),
    "afxdp": Kind(
        afxdp.Afxdp,
        None,
        QUEUES_MAX,
        queues_of,
        afxdp.changes,
        has=frozenset(REQUIREMENTS),
        locks_frames=True,
        addresses=afxdp.addresses_of,
    ),
    "netmap": Kind(netmap.Netmap, None, QUEUES_MAX, netmap.rings_of, netmap.changes, check_name=netmap.check_name),
}
