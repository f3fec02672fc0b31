"""The link between our stack and the kernel's: a TAP interface in the network namespace of the test, with an MTU,
faults and offloads to choose; or a veth pair, of which a server serves one end by AF_XDP. It is there before and after
those that join it, and ends with the namespace. Beside them is the loopback, for the kernel's own sockets.

    with network_namespace():
        link = Link(mtu=9000)
        with Server("examples.echo:Echo", "--queues", "1", backend=link) as server:    # or Host(*OUR_ADDRESSES)
            with link.losses(), connect(6, server.address[1]) as client: ...

What the kernel sends is dropped and thinned out where it leaves, what we send where it arrives, by classic BPF programs
of the scheduler that draw a random number for each packet. With offloads a packet may be 64 KiB of many segments, which
are lost together; without them each segment has its own fate.
"""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import subprocess
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from support.backends import Afxdp, Kernel, Tap
from support.host import Host

T = TypeVar("T")

SECONDS = 60.0
INTERFACE = Tap.interface
OURS = {4: Tap.ipv4, 6: Tap.ipv6}
KERNELS = {4: "10.77.0.2", 6: "fd77::2"}
PREFIXES = {4: 24, 6: 64}
OUR_ADDRESSES = tuple(f"{OURS[version]}/{PREFIXES[version]}" for version in (4, 6))
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_SIOCETHTOOL = 0x8946
_SEGMENTATION = (0x1F, 0x24, 0x2C)  # ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
_RANDOM = (1 << 32) - 0x1000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD, _JUMP_IF_NOT_LESS, _RETURN = 0x20, 0x35, 0x06
_PASS, _DROP, _TAKE = 0, 2, 4  # TC_ACT_OK, TC_ACT_SHOT, TC_ACT_STOLEN
_LOSSES = {"ingress": _DROP, "egress": _TAKE}
"""What is dropped as it leaves, the sender knows of, and sends anew at once; of what is taken it does not."""


