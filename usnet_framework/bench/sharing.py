"""`usnet-bench sharing`: the unique memory of a worker (USS), forked from its generation's zygote and spawned.

The application imports HEAVY_MIB of Python objects (heavy.py), which every spawned worker has for itself and forked
ones share until they write to them: reference counts are such writes. So each worker answers requests first, and calls
what was imported. Memory is that of the worker on the seat, with one spare beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import psutil

from usnet_framework.bench import machine, report
from usnet_framework.bench.handlers import HEAVY_MIB
from usnet_framework.bench.kill import Client
from usnet_framework.bench.network import Loopback
from usnet_framework.bench.servers import running, usnet_command
from usnet_framework.errors import StartupError

APP = "usnet_framework.bench.heavy:Heavy"
WAYS = {"spawned": "off", "forked": "auto"}


@dataclass(frozen=True)
class Sharing:
    machine: dict[str, str | int]
    requests: int
    bytes: dict[str, int]  # by way

    @property
    def ratio(self) -> float:
        return self.bytes["forked"] / self.bytes["spawned"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}

    def to_text(self) -> str:
        title = f"unique memory of a worker after {self.requests:,} requests; its application imports {HEAVY_MIB} MiB"
        rows = [(way, f"{size / 2**20:.1f}", f"{size / self.bytes['spawned']:.2f}") for way, size in self.bytes.items()]
        return f"{title}\n\n{report.table(('worker', 'MiB', 'of a spawned one'), rows)}"


def run(requests: int) -> Sharing:
    """StartupError."""
    try:
        sizes = {way: _measure(preload, requests) for way, preload in WAYS.items()}
    except (PermissionError, psutil.AccessDenied):
        raise StartupError("sharing: workers are closed to others of their user; run it as root") from None
    return Sharing(machine.describe(), requests, sizes)


def _measure(preload: str, requests: int) -> int:
    def command(host: str, port: int) -> list[str]:
        serve, _, *options = usnet_command("Signed", host, port, "--preload", preload)
        return [serve, APP, *options]

    report.progress(f"{requests} requests with --preload {preload}")
    with running(Loopback(), command) as server:
        client = Client(server.target)
        try:
            for _ in range(requests):
                client.ask()
                worker = client.reply()
            return int(psutil.Process(worker).memory_full_info().uss)
        finally:
            client.close()
