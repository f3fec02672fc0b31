"""`usnet-bench reload`: what clients notice of new code. One server runs all the time; windows of load without and with
reloads take turns, each reload begun when the one before is done. The last one of a window may end after its load; it
is counted. A window without reloads begins when the last worker of the reloads before it has left.

Beside the measured load, companions.py keeps the worker from leaving: answers of 9 MB that are read slowly, callbacks
that wait for up to `longest_s`, threads that wake up a thousand times a second. Everything that any client gets is
checked: numbered and checksummed messages, patterns, answers. Readiness is asked for 20 times a second.

Nothing is pinned but by the server itself. A window from which the hypervisor took more than STEAL_LIMIT of a core is
left out of the table, and counted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usnet_framework.bench import machine, report
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Usage
from usnet_framework.bench.netns import TAP_INTERFACE
from usnet_framework.bench.network import Network, add_tap, open_network
from usnet_framework.bench.rounds import NOTHING, interleave, median
from usnet_framework.bench.servers import running, usnet_command
from usnet_framework.errors import ControlError, StartupError
from usnet_framework.shards import control

STEAL_LIMIT = 0.10
LOOK_S = 0.05
SETTLED_DEADLINE_S = 90.0  # a minute of --reload-overlap, and a margin
COMPANIONS_DEADLINE_S = 120.0
QUIET, RELOADING = "quiet", "reloading"


@dataclass(frozen=True)
class Window:
    """A run of the load; times in ms."""

    name: str
    p50_ms: float
    p999_ms: float
    max_ms: float
    messages: int
    reloads: int
    steal: float

    @classmethod
    def of(cls, name: str, result: dict[str, Any], reloads: int, steal: float) -> Window:
        p50, p999, worst = (result["latency_ns"][key] / 1e6 for key in ("p50", "p99.9", "max"))
        return cls(name, p50, p999, worst, result["messages"]["answered"], reloads, steal)


@dataclass
class Seen:
    """What the control socket said meanwhile."""

    reloads: int = 0
    looks: int = 0
    not_ready: int = 0
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reloads:
    machine: dict[str, str | int]
    network: str
    backend: str
    longest_s: float
    load: Load
    seen: Seen
    companions: dict[str, Any]
    windows: tuple[Window, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        rows = [self._row(name) for name in (QUIET, RELOADING)]
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.companions["answers"].items()))
        return "\n".join(
            [
                f"{self.backend}, {self.load.connections} connections, {self.load.size} bytes, "
                f"{self._pace()}; {self.seen.reloads} reloads, "
                f"callbacks of up to {self.longest_s:g} s",
                f"{self.machine['processor']}; network: {self.network}",
                f"companions: {answers}; wrong: {len(self.companions['incidents'])}",
                f"asked {self.seen.looks} times, the server was not ready {self.seen.not_ready} times",
                "",
                report.table(("windows", "count", "dropped", "messages", "p50 ms", "p99.9 ms", "max ms"), rows),
            ]
        )

    def _pace(self) -> str:
        how = "a connection for each message" if self.load.connect else "messages as answers come"
        return f"{self.load.rate:,.0f} messages/s" if self.load.rate else how

    def _row(self, name: str) -> Sequence[str]:
        windows = [window for window in self.windows if window.name == name]
        clean = [window for window in windows if window.steal <= STEAL_LIMIT]
        worst = max((window.max_ms for window in clean), default=NOTHING)
        return (
            name,
            str(len(clean)),
            str(len(windows) - len(clean)),
            report.number(sum(window.messages for window in clean)),
            report.number(median(window.p50_ms for window in clean), 3),
            report.number(median(window.p999_ms for window in clean), 3),
            report.number(worst, 1),
        )


@contextmanager
def _accompanied(network: Network, target: str, longest_s: float, result: dict[str, Any]) -> Iterator[None]:
    host, port = target.rsplit(":", 1)
    command = [sys.executable, "-P", "-m", "usnet_framework.bench.companions", host, port, str(longest_s)]
    process = subprocess.Popen(network.on_client(command), stdout=subprocess.PIPE, text=True)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=COMPANIONS_DEADLINE_S + longest_s)
        if process.returncode != 0:
            raise StartupError(f"{target}: the companions ended with {process.returncode}")
        result.update(json.loads(printed))
    finally:
        process.kill()
        process.wait()


@contextmanager
def _repeated(step: Any) -> Iterator[None]:
    """Calls `step(stop)` again and again in a thread, until the block ends; `stop` is set then."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            step(stop)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Watch:
    """Of the server that has this control socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.seen = Seen()

    def reload(self, stop: threading.Event) -> None:
        try:
            control.request(self._path, "reload")
            self.seen.reloads += 1
        except ControlError as error:
            self.seen.refusals.append(str(error))
            stop.wait(LOOK_S)

    def settle(self) -> None:
        """Waits until no worker of older code is left. StartupError: it does not leave."""
        deadline = time.monotonic() + SETTLED_DEADLINE_S
        while any(worker["leaving"] for shard in self._status()["shards"] for worker in shard["workers"]):
            if time.monotonic() >= deadline:
                raise StartupError(f"after {SETTLED_DEADLINE_S:g} s a worker of older code is still there")
            time.sleep(LOOK_S)

    def _status(self) -> Any:
        return control.request(self._path, "status")

    def look(self, stop: threading.Event) -> None:
        self.seen.looks += 1
        try:
            self.seen.not_ready += self._status()["state"] != "ready"
        except ControlError:  # it does not answer
            self.seen.not_ready += 1
        stop.wait(LOOK_S)


def _measure(network: Network, target: str, name: str, load: Load, watch: Watch) -> Window:
    if name == QUIET:
        watch.settle()
    before, reloads = machine.core_times(), watch.seen.reloads
    if name == RELOADING:
        with _repeated(watch.reload):
            result = run_load(network, load, target)
    else:
        result = run_load(network, load, target)
    usage = Usage.between(before, machine.core_times(), machine.available_cores())
    window = Window.of(name, result, watch.seen.reloads - reloads, usage.steal)
    report.progress(
        f"{name:10} p99.9 {window.p999_ms:8.2f} ms  max {window.max_ms:8.1f} ms  {window.reloads} reloads  "
        f"steal {window.steal:.0%}"
    )
    return window


def run(backend: str, load: Load, rounds: int, longest_s: float, network_choice: str) -> Reloads:
    companions: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder, open_network(network_choice) as network:
        path = str(Path(folder, "control.sock"))
        place = add_tap(network) if backend == "tap" else network

        def command(host: str, port: int) -> list[str]:
            options = ["--control", path, "--workers", "1", "--backend", backend]
            if backend == "tap":
                options += ["--interface", TAP_INTERFACE, "--address", f"{host}/30"]
            return usnet_command("Occupied", host, port, *options)

        with running(place, command) as server:
            watch = Watch(path)
            with _accompanied(place, server.target, longest_s, companions), _repeated(watch.look):
                windows = tuple(
                    _measure(place, server.target, name, load, watch)
                    for _, name in interleave((QUIET, RELOADING), rounds)
                )
        description = network.description
    for wrong in (*watch.seen.refusals, *companions["incidents"]):
        raise StartupError(f"{server.target}: {wrong}")
    return Reloads(
        machine.describe(), description, backend, longest_s, load, watch.seen, companions, windows
    )
