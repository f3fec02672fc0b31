"""The load of `usnet-bench scale`: a generator on each core of its side, for as long as the block lasts, and what they
say at the end. The connections are dealt out evenly."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from usnet_framework.bench.load import Load, LoadError
from usnet_framework.bench.network import Network
from usnet_framework.bench.rounds import NOTHING

LONGEST_S = 3600.0  # nobody measures one point for so long
END_DEADLINE_S = 60.0


class Generators:
    """Those that run. When they have ended, `percentiles_us` has the 50th and the 99th of their latencies: percentiles
    cannot be added up, so it is the median one of the generators, and the worst one."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self.percentiles_us = (NOTHING, NOTHING)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """LoadError: one has given up."""
        for process in self._processes:
            if process.poll() is not None:
                raise _gave_up(process)

    def end(self) -> None:
        """LoadError: an answer was wrong, or a connection was lost."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        reports = [_report(process) for process in self._processes]
        found = [report["latency_ns"] for report in reports]
        self.percentiles_us = (
            statistics.median(each["p50"] for each in found) / 1e3,
            max(each["p99"] for each in found) / 1e3,
        )

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def shares(load: Load, cores: Sequence[int]) -> list[tuple[Load, int]]:
    """(load, core) of each generator; none is without a connection."""
    count = min(len(cores), load.connections)
    each, more = divmod(load.connections, count)
    sizes = [each + (number < more) for number in range(count)]
    return [
        (replace(load, connections=size, rate=load.rate and load.rate * size / load.connections), core)
        for size, core in zip(sizes, cores, strict=False)
    ]


@contextmanager
def generating(network: Network, load: Load, target: str, cores: Sequence[int]) -> Iterator[Generators]:
    """`load.warmup_s` counts from when a generator has its connections; its duration is the block's."""
    started: list[subprocess.Popen[str]] = []
    generators = Generators(started)
    try:
        for share, core in shares(replace(load, duration_s=LONGEST_S), cores):
            command = network.on_client(share.command(target, core))
            pipe = subprocess.PIPE
            started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
        yield generators
        generators.end()
    finally:
        generators.kill()


def _report(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=END_DEADLINE_S)
    if not output:
        raise _gave_up(process, errors)
    report: dict[str, Any] = json.loads(output)
    connections = report["connections"]
    lost = connections["asked"] - connections["open"]
    if lost or process.returncode != 0:
        reasons = "; ".join(incident["text"] for incident in report["incidents"][:3])
        raise LoadError(f"{report['target']}: {lost} of {connections['asked']} connections were lost: {reasons}")
    return report


def _gave_up(process: subprocess.Popen[str], errors: str = "") -> LoadError:
    lines = (errors or process.communicate()[1]).strip().splitlines()
    return LoadError(lines[-1] if lines else f"usnet-load ended with {process.returncode}")
