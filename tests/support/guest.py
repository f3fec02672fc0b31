"""usnet-serve in the emulated machine (machine.py), on all queues of a network card; the test's thread is its client.

    with serving(guest, IGB, "--require", "zerocopy") as server, server.connect(4) as client: ...

The stack has addresses of its own on the card. Metrics are served at the address that the kernel has there, so to look
at them is traffic of the kernel on the same interface. Leaving the block ends the server with SIGTERM. Everything is
slow in that machine: each wait has a deadline, and it is far away."""

from __future__ import annotations

import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from support.machine import QUEUES, Cable, Machine
from support.server import wait

from usnet_framework.config import default_control_path

PATIENCE_S = 600.0
POLL_S = 0.3
"""To answer costs the machine time that its server needs to start."""
PORT, METRICS_PORT, KERNEL_PORT = 7000, 9464, 7001

KERNEL_ECHO = """
import socketserver, sys

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)

socketserver.ThreadingTCPServer((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
"""


def command(cable: Cable, *options: str) -> list[str]:
    """Of the echo example on a card."""
    v4, v6 = cable.our_addresses
    return [
        *("usnet-serve", "examples.echo:Echo", "--backend", "afxdp", "--interface", cable.guest),
        *("--address", f"{v4}/24", "--address", f"{v6}/64", "--queues", str(QUEUES)),
        *("--metrics", f"{cable.guest_addresses[0]}:{METRICS_PORT}", "--start-timeout", str(PATIENCE_S), *options),
    ]


class GuestServer:
    """One that is ready."""

    def __init__(self, guest: Machine, cable: Cable, *options: str) -> None:
        self.cable = cable
        self._guest = guest
        self._pid = guest.start(*command(cable, *options))
        self._metrics = f"http://{cable.guest_addresses[0]}:{METRICS_PORT}"
        try:
            wait("the server is ready", self._is_ready, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{guest.kill(self._pid, signal.SIGKILL).stdout}") from None

    def address(self, version: int) -> tuple[str, int]:
        return self.cable.our_addresses[version == 6], PORT

    def connect(self, version: int, from_port: int = 0) -> socket.socket:
        source = (self.cable.host_addresses[version == 6], from_port)
        return socket.create_connection(self.address(version), PATIENCE_S, source)

    def ask(self, *arguments: str) -> Any:
        """What the server answers."""
        return self._guest.call("usnet_framework.shards.control:request", default_control_path(), *arguments)

    def finding(self, what: str) -> dict[str, Any]:
        """Of the doctor."""
        (found,) = (finding for finding in self.ask("doctor") if finding["what"] == what)
        assert isinstance(found, dict)
        return found

    def counter(self, name: str) -> float:
        """Of all shards."""
        families = text_string_to_metric_families(wait("metrics", lambda: self._get("/metrics"), PATIENCE_S))
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def network_pids(self) -> list[int | None]:
        """By shard; None: it is between two."""
        return [shard["network_pid"] for shard in self.ask("status")["shards"]]

    def kill(self, *pids: int | None) -> None:
        self._guest.run("sh", "-c", f"kill -KILL {' '.join(map(str, pids))}")

    def end(self) -> None:
        done = self._guest.kill(self._pid, signal.SIGTERM)
        assert done.status == 0, done.stdout

    def kill_all(self) -> None:
        """At once, the supervisor included."""
        status = self.ask("status")
        shards = [pid for shard in status["shards"] for pid in (shard["network_pid"], shard["keeper_pid"])]
        workers = [worker["pid"] for shard in status["shards"] for worker in shard["workers"]]
        self.kill(self._pid, *shards, *workers, *status["spares"], *status["zygotes"])
        assert self._guest.kill(self._pid, signal.SIGKILL).status == -signal.SIGKILL

    def _is_ready(self) -> bool:
        time.sleep(POLL_S)
        assert self._guest.call("os.path:exists", f"/proc/{self._pid}/exe"), "the server has ended"
        return bool(self._get("/readyz"))

    def _get(self, path: str) -> str:
        """Empty: not now. A request that takes longer than ten seconds is given up by the server."""
        try:
            with urllib.request.urlopen(f"{self._metrics}{path}", timeout=PATIENCE_S) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""


@contextmanager
def serving(guest: Machine, cable: Cable, *options: str) -> Iterator[GuestServer]:
    server = GuestServer(guest, cable, *options)
    try:
        yield server
    finally:
        server.end()


def settings(guest: Machine, cable: Cable) -> dict[str, Any]:
    """As the card has them now, and whether a program is attached to it."""
    found: dict[str, Any] = guest.call("lab.hold:settings", cable.guest)
    return {**found, "xdp": "xdp" in guest.run("ip", "link", "show", cable.guest)}


def echoed(client: socket.socket, text: bytes) -> bool:
    client.sendall(text)
    return client.recv(len(text), socket.MSG_WAITALL) == text


class KernelConnection:
    """To a server on the guest's kernel sockets, open all the time."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._lines = 0

    def goes_on(self) -> bool:
        self._lines += 1
        return echoed(self._client, b"%d\n" % self._lines)


@contextmanager
def kernel_connection(guest: Machine, cable: Cable) -> Iterator[KernelConnection]:
    """At the address that the kernel has on the card."""
    address = (cable.guest_addresses[0], KERNEL_PORT)
    server = guest.start(sys.executable, "-P", "-c", KERNEL_ECHO, address[0], str(address[1]))

    def connected() -> socket.socket | None:
        with suppress(ConnectionRefusedError):
            return socket.create_connection(address, PATIENCE_S)
        return None

    try:
        with wait("the kernel's server listens", connected, PATIENCE_S) as client:
            yield KernelConnection(client)
    finally:
        guest.kill(server, signal.SIGKILL)
