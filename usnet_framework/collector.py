"""What the server counts, as Prometheus sees it: the collector behind /metrics.

The counters live in shared memory, each with one writer on its own cache lines; a scrape reads them from the supervisor
and costs the processes that serve nothing (P9). Whatever restarts, a counter that was scraped never goes back: Totals
carries the sum on when a source begins again at zero.

Counters of native/src/shard/segment.h are exported as usnet_<name>_total, with the help text that stands there; those
that say why something was refused are one family, usnet_drops_total, by reason.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import psutil
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from usnet_framework import logs
from usnet_framework._native import ENGINE_COUNTERS, SEAT_COUNTERS, STACK_COUNTERS
from usnet_framework.shards.segment import Segment

DROPS = (
    "bad_commands",
    "bad_ranges",
    "stale_commands",
    "foreign_commands",
    "bad_releases",
    "bad_commits",
    "accept_errors",
    "peer_limits",
    "refused_poisoners",
)
DROPPED = "what was refused or lost"
NANOSECONDS = 1e-9
USAGE_SECONDS = 1.0

Labels = tuple[str, ...]


class Observed(Protocol):
    """What a server shows of itself; the supervisor is one. Asked in the thread of its loop, see Ask."""

    @property
    def segments(self) -> Mapping[int, Segment]: ...
    def status(self) -> dict[str, Any]: ...
    def unready(self) -> list[str]: ...


Ask = Callable[[Callable[[], Any]], Any]
"""Calls a function in the thread of the server's loop and returns what it returned."""


class Totals:
    """Sums of counters whose sources may begin again at zero. A reading below the last one of its key is taken as a new
    beginning, so a sum only grows."""

    def __init__(self) -> None:
        self._base: dict[Labels, float] = {}
        self._last: dict[Labels, float] = {}

    def update(self, key: Labels, reading: float) -> float:
        """Take a reading and return the sum since the first one of this key."""
        last = self._last.get(key, 0)
        if reading < last:
            self._base[key] = self._base.get(key, 0) + last
        self._last[key] = reading
        return self._base.get(key, 0) + reading