class Lossy:
    """Of a Backend that the server joins, and leaves there. `end`: the kernel's."""

    end: str
    mtu: int

    @contextmanager
    def losses(self, per_mille: int = 20) -> Iterator[Callable[[], int]]:
        """Packets are lost at random, each way; some of them were, when this ends. It gives what tells how many."""

        def lost() -> int:
            return int(re.findall(r"dropped (\d+)", tc("-s", "qdisc", "show", "dev", self.end, "clsact"))[0])

        tc("qdisc", "add", "dev", self.end, "clsact")
        try:
            for direction, end in _LOSSES.items():
                program = [
                    (_LOAD, 0, 0, _RANDOM),
                    (_JUMP_IF_NOT_LESS, 0, 1, (per_mille << 32) // 1000),
                    (_RETURN, 0, 0, _PASS),
                    (_RETURN, 0, 0, end),
                ]
                text = ",".join([str(len(program)), *("{} {} {} {}".format(*step) for step in program)])
                tc("filter", "add", "dev", self.end, direction, "bpf", "direct-action", "bytecode", text)
            yield lost
            assert lost() > 0
        finally:
            tc("qdisc", "delete", "dev", self.end, "clsact")

    def cut_segments(self) -> None:
        """The kernel sends packets no larger than the MTU from now on; to a TAP interface until somebody else joins it,
        as its owner says anew what it takes."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
            for command in _SEGMENTATION:
                value = array("B", struct.pack("II", command, 0))
                request = struct.pack("16sP16x", self.end.encode(), value.buffer_info()[0])
                fcntl.ioctl(query, _SIOCETHTOOL, request)
        self.send_single()

    def send_single(self) -> None:
        """TCP itself joins segments, whatever the interface can, and they are cut again behind what loses them."""
        ip("link", "set", self.end, "gso_max_segs", "1")


class Link(Lossy, Tap):
    end = INTERFACE

    def __init__(self, mtu: int = 1500) -> None:
        self.mtu = mtu
        ip("tuntap", "add", "dev", INTERFACE, "mode", "tap")
        ip("link", "set", INTERFACE, "mtu", str(mtu), "up")
        ip("address", "add", f"{KERNELS[4]}/{PREFIXES[4]}", "dev", INTERFACE)
        ip("address", "add", f"{KERNELS[6]}/{PREFIXES[6]}", "dev", INTERFACE, "nodad")

    def started(self) -> None:
        pass

    def ended(self) -> None:
        assert "NO-CARRIER" in ip("link", "show", INTERFACE), "somebody still has it"


class Pair(Lossy, Afxdp):
    """A program at one end of a veth pair: no packet is larger than the MTU, of several frames if that is large."""

    end = Afxdp.peer

    def __init__(self, mtu: int = 1500) -> None:
        super().__init__()
        self.mtu = mtu
        self.connect("1")
        for name in (self.interface, self.peer):
            ip("link", "set", name, "mtu", str(mtu))

    def cut_segments(self) -> None:
        self.send_single()


class Loopback(Lossy, Kernel):
    """A server on the kernel's sockets, at the same addresses; what comes to them passes the interface both ways."""

    end = "lo"

    def __init__(self, mtu: int = 1500) -> None:
        self.mtu = mtu
        ip("link", "set", self.end, "mtu", str(mtu))
        for address in OURS.values():
            ip("address", "add", address, "dev", self.end)

    def address(self, port: int) -> tuple[str, int]:
        return (OURS[4], port)

    def options(self, port: int, given: Sequence[str] = ()) -> list[str]:
        return ["--bind", f"tcp://[::]:{port}"]

    def losses(self, per_mille: int = 20) -> AbstractContextManager[Callable[[], int]]:
        return super().losses(per_mille // 2)


def connect(version: int, port: int) -> socket.socket:
    """From the kernel's end to ours."""
    return socket.create_connection((OURS[version], port), SECONDS)


def reset(client: socket.socket) -> None:
    """Close with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def reuse_ports() -> None:
    """Let the kernel's end open more connections than it has ports in a minute, as its TIME-WAIT lasts."""
    for name, value in {"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1"}.items():
        Path(f"/proc/sys/net/ipv4/{name}").write_text(value)


@contextmanager
def kernel_serves(host: Host, version: int, service: Callable[[socket.socket], T]) -> Iterator[tuple[int, Future[T]]]:
    """The kernel's end as the server of one connection: its port, and what `service` returns. Leaving the block waits
    for that, and lets the host live meanwhile."""
    with (
        socket.create_server((KERNELS[version], 0), family=FAMILIES[version]) as listener,
        ThreadPoolExecutor(1) as pool,
        ExitStack() as abandoned,
    ):
        listener.settimeout(SECONDS)
        abandoned.callback(_end, listener)

        def serve() -> T:
            client, _ = listener.accept()
            abandoned.callback(_end, client)
            with client:
                client.settimeout(SECONDS)
                return service(client)

        served = pool.submit(serve)
        yield listener.getsockname()[1], served
        host.until("the kernel's end has finished", served.done)
        served.result()


@contextmanager
def kernel_answers(host: Host, version: int) -> Iterator[int]:
    """The kernel's end as a server of many, one after the other, to whom it says what they said: its port."""

    def serve() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                client, _ = listener.accept()
                with client:
                    while data := client.recv(65536):
                        client.sendall(data)

    address = (KERNELS[version], 0)
    with socket.create_server(address, family=FAMILIES[version]) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        try:
            yield listener.getsockname()[1]
        finally:
            _end(listener)
        host.until("the kernel's end has finished", served.done)
        served.result()


def _end(one: socket.socket) -> None:
    """Whoever waits for it waits no longer."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextmanager
def setting(path: str, value: int) -> Iterator[None]:
    """Of this network namespace: net/…"""
    file = Path("/proc/sys") / path
    before = file.read_text()
    file.write_text(str(value))
    try:
        yield
    finally:
        file.write_text(before)


def kernel_counters() -> dict[str, int]:
    """Of the kernel's TCP in this network namespace."""
    text = "".join(Path("/proc/thread-self/net", name).read_text() for name in ("snmp", "netstat"))
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("Tcp")]
    names, values = lines[::2], lines[1::2]
    return dict(zip(chain(*names), map(int, chain(*values)), strict=True))


def station() -> str:
    """The kernel's MAC address on the link."""
    (found,) = re.findall(r"link/ether (\S+)", ip("link", "show", INTERFACE))
    return str(found)


def neighbours() -> dict[str, str]:
    """Addresses that the kernel has resolved on the link, with their MAC addresses."""
    shown = ip("neighbour", "show", "dev", INTERFACE).splitlines()
    return {words[0]: words[2] for line in shown if "lladdr" in (words := line.split())}


def ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def tc(*arguments: str) -> str:
    return _run("tc", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
