"""A shard's memory (native/include/usnet_segment.h) as typed Python; its siblings import `_usnet` too.

What is read from shared memory comes back as plain integers, strings and frozen dataclasses. Numbers that a worker
wrote are hearsay: they may be anything from 0 to 2**64 - 1, but reading them is always safe.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from usnet_framework._usnet import ffi, lib
from usnet_framework.addresses import mapped

Address = tuple[str, int] | tuple[str, int, int, int] | str
"""As `socket` writes it: (host, port), (host, port, flow, scope) for IPv6, "" for unix."""

CONNECTIONS_PER_CALL = 256
"""Connections copied out under one call into C: large enough to forget the call, small enough for the lock."""


def c_text(value: Any) -> str:
    """A string of C."""
    return str(ffi.string(value).decode())


def _names(name_of: Any, numbers: Iterable[int]) -> dict[int, str]:
    found = {number: name_of(number) for number in numbers}
    return {number: c_text(name) for number, name in found.items() if name}


def _counters(kind: int) -> tuple[tuple[str, str], ...]:
    return tuple(
        (c_text(lib.usnet_counter_name(kind, index)), c_text(lib.usnet_counter_help(kind, index)))
        for index in range(lib.usnet_counter_count(kind))
    )


ENGINE_COUNTERS = _counters(lib.USNET_COUNTER_ENGINE)
"""(name, help) of each counter that a network process keeps."""

SEAT_COUNTERS = _counters(lib.USNET_COUNTER_SEAT)
"""(name, help) of each counter that a worker keeps."""

STACK_COUNTERS = _counters(lib.USNET_COUNTER_STACK)
"""(name, help) of each counter that a stack of our own keeps; names begin with ip_, tcp_, device_ or drop_."""

NUMBERS = tuple(c_text(lib.usnet_segment_number_name(index)) for index in range(lib.usnet_segment_number_count()))
"""Names of the numbers that say how large everything is in a segment (native/src/shard/layout.h)."""

OPTIONS = tuple(c_text(lib.usnet_option_name(index)) for index in range(lib.usnet_option_count()))
"""Names of the engine's options (native/src/shard/options.h)."""

POLL_MODES = {"sleep": lib.USNET_POLL_SLEEP, "adaptive": lib.USNET_POLL_ADAPTIVE, "busy": lib.USNET_POLL_BUSY}
"""What the option poll_mode means."""

SYSCALL_MODES = {"any": lib.USNET_SYSCALLS_ANY, "refuse": lib.USNET_SYSCALLS_REFUSE, "kill": lib.USNET_SYSCALLS_KILL}
"""What the option syscalls means."""

REASONS = _names(lib.usnet_reason_name, range(256))
"""Why a connection was closed: number to name."""

CONNECTION_STATES = _names(lib.usnet_connection_state_name, range(256))
CONNECTION_FLAGS = _names(lib.usnet_connection_flag_name, range(8))
"""Number of the bit to name."""

TCP_STATES = _names(lib.usnet_tcp_state_name, (1 << bit for bit in range(16)))
"""Number of a state of TCP to its name."""

TCP_AGREED = {"window_scaling": lib.USNET_TCP_WINDOW_SCALING, "timestamps": lib.USNET_TCP_TIMESTAMPS,
              "sack": lib.USNET_TCP_SACK, "ecn": lib.USNET_TCP_ECN}  # fmt: skip
"""What both sides of a connection have agreed on: name to bit."""

LOOK_KINDS = {"conns": lib.USNET_LOOK_CONNS, "neigh": lib.USNET_LOOK_NEIGHBOURS,
              "routes": lib.USNET_LOOK_ROUTES, "addr": lib.USNET_LOOK_ADDRESSES}  # fmt: skip
"""What an engine can be asked about (native/src/engine/look.h)."""

LOOK_ENTRIES: int = lib.USNET_LOOK_ENTRIES
"""Entries of one answer, at most."""

