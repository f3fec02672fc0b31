"""The shared memory of a shard: made here, handed to processes as file descriptors, read here for metrics and tools.

One memfd is public (written by the network process), one per port is written by the worker that sits there; seat s has
two ports, numbers 2 * s and 2 * s + 1 (port_of). The layout is native/src/shard/segment.h. The supervisor writes the
header once, with what the engine is asked to do, and maps everything read-only afterwards. The
memfds are sealed so that nobody can change their size under a reader; the keeper adds the seal against further
writable maps of the public one when it has its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from usnet_framework._native import (
    ConnectionInfo,
    EngineStatus,
    QuarantineRecord,
    SeatStatus,
    SegmentReader,
    StackAddresses,
    StackSizes,
    format_segment,
    plan_segment,
    stack_sizes,
)

__all__ = [
    "ConnectionInfo",
    "EngineOptions",
    "EngineStatus",
    "QuarantineRecord",
    "SeatStatus",
    "Segment",
    "SegmentConfig",
    "StackAddresses",
]

TX_FRAMES_MIN = 4096
"""64 MiB of send memory per port: one connection may use it while others idle. Pages are taken when they are used."""

CONN_MAX = 1 << 22
"""Slots of a connection table: the bits that a connection id has for them."""

TX_FRAMES_MAX = 1 << 22
"""What the layout allows (native/src/shard/segment.c)."""

PORTS = 2
"""Ports of a seat: a worker and its successor can sit side by side."""

_KEEP_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def port_of(seat: int, side: int) -> int:
    """The number of a port."""
    return PORTS * seat + side


def seat_of(port: int) -> int:
    return port // PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """How large everything is: `struct un_segment_config`, the same numbers for every port of a shard."""

    shard: int
    seats: int
    conn_max: int
    state_bytes: int
    event_slots: int
    command_slots: int
    rx_frame_bytes: int
    rx_frames: int
    tx_frame_bytes: int
    tx_frames: int
    rx_budget: int
    tx_budget: int
    hold_max: int
    buffer_mib: int

    @classmethod
    def for_kernel(
        cls, shard: int, seats: int, conn_max: int, state_bytes: int = 64, buffer_mib: int = 256
    ) -> SegmentConfig:
        """Sizes for the kernel backend.

        A receive frame is what one `recv` fills and is cut into slices: as much as the largest packet. Two send frames
        per connection let every connection have output waiting; of four pages each, they take a quarter of the
        commands.
        """
        return cls(
            shard=shard,
            seats=seats,
            conn_max=conn_max,
            state_bytes=state_bytes,
            event_slots=4096,
            command_slots=8192,
            rx_frame_bytes=65536,
            rx_frames=512,
            tx_frame_bytes=16384,
            tx_frames=min(max(TX_FRAMES_MIN, 2 * conn_max), TX_FRAMES_MAX),
            rx_budget=131072,
            tx_budget=262144,
            hold_max=128,  # each slice may keep a whole frame
            buffer_mib=buffer_mib,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the engine is asked to do: numbers by their names in C (`_native.OPTIONS`; native/src/shard/options.h says
    what they mean), 0 where none is given, and the addresses of a stack of our own."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    addresses: StackAddresses = field(default_factory=StackAddresses)

    def listening_on(self, endpoints: Sequence[tuple[str, int]]) -> EngineOptions:
        """Of an engine that begins now, when this is what its stack is to listen on."""
        return replace(self, addresses=replace(self.addresses, listeners=tuple(endpoints)))


class Segment:
    """A shard's memories: descriptors to hand down, and read-only maps of them."""

    @classmethod
    def create(cls, config: SegmentConfig, options: EngineOptions | None = None) -> Segment:
        """Make and format the memfds. ValueError: no such segment; OSError: the system has not enough memory."""
        options = options or EngineOptions()
        sizes = plan_segment(asdict(config))
        fds: list[int] = []
        try:
            fds.append(memory_file(f"usnet-public-{config.shard}", sizes.public_bytes))
            with mmap(fds[0], sizes.public_bytes, MAP_SHARED, PROT_READ | PROT_WRITE) as writable:
                format_segment(writable, asdict(config), options.numbers, options.addresses)
            fcntl.fcntl(fds[0], fcntl.F_ADD_SEALS, _KEEP_SIZE)
            for port in range(PORTS * config.seats):
                fds.append(memory_file(f"usnet-port-{config.shard}.{port}", sizes.port_bytes))
                # The last seal keeps a worker from sealing its successor out.
                fcntl.fcntl(fds[-1], fcntl.F_ADD_SEALS, _KEEP_SIZE | fcntl.F_SEAL_SEAL)
            return cls(config, fds[0], tuple(fds[1:]), sizes.public_bytes, sizes.port_bytes)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def __init__(
        self, config: SegmentConfig, public_fd: int, port_fds: tuple[int, ...], public_bytes: int, port_bytes: int
    ) -> None:
        self.config = config
        self.public_fd = public_fd
        self.port_fds = port_fds
        self.public_bytes = public_bytes
        self.port_bytes = port_bytes
        self._maps: list[mmap] = []
        try:
            self._maps.append(mmap(public_fd, public_bytes, MAP_SHARED, PROT_READ))
            self._maps.extend(mmap(fd, port_bytes, MAP_SHARED, PROT_READ) for fd in port_fds)
            self._reader = SegmentReader(self._maps[0], self._maps[1:])
        except BaseException:
            self._unmap()
            raise

    def options(self) -> dict[str, int]:
        """The numbers among the options of the engine, by name."""
        return self._reader.options()

    def stack_sizes(self) -> StackSizes:
        """Of the memories that a stack of our own has besides; ValueError: the options ask for none."""
        return stack_sizes(self._maps[0])

    def engine_counters(self) -> dict[str, int]:
        """Counters of the network process by name (`_native.ENGINE_COUNTERS` has the help texts)."""
        return self._reader.engine_counters()

    def stack_counters(self) -> dict[str, int]:
        """Counters of a stack of our own (`_native.STACK_COUNTERS`); zeros with the kernel backend."""
        return self._reader.stack_counters()

    def closed_by_reason(self) -> dict[str, int]:
        """Connections closed so far, by the name of the reason."""
        return self._reader.closed_by_reason()

    def engine_status(self) -> EngineStatus:
        return self._reader.engine_status()

    def seat_counters(self, seat: int) -> dict[str, int]:
        """Counters that the workers on a seat keep, by name (`_native.SEAT_COUNTERS`): sums over its ports."""
        return self._reader.seat_counters(seat)

    def port_counters(self, port: int) -> dict[str, int]:
        return self._reader.port_counters(port)

    def wait_histogram(self, seat: int) -> list[int]:
        """Events by time in the ring: bucket i counts those below 2**i microseconds that bucket i - 1 does not count;
        the last one everything longer."""
        return self._reader.wait_histogram(seat)

    def seat_status(self, seat: int) -> SeatStatus:
        """Of its current port; what is counted (connections, what waits, what is held) is summed over both."""
        return self._reader.seat_status(seat)

    def port_status(self, port: int) -> SeatStatus:
        return self._reader.port_status(port)

    def connections(self) -> Iterator[ConnectionInfo]:
        """Connections in use; they may change while one iterates."""
        return self._reader.connections()

    def connection_in(self, slot: int) -> ConnectionInfo | None:
        """The connection in this slot of the table, if it is in use."""
        return self._reader.connection_in(slot)

    def quarantine(self, port: int) -> QuarantineRecord | None:
        """The event in a port's quarantine, there until the port's next worker attaches."""
        return self._reader.quarantine(port)

    def read(self, port: int | None, at: int, size: int) -> bytes:
        """Bytes of the public memory (None) or of a port's, as they are. ValueError: it is closed."""
        if not self._maps:
            raise ValueError("the segment is closed")
        return self._maps[0 if port is None else 1 + port][at : at + size]

    def close(self) -> None:
        """Unmap and close; the memory lives on in the processes that have it."""
        if not self._maps:
            return
        self._reader.close()
        self._unmap()
        for fd in (self.public_fd, *self.port_fds):
            os.close(fd)

    def _unmap(self) -> None:
        for memory in self._maps:
            memory.close()
        self._maps.clear()


def memory_file(name: str, size: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd
