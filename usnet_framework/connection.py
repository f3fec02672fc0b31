"""What a handler sees of a connection: the type (made in native/dispatch) and the snapshot of its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from usnet_framework._dispatch import Connection

__all__ = ["Connection", "ConnectionStatistics"]


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A connection's numbers at one moment. Times are CLOCK_MONOTONIC in nanoseconds (`time.monotonic_ns`)."""

    bytes_in: int
    """Received from the peer."""
    bytes_out: int
    """Taken by the transport."""
    write_buffer_size: int
    """Sent by the handler and not taken yet; contains `overflow_bytes`."""
    overflow_bytes: int
    """Of these, waiting in this worker's memory."""
    opened_ns: int
    active_ns: int
    """Last receive or send; coarse."""
