"""The TAP interface of a server, a packet device (packetdevice.py): one queue for each shard.

The supervisor alone needs the privilege, and it holds what the processes use: an interface that was made here is there
for as long as the server, and what waits in a queue outlives the process that reads it. Nothing is configured beyond
what serving takes: an interface that we made is set up; its kernel end's addresses are the user's business.

Somebody may remove the interface; its queues are dead then, and network processes notice. One that we made is made
again for the next of them, one that was joined is joined again as soon as it is back. Until clients can reach the
server, the server is not ready."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress

from usnet_framework._native_tap import TapError, steer_tap, tap_queue
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import rtnetlink
from usnet_framework.shards.ethtool import Ethtool, Feature
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.nic import driver_finding
from usnet_framework.shards.privileges import capabilities_finding
from usnet_framework.shards.rtnetlink import IFF_UP
from usnet_framework.shards.stackplan import StackPlan

log = logging.getLogger("usnet.supervisor")

SIOCSIFFLAGS, SIOCGIFADDR = 0x8914, 0x8915
TUNGETIFF = 0x800454D2
OFFLOADS = ("tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation")
"""What the kernel's end does not do itself to what it sends, when ours has it (TUNSETOFFLOAD)."""
_IFREQ = struct.Struct("16sH22x")


class Tap:
    """The interface, open."""

    sharing = None

    def __init__(self, plan: StackPlan, queues: int) -> None:
        """StartupError: one line, why it cannot be."""
        self._plan = plan
        self._queue_count = queues
        self._created = not _exists(plan.interface)
        self._made_again = False
        self._open()

    def _open(self) -> None:
        plan, queues = self._plan, self._queue_count
        self._fds: list[int] = []
        if rtnetlink.tun_queues(plan.interface) > 0:  # the kernel refuses this only where there is a single one
            raise InUse(
                f"--interface {plan.interface}: is used by another process, whose packets would come here; "
                "stop it or use another interface"
            )
        try:
            self._queues = self._open_queues(queues)
            self._steering = self._steer(queues)
            self._set_up()
            self.look()
        except BaseException:
            self.close()
            raise

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        """The kernel copies into frames: it need not know of them."""
        if self._is_gone():
            self._open_again()
        return [self._queues[shard]]

    def drops(self) -> Mapping[str, int]:
        """The interface counts what finds no room in a queue."""
        return {}

    def options(self, shard: int) -> dict[str, int]:
        """What comes from a TAP interface comes from this host: it may lack checksums."""
        return {"accept_partial_checksum": 1}

    def look(self) -> None:
        """What the kernel's end says of itself."""
        self._seen = [self._link(), *self._card()]

    def findings(self) -> list[Finding]:
        plan = self._plan
        how = "created, and removed when the server ends" if self._created else "joined"
        interface = Finding("interface", plan.interface, f"{plan.interface}, {how}")
        if (reason := self.trouble()) is not None:
            found = "made again" if self._made_again and not self._is_gone() else "none"
            interface = Finding("interface", plan.interface, found, reason, self._fix(), ok=False)
        return [
            interface,
            *([] if self._is_gone() else self._seen),
            self._steering,
        ]

    def _card(self) -> list[Finding]:
        name = self._plan.interface
        try:
            with Ethtool(name) as card:
                driver, mtu, features = card.driver(), card.mtu(), card.features()
        except OSError:  # it has another name, or is in another network namespace
            return []
        queues = max(rtnetlink.tun_queues(name), 1)
        steers = ["CAP_BPF"] if self._queue_count > 1 else []
        return [
            Finding("kernel", "any", os.uname().release),
            capabilities_finding("CAP_NET_ADMIN", *steers),
            driver_finding(driver),
            Finding("queues", str(self._queue_count), str(queues)),
            Finding("MTU", "any", str(mtu)),
            _offloads(name, features),
        ]

    def modes(self) -> dict[str, str]:
        return {"copies": "kernel"}

    def trouble(self) -> str | None:
        name = self._plan.interface
        if self._is_gone():
            return f"interface {name} was removed"
        if self._made_again and not _has_address(name):
            return f"interface {name} was removed; it was made again, and its kernel end has no address yet"
        return None

    def _fix(self) -> str:
        name = self._plan.interface
        if self._created:
            return f"give it the address that it had (ip address add CIDR dev {name}), or restart the server"
        return f"make it again as it was (ip tuntap add dev {name} mode tap ...); the server joins it then"

    def _is_gone(self) -> bool:
        """Its queues say so for good, whatever has its name meanwhile."""
        try:
            fcntl.ioctl(self._queues[0], TUNGETIFF, bytes(_IFREQ.size))
        except OSError as error:
            return error.errno == errno.EBADFD
        return False

    def _open_again(self) -> None:
        """StartupError: it cannot be, or not yet."""
        name = self._plan.interface
        if not self._created and not _exists(name):
            raise StartupError(f"interface {name} was removed; {self._fix()}")
        dead = self._fds, self._queues
        try:
            self._open()
        except BaseException:
            self._fds, self._queues = dead
            raise
        for fd in dead[0]:
            os.close(fd)
        self._made_again = self._created
        log.warning("interface %s was removed; it is %s again", name, "made" if self._created else "joined")

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

    def _set_up(self) -> None:
        name = self._plan.interface
        if self._created:
            try:
                _set_link_up(name)
            except OSError as error:
                raise StartupError(f"--interface {name}: cannot be set up: {error.strerror}") from None

    def _link(self) -> Finding:
        name = self._plan.interface
        if not _link_is_up(name):
            reason = "somebody has set it down" if self._created else "it was there already"
            return Finding("link", "up", "down", reason, f"ip link set {name} up", ok=False)
        if self._created:
            return Finding("link", "up", "up", "set up by the server; the address of the kernel's end is yours to set")
        return Finding("link", "up", "up")


def changes(plan: StackPlan, _queues: int) -> list[str]:
    return [] if _exists(plan.interface) else [f"{plan.interface}: none -> a TAP interface that is up"]


def _offloads(name: str, features: Mapping[str, Feature]) -> Finding:
    """Our end has them; somebody may have taken them from the kernel's."""
    what, asked = "offloads", "checksum and segmentation, both ways"
    off = [offload for offload in OFFLOADS if not features[offload].active]
    if not off:
        return Finding(what, asked, asked)
    fix = f"ethtool -K {name} {' '.join(f'{offload} on' for offload in off)}"
    return Finding(what, asked, f"without {', '.join(off)}", "they were turned off at the kernel's end", fix, ok=False)


def _exists(name: str) -> bool:
    """StartupError: that cannot be found out."""
    try:
        rtnetlink.index_of(name)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise StartupError(f"--interface {name}: the kernel does not tell whether it is there: {error}") from None
    return True


def _link_is_up(name: str) -> bool:
    with suppress(OSError):
        return bool(rtnetlink.link(name).flags & IFF_UP)
    return False


def _has_address(name: str) -> bool:
    """Whether the kernel's end can be reached: it has an address that is more than link-local, or belongs to a
    bridge."""
    if os.path.exists(f"/sys/class/net/{name}/master"):
        return True
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        fcntl.ioctl(query, SIOCGIFADDR, _IFREQ.pack(os.fsencode(name), socket.AF_INET))
        return True
    with suppress(OSError), open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
        return any(line.split()[3] == "00" and line.split()[5] == name for line in table)
    return False


def _set_link_up(name: str) -> None:
    flags = (rtnetlink.link(name).flags | IFF_UP) & 0xFFFF  # the call knows no others
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        fcntl.ioctl(query, SIOCSIFFLAGS, _IFREQ.pack(os.fsencode(name), flags))
