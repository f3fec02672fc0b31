"""Keepalive, the same on sockets of the kernel and on a stack of our own: probes to a peer that was silent for a while.

A host that lost its power or its network says nothing when it goes; without probes its connections stay open for ever.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

PROBES = 6


@dataclass(frozen=True)
class Keepalive:
    """Times in seconds. `idle_s` 0: no probes."""

    idle_s: int
    interval_s: int
    count: int

    @classmethod
    def after(cls, idle_s: int) -> Keepalive:
        """Probes from then on, so that a connection ends when its peer was silent for twice as long."""
        interval_s = max(1, idle_s // PROBES)
        return cls(idle_s, interval_s, min(PROBES, max(1, idle_s // interval_s)))

    def engine_options(self) -> dict[str, int]:
        return {"keep_idle_s": self.idle_s, "keep_interval_s": self.interval_s, "keep_count": self.count}

    def socket_options(self) -> Iterator[tuple[int, int, int]]:
        """(level, option, value) of a listener; connections inherit them."""
        if self.idle_s:
            yield socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.idle_s
            yield socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.interval_s
            yield socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.count
            yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1


OFF = Keepalive.after(0)
