"""`usnet-bench scrape`: does being looked at cost the data path anything? Throughput with and without somebody who
fetches /metrics every 100 ms, in turn, on one server that runs all the time.

The data path has one core and the load another. The supervisor, which answers scrapes, gets a third, or that of the
load when there are only two: what it takes there slows the load down, so its processor time per scrape is given too.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from usnet_framework.bench import machine, report
from usnet_framework.bench.load import Load, run_load
from usnet_framework.bench.machine import Cores, Usage
from usnet_framework.bench.network import Loopback, free_port
from usnet_framework.bench.rounds import Sample, Summary, interleave, summarise
from usnet_framework.bench.servers import Server, running, usnet_command
from usnet_framework.errors import StartupError

INTERVAL_S = 0.1
QUIET, SCRAPED = "not scraped", "scraped"


@dataclass
class Scrapes:
    count: int = 0
    failures: list[str] = field(default_factory=list)


class Supervisor:
    """How much processor time the server's parent process took, by what was going on."""

    def __init__(self, process: int, core: int) -> None:
        self._process = psutil.Process(process)
        self.seconds = {QUIET: 0.0, SCRAPED: 0.0}
        for thread in self._process.threads():  # those that answer scrapes are started by one of these
            os.sched_setaffinity(thread.id, {core})

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        before = self._now()
        yield
        self.seconds[name] += self._now() - before

    def _now(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def per_scrape_ms(self, scrapes: int) -> float:
        """What scraped runs took more than as many quiet ones."""
        return max(0.0, self.seconds[SCRAPED] - self.seconds[QUIET]) * 1e3 / max(1, scrapes)


@dataclass(frozen=True)
class ScrapeCost:
    machine: dict[str, str | int]
    cores: Cores
    layout: str
    load: Load
    rounds: int
    scrapes: int
    supervisor_ms: float  # processor time of a scrape
    summaries: tuple[Summary, ...]
    samples: tuple[Sample, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        change = self.summaries[1].ratio - 1
        load = self.load
        return "\n".join(
            [
                f"{self.layout} layout, {load.connections} connections, {load.size} bytes, {self.rounds} rounds "
                f"of {load.duration_s:g} s in turn; data path on core {self.cores.server}, "
                f"load on core {self.cores.load}, supervisor on core {self.cores.extra}",
                f"{self.scrapes} scrapes, one every {INTERVAL_S:g} s: throughput changes by {change:+.2%}; "
                f"a scrape takes the supervisor {self.supervisor_ms:.2f} ms",
                "",
                report.summary_table(self.summaries, QUIET, load),
            ]
        )


@contextmanager
def scraping(url: str, scrapes: Scrapes, core: int) -> Iterator[None]:
    """Fetches `url` every INTERVAL_S, from a thread on this core."""
    stop = threading.Event()

    def work() -> None:
        os.sched_setaffinity(0, {core})  # of this thread alone
        while not stop.wait(INTERVAL_S):
            try:
                with urllib.request.urlopen(url, timeout=5) as reply:
                    reply.read()
                scrapes.count += 1
            except OSError as error:
                scrapes.failures.append(str(error))

    scraper = threading.Thread(target=work, name="scraper")
    scraper.start()
    try:
        yield
    finally:
        stop.set()
        scraper.join()


def _measure(server: Server, name: str, number: int, load: Load, cores: Cores) -> Sample:
    before = machine.core_times()
    result = run_load(Loopback(), load, server.target, cores.load)
    usage = Usage.between(before, machine.core_times(), {cores.server, cores.load})
    sample = Sample.of(name, number, result, cores, usage)
    report.progress(f"round {number + 1} {name:12} {sample.throughput:12,.0f}/s  steal {sample.steal:.0%}")
    return sample


def run(layout: str, load: Load, rounds: int, cores: Cores) -> ScrapeCost:
    metrics = f"127.0.0.1:{free_port()}"

    def command(host: str, port: int) -> list[str]:
        options = ["--layout", layout, "--metrics", metrics, "--cores", str(cores.server)]
        return usnet_command("Echo", host, port, *options)

    samples = []
    scrapes = Scrapes()
    with running(Loopback(), command) as server:
        supervisor = Supervisor(server.pid, cores.extra)
        for number, name in interleave((QUIET, SCRAPED), rounds):
            watching = scraping(f"http://{metrics}/metrics", scrapes, cores.extra) if name == SCRAPED else nullcontext()
            with watching, supervisor.timed(name):
                samples.append(_measure(server, name, number, load, cores))
    if scrapes.failures:
        raise StartupError(f"{metrics}: {len(scrapes.failures)} scrapes failed: {scrapes.failures[0]}")
    return ScrapeCost(
        machine.describe(),
        cores,
        layout,
        load,
        rounds,
        scrapes.count,
        supervisor.per_scrape_ms(scrapes.count),
        tuple(summarise(samples, QUIET)),
        tuple(samples),
    )
