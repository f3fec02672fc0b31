"""What a scrape says: every counter once, in base units, and never less than the scrape before."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.observed import MemorySegment, MemoryServer

from usnet_framework._native import ENGINE_COUNTERS, SEAT_COUNTERS, STACK_COUNTERS
from usnet_framework.collector import DROPS, ProcessUsage, ServerCollector, Totals
from usnet_framework.shards.segment import Segment, SegmentConfig


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def segment(server: MemoryServer) -> MemorySegment:
    return server.segments[0]


@pytest.fixture
def collector(server: MemoryServer) -> ServerCollector:
    return ServerCollector(server, lambda question: question())


def scrape(collector: ServerCollector) -> dict[str, float]:
    """Samples as they stand in the exposition, e.g. usnet_closed_total{shard="0",reason="peer"}."""
    registry = CollectorRegistry()
    registry.register(collector)
    samples = {}
    for line in generate_latest(registry).decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in samples, f"twice: {name}"
            samples[name] = float(value)
    return samples


def test_counters_of_a_stack_are_exported_where_there_is_one(collector: ServerCollector, server: MemoryServer) -> None:
    segment = server.segments[0]
    for number, name in enumerate(segment.stack):
        segment.stack[name] = number + 1
    assert not [name for name in scrape(collector) if "usnet_tcp" in name or "device" in name]
    server.backend = "tap"
    samples = scrape(collector)
    for name, _ in STACK_COUNTERS:
        drop = name.startswith("drop_")
        reason = name.removeprefix("drop_")
        key = f'usnet_drops_total{{reason="{reason}",shard="0"}}' if drop else f'usnet_{name}_total{{shard="0"}}'
        assert samples[key] == segment.stack[name]


def test_how_packets_come_is_exported_where_they_come(collector: ServerCollector, server: MemoryServer) -> None:
    assert not [name for name in scrape(collector) if name.startswith("usnet_packets")]
    server.packets = {"copies": "kernel"}
    assert scrape(collector)['usnet_packets_info{copies="kernel"}'] == 1


@given(st.lists(st.integers(0, 5), max_size=30))
def test_totals_are_the_sum_of_all_that_was_counted_in_any_life(steps: list[int]) -> None:
    """Oracle: a source that counts and begins again at zero on every 0; a lower reading shows the restart."""
    totals, expected, reading, last = Totals(), 0, 0, 0
    for step in steps:
        reading = 0 if step == 0 else reading + step
        expected += reading if reading < last else reading - last
        last = reading
        assert totals.update(("counter",), reading) == expected


def test_totals_of_different_keys_do_not_mix() -> None:
    totals = Totals()
    totals.update(("a", "0"), 5)
    assert totals.update(("a", "1"), 3) == 3
    assert totals.update(("a", "0"), 1) == 6


def test_every_counter_of_shared_memory_is_exported(collector: ServerCollector, segment: MemorySegment) -> None:
    for number, counters in enumerate((segment.engine, segment.seat)):
        for place, name in enumerate(counters):
            counters[name] = 1000 * (number + 1) + place
    samples = scrape(collector)
    for name, _ in ENGINE_COUNTERS:
        if name not in DROPS:
            assert samples[f'usnet_{name}_total{{shard="0"}}'] == segment.engine[name]
    for name in DROPS:
        assert samples[f'usnet_drops_total{{reason="{name.removesuffix("s")}",shard="0"}}'] == segment.engine[name]
    for name, _ in SEAT_COUNTERS:
        if not name.endswith("_ns"):
            assert samples[f'usnet_{name}_total{{shard="0",worker="0"}}'] == segment.seat[name]
    handler_seconds = samples['usnet_handler_seconds_total{shard="0",worker="0"}']
    assert handler_seconds == pytest.approx(segment.seat["handler_ns"] / 1e9)


def test_packets_that_no_shard_has_seen_are_counted_by_reason(collector: ServerCollector, server: MemoryServer) -> None:
    server.drops = {"fragments": 3}
    assert scrape(collector)['usnet_drops_total{reason="fragments",shard="none"}'] == 3


def test_closed_connections_are_counted_by_reason(collector: ServerCollector, segment: MemorySegment) -> None:
    segment.closed |= {"peer": 3, "poisoned": 1}
    samples = scrape(collector)
    assert samples['usnet_closed_total{reason="peer",shard="0"}'] == 3
    assert samples['usnet_closed_total{reason="poisoned",shard="0"}'] == 1
    assert not any('reason="none"' in name for name in samples)


def test_waiting_is_a_cumulative_histogram_in_seconds(collector: ServerCollector, segment: MemorySegment) -> None:
    segment.waits[0] = 2  # below 1 us
    segment.waits[10] = 3  # below 1.024 ms
    segment.waits[-1] = 1  # longer than all
    segment.seat["wait_ns"] = 1_500_000_000
    samples = scrape(collector)

    def bucket(bound: str) -> float:
        return samples[f'usnet_event_wait_seconds_bucket{{le="{bound}",shard="0",worker="0"}}']

    assert (bucket("1e-06"), bucket("0.000512"), bucket("0.001024"), bucket("+Inf")) == (2, 2, 5, 6)
    assert samples['usnet_event_wait_seconds_count{shard="0",worker="0"}'] == 6
    assert samples['usnet_event_wait_seconds_sum{shard="0",worker="0"}'] == 1.5


def test_occupancy_is_a_ratio(collector: ServerCollector, segment: MemorySegment) -> None:
    segment.seat_now.events_waiting = 1024
    assert scrape(collector)['usnet_event_ring_occupancy_ratio{shard="0",worker="0"}'] == 0.25


def test_nothing_goes_back_when_network_process_and_worker_start_afresh(
    server: MemoryServer, segment: MemorySegment, collector: ServerCollector
) -> None:
    segment.engine["accepted"] = 10
    segment.seat["worker_events"] = 20
    segment.seat["wait_ns"] = 5
    segment.closed["peer"] = 7
    segment.waits[3] = 9
    server.worker["restarts"] = 4
    before = scrape(collector)
    server.segments = {0: MemorySegment()}
    server.segments[0].engine["accepted"] = 1
    server.worker["restarts"] = 0
    after = scrape(collector)
    assert after['usnet_accepted_total{shard="0"}'] == 11
    for name, value in before.items():
        if re.search(r"_(total|count|sum|bucket)(\{|$)", name):
            assert after[name] >= value, name


def test_a_segment_that_was_closed_meanwhile_is_left_out(segment: MemorySegment, collector: ServerCollector) -> None:
    segment.is_open = False
    samples = scrape(collector)
    assert samples["usnet_ready"] == 1.0
    assert not any(name.startswith("usnet_accepted") for name in samples)


def test_names_follow_the_conventions(collector: ServerCollector) -> None:
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("usnet_")
        assert family.documentation
        assert not re.search(r"_(ns|ms|us|milliseconds|kb|mb)(_|$)", family.name), family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


def test_a_real_segment_can_be_read(server: MemoryServer, collector: ServerCollector) -> None:
    segment = Segment.create(SegmentConfig.for_kernel(shard=3, seats=2, conn_max=64))
    try:
        server.segments = {3: segment}
        samples = scrape(collector)
        assert samples['usnet_accepted_total{shard="3"}'] == 0
        assert samples['usnet_worker_events_total{shard="3",worker="1"}'] == 0
    finally:
        segment.close()
    assert not any(name.startswith("usnet_accepted") for name in scrape(collector))


def test_cpu_and_memory_are_summed_by_role(server: MemoryServer, collector: ServerCollector) -> None:
    samples = scrape(collector)
    assert samples['usnet_process_cpu_seconds_total{role="supervisor",shard=""}'] > 0
    assert samples['usnet_process_resident_memory_bytes{role="worker",shard="0"}'] > 1 << 20
    assert samples['usnet_processes{role="network",shard="0"}'] == 1
    assert not any('role="spare"' in name for name in samples)


def test_deaths_are_counted_by_who_died(server: MemoryServer, collector: ServerCollector) -> None:
    server.worker |= {"restarts": 3, "bad": 1, "poisoned": 2}
    server.network_restarts = 4
    samples = scrape(collector)
    assert samples['usnet_worker_restarts_total{shard="0",worker="0"}'] == 3
    assert samples['usnet_workers_refused_total{shard="0",worker="0"}'] == 1
    assert samples['usnet_poisoned_total{shard="0",worker="0"}'] == 2
    assert samples['usnet_network_restarts_total{shard="0"}'] == 4


def test_a_spare_that_becomes_a_worker_is_counted_once_and_a_dead_one_stays_counted() -> None:
    usage = ProcessUsage(clock=itertools.count().__next__)
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()

        def seconds(workers: list[int], spares: list[int]) -> dict[str, float]:
            shard = {"shard": 0, "network_pid": None, "keeper_pid": None}
            status = {
                "pid": os.getpid(),
                "shards": [{**shard, "workers": [{"pid": w} for w in workers]}],
                "spares": spares,
            }
            family = next(iter(usage.collect(status)))
            return {sample.labels["role"]: sample.value for sample in family.samples}

        as_spare = seconds([], [child.pid])
        assert as_spare["spare"] >= 0.2  # /proc counts in steps of 10 ms
        as_worker = seconds([child.pid], [])
        assert as_worker["spare"] == as_spare["spare"]
        assert as_worker["worker"] < 0.2
        child.communicate(b"\n")
    assert not psutil.pid_exists(child.pid)
    gone = seconds([child.pid], [])
    assert (gone["spare"], gone["worker"]) == (as_worker["spare"], as_worker["worker"])


def test_processes_are_looked_at_once_a_second_at_most() -> None:
    clock = iter([0.0, 0.9, 1.0])
    usage = ProcessUsage(clock=lambda: next(clock))
    nobody = {"pid": os.getpid(), "shards": [], "spares": []}
    first, second, third = (usage.collect(nobody) for _ in range(3))
    assert second is first
    assert third is not first
