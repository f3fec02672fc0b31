"""A server to observe that is all in memory: numbers that a test sets, in the shape that the supervisor has."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from usnet_framework._native import ENGINE_COUNTERS, REASONS, SEAT_COUNTERS, STACK_COUNTERS

BUCKETS = 24


class MemorySegment:
    """Reads like shards.segment.Segment; one seat."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(seats=1, event_slots=4096, command_slots=8192)
        self.engine = dict.fromkeys((name for name, _ in ENGINE_COUNTERS), 0)
        self.stack = dict.fromkeys((name for name, _ in STACK_COUNTERS), 0)
        self.closed = dict.fromkeys(REASONS.values(), 0)
        self.seat = dict.fromkeys((name for name, _ in SEAT_COUNTERS), 0)
        self.waits = [0] * BUCKETS
        self.seat_now = SimpleNamespace(
            connections=0,
            events_waiting=0,
            commands_waiting=0,
            held_frames=0,
            rx_frames_free=512,
            overflow_bytes=0,
            inbox_held=0,
            objects=0,
            attached=True,
        )
        self.is_open = True

    def engine_counters(self) -> dict[str, int]:
        if not self.is_open:
            raise ValueError("the segment is closed")
        return self.engine

    def stack_counters(self) -> dict[str, int]:
        return self.stack

    def closed_by_reason(self) -> dict[str, int]:
        return self.closed

    def seat_counters(self, seat: int) -> dict[str, int]:
        return self.seat

    def wait_histogram(self, seat: int) -> list[int]:
        return self.waits

    def seat_status(self, seat: int) -> SimpleNamespace:
        return self.seat_now


class MemoryServer:
    """Satisfies collector.Observed."""

    def __init__(self) -> None:
        self.segments: Any = {0: MemorySegment()}
        self.ready = True
        self.network_restarts = 0
        self.backend = "kernel"
        self.packets: dict[str, str] = {}
        self.drops: dict[str, int] = {}
        self.worker = {"seat": 0, "pid": os.getpid(), "restarts": 0, "bad": 0, "poisoned": 0, "hung": 0, "hangs": None}

    def status(self) -> dict[str, Any]:
        shard = {
            "shard": 0,
            "network_pid": os.getpid(),
            "keeper_pid": os.getppid(),
            "network_restarts": self.network_restarts,
            "rebuilds": 0,
            "workers": [self.worker],
        }
        return {
            "pid": os.getpid(),
            "uptime": 1.5,
            "version": "0",
            "backend": self.backend,
            "layout": "split",
            "listeners": ["tcp://127.0.0.1:7000"],
            "packets": self.packets,
            "reloads": 0,
            "reloads_refused": 0,
            "shards": [shard],
            "spares": [],
            "drops": self.drops,
        }

    def unready(self) -> list[str]:
        return [] if self.ready else ["no handler can run on some shard"]