LOOK_FIELDS = {
    name: tuple(_names(functools.partial(lib.usnet_look_field_name, kind), range(64)).values())
    for name, kind in LOOK_KINDS.items()
}
"""Names of the words that an entry of each kind is made of."""

LOOK_VALUES = {
    field: _names(functools.partial(lib.usnet_look_value_name, of), range(16))
    for field, of in {
        "phase": lib.USNET_LOOK_PHASES,
        "neighbour": lib.USNET_LOOK_NEIGHBOUR_STATES,
        "origin": lib.USNET_LOOK_ORIGINS,
        "address": lib.USNET_LOOK_ADDRESS_STATES,
    }.items()
}
"""What numbers in some of them mean."""


@dataclass(frozen=True, slots=True)
class SegmentSizes:
    """Bytes of the two kinds of memory of a segment."""

    public_bytes: int
    port_bytes: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What a network process says of itself."""

    active: int
    pid: int
    epoch: int
    sleeping: bool
    version: str
    """Of the package that its code is of; empty inline, where it is the worker's."""


@dataclass(frozen=True, slots=True)
class SeatStatus:
    """A seat or a port: the first block as the engine says, the last one as the worker says. `current`: new connections
    come here; `handling` is another number for each callback, 0 between them."""

    serial: int
    attached: bool
    current: bool
    bad: bool
    connections: int
    rx_frames_free: int
    tx_nodes_free: int

    events_waiting: int
    commands_waiting: int
    releases_waiting: int

    sleeping: bool
    handling: int
    held_frames: int
    overflow_bytes: int
    inbox_held: int
    objects: int


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One entry of the connection table. Times are CLOCK_MONOTONIC, in nanoseconds."""

    id: int
    shard: int
    slot: int
    seat: int
    port: int
    state: str
    flags: tuple[str, ...]
    peer: Address
    local: Address
    bytes_in: int
    bytes_out: int
    bytes_queued: int
    state_length: int
    opened_ns: int
    active_ns: int


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """An event that was being handled at two consecutive deaths of a worker, and its bytes."""

    conn: int
    event_type: int
    peer: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class Region:
    """A region of a segment's memories. Of part p and item i: at + p * part_bytes + i * item_bytes. `parts`, `items`
    and `item` say how many and how large, as the table of native/src/shard/layout.h has it."""

    name: str
    memory: str
    writer: str
    parts: str
    items: str
    item: str
    holds: str
    at: int
    part_bytes: int
    item_bytes: int
    item_count: int


def layout_regions(config: Mapping[str, int]) -> dict[str, Region]:
    """Regions of a segment by name, in the order in which they lie."""
    region = ffi.new("struct usnet_layout_region *")
    found: dict[str, Region] = {}
    while lib.usnet_layout_region(_numbers(config), len(found), region) == 0:
        found[c_text(region.name)] = Region(
            name=c_text(region.name),
            memory=c_text(region.memory),
            writer=c_text(region.writer),
            parts=c_text(region.parts),
            items=c_text(region.items),
            item=c_text(region.item),
            holds=c_text(region.holds),
            at=region.at,
            part_bytes=region.part_bytes,
            item_bytes=region.item_bytes,
            item_count=region.item_count,
        )
    return found


def layout_offsets() -> dict[str, dict[str, int]]:
    """Offsets of the fields of each struct that crosses a process."""
    field = ffi.new("struct usnet_layout_field *")
    offsets: dict[str, dict[str, int]] = {}
    index = 0
    while lib.usnet_layout_field(index, field) == 0:
        offsets.setdefault(c_text(field.of), {})[c_text(field.name)] = field.offset
        index += 1
    return offsets


def layout_hash() -> int:
    """What a segment's reader compares with what its writer put into the header."""
    return int(lib.usnet_layout_hash())


def _numbers(config: Mapping[str, int]) -> Any:
    return ffi.new("uint32_t[]", [config[name] for name in NUMBERS])


