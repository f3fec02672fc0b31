"""Where the kernel has TCP sockets of its own: listeners and connections, as /proc/net/tcp lists them.

Those that are bound and do nothing are not listed, and those in TIME-WAIT are left out: they miss nothing."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path

from usnet_framework._native_kernel import IpAddress

TABLES = ("proc/thread-self/net/tcp", "proc/thread-self/net/tcp6")
TIME_WAIT = "06"


def local_ends(root: Path = Path("/")) -> Iterator[tuple[IpAddress, int]]:
    """In this network namespace."""
    for table in TABLES:
        try:
            lines = (root / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state != TIME_WAIT:
                ip, _, port = local.partition(":")
                yield _ip_of(ip), int(port, 16)


def _ip_of(words: str) -> IpAddress:
    """As the kernel prints it: in words of the machine's byte order."""
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    ip = ipaddress.ip_address(packed)
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
