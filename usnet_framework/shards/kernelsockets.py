"""Where the kernel has TCP sockets of its own: listeners and connections.

Asked for by sock_diag(7), whose filter leaves out all other ports before anything is copied; a kernel without it has
/proc/net/tcp. Those that are bound and do nothing are not listed, and those in TIME-WAIT are left out: they miss
nothing.

The kernel looks at all connections that there are, in the thread that asks. It takes long where there are many, so
whoever has a loop asks in another thread."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from usnet_framework.addresses import IpAddress, Ports, unmapped
from usnet_framework.shards.rtnetlink import (
    MESSAGE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    error_in,
    messages_in,
)

TABLES = ("proc/thread-self/net/tcp", "proc/thread-self/net/tcp6")
TIME_WAIT = 6

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
INET_DIAG_REQ_BYTECODE = 1
INET_DIAG_BC_JMP, INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE = 1, 2, 3
STATES = 0x1FFE & ~(1 << TIME_WAIT)  # all, by their numbers in the kernel
PACKET_BYTES_MAX = 1 << 16
REPLY_S = 0.5  # the kernel has looked when a call returns; it waits for nobody

_REQUEST = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2
_SOCKET = struct.Struct(">Bxxx Hxx 16s")  # the beginning of struct inet_diag_msg
_OPERATION = struct.Struct("=BBH")  # struct inet_diag_bc_op


def local_ends(*ports: Ports) -> list[tuple[IpAddress, int]]:
    """At ports of these ranges, in this network namespace. OSError."""
    families = (socket.AF_INET, socket.AF_INET6)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(REPLY_S)
            return [end for family in families for end in _asked_for(diag, family, ports)]
    except TimeoutError:
        raise
    except OSError:
        return list(listed_ends(ports))


def listed_ends(ports: Sequence[Ports], root: Path = Path("/")) -> Iterator[tuple[IpAddress, int]]:
    """The same, from /proc."""
    for table in TABLES:
        try:
            lines = (root / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            _, local, _, state, *_ = line.split(maxsplit=4)
            words, _, port = local.partition(":")
            is_asked_for = any(first <= int(port, 16) <= last for first, last in ports)
            if is_asked_for and int(state, 16) != TIME_WAIT:
                yield _ip_of(words), int(port, 16)


def _asked_for(diag: socket.socket, family: int, ports: Sequence[Ports]) -> Iterator[tuple[IpAddress, int]]:
    asked = _REQUEST.pack(family, socket.IPPROTO_TCP, STATES) + attribute(INET_DIAG_REQ_BYTECODE, _among(ports))
    head = MESSAGE.pack(MESSAGE.size + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, 0)
    diag.send(head + asked)
    while True:
        for kind, _, _, rest in messages_in(diag.recv(PACKET_BYTES_MAX)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                raise OSError(error_in(rest), os.strerror(error_in(rest)))
            its_family, port, packed = _SOCKET.unpack_from(rest)
            yield ipaddress.ip_address(unmapped(packed[:4] if its_family == socket.AF_INET else packed)), port


def _among(ports: Sequence[Ports]) -> bytes:
    """A filter in the language of the kernel: what comes to its end is taken, what comes behind it is not. An operation
    says how far the next one is: where its condition holds, and where it does not. A jump is a condition that never
    holds; its first distance is for the kernel's check, which comes by all operations."""
    program = b""
    for one in reversed(ports):
        if program:
            program = _OPERATION.pack(INET_DIAG_BC_JMP, _OPERATION.size, _OPERATION.size + len(program)) + program
        program = _between(one) + program
    return program


def _between(ports: Ports) -> bytes:
    """Where it does not hold, it goes on behind the operation that follows. What is compared with stands in an
    operation of its own."""
    first, last = ports
    size = _OPERATION.size
    return (
        _OPERATION.pack(INET_DIAG_BC_S_GE, 2 * size, 5 * size)
        + _OPERATION.pack(0, 0, first)
        + _OPERATION.pack(INET_DIAG_BC_S_LE, 2 * size, 3 * size)
        + _OPERATION.pack(0, 0, last)
    )


def _ip_of(words: str) -> IpAddress:
    """As the kernel prints it: in words of the machine's byte order."""
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return ipaddress.ip_address(unmapped(packed))
