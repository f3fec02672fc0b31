"""An interface with a station of the server's own at it: what devices that have one share.

The kernel finds an interface by its number. Its name may change while it is served, and another one may get it then; so
what is there is asked for by the number, and what somebody asked for by the name. Sentences that users read are the
same for each device.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import socket
import struct

from usnet_framework.errors import StartupError
from usnet_framework.shards import rtnetlink
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.linklooks import Trouble
from usnet_framework.shards.rtnetlink import IFF_RUNNING, IFF_UP, Link

log = logging.getLogger("usnet.supervisor")

PACKET_MR_MULTICAST, PACKET_MR_PROMISC, PACKET_MR_UNICAST = 0, 1, 3
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP = 263, 1
_MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq


def our_station(seed: str) -> bytes:
    """From the names of interface and host: every start has the same MAC address, and another host another one."""
    digest = hashlib.sha256(f"{seed}\0{socket.gethostname()}".encode()).digest()
    return bytes([0x02]) + digest[:5]  # locally administered, one station


def existing(name: str) -> Link:
    """StartupError."""
    try:
        return rtnetlink.link(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise StartupError(f"--interface {name}: the kernel does not tell about it: {error}") from None
        raise StartupError(f"--interface {name}: there is no such interface; ip link shows which there are") from None


def check_up(name: str, link: Link) -> None:
    """StartupError."""
    if not link.flags & IFF_UP:
        raise StartupError(f"--interface {name}: is down; ip link set {name} up")


def name_now(index: int, name: str) -> str | None:
    """Of an interface that had this name; another one is logged. None: it is gone. OSError: that cannot be found
    out."""
    try:
        now = rtnetlink.name_of(index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
    if now != name:
        log.warning("interface %s is called %s now; it is served as before", name, now)
    return now


def removed(name: str) -> Trouble:
    return f"interface {name} was removed", "put it back; the server joins it then"


def link_trouble(name: str, link: Link) -> Trouble | None:
    """Why nothing comes through it, and what to do."""
    if not link.flags & IFF_UP:
        return f"interface {name} is down", f"ip link set {name} up"
    if not link.flags & IFF_RUNNING:
        return f"interface {name} has no carrier", "plug its cable in, or set its other end up"
    return None


def interface_finding(asked: str, name: str, whose: str, trouble: Trouble | None) -> Finding:
    """Of the interface that was asked for by one name, and may have another one now."""
    what = "interface"
    if trouble is not None:
        return Finding(what, asked, "none", *trouble, ok=False)
    in_force = f"{name}, {whose}"
    if name == asked:
        return Finding(what, asked, in_force)
    reason = "it was renamed since the server started"
    fix = f"give it its name back, or restart the server with --interface {name}"
    return Finding(what, asked, in_force, reason, fix, ok=False)


def packet_socket(name: str) -> socket.socket:
    """That receives nothing. StartupError."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        raise StartupError(
            f"--interface {name}: packet sockets take CAP_NET_RAW ({error.strerror}): start the server as root, "
            "or give it that"
        ) from None


def join(member: socket.socket, index: int, kind: int, mac: bytes = b"") -> None:
    """Have the interface let pass what `kind` (PACKET_MR_UNICAST and so on) says, for as long as the packet socket is
    open. OSError."""
    member.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _MEMBERSHIP.pack(index, kind, len(mac), mac))
