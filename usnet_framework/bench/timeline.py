"""`usnet-bench timeline`: answers in each stretch of 10 ms around the death of a worker, of a network process, and
around a reload; of ours, and of a peer: uvloop under a process manager (manager.py), which has no network process.

A server of one worker gets messages at a fixed rate, more than enough of them to have some in every stretch. A client
whose connection ends opens another at once; what was under way on it is lost, and counted. What the timetable wants
meanwhile is sent when there is a connection again, so nobody is spared a message. Nothing is pinned but by the server
itself."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from usnet_framework.bench import machine, report
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Usage
from usnet_framework.bench.memory import role
from usnet_framework.bench.network import Network, open_network
from usnet_framework.bench.rounds import STEAL_LIMIT, median
from usnet_framework.bench.servers import Command, Server, module_command, running, usnet_command
from usnet_framework.errors import StartupError
from usnet_framework.shards import control

BEFORE = 1 / 3  # of the measured time, until it happens
EVENTS = {"worker": "SIGKILL of the only worker", "network": "SIGKILL of the network process", "reload": "reload"}

Strike = Callable[[Server, str], None]
"""Makes it happen to this server, which has this control socket."""


@dataclass(frozen=True)
class Subject:
    command: Callable[[str], Command]  # of the path of a control socket
    strikes: Mapping[str, Strike]  # by event


def _kill(what: str) -> Strike:
    def strike(server: Server, path: str) -> None:
        for process in psutil.Process(server.pid).children(recursive=True):
            if role(process) == what:
                os.kill(process.pid, signal.SIGKILL)
                return
        raise StartupError(f"{server.target}: the server has no {what} process")

    return strike


def _kill_child(server: Server, path: str) -> None:
    (child,) = psutil.Process(server.pid).children()
    os.kill(child.pid, signal.SIGKILL)


def _reload(server: Server, path: str) -> None:
    """Returns when the new code serves."""
    control.request(path, "reload")


def _hang_up(server: Server, path: str) -> None:
    os.kill(server.pid, signal.SIGHUP)


def _usnet(path: str) -> Command:
    return lambda host, port: usnet_command("Echo", host, port, "--layout", "split", "--control", path)


def _managed(path: str) -> Command:
    return lambda host, port: module_command("manager", host, str(port))


SUBJECTS: Mapping[str, Subject] = {
    "usnet": Subject(_usnet, {"worker": _kill("worker"), "network": _kill("network"), "reload": _reload}),
    "uvloop": Subject(_managed, {"worker": _kill_child, "reload": _hang_up}),
}


@dataclass(frozen=True)
class Run:
    """Times in ms, from the beginning of the measured time; `answers` of each stretch."""

    server: str
    event: str
    round: int
    event_ms: float
    connections_lost: int
    messages_lost: int
    worst_ms: float  # of the answers that came
    steal: float
    answers: tuple[int, ...]

    def silent_ms(self, every_ms: int) -> int:
        """The longest time without any answer, in whole stretches, from the one in which it happened on."""
        stretches = groupby(self.answers[int(self.event_ms // every_ms) :], lambda answers: answers == 0)
        return every_ms * max((len(list(group)) for silent, group in stretches if silent), default=0)


@dataclass(frozen=True)
class Timelines:
    machine: dict[str, str | int]
    network: str
    load: Load
    every_ms: int
    rounds: int
    runs: tuple[Run, ...]

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        for one, run in zip(found["runs"], self.runs, strict=True):
            one["silent_ms"] = run.silent_ms(self.every_ms)
        return found

    def to_text(self) -> str:
        load = self.load
        header = (
            "what happens to", "runs", "dropped", "connections lost", "messages lost", "silent ms", "worst answer ms",
        )  # fmt: skip
        rows = [
            self._row(event, server, [run for run in self.runs if (run.event, run.server) == (event, server)])
            for event, server in dict.fromkeys((run.event, run.server) for run in self.runs)
        ]
        return "\n".join(
            [
                f"{load.connections} connections, {load.size} bytes, {load.rate:,.0f} messages/s, {self.rounds} rounds "
                f"of {load.duration_s:g} s, in turn; medians; silent: whole stretches of {self.every_ms} ms",
                f"{self.machine['processor']}; network: {self.network}",
                "",
                report.table(header, rows),
            ]
        )

    def _row(self, event: str, server: str, runs: Sequence[Run]) -> Sequence[str]:
        clean = [run for run in runs if run.steal <= STEAL_LIMIT]
        lost = (median(run.connections_lost for run in clean), median(run.messages_lost for run in clean))
        times = (median(run.silent_ms(self.every_ms) for run in clean), median(run.worst_ms for run in clean))
        return (
            f"{server}: {EVENTS[event]}",
            str(len(clean)),
            str(len(runs) - len(clean)),
            *(report.number(value) for value in lost),
            report.number(times[0]),
            report.number(times[1], 1),
        )


def run(
    events: Sequence[str], servers: Sequence[str], load: Load, every_ms: int, rounds: int, network_choice: str
) -> Timelines:
    """StartupError."""
    turns = [
        (number, event, server)
        for number in range(rounds)
        for event in events
        for server in servers
        if event in SUBJECTS[server].strikes
    ]
    load = replace(load, reconnect=True, every_ms=every_ms)
    with open_network(network_choice) as network:
        runs = tuple(_measure(network, server, event, number, load) for number, event, server in turns)
        description = network.description
    return Timelines(machine.describe(), description, load, every_ms, rounds, runs)


def _measure(network: Network, name: str, event: str, number: int, load: Load) -> Run:
    subject = SUBJECTS[name]
    with (
        tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder,
        ThreadPoolExecutor(1) as others,
    ):
        path = str(Path(folder, "control.sock"))
        with running(network, subject.command(path)) as server:
            before = machine.core_times()
            result = others.submit(run_load, network, load, server.target)
            time.sleep(load.warmup_s + load.duration_s * BEFORE)
            event_ns = time.monotonic_ns()
            subject.strikes[event](server, path)
            found = _run(name, event, number, event_ns, result.result(), before)
    report.progress(
        f"round {number + 1} {name}: {EVENTS[event]}: {found.connections_lost} connections and {found.messages_lost} "
        f"messages lost, worst answer {found.worst_ms:.1f} ms, steal {found.steal:.0%}"
    )
    return found


def _run(
    name: str, event: str, number: int, event_ns: int, result: dict[str, Any], before: dict[int, machine.CoreTime]
) -> Run:
    timeline, connections = result["timeline"], result["connections"]
    event_ms = (event_ns - timeline["start_ns"]) / 1e6
    if not 0 <= event_ms < len(timeline["answers"]) * timeline["every_ms"]:
        raise StartupError(f"{name}: the load was not running when it happened; take a longer --duration")
    return Run(
        name,
        event,
        number,
        event_ms,
        connections["reset"] + connections["closed_by_peer"],
        result["messages"]["unanswered"],
        result["latency_ns"]["max"] / 1e6,
        Usage.between(before, machine.core_times(), machine.available_cores()).steal,
        tuple(timeline["answers"]),
    )