def plan_segment(config: Mapping[str, int]) -> SegmentSizes:
    """Sizes for a configuration; ValueError with a sentence when there is no such segment."""
    sizes = ffi.new("struct usnet_segment_sizes *")
    why = ffi.new("const char **")
    if lib.usnet_segment_plan(_numbers(config), sizes, why) < 0:
        raise ValueError(c_text(why[0]))
    return SegmentSizes(public_bytes=sizes.public_bytes, port_bytes=sizes.port_bytes)


@dataclass(frozen=True, slots=True)
class StackSizes:
    """Bytes of the memories that a stack of our own has besides the segment."""

    arena_bytes: int
    frames_bytes: int


def stack_sizes(public: mmap) -> StackSizes:
    """For a segment that was formatted; ValueError when its options do not ask for such a stack."""
    sizes = ffi.new("struct usnet_stack_sizes *")
    with ffi.from_buffer("uint8_t[]", public) as memory:
        if lib.usnet_segment_stack(memory, len(memory), sizes) < 0:
            raise ValueError("this segment is not for a stack of our own")
    return StackSizes(arena_bytes=sizes.arena_bytes, frames_bytes=sizes.frames_bytes)


def frames_bytes(connections: int) -> int:
    """Of the frames of one such stack, with so many connections."""
    return int(lib.usnet_segment_frames(connections))


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Addresses of a stack of our own: (address, prefix), address, and (address, port)."""

    addresses: Sequence[tuple[str, int]] = ()
    gateways: Sequence[str] = ()
    listeners: Sequence[tuple[str, int]] = ()


def format_segment(
    public: mmap, config: Mapping[str, int], options: Mapping[str, int], addresses: StackAddresses
) -> None:
    """Write the header into fresh, writable public memory; options that are not given are 0. ValueError with a sentence
    when they make no sense."""
    if unknown := options.keys() - set(OPTIONS):
        raise ValueError(f"the engine has no option {', '.join(sorted(unknown))}")
    values = ffi.new("uint64_t[]", [options.get(name, 0) for name in OPTIONS])
    listed = [_option_address(*one) for one in _listed(addresses)]
    why = ffi.new("const char **")
    with ffi.from_buffer("uint8_t[]", public, require_writable=True) as memory:
        given = ffi.new("struct usnet_address[]", listed)
        status = lib.usnet_segment_format(memory, len(memory), _numbers(config), values, given, len(listed), why)
    if status < 0:
        raise ValueError(c_text(why[0]))


def _listed(addresses: StackAddresses) -> Iterator[tuple[int, str, int]]:
    for address, prefix in addresses.addresses:
        yield lib.USNET_OWN_ADDRESS, address, prefix
    for gateway in addresses.gateways:
        yield lib.USNET_GATEWAY, gateway, 0
    for address, port in addresses.listeners:
        yield lib.USNET_LISTENER, address, port


def _option_address(kind: int, address: str, number: int) -> dict[str, Any]:
    return {"kind": kind, "number": number, "ip": mapped_ip(address)}


def mapped_ip(address: str) -> bytes:
    """The 16 bytes of an address, IPv4 in its mapped form."""
    return mapped(ipaddress.ip_address(address).packed)


def die_with_parent(signal: int, parent_pid: int) -> None:
    """Have the kernel send `signal` to this process when the thread that spawned it ends.

    ProcessLookupError: parent_pid is not our parent any more, so the signal will not come; leave at once.
    """
    checked(lib.usnet_die_with_parent(signal, parent_pid))


def drop_privileges(
    signal: int, parent_pid: int, *, user: tuple[int, int, Sequence[int]] | None, capabilities: bool, debuggable: bool
) -> None:
    """Give up privileges for good, as native/src/base/privileges.h has it, and be closed to others of the same user
    unless `debuggable`. Call it while this process has one thread.

    `user` is to be (uid, gid, groups besides that), `capabilities` whether to drop all. `signal` and ProcessLookupError
    as in die_with_parent; OSError: not permitted.
    """
    uid, gid, others = user or (0, 0, ())
    groups = ffi.new("uint32_t[]", list(others))
    asked = {"uid": uid, "gid": gid, "groups": groups, "group_count": len(others), "change_user": user is not None}
    asked |= {"drop_capabilities": capabilities, "debuggable": debuggable}
    checked(lib.usnet_drop_privileges(ffi.new("struct usnet_privileges *", asked), signal, parent_pid))


def set_dumpable(dumpable: bool) -> bool:
    """Whether others of the same user may open this process's memory and descriptors; as it was before."""
    return bool(checked(lib.usnet_set_dumpable(dumpable)))


