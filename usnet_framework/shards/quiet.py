"""Whether a server that stops has nothing left to do, although connections are open: keep-alive connections that are
idle hold no stop."""

from __future__ import annotations

from collections.abc import Iterable

from usnet_framework.shards.look import dirty
from usnet_framework.shards.segment import Segment

QUIET_S = 1.0  # without a byte in or out


class Quiet:
    """Looked at again and again."""

    def __init__(self) -> None:
        self._bytes: int | None = None
        self._since_s = 0.0

    def silent(self, segments: Iterable[Segment], now_s: float) -> bool:
        """No byte came or went for a second."""
        carried = sum(_carried(segment) for segment in segments)
        if carried != self._bytes:
            self._bytes, self._since_s = carried, now_s
        return now_s - self._since_s >= QUIET_S


def unfinished(segment: Segment) -> bool:
    """Whether workers have events to handle, the engine commands to take, or a connection something in no commit
    yet."""
    ports = range(len(segment.port_fds))
    statuses = map(segment.seat_status, ports)
    waits = any(status.events_waiting or status.commands_waiting for status in statuses)
    return waits or any(dirty(segment, port) for port in ports)


def _carried(segment: Segment) -> int:
    counters = segment.engine_counters()
    return counters["bytes_in"] + counters["bytes_out"]
