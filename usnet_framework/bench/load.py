"""The load generator `usnet-load`, as Python sees it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from usnet_framework.bench.network import Network
from usnet_framework.errors import StartupError
from usnet_framework.installed import installed

READY_DEADLINE_S = 20.0
_MARGIN_S = 60.0  # far more than opening connections and draining ever take


def program(name: str) -> str:
    """The path of an executable that was built with the package."""
    return str(installed(f"bin/{name}"))


WAYS = ("echo", "up", "down")
"""Whither the bytes of a load go: to the server and back, to it, or from it."""

SHORT_BYTES = 16
"""The other way: a message that asks for an answer, or the answer that all has come (native/bench/exchange.h)."""


@dataclass(frozen=True)
class Load:
    connections: int
    size: int = 60  # bytes of a message; of its answer, when they go down
    duration_s: float = 2.0
    warmup_s: float = 0.5
    pipeline: int = 1
    rate: float | None = None  # messages per second; None: closed loop
    verify: bool = False
    connect: bool = False  # each message over a connection of its own
    way: str = "echo"
    reconnect: bool = False  # a connection that ends is opened anew
    histogram: bool = False  # the result has `histogram_ns`: [largest value, count] of each bucket
    every_ms: int | None = None  # the result has `timeline`: answers in each stretch of so many milliseconds

    def command(self, target: str, core: int | None) -> list[str]:
        command = [program("usnet-load"), "--json", "--target", target, "--connections", str(self.connections)]
        command += ["--duration", str(self.duration_s), "--warmup", str(self.warmup_s), *self._sizes()]
        command += ["--pipeline", str(self.pipeline)]
        command += ["--mode", "rate", "--rate", str(self.rate)] if self.rate is not None else []
        command += ["--mode", "connect"] if self.connect else []
        command += ["--verify"] if self.verify else []
        command += ["--reconnect"] if self.reconnect else []
        command += ["--histogram"] if self.histogram else []
        command += ["--every", str(self.every_ms)] if self.every_ms is not None else []
        command += ["--core", str(core)] if core is not None else []
        return command

    def _sizes(self) -> list[str]:
        if self.way == "echo":
            return ["--size", str(self.size)]
        size, answer = (self.size, SHORT_BYTES) if self.way == "up" else (SHORT_BYTES, self.size)
        return ["--size", str(size), "--answer", str(answer)]


class LoadError(StartupError):
    """The load generator could not do its work, or --verify found answers that were wrong."""


def _line(errors: str) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else "no reason was given"


def run_load(network: Network, load: Load, target: str, core: int | None = None) -> dict[str, Any]:
    """Runs it to its end; what it printed as JSON (native/bench/report.c)."""
    command = network.on_client(load.command(target, core))
    limit_s = load.warmup_s + load.duration_s + _MARGIN_S
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    if not done.stdout:
        raise LoadError(_line(done.stderr))
    result: dict[str, Any] = json.loads(done.stdout)
    if done.returncode != 0:
        reasons = "; ".join(incident["text"] for incident in result["incidents"][:3])
        raise LoadError(f"{target}: answers were wrong: {reasons}")
    return result


def answers(network: Network, target: str, wait_s: float) -> bool:
    """Whether one connection gets one answer, of whichever kind; connecting is tried again for up to `wait_s`."""
    command = [program("usnet-load"), "--target", target, "--json", "--wait", str(wait_s)]
    command += ["--size", str(SHORT_BYTES), "--answer", str(SHORT_BYTES)]
    command += ["--warmup", "0", "--duration", "0.01", "--drain", str(READY_DEADLINE_S)]
    done = subprocess.run(network.on_client(command), capture_output=True, text=True, check=False)
    return done.returncode == 0 and json.loads(done.stdout)["messages"]["answered"] > 0
