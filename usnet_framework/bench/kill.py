"""`usnet-bench kill`: how long a client waits for the first reply after the only worker was killed.

One connection keeps one request outstanding. The handler signs its replies with its process id, so that a reply which
the dead worker had committed before it died is not mistaken for the first of its successor; and the connection must
bring back every request once and in order, or the measurement fails.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from usnet_framework.bench import machine, report
from usnet_framework.bench.network import Loopback
from usnet_framework.bench.servers import running, usnet_command
from usnet_framework.bench.signature import SIGNATURE_BYTES, signer
from usnet_framework.errors import StartupError

REPLY_DEADLINE_S = 30.0
REQUEST_BYTES = 60


@dataclass(frozen=True)
class Kills:
    machine: dict[str, str | int]
    pause_s: float
    milliseconds: tuple[float, ...]

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
                f"first reply after SIGKILL of the only worker, {len(self.milliseconds)} kills, "
                f"{self.pause_s:g} s of requests between them; {self.machine['processor']}",
                f"median {median:.2f} ms  p99 {self.p99_ms:.2f} ms  max {max(self.milliseconds):.2f} ms",
            ]
        )


class Client:
    """One connection, one request at a time."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=REPLY_DEADLINE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._asked = 0

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
                raise StartupError(f"the server closed the connection at request {self._asked}")
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


def first_reply_ms(client: Client, worker: int) -> float:
    client.ask()
    killed_ns = time.monotonic_ns()
    os.kill(worker, signal.SIGKILL)
    while client.reply() == worker:  # committed before it died
        client.ask()
    return (time.monotonic_ns() - killed_ns) / 1e6


def measure(target: str, kills: int, pause_s: float) -> list[float]:
    client = Client(target)
    try:
        return [first_reply_ms(client, _run_for(client, pause_s)) for _ in range(kills)]
    except OSError as error:
        raise StartupError(f"{target}: the connection did not survive: {error}") from error
    finally:
        client.close()


def run(kills: int, pause_s: float) -> Kills:
    def command(host: str, port: int) -> list[str]:
        return usnet_command("Signed", host, port, "--layout", "split", "--workers", "1")

    report.progress(f"{kills} kills, about {kills * pause_s:.0f} s")
    with running(Loopback(), command) as server:
        return Kills(machine.describe(), pause_s, tuple(measure(server.target, kills, pause_s)))
