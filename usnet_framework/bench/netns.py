"""Two network namespaces joined by a veth pair: traffic takes the whole path of a network device, and nothing of the
machine's own network is touched.

Names hold our process id, so that several can exist, and so that one which a killed process left behind can be told:
it is removed by the next that is made. The sending side gets a queue (pfifo): without one a veth ring of 256 frames
drops bursts. Congestion control is set by the routes, on both sides alike: the default of some machines (BBR) paces
even an echo by timers, which measures the timers.

Who sends does the receiving too, unless told otherwise: the kernel takes a packet through the receiver's stack, up to
its socket, in the context of the sender, on his core. Over the veth pair each side so works for the other: what a
server on kernel sockets receives is paid by the load's core, what the load receives by the server's. Over TAP, writing
a packet takes it through the load's kernel, on the server's core too, but the server's own stack receives on its own
core as well. On an AF_XDP socket, what comes is put into the server's frames on the load's core. With `receive_at_home`
each kernel receives on the core of the process that it receives for (RPS), as behind a network card.

A server with a stack of its own takes packets from its end of the pair before the kernel does (Station), at an address
of its own. Or it gets a TAP interface (TapLink), in the namespace of the load: the load sits at the kernel's end of it,
with the same queue and route. No server on kernel sockets can be measured there, because its packets to that load would
never touch the interface.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PREFIX = "usnet-bench-"
QUEUE_PACKETS = 1000
CONGESTION_CONTROL = "cubic"
SERVER_ADDRESS = "192.0.2.1"  # RFC 5737: for documentation, never on a real network
CLIENT_ADDRESS = "192.0.2.2"
STATION_ADDRESS = "192.0.2.3"
NOBODYS_ADDRESS = "192.0.2.4"
PAIR_NETWORK = "192.0.2.0/29"
SERVER_INTERFACE = "ubserver"  # each in a namespace of its own
CLIENT_INTERFACE = "ubclient"
TAP_SERVER_ADDRESS = "192.0.2.9"
TAP_CLIENT_ADDRESS = "192.0.2.10"
TAP_NETWORK = "192.0.2.8/30"
TAP_INTERFACE = "usnet0"
PORT = 7000


class NamespaceError(Exception):
    """A command of iproute2 failed."""


@dataclass(frozen=True)
class Side:
    namespace: str
    device: str
    address: str


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NamespaceError(f"{' '.join(command)}: {done.stderr.strip()}")


def namespaces() -> list[str]:
    """Names of all that were made here, by anybody."""
    if shutil.which("ip") is None:
        return []
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    names = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    return [name for name in names if name.startswith(PREFIX)]


def remove_abandoned() -> None:
    """Removes namespaces whose maker is gone."""
    for name in namespaces():
        maker = name.removeprefix(PREFIX).split("-")[0]
        if not Path(f"/proc/{maker}").exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def on_network(address: str, network: str) -> str:
    """As 192.0.2.1/29."""
    return f"{address}/{network.rpartition('/')[2]}"


def configure(side: Side, network: str) -> None:
    ip = ["ip", "-n", side.namespace]
    run(*ip, "address", "add", on_network(side.address, network), "dev", side.device, "noprefixroute")
    run(*ip, "link", "set", side.device, "up")
    run(*ip, "route", "add", network, "dev", side.device, "congctl", CONGESTION_CONTROL)
    queue = ["root", "pfifo", "limit", str(QUEUE_PACKETS)]
    run("tc", "-n", side.namespace, "qdisc", "replace", "dev", side.device, *queue)


def cpu_mask(*cores: int) -> str:
    """As the kernel writes sets of processors: hexadecimal, in groups of 32."""
    digits = f"{sum(1 << core for core in set(cores)):x}"
    first = (len(digits) - 1) % 8 + 1
    return ",".join([digits[:first], *(digits[at : at + 8] for at in range(first, len(digits), 8))])


def receive_on(side: Side, *cores: int) -> None:
    mask = cpu_mask(*cores)
    setting = f"for queue in /sys/class/net/{side.device}/queues/rx-*/rps_cpus; do echo {mask} > $queue; done"
    run("ip", "netns", "exec", side.namespace, "sh", "-c", setting)


def receive_in_thread(side: Side, core: int) -> None:
    """An XDP program takes packets before they can be passed on to another core. So a thread of the kernel receives
    them, on this one."""
    run("ip", "netns", "exec", side.namespace, "sh", "-c", f"echo 1 > /sys/class/net/{side.device}/threaded")
    for thread in psutil.process_iter(["name"]):
        if thread.info["name"].startswith(f"napi/{side.device}-"):
            os.sched_setaffinity(thread.pid, {core})


def stop_segmenting(side: Side) -> None:
    """Its kernel cuts what TCP sends before the interface sees it, as it does where the peer has an XDP program."""
    command = [sys.executable, "-P", "-m", "usnet_framework.bench.segmentation", side.device]
    run("ip", "netns", "exec", side.namespace, *command)


def reuse_ports_soon(side: Side) -> None:
    """The side that closes first keeps each port for a minute. That of the load may take it again after a second
    (timestamps tell old segments from new ones), or short connections would use up all ports at once."""
    settings = "echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse && echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range"
    run("ip", "netns", "exec", side.namespace, "sh", "-c", settings)


class VethPair:
    """A Network (network.py). `remove` may be called at any time, after a `create` that failed half-way too."""

    def __init__(self, queues: int = 1) -> None:
        identity = os.getpid()
        self._queues = ["numrxqueues", str(queues), "numtxqueues", str(queues)]
        self.server = Side(f"{PREFIX}{identity}-server", SERVER_INTERFACE, SERVER_ADDRESS)
        self.client = Side(f"{PREFIX}{identity}-client", CLIENT_INTERFACE, CLIENT_ADDRESS)
        self.description = f"veth pair between two network namespaces, pfifo, {CONGESTION_CONTROL}"

    def create(self) -> None:
        remove_abandoned()
        server, client = self.server, self.client
        run("ip", "netns", "add", server.namespace)
        run("ip", "netns", "add", client.namespace)
        peer = ["type", "veth", "peer", "name", client.device, "netns", client.namespace, *self._queues]
        run("ip", "link", "add", server.device, "netns", server.namespace, *self._queues, *peer)
        for side in (server, client):
            run("ip", "-n", side.namespace, "link", "set", "lo", "up")
            configure(side, PAIR_NETWORK)
        reuse_ports_soon(client)

    def receive_at_home(self, server_core: int, load_core: int) -> None:
        receive_on(self.server, server_core)
        receive_on(self.client, load_core)

    def stop_segmenting(self) -> None:
        for side in (self.server, self.client):
            stop_segmenting(side)

    def forget_neighbours(self) -> None:
        """A server that has a station of its own may have another one than the server before it."""
        run("ip", "-n", self.client.namespace, "neighbour", "flush", "dev", self.client.device)

    def remove(self) -> None:
        for side in (self.server, self.client):
            if side.namespace in namespaces():
                subprocess.run(["ip", "netns", "delete", side.namespace], capture_output=True, check=False)

    def new_address(self) -> tuple[str, int]:
        return self.server.address, PORT

    def on_server(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.server.namespace, *command]

    def on_client(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.client.namespace, *command]


class Station:
    """A Network on a pair: a server with its own stack on the interface of the pair's server, which the kernel has as
    well."""

    def __init__(self, pair: VethPair) -> None:
        self._pair = pair
        self.description = "a station beside the kernel's on the veth pair"

    def receive_at_home(self, server_core: int, load_core: int) -> None:
        """While a server has its program there."""
        self._pair.receive_at_home(server_core, load_core)
        receive_in_thread(self._pair.server, server_core)

    def new_address(self) -> tuple[str, int]:
        self._pair.forget_neighbours()
        return STATION_ADDRESS, PORT

    def on_server(self, command: Sequence[str]) -> list[str]:
        return self._pair.on_server(command)

    def on_client(self, command: Sequence[str]) -> list[str]:
        return self._pair.on_client(command)


class TapLink:
    """A Network too: a server with its own stack at one end of a TAP interface, the load at the kernel's end. It lies
    in the client's namespace of a pair and goes with it."""

    def __init__(self, pair: VethPair, queues: int = 1) -> None:
        self._queues = ["multi_queue"] if queues > 1 else []
        self.client = Side(pair.client.namespace, TAP_INTERFACE, TAP_CLIENT_ADDRESS)
        self.description = "TAP interface"

    def create(self) -> None:
        run("ip", "-n", self.client.namespace, "tuntap", "add", "dev", TAP_INTERFACE, "mode", "tap", *self._queues)
        configure(self.client, TAP_NETWORK)

    def receive_at_home(self, server_core: int, load_core: int) -> None:
        receive_on(self.client, load_core)

    def new_address(self) -> tuple[str, int]:
        return TAP_SERVER_ADDRESS, PORT

    def on_server(self, command: Sequence[str]) -> list[str]:
        return self.on_client(command)

    def on_client(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.client.namespace, *command]
