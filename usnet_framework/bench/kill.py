"""`usnet-bench kill`: how long until the first reply after the only worker, or network process, was killed.

One connection keeps one request outstanding. The handler signs its replies with its process id, so that a reply which
the dead worker had committed before it died is not mistaken for the first of its successor; and the connection must
bring back every request once and in order, or the measurement fails. Where network processes are killed, the client
asks when the process is gone. None should cost a connection; one that is lost is counted, and opened anew.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from usnet_framework.bench import machine, report
from usnet_framework.bench.network import Loopback
from usnet_framework.bench.servers import Server, running, usnet_command
from usnet_framework.bench.signature import SIGNATURE_BYTES, signer
from usnet_framework.errors import StartupError

REPLY_DEADLINE_S = 30.0
REQUEST_BYTES = 60
PROCESS_NAMES = {"worker": "worker", "network": "network process"}


@dataclass(frozen=True)
class Kills:
    machine: dict[str, str | int]
    pause_s: float
    milliseconds: tuple[float, ...]
    process: str = "worker"
    reconnects: int = 0

    @property
    def p99_ms(self) -> float:
        """The smallest that at least 99 % do not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[-(-len(ordered) * 99 // 100) - 1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"median_ms": statistics.median(self.milliseconds), "p99_ms": self.p99_ms}

    def to_text(self) -> str:
        median = statistics.median(self.milliseconds)
        return "\n".join(
            [
                f"first reply after SIGKILL of the only {PROCESS_NAMES[self.process]}, {len(self.milliseconds)} kills, "
                f"{self.pause_s:g} s of requests between them; {self.machine['processor']}",
                f"median {median:.2f} ms  p99 {self.p99_ms:.2f} ms  max {max(self.milliseconds):.2f} ms  "
                f"connections lost {self.reconnects}",
            ]
        )


class Client:
    """One connection, one request at a time."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._address = host, int(port)
        self._asked = 0
        self.reconnects = -1
        self.connect()

    def connect(self) -> None:
        """The first connection, or one instead of a lost one."""
        self._socket = socket.create_connection(self._address, timeout=REPLY_DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reconnects += 1

    def ask(self) -> None:
        self._socket.sendall(self._request())

    def reply(self) -> int:
        """Waits for the reply to the last request; the process that gave it."""
        signed = self._receive(SIGNATURE_BYTES + REQUEST_BYTES)
        if signed[SIGNATURE_BYTES:] != self._request():
            raise StartupError(f"request {self._asked} came back changed; see `usnet-load --verify` for what happened")
        self._asked += 1
        return signer(signed)

    def close(self) -> None:
        self._socket.close()

    def _request(self) -> bytes:
        return self._asked.to_bytes(8, "little").ljust(REQUEST_BYTES, b".")

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            part = self._socket.recv(size - len(received))
            if not part:
                raise ConnectionAbortedError(f"the server closed the connection at request {self._asked}")
            received += part
        return received


def _run_for(client: Client, seconds: float) -> int:
    """Requests, one after the other; the process that answered the last."""
    end = time.monotonic() + seconds
    while True:
        client.ask()
        process = client.reply()
        if time.monotonic() >= end:
            return process


def after_worker_ms(client: Client, worker: int) -> float:
    client.ask()
    killed_ns = time.monotonic_ns()
    os.kill(worker, signal.SIGKILL)
    while client.reply() == worker:  # committed before it died
        client.ask()
    return (time.monotonic_ns() - killed_ns) / 1e6


def after_network_ms(client: Client, network: int) -> float:
    pidfd = os.pidfd_open(network)
    killed_ns = time.monotonic_ns()
    os.kill(network, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)
    try:
        client.ask()
        client.reply()
    except ConnectionError:
        client.close()
        client.connect()
        client.ask()
        client.reply()
    return (time.monotonic_ns() - killed_ns) / 1e6


def _network_of(server: int) -> int:
    """Of a server with one shard."""
    for process in psutil.Process(server).children(recursive=True):
        if process.cmdline()[0].startswith("usnet: network"):
            return int(process.pid)
    raise StartupError("the server has no network process")


def _measure_workers(server: Server, client: Client, pause_s: float) -> Iterator[float]:
    while True:
        yield after_worker_ms(client, _run_for(client, pause_s))


def _measure_networks(server: Server, client: Client, pause_s: float) -> Iterator[float]:
    while True:
        _run_for(client, pause_s)
        yield after_network_ms(client, _network_of(server.pid))


PROCESSES: dict[str, Callable[[Server, Client, float], Iterator[float]]] = {
    "worker": _measure_workers,
    "network": _measure_networks,
}


def run(process: str, kills: int, pause_s: float) -> Kills:
    def command(host: str, port: int) -> list[str]:
        return usnet_command("Signed", host, port, "--layout", "split", "--workers", "1")

    report.progress(f"{kills} kills, about {kills * pause_s:.0f} s")
    with running(Loopback(), command) as server:
        client = Client(server.target)
        try:
            milliseconds = itertools.islice(PROCESSES[process](server, client, pause_s), kills)
            return Kills(machine.describe(), pause_s, tuple(milliseconds), process, client.reconnects)
        except OSError as error:
            raise StartupError(f"{server.target}: the connection did not survive: {error}") from error
        finally:
            client.close()
