"""The rows of `usnet-ctl conns`, neigh, routes and addr, in parts of bounded size.

The connection table is read in shared memory, which costs the engines nothing (P9). What stands in no shared memory,
details of TCP and what a stack believes, the engines are asked for, a slice at a time. A shard whose engine does not
answer is no reason to say nothing of the others: its rows say why they lack what it knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from usnet_framework._native import LOOK_ENTRIES, ConnectionInfo
from usnet_framework.shards import lookwords
from usnet_framework.shards.connfilter import Filter
from usnet_framework.shards.look import open_parts
from usnet_framework.shards.looker import Looker, NoAnswer
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.shard import Shard

ROWS = 256  # of a part

Row = dict[str, Any]


async def connections(shards: Iterable[Shard], wanted: Filter, details: bool) -> AsyncIterator[list[Row]]:
    """Those that are open and wanted. NoAnswer: the filter needs what an engine does not say."""
    for shard in list(shards):
        if shard.segment is None:
            continue
        parts = (
            _detailed(shard, shard.segment, wanted, details)
            if details or wanted.needs_tcp
            else _plain(shard.segment, wanted)
        )
        try:
            async for part in parts:
                yield part
        except ValueError:
            continue  # it was rebuilt meanwhile: it has no connections


async def tables(shards: Iterable[Shard], kind: str) -> AsyncIterator[list[Row]]:
    """What the stack of each shard believes: `kind` is one of lookwords.TABLES."""
    for shard in list(shards):
        try:
            async for entries in shard.looker.table(kind):
                yield [{"shard": shard.number, **row} for row in _sensible(kind, entries)]
        except NoAnswer as error:
            yield [{"shard": shard.number, "why": str(error)}]


def row(conn: ConnectionInfo) -> Row:
    """`bytes_queued` is what waits, not what was queued since the beginning."""
    return asdict(conn) | {"bytes_queued": max(0, conn.bytes_queued - conn.bytes_out)}


def _sensible(kind: str, entries: Iterable[lookwords.Words]) -> list[Row]:
    found = []
    for entry in entries:
        try:
            found.append(lookwords.TABLES[kind](entry))
        except ValueError:
            continue
    return found


async def _plain(segment: Segment, wanted: Filter) -> AsyncIterator[list[Row]]:
    async for found in open_parts(segment, ROWS):
        yield [row(conn) for conn in found if wanted.matches(conn, None)]


async def _detailed(shard: Shard, segment: Segment, wanted: Filter, details: bool) -> AsyncIterator[list[Row]]:
    why = ""
    async for found in open_parts(segment, LOOK_ENTRIES):
        if not wanted.needs_tcp:
            found = [conn for conn in found if wanted.matches(conn, None)]
        if found and not why:
            try:
                rows = await _asked(shard.looker, found, wanted, details)
            except NoAnswer as error:
                if wanted.needs_tcp:
                    raise NoAnswer(f"shard {shard.number}: {error}; without it no state of TCP is known") from None
                why = str(error)
            else:
                yield rows
                continue
        yield [row(conn) | {"queues": None, "tcp": None, "why": why} for conn in found]


async def _asked(looker: Looker, found: Sequence[ConnectionInfo], wanted: Filter, details: bool) -> list[Row]:
    """Without those that have ended meanwhile."""
    said = await looker.connections([conn.id for conn in found])
    return [
        row(conn) | (lookwords.connection(words) if details else {})
        for conn in found
        if (words := said.get(conn.id)) is not None and wanted.matches(conn, lookwords.tcp_state(words))
    ]