class ProcessUsage:
    """CPU seconds and resident memory of the server's processes, summed by role and shard.

    A process contributes what it used since it was last looked at, to the role that it has now; so a spare that became
    a worker is counted for each while it was that, and a process that ended has been counted for what was seen of it.
    Asking the kernel costs more than all the rest of a scrape, so it is asked once a second at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_s = -math.inf
        self._families: list[Metric] = []
        self._processes: dict[int, psutil.Process] = {}
        self._seen: dict[psutil.Process, float] = {}
        self._seconds: dict[Labels, float] = {}

    def collect(self, status: Mapping[str, Any]) -> list[Metric]:
        now_s = self._clock()
        if now_s - self._looked_s >= USAGE_SECONDS:
            self._looked_s = now_s
            self._families = self._look(status)
        return self._families

    def _look(self, status: Mapping[str, Any]) -> list[Metric]:
        seconds = CounterMetricFamily(
            "usnet_process_cpu_seconds", "user and system CPU time by role", labels=["role", "shard"]
        )
        memory = GaugeMetricFamily(
            "usnet_process_resident_memory_bytes",
            "resident memory by role; shared memory counts in every process that maps it",
            labels=["role", "shard"],
        )
        count = GaugeMetricFamily("usnet_processes", "processes by role", labels=["role", "shard"])
        resident: dict[Labels, int] = {}
        running: dict[Labels, int] = {}
        found: dict[int, psutil.Process] = {}
        for labels, pid in _roles(status):
            try:
                process = self._processes.get(pid)
                if process is None or not process.is_running():
                    process = psutil.Process(pid)
                with process.oneshot():
                    cpu = process.cpu_times()
                    resident[labels] = resident.get(labels, 0) + process.memory_info().rss
            except psutil.Error:
                continue  # it ended since the status was made
            found[pid] = process
            running[labels] = running.get(labels, 0) + 1
            used = cpu.user + cpu.system
            self._seconds[labels] = self._seconds.get(labels, 0) + max(0, used - self._seen.get(process, 0))
            self._seen[process] = used
        self._processes = found
        self._seen = {process: self._seen[process] for process in found.values()}
        for labels, total in self._seconds.items():
            seconds.add_metric(labels, total)
        for labels in running:
            memory.add_metric(labels, resident[labels])
            count.add_metric(labels, running[labels])
        return [seconds, memory, count]


class ServerCollector(Collector):
    """Reads everything at each scrape. One scrape at a time: the sums are updated by it."""

    def __init__(self, server: Observed, ask: Ask) -> None:
        self._server = server
        self._ask = ask
        self._totals = Totals()
        self._usage = ProcessUsage()
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            status, ready, segments = self._ask(self._look)
            families = _Families(self._totals)
            for shard, segment in segments:
                try:
                    _read_segment(families, str(shard), segment)
                    if status["backend"] != "kernel":
                        _read_stack(families, str(shard), segment)
                except ValueError:
                    continue  # closed since the table was read: the server is stopping
            _read_status(families, status, ready)
            return [*families, *self._usage.collect(status)]

    def _look(self) -> tuple[dict[str, Any], bool, list[tuple[int, Segment]]]:
        return self._server.status(), not self._server.unready(), sorted(self._server.segments.items())


class _Families:
    """Metric families by name, made when first used."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._families: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def counter(self, name: str, help: str, labels: Mapping[str, str], reading: float, factor: float = 1) -> None:
        total = self._total(name, labels, reading) * factor
        self._family(CounterMetricFamily, name, help, labels).add_metric([*labels.values()], total)

    def gauge(self, name: str, help: str, labels: Mapping[str, str], value: float) -> None:
        self._family(GaugeMetricFamily, name, help, labels).add_metric([*labels.values()], value)

    def wait(self, name: str, help: str, labels: Mapping[str, str], counts: list[int], total_ns: int) -> None:
        """A histogram of powers of two of a microsecond; the last of `counts` is everything longer."""
        buckets = []
        sum_of_counts = 0.0
        for power, count in enumerate(counts):
            bound = "+Inf" if power == len(counts) - 1 else f"{2**power / 1e6:g}"
            sum_of_counts += self._total(name, {**labels, "le": bound}, count)
            buckets.append((bound, sum_of_counts))
        seconds = self._total(name, labels, total_ns) * NANOSECONDS
        self._family(HistogramMetricFamily, name, help, labels).add_metric([*labels.values()], buckets, seconds)

    def info(self, name: str, help: str, values: dict[str, str]) -> None:
        self._families[name] = InfoMetricFamily(name, help, values)

    def _family(self, kind: Callable[..., Any], name: str, help: str, labels: Mapping[str, str]) -> Any:
        if name not in self._families:
            self._families[name] = kind(name, help, labels=[*labels])
        return self._families[name]

    def _total(self, name: str, labels: Mapping[str, str], reading: float) -> float:
        return self._totals.update((name, *labels.values()), reading)


def _read_segment(families: _Families, shard: str, segment: Segment) -> None:
    labels = {"shard": shard}
    counters = segment.engine_counters()
    for name, help in ENGINE_COUNTERS:
        if name in DROPS:
            families.counter(
                "usnet_drops", DROPPED, {**labels, "reason": name.removesuffix("s")}, counters[name]
            )
        else:
            families.counter(f"usnet_{name}", help, labels, counters[name])
    for reason, count in segment.closed_by_reason().items():
        if reason != "none":
            families.counter("usnet_closed", "connections closed, by reason", {**labels, "reason": reason}, count)
    for seat in range(segment.config.seats):
        _read_seat(families, {**labels, "worker": str(seat)}, segment, seat)


def _read_stack(families: _Families, shard: str, segment: Segment) -> None:
    labels = {"shard": shard}
    counters = segment.stack_counters()
    for name, help in STACK_COUNTERS:
        if name.startswith("drop_"):
            reason = {**labels, "reason": name.removeprefix("drop_")}
            families.counter("usnet_drops", DROPPED, reason, counters[name])
        else:
            families.counter(f"usnet_{name}", help, labels, counters[name])


