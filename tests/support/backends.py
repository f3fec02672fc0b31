"""What carries the connections of a server under test: the kernel's sockets, or our stack on a packet device.

With a packet device everything happens in a network namespace of its own: the thread of the test enters it, and so does
whatever it starts from then on. The namespace holds a loopback, and the interface while a server runs; clients sit at
the other end of it. It ends with the last process in it, so there is nothing to remove.

    def test_something(serve: Serve) -> None:        # runs once with each backend (tests/conftest.py)
        with serve("examples.echo:Echo") as server, server.connect() as client: ...
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from support.netmap import StandIn, tap_wire

from usnet_framework.shards.ethtool import Ethtool

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


class Backend(Protocol):
    env: Mapping[str, str]
    """Of usnet-serve, besides the test's."""

    def address(self, port: int) -> tuple[str, int]:
        """Where clients connect."""

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        """Of usnet-serve, to be found there, beside those that are given."""

    def started(self) -> None:
        """The server serves."""

    def ended(self) -> None:
        """The server is gone: nothing of the backend is left."""


class Kernel:
    env: Mapping[str, str] = {}

    def address(self, port: int) -> tuple[str, int]:
        return ("127.0.0.1", port)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        return ["--bind", f"tcp://127.0.0.1:{port}"]

    def started(self) -> None:
        pass

    def ended(self) -> None:
        pass


class Tap:
    env: Mapping[str, str] = {}
    interface = "usnet0"
    ipv4, ipv6 = "10.77.0.1", "fd77::1"

    def address(self, port: int) -> tuple[str, int]:
        return (self.ipv4, port)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        ours = ["--address", f"{self.ipv4}/24", "--address", f"{self.ipv6}/64", "--interface", self.interface]
        return ["--backend", "tap", *ours, "--bind", f"tcp://*:{port}"]

    def started(self) -> None:
        """Give the kernel's end its addresses, which is the user's part."""
        for address in ("10.77.0.2/24", "fd77::2/64"):
            extra = ["nodad"] if ":" in address else []
            subprocess.run(["ip", "address", "replace", address, "dev", self.interface, *extra], check=True)

    def ended(self) -> None:
        with contextlib.suppress(OSError):
            raise AssertionError(f"interface {socket.if_nametoindex(self.interface)} is left")


class Afxdp:
    """One end of a veth pair; clients sit at the other one."""

    env: Mapping[str, str] = {}
    interface, peer = "usnet0", "clients0"
    ipv4, ipv6 = "10.77.0.1", "fd77::1"

    def __init__(self) -> None:
        self._queues = "0"

    def address(self, port: int) -> tuple[str, int]:
        return (self.ipv4, port)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        asked = given[given.index("--queues") + 1] if "--queues" in given else self._queues
        if self._queues != asked or asked == "0":
            self.connect("1" if asked == "0" else asked)
        ours = ["--address", f"{self.ipv4}/24", "--address", f"{self.ipv6}/64", "--interface", self.interface]
        return ["--backend", "afxdp", *ours, "--bind", f"tcp://*:{port}"]

    def connect(self, queues: str, most: str = "") -> None:
        """A server serves all queues of its interface, so there are as many as it has shards; there may be more."""
        if self._queues != "0":
            self.remove()
        extra = f"numrxqueues {most or queues} numtxqueues {most or queues}"
        _ip(f"link add {self.interface} {extra} type veth peer name {self.peer} {extra}")
        for name in (self.interface, self.peer):
            with Ethtool(name) as card:
                card.set_channels(replace(card.channels(), rx=int(queues), tx=int(queues)))
            _ip(f"link set {name} up")
        # A queue has 256 places; what finds none there has to wait at the sender.
        subprocess.run(["tc", "qdisc", "replace", "dev", self.peer, "root", "pfifo", "limit", "1000"], check=True)
        _ip(f"address add 10.77.0.2/24 dev {self.peer}")
        _ip(f"address add fd77::2/64 dev {self.peer} nodad")
        self._queues = queues

    def remove(self) -> None:
        """The pair, with what the kernel had at its end."""
        _ip(f"link delete {self.interface}")
        self._queues = "0"

    def send_from(self, queues: int) -> None:
        """Of the other end; what one queue there sends comes through the queue of the same number here."""
        with Ethtool(self.peer) as card:
            card.set_channels(replace(card.channels(), tx=queues))

    def started(self) -> None:
        pass

    def ended(self) -> None:
        """The program went with the server."""
        if self._queues == "0":
            return  # the interface went before
        shown = subprocess.run(["ip", "link", "show", self.interface], check=True, capture_output=True).stdout
        assert b"xdp" not in shown, f"an XDP program is left: {shown!r}"


class Netmap:
    """Ports of a VALE switch that is played; clients sit at a TAP interface, which is its wire."""

    port, peer = "vale0:us", "clients0"
    ipv4, ipv6 = "10.77.0.1", "fd77::1"

    def __init__(self, netmap: StandIn) -> None:
        self.netmap = netmap
        self.env = netmap.env

    def address(self, port: int) -> tuple[str, int]:
        return (self.ipv4, port)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        ours = ["--address", f"{self.ipv4}/24", "--address", f"{self.ipv6}/64", "--interface", self.port]
        return ["--backend", "netmap", *ours, "--bind", f"tcp://*:{port}"]

    def started(self) -> None:
        pass

    def ended(self) -> None:
        """Its ports went with the server, and it broke no rule."""
        assert self.netmap.is_left(), f"left: {self.netmap.ports()}"
        assert self.netmap.broken == []


@contextlib.contextmanager
def network_namespace() -> Iterator[None]:
    """This thread, and whatever it starts, in a network namespace that holds a loopback and nothing else."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_NEW_NETWORK))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _checked(_libc.setns(before, _NEW_NETWORK))
    finally:
        os.close(before)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread, and whatever it starts, in another network namespace; sockets stay in that of their making."""
    before = current_namespace()
    try:
        _checked(_libc.setns(namespace, _NEW_NETWORK))
        try:
            yield
        finally:
            _checked(_libc.setns(before, _NEW_NETWORK))
    finally:
        os.close(before)


def current_namespace() -> int:
    """A descriptor of it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def backend_named(name: str) -> Iterator[Backend]:
    """"kernel"; "tap", "afxdp" or "netmap" in a network namespace of its own."""
    if name == "kernel":
        yield Kernel()
    else:
        with network_namespace():
            if name == "netmap":
                with switch() as netmap:
                    yield Netmap(netmap)
            else:
                yield Tap() if name == "tap" else Afxdp()


@contextlib.contextmanager
def switch() -> Iterator[StandIn]:
    """A VALE switch with its wire in this network namespace."""
    with tempfile.TemporaryDirectory(prefix="usnet-netmap-") as folder:
        wire = tap_wire(Netmap.peer, ["10.77.0.2/24", "fd77::2/64"])
        with StandIn(Path(folder), wire, slots=1024) as netmap:
            yield netmap


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