class SegmentReader:
    """A segment opened for reading, over maps that stay open longer than this. Any thread may use it."""

    def __init__(self, public: mmap, ports: Sequence[mmap]) -> None:
        self._lock = threading.Lock()  # cffi calls run without the GIL: close() must not free under a reader
        self._buffers = [ffi.from_buffer("uint8_t[]", memory) for memory in (public, *ports)]
        self._ports = len(ports)
        public_memory, *port_memories = self._buffers
        handle = ffi.new("struct usnet_segment **")
        memories = ffi.new("const void *[]", port_memories)
        sizes = ffi.new("uint64_t[]", [len(memory) for memory in port_memories])
        try:
            checked(lib.usnet_segment_open(handle, public_memory, len(public_memory), memories, sizes, self._ports))
        except OSError:
            self._release()
            raise
        self._handle: Any = handle[0]

    def close(self) -> None:
        """Let go of the maps; reads raise ValueError from now on."""
        with self._lock:
            if self._handle is not None:
                lib.usnet_segment_close(self._handle)
                self._handle = None
                self._release()

    def _release(self) -> None:
        for buffer in self._buffers:
            ffi.release(buffer)
        self._buffers.clear()

    def _opened(self) -> Any:
        if self._handle is None:
            raise ValueError("the segment is closed")
        return self._handle

    def _read_words(self, function: Any, *arguments: Any, count: int) -> list[int]:
        values = ffi.new("uint64_t[]", count)
        with self._lock:
            read = checked(function(self._opened(), *arguments, values, count))
        return list(values[0:read])

    def options(self) -> dict[str, int]:
        values = self._read_words(lib.usnet_segment_options, count=len(OPTIONS))
        return dict(zip(OPTIONS, values, strict=True))

    def engine_counters(self) -> dict[str, int]:
        values = self._read_words(lib.usnet_engine_counters, count=len(ENGINE_COUNTERS))
        return {name: value for (name, _), value in zip(ENGINE_COUNTERS, values, strict=True)}

    def stack_counters(self) -> dict[str, int]:
        values = self._read_words(lib.usnet_segment_stack_counters, count=len(STACK_COUNTERS))
        return {name: value for (name, _), value in zip(STACK_COUNTERS, values, strict=True)}

    def closed_by_reason(self) -> dict[str, int]:
        values = self._read_words(lib.usnet_engine_closed, count=max(REASONS) + 1)
        return {name: values[number] for number, name in REASONS.items()}

    def engine_status(self) -> EngineStatus:
        status = ffi.new("struct usnet_engine_status *")
        with self._lock:
            lib.usnet_engine_status(self._opened(), status)
        return EngineStatus(
            active=status.active,
            pid=status.pid,
            epoch=status.epoch,
            sleeping=bool(status.sleeping),
            version=ffi.string(status.version).decode(errors="replace"),
        )

    def seat_counters(self, seat: int) -> dict[str, int]:
        values = self._read_words(lib.usnet_seat_counters, seat, count=len(SEAT_COUNTERS))
        return {name: value for (name, _), value in zip(SEAT_COUNTERS, values, strict=True)}

    def wait_histogram(self, seat: int) -> list[int]:
        """Events by time in the ring: bucket i counts those below 2**i microseconds that bucket i - 1 does not."""
        return self._read_words(lib.usnet_seat_wait, seat, count=64)

    def port_counters(self, port: int) -> dict[str, int]:
        values = self._read_words(lib.usnet_port_counters, port, count=len(SEAT_COUNTERS))
        return {name: value for (name, _), value in zip(SEAT_COUNTERS, values, strict=True)}

    def seat_status(self, seat: int) -> SeatStatus:
        return self._status(lib.usnet_seat_status, seat)

    def port_status(self, port: int) -> SeatStatus:
        return self._status(lib.usnet_port_status, port)

    def _status(self, function: Any, number: int) -> SeatStatus:
        status = ffi.new("struct usnet_seat_status *")
        with self._lock:
            checked(function(self._opened(), number, status))
        return SeatStatus(
            serial=status.serial,
            attached=bool(status.attached),
            current=bool(status.current),
            bad=bool(status.bad),
            connections=status.connections,
            rx_frames_free=status.rx_frames_free,
            tx_nodes_free=status.tx_nodes_free,
            events_waiting=status.events_waiting,
            commands_waiting=status.commands_waiting,
            releases_waiting=status.releases_waiting,
            sleeping=bool(status.sleeping),
            handling=status.handling,
            held_frames=status.held_frames,
            overflow_bytes=status.overflow_bytes,
            inbox_held=status.inbox_held,
            objects=status.objects,
        )

    def connections(self) -> Iterator[ConnectionInfo]:
        """Connections in use, in the order of their slots."""
        next_slot = ffi.new("uint32_t *")
        found = ffi.new("struct usnet_connection[]", CONNECTIONS_PER_CALL)
        count = CONNECTIONS_PER_CALL
        while count == CONNECTIONS_PER_CALL:
            with self._lock:
                count = lib.usnet_connection_list(self._opened(), next_slot, found, CONNECTIONS_PER_CALL)
            for index in range(count):
                yield _connection(found[index])

    def connection_in(self, slot: int) -> ConnectionInfo | None:
        """Of the connection in this slot of the table; None when nothing is in use there."""
        next_slot = ffi.new("uint32_t *", slot)
        found = ffi.new("struct usnet_connection[]", 1)
        with self._lock:
            if lib.usnet_connection_list(self._opened(), next_slot, found, 1) == 0:
                return None
        return _connection(found[0]) if found[0].slot == slot else None

    def quarantine(self, port: int) -> QuarantineRecord | None:
        """The event in the port's quarantine, until its next worker attaches."""
        record = ffi.new("struct usnet_quarantine *")
        with self._lock:
            size = self._number("rx_frame_bytes")
            data = ffi.new("uint8_t[]", size)
            found = checked(lib.usnet_quarantine_read(self._opened(), port, record, data, size))
        if not found:
            return None
        return QuarantineRecord(
            conn=record.conn,
            event_type=record.event_type,
            peer=_address(record.peer),
            data=bytes(ffi.buffer(data, record.length)),
        )

    def _number(self, name: str) -> int:
        numbers = ffi.new("uint32_t[]", len(NUMBERS))
        lib.usnet_segment_numbers(self._opened(), numbers)
        return int(numbers[NUMBERS.index(name)])


def checked(status: int) -> int:
    """A result of C that is no error; OSError with its errno if it is one."""
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return status


def _connection(entry: Any) -> ConnectionInfo:
    return ConnectionInfo(
        id=entry.id,
        shard=entry.shard,
        slot=entry.slot,
        seat=entry.seat,
        port=entry.port,
        state=CONNECTION_STATES.get(entry.state, str(entry.state)),
        flags=tuple(name for bit, name in CONNECTION_FLAGS.items() if entry.flags >> bit & 1),
        peer=_address(entry.peer),
        local=_address(entry.local),
        bytes_in=entry.bytes_in,
        bytes_out=entry.bytes_out,
        bytes_queued=entry.bytes_queued,
        state_length=entry.state_length,
        opened_ns=entry.opened_ns,
        active_ns=entry.active_ns,
    )


def _address(endpoint: Any) -> Address:
    ip = bytes(endpoint.ip)
    if endpoint.family == 4:
        return socket.inet_ntop(socket.AF_INET, ip[:4]), endpoint.port
    if endpoint.family == 6:
        return socket.inet_ntop(socket.AF_INET6, ip), endpoint.port, 0, endpoint.scope
    return ""
