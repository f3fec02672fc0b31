"""Which shards get new connections: those that are in service, while there are any.

A shard whose workers die too often (seat.py) would take its share of connections and let them wait. So others get it:

    tcp://HOST:PORT   the kernel spreads connections over one socket per shard (SO_REUSEPORT). A filter on the group
                      chooses among the sockets of shards in service, at random
    unix:PATH, fd:N   the engine of the shard is asked not to listen (handover.py). The socket is shared, so the others
                      accept what comes
    our own stack     nothing: which shard owns a connection follows from its addresses, and every shard reckons that
                      for each packet by itself

Nothing is lost, and there is a way back. A filter is asked once for each connection attempt; the sockets stay as they
are, so attempts that have begun go on where they did, and what waits in the queue of a shard, or was accepted there,
waits for its next worker. Once the shard is in service again, its filter is taken off.

When no shard is in service, a single one included, each listens: connections are accepted and wait. They are answered
when a worker holds, and a client with less patience than that goes by its own time-out.

The filter is classic BPF, which needs no privilege. It names a socket by its number in the group, which is the order in
which they began to listen: that of the shards (listeners.py). None leaves the group before the others do.
"""

from __future__ import annotations

import logging
import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from usnet_framework.shards.handover import Handover
from usnet_framework.shards.listeners import Listener, Listeners

log = logging.getLogger("usnet.supervisor")

# asm-generic/socket.h, linux/filter.h
ATTACH_FILTER = 51  # SO_ATTACH_REUSEPORT_CBPF
DETACH_FILTER = 68  # SO_DETACH_REUSEPORT_BPF
LOAD, MODULO, IF_EQUAL, RETURN = 0x20, 0x94, 0x15, 0x06
A_RANDOM_NUMBER = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
INSTRUCTION = struct.Struct("HBBI")
PROGRAM = struct.Struct("HP")


class Shard(Protocol):
    number: int
    handover: Handover

    @property
    def in_service(self) -> bool: ...


class Spread:
    """`follow` is called whenever a shard, or what is listened on, may have changed."""

    def __init__(self, listeners: Listeners, shards: Callable[[], Sequence[Shard]]) -> None:
        self._listeners = listeners
        self._shards = shards
        self._out: list[int] = []  # shards without a share
        self._chosen: dict[Listener, list[int]] = {}  # by whose filter; without one there is no entry

    def follow(self) -> None:
        shards = self._shards()
        serving = [shard.number for shard in shards if shard.in_service]
        out = [shard.number for shard in shards if not shard.in_service] if serving else []
        for shard in shards:
            shard.handover.stand_back(shard.number in out)
        self._filter(serving if out else [])
        self._report(out)
        self._out = out

    def _filter(self, chosen: list[int]) -> None:
        """`chosen`: all, if empty."""
        before, self._chosen = self._chosen, {}
        for listener in self._listeners.open:
            if not listener.spreads:
                continue
            if before.get(listener, []) != chosen:
                try:
                    choose(listener.sockets[0], chosen)
                except OSError as error:
                    log.warning("%s: cannot choose which shards get connections: %s", listener.address, error.strerror)
            if chosen:
                self._chosen[listener] = chosen

    def _report(self, out: list[int]) -> None:
        what = "others get" if any(one.sockets for one in self._listeners.open) else "nobody answers"
        for number in out:
            if number not in self._out:
                log.error("shard is out of service: %s its new connections", what, extra={"shard": number})
        for number in self._out:
            if number not in out:
                log.warning("shard is in service again", extra={"shard": number})


def choose(one: socket.socket, numbers: Sequence[int]) -> None:
    """Have new connections come to the sockets with these numbers alone, in the group that this one belongs to; to all
    of them, if there are no numbers. OSError."""
    if not numbers:
        one.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        return
    steps = [(LOAD, 0, 0, A_RANDOM_NUMBER), (MODULO, 0, 0, len(numbers))]
    for index, number in enumerate(numbers):
        steps += [(IF_EQUAL, 0, 1, index), (RETURN, 0, 0, number)]
    steps.append((RETURN, 0, 0, numbers[0]))  # it has to end with one
    program = array("B", b"".join(INSTRUCTION.pack(*step) for step in steps))
    one.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, PROGRAM.pack(len(steps), program.buffer_info()[0]))