def _read_seat(families: _Families, labels: Mapping[str, str], segment: Segment, seat: int) -> None:
    counters = segment.seat_counters(seat)
    for name, help in SEAT_COUNTERS:
        if name == "handler_ns":
            families.counter("usnet_handler_seconds", "time spent in handlers", labels, counters[name], NANOSECONDS)
        elif name != "wait_ns":
            families.counter(f"usnet_{name}", help, labels, counters[name])
    families.wait(
        "usnet_event_wait_seconds",
        "time from an event's entry into the ring to its delivery",
        labels,
        segment.wait_histogram(seat),
        counters["wait_ns"],
    )
    status = segment.seat_status(seat)
    config = segment.config
    for name, help, value in (
        ("connections_active", "connections that are open", status.connections),
        ("event_ring_occupancy_ratio", "filled part of the event ring", status.events_waiting / config.event_slots),
        (
            "command_ring_occupancy_ratio",
            "filled part of the command ring",
            status.commands_waiting / config.command_slots,
        ),
        ("receive_frames_held", "receive slices that the handler holds", status.held_frames),
        ("receive_frames_free", "receive frames without data", status.rx_frames_free),
        ("overflow_bytes", "output waiting in worker memory", status.overflow_bytes),
        ("inbox_held_bytes", "worker memory that input takes while callbacks are slow", status.inbox_held),
        ("connection_objects", "Connection objects alive in the worker", status.objects),
        ("worker_attached", "1 while a worker sits on the seat", status.attached),
    ):
        families.gauge(f"usnet_{name}", help, labels, value)


def _read_status(families: _Families, status: Mapping[str, Any], ready: bool) -> None:
    families.info("usnet_build", "what runs", {name: str(status[name]) for name in ("version", "backend", "layout")})
    if status["packets"]:
        families.info("usnet_packets", "how packets come and go", status["packets"])
    families.gauge("usnet_ready", "1 while a handler can run on every shard", {}, ready)
    families.gauge("usnet_uptime_seconds", "time since the supervisor started", {}, status["uptime"])
    for address in status["listeners"]:
        shown = logs.one_line(address)  # a path may be no text
        families.gauge("usnet_listener", "1 for each address that is listened on", {"address": shown}, 1)
    for reason, count in status["drops"].items():
        families.counter("usnet_drops", DROPPED, {"shard": "none", "reason": reason}, count)
    families.counter("usnet_reloads", "times the application was imported anew", {}, status["reloads"])
    families.counter("usnet_reloads_refused", "reloads that left the old code in place", {}, status["reloads_refused"])
    for shard in status["shards"]:
        labels = {"shard": str(shard["shard"])}
        for name, help in (
            ("network_restarts", "network processes replaced after they died"),
            ("rebuilds", "times the shard began afresh, its connections lost"),
        ):
            if name in shard:  # not inline
                families.counter(f"usnet_{name}", help, labels, shard[name])
        for worker in shard["workers"]:
            labels = {"shard": str(shard["shard"]), "worker": str(worker["seat"])}
            for name, help, count in (
                ("worker_restarts", "workers replaced after they died", worker["restarts"]),
                ("workers_refused", "workers replaced because they wrote nonsense", worker["bad"]),
                ("poisoned", "events put aside after two workers died of them, or one hung", worker["poisoned"]),
                ("workers_hung", "workers that made no progress for --callback-timeout", worker["hung"]),
            ):
                families.counter(f"usnet_{name}", help, labels, count)
            hangs = worker["hangs"] is not None
            families.gauge("usnet_worker_hangs", "1 while a worker makes no progress", labels, hangs)


def _roles(status: Mapping[str, Any]) -> Iterator[tuple[Labels, int]]:
    """((role, shard), pid) of every process of the server."""
    yield ("supervisor", ""), status["pid"]
    for shard in status["shards"]:
        label = str(shard["shard"])
        for role, name in (("network", "network_pid"), ("keeper", "keeper_pid")):
            if shard[name]:
                yield (role, label), shard[name]
        yield from ((("worker", label), worker["pid"]) for worker in shard["workers"] if worker["pid"])
    yield from ((("spare", ""), pid) for pid in status["spares"])
