"""The engine's side of a segment without an engine or sockets: events are written, commands are read, in plain Python.

It plays native/src/shard/segment.h from the other end, so a test decides what the engine does and when: which events
stand in the ring, whether the peer of a connection is slow (`hold_output`), when commands are looked at (`take`).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from dataclasses import asdict, dataclass
from enum import IntEnum
from mmap import mmap
from typing import Any

from usnet_framework import CloseReason, Handler
from usnet_framework._dispatch import Port
from usnet_framework._native import layout_offsets, layout_regions
from usnet_framework.shards.segment import Segment, SegmentConfig

_EVENT = struct.Struct("<BBHIQIIQ")
_COMMAND = struct.Struct("<B3xIQIIQ")
_OFFSETS = layout_offsets()
_PUBLIC, _MEMORY, _ENTRY = _OFFSETS["un_port_public"], _OFFSETS["un_port_memory"], _OFFSETS["un_conn"]
_CONN = struct.Struct("<QBBHIQQQQQ")  # struct un_conn up to the addresses
_CONN_BYTES = 128  # the state blob follows


class Event(IntEnum):
    SKIP = 0
    CONNECT = 1
    DATA = 2
    EOF = 3
    DRAIN = 4
    CLOSE = 5
    MOVE = 6


class Op(IntEnum):
    SEND = 1
    SEND_EOF = 2
    CLOSE = 3
    ABORT = 4
    PAUSE = 5
    RESUME = 6
    STATE = 7
    WANT_DRAIN = 8
    RELEASE = 9
    KEEP = 10
    SETTLED = 11


@dataclass(frozen=True)
class Command:
    op: Op
    conn: int
    value: Any = None
    """The bytes of SEND and STATE, the argument of the others that have one."""


def config(**changes: int) -> SegmentConfig:
    """A small segment."""
    sizes = {
        "shard": 0, "seats": 1, "conn_max": 256, "state_bytes": 64, "event_slots": 256, "command_slots": 256,
        "rx_frame_bytes": 2048, "rx_frames": 512, "tx_frame_bytes": 4096, "tx_frames": 512, "rx_budget": 65536,
        "tx_budget": 65536, "hold_max": 128, "buffer_mib": 256,
    }  # fmt: skip
    return SegmentConfig(**(sizes | changes))


def run_all(port: Port) -> None:
    """Batches, until none is ready."""
    while port.run():
        pass


class FakeEngine:
    """One seat's engine. Close it, or use it in a `with` statement."""

    def __init__(self, **changes: int) -> None:
        self.segment = Segment.create(config(**changes))
        self.config = self.segment.config
        self.public = mmap(self.segment.public_fd, self.segment.public_bytes)
        self.seat = mmap(self.segment.port_fds[0], self.segment.port_bytes)
        self._regions = layout_regions(asdict(self.config))
        self.at = {name: region.at for name, region in self._regions.items()}
        self._from_worker, self._to_engine = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._from_engine, self._to_worker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.produced = 0
        self.hold_output = False
        self.lent: set[int] = set()
        self._next_frame = 0
        self._commands = 0
        self._releases = 0
        self._waiting: dict[int, list[int]] = {}
        self._generation = 0
        nodes = self.config.tx_frames + self.config.command_slots
        self._set(self.public, self.at["ports"] + _PUBLIC["tx_nodes_free"], nodes)
        self._set(self.public, self.at["ports"] + _PUBLIC["serial"], 1)

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.public.close()
        self.seat.close()
        self.segment.close()
        for fd in (self._from_worker, self._to_engine, self._from_engine, self._to_worker):
            os.close(fd)

    def port(self, handler: Handler, resumes: bool = True) -> Port:
        public_fd, port_fd = self.segment.public_fd, self.segment.port_fds[0]
        return Port(public_fd, port_fd, 0, self._to_engine, self._from_engine, handler, resumes)

    @property
    def wake_fds(self) -> tuple[int, int]:
        """What a worker gets: to wake the engine, and to be woken by it."""
        return self._to_engine, self._from_engine

    # Events.

    def connect(self, slot: int = 0, address: tuple[str, int] = ("10.0.0.1", 4711), announce: bool = True) -> int:
        """A connection in the table; its CONNECT too unless an earlier worker is to have had it."""
        self._generation += 1
        conn = slot << 32 | self._generation
        _CONN.pack_into(self.public, self._entry(conn), conn, 1, 0, 0, 0, 0, 0, 0, time.monotonic_ns(), 0)
        endpoint = socket.inet_aton(address[0]) + bytes(12) + struct.pack("<HHI", address[1], 4, 0)
        self.public[self._entry(conn) + _ENTRY["peer"] : self._entry(conn) + _ENTRY["peer"] + 24] = endpoint
        if announce:
            self.post(Event.CONNECT, conn)
        return conn

    def data(self, conn: int, payload: bytes) -> int:
        """Input, in a frame of its own, whose number is returned."""
        frame = self._free_frame()
        start = self.at["rx_frames"] + frame * self.config.rx_frame_bytes
        self.public[start : start + len(payload)] = payload
        self._add(conn, _ENTRY["bytes_in"], len(payload))
        self.post(Event.DATA, conn, length=len(payload), frame=frame)
        self.lent.add(frame)
        return frame

    def eof(self, conn: int) -> None:
        self.post(Event.EOF, conn)

    def disconnect(self, conn: int, reason: CloseReason = CloseReason.PEER) -> None:
        self.post(Event.CLOSE, conn, reason=reason)

    def post(self, kind: Event, conn: int, length: int = 0, frame: int = 0, reason: int = 0) -> None:
        slot = self.produced & (self.config.event_slots - 1)
        assert self.produced - self.consumed < self.config.event_slots, "the event ring is full"
        at = self.at["event_rings"] + slot * _EVENT.size
        _EVENT.pack_into(self.public, at, kind, reason, 0, length, conn, frame, 0, time.monotonic_ns())
        self.produced += 1
        self._set(self.public, self.at["ports"] + _PUBLIC["events_produced"], self.produced)

    # What the worker did.

    @property
    def consumed(self) -> int:
        return self._get(self.seat, _MEMORY["commit"])

    @property
    def committed(self) -> tuple[int, int]:
        """Events consumed and commands produced, as of the last commit."""
        return self._get(self.seat, _MEMORY["commit"]), self._get(self.seat, _MEMORY["commit"] + 4)

    @property
    def handling(self) -> int:
        return int(struct.unpack_from("<Q", self.seat, _MEMORY["handling"])[0])

    def wake(self) -> None:
        """Wake the worker if it sleeps, as the engine does after it published events."""
        if self._get(self.seat, _MEMORY["sleeping"]):
            self._set(self.seat, _MEMORY["sleeping"], 0)
            os.write(self._to_worker, b"\0")

    def woken(self) -> int:
        """How often the worker woke the engine since the last call."""
        try:
            return len(os.read(self._from_worker, 4096))
        except BlockingIOError:
            return 0

    @property
    def want_space(self) -> int:
        return self._get(self.seat, _MEMORY["want_space"])

    def is_dirty(self, conn: int) -> bool:
        return self.seat[self.at["dirty"] + (conn >> 32)] != 0

    def look(self, limit: int | None = None) -> list[Command]:
        """Commands that were committed and not taken."""
        count = (self.committed[1] - self._commands) & 0xFFFFFFFF
        return [self._command(self._commands + i)[0] for i in range(count if limit is None else min(limit, count))]

    def take(self, limit: int | None = None) -> list[Command]:
        """Take commands as the engine does: account for them, send at once unless `hold_output`."""
        commands = self.look(limit)
        for i, command in enumerate(commands):
            _, frame = self._command(self._commands + i)
            if command.op is Op.SEND:
                self._add(command.conn, _ENTRY["bytes_queued"], len(command.value))
            if command.op is Op.STATE:
                self.set_state(command.conn, command.value)
            if command.value and command.op in (Op.SEND, Op.STATE):
                self._account(frame, 0)
                held = self.hold_output and command.op is Op.SEND
                self._waiting.setdefault(command.conn, []).append(frame) if held else self._account(frame, 1)
                if command.op is Op.SEND and not held:
                    self._add(command.conn, _ENTRY["bytes_out"], len(command.value))
        self._commands += len(commands)
        self._set(self.public, self.at["ports"] + _PUBLIC["commands_consumed"], self._commands)
        return commands

    def sent(self) -> dict[int, bytes]:
        """Take commands; the output in them by connection."""
        output: dict[int, bytes] = {}
        for command in self.take():
            if command.op is Op.SEND:
                output[command.conn] = output.get(command.conn, b"") + command.value
        return output

    def flush(self, conn: int) -> None:
        """The slow peer of a connection takes all that was queued."""
        for frame in self._waiting.pop(conn, []):
            self._account(frame, 1)
        entry = self._entry(conn)
        self.public[entry + _ENTRY["bytes_out"] : entry + _ENTRY["bytes_out"] + 8] = self.public[
            entry + _ENTRY["bytes_queued"] : entry + _ENTRY["bytes_queued"] + 8
        ]

    def waiting(self, conn: int) -> int:
        """Bytes that were queued and that the peer did not take."""
        queued, out = struct.unpack_from("<QQ", self.public, self._entry(conn) + _ENTRY["bytes_queued"])
        return int(queued - out)

    def take_releases(self) -> list[int]:
        """Frames given back since the last call; one that was not lent is an error."""
        produced = self._get(self.seat, _MEMORY["releases_produced"])
        mask = self._regions["release_ring"].item_count - 1
        frames = [
            self._get(self.seat, self.at["release_ring"] + 4 * (i & mask)) for i in range(self._releases, produced)
        ]
        for frame in frames:
            self.lent.remove(frame)
        self._releases = produced
        self._set(self.public, self.at["ports"] + _PUBLIC["releases_consumed"], produced)
        return frames

    def set_state(self, conn: int, blob: bytes) -> None:
        entry = self._entry(conn)
        self.public[entry + _CONN_BYTES : entry + _CONN_BYTES + len(blob)] = blob
        self._set(self.public, entry + _ENTRY["state_length"], len(blob))

    def set_flags(self, conn: int, flags: int) -> None:
        self.public[self._entry(conn) + 9] = flags

    # Memory.

    def _entry(self, conn: int) -> int:
        return self.at["conns"] + (conn >> 32) * self._regions["conns"].item_bytes

    def _command(self, index: int) -> tuple[Command, int]:
        at = self.at["command_ring"] + (index & (self.config.command_slots - 1)) * 32
        op, length, conn, frame, offset, arg = _COMMAND.unpack_from(self.seat, at)
        start = self.at["tx_frames"] + frame * self.config.tx_frame_bytes + offset
        if op in (Op.SEND, Op.STATE):
            return Command(Op(op), conn, self.seat[start : start + length]), frame
        return Command(Op(op), conn, arg or None), frame

    def _account(self, frame: int, which: int) -> None:
        at = self.at["tx_accounts"] + 8 * frame + 4 * which
        self._set(self.public, at, self._get(self.public, at) + 1)

    def _free_frame(self) -> int:
        for _ in range(self.config.rx_frames):
            frame = self._next_frame
            self._next_frame = (frame + 1) % self.config.rx_frames
            if frame not in self.lent:
                return frame
        raise AssertionError("no receive frame is free")

    def _add(self, conn: int, offset: int, more: int) -> None:
        at = self._entry(conn) + offset
        struct.pack_into("<Q", self.public, at, struct.unpack_from("<Q", self.public, at)[0] + more)

    @staticmethod
    def _get(memory: mmap, at: int) -> int:
        return int(struct.unpack_from("<I", memory, at)[0])

    @staticmethod
    def _set(memory: mmap, at: int, value: int) -> None:
        """In one store: a worker that spins reads it without the GIL, and struct writes byte by byte."""
        ctypes.c_uint32.from_buffer(memory, at).value = value & 0xFFFFFFFF
