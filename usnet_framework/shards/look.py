"""What a worker is at, seen from outside: in shared memory, where it costs the worker nothing (P9).

What the worker writes there is hearsay, and may be nonsense. It chooses what a log line says, and when a stop waits."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache

from usnet_framework._native import Region, layout_offsets, layout_regions
from usnet_framework.shards.segment import ConnectionInfo, Segment
from usnet_framework.values import endpoint_text

EVENTS = {1: "connect", 2: "data", 3: "eof", 4: "drain", 5: "close", 6: "move"}  # enum un_event_type
EVENT_BYTES = 32
WORD = struct.Struct("<Q")
PER_TURN = 1000  # connections, between two turns of the loop
AN_EVENT, A_TASK = 1, 2  # the high half of the word: UN_HANDLING, UN_HANDLING_TASK


def handled(segment: Segment, port: int) -> dict[str, object]:
    """For a log line: what the handler was being called for; empty between events. Read it before the engine is told
    that the worker is lost. ValueError: the segment is closed."""
    word = port_word(segment, port, "handling")
    kind, index = word >> 32, word & 0xFFFFFFFF
    if kind == AN_EVENT:
        ring = _regions(segment)["event_rings"]
        at = ring.at + port * ring.part_bytes + index % ring.item_count * EVENT_BYTES
        event = segment.read(None, at, EVENT_BYTES)
        offsets = layout_offsets()["un_event"]
        (conn,) = WORD.unpack_from(event, offsets["conn"])
        return {"handling": EVENTS.get(event[offsets["type"]], "nonsense"), **_connection(segment, conn)}
    if kind == A_TASK:
        return {"handling": "task", **_connection_of_slot(segment, index)}
    return {}


def dirty(segment: Segment, port: int) -> int:
    """Connections of which something is in no commit yet: output in worker memory, a callback's task, input set
    aside."""
    region = _regions(segment)["dirty"]
    marks = segment.read(port, region.at, region.item_count * region.item_bytes)
    return len(marks) - marks.count(0)


async def open_connections(segments: Iterable[Segment]) -> list[ConnectionInfo]:
    """Looked at in several turns of the loop if there are many."""
    found: list[ConnectionInfo] = []
    for segment in list(segments):
        with suppress(ValueError):  # its shard was rebuilt meanwhile: it has no connections
            async for part in open_parts(segment, PER_TURN):
                found += part
    return found


async def open_parts(segment: Segment, size: int) -> AsyncIterator[list[ConnectionInfo]]:
    """Open connections by so many; the loop has its turns meanwhile. ValueError: the segment is closed."""
    found: list[ConnectionInfo] = []
    for count, conn in enumerate(segment.connections(), 1):
        if conn.state != "closed":  # gone, only its slot is not free yet
            found.append(conn)
        if len(found) == size:
            yield found
            found = []
        if count % PER_TURN == 0:
            await asyncio.sleep(0)
    yield found


def port_word(segment: Segment, port: int, field: str) -> int:
    at = _regions(segment)["progress"].at + layout_offsets()["un_port_memory"][field]
    (word,) = WORD.unpack(segment.read(port, at, WORD.size))
    return int(word)


def _connection(segment: Segment, conn: int) -> dict[str, object]:
    found = _connection_of_slot(segment, conn >> 32 & 0x3FFFFF)
    return found if found.get("conn") == conn else {"conn": conn}


def _connection_of_slot(segment: Segment, slot: int) -> dict[str, object]:
    conn = segment.connection_in(slot)
    return {} if conn is None else {"conn": conn.id, "peer": endpoint_text(conn.peer)}


def _regions(segment: Segment) -> Mapping[str, Region]:
    return _regions_of(tuple(asdict(segment.config).items()))


@cache
def _regions_of(config: tuple[tuple[str, int], ...]) -> Mapping[str, Region]:
    return layout_regions(dict(config))
