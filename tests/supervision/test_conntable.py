"""Rows of connections: in parts, without what nobody wants, and with the reason where an engine says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from usnet_framework._native import LOOK_ENTRIES, LOOK_FIELDS, ConnectionInfo
from usnet_framework.shards import conntable
from usnet_framework.shards.connfilter import parse
from usnet_framework.shards.looker import NoAnswer

ESTABLISHED = 1 << 3


class FakeShard:
    """With connections 0 to `count`, of which the engine knows those that are even; or `silent`, it says nothing."""

    number = 0

    def __init__(self, count: int, silent: bool = False, rebuilt_at: int = -1) -> None:
        self.segment = self.looker = self
        self.asked: list[int] = []
        self._count = count
        self._silent = silent
        self._rebuilt_at = rebuilt_at

    def connections(self, ids: Sequence[int] | None = None) -> Any:
        return self._rows() if ids is None else self._said(ids)

    def _rows(self) -> Iterator[ConnectionInfo]:
        for number in range(self._count):
            if number == self._rebuilt_at:
                raise ValueError("the segment is closed")
            yield ConnectionInfo(
                id=number, shard=0, slot=number, seat=0, port=0, state="open", flags=(), peer=("10.0.0.2", number),
                local=("10.0.0.1", 80), bytes_in=0, bytes_out=3, bytes_queued=7, state_length=0, opened_ns=0,
                active_ns=0,
            )  # fmt: skip

    async def _said(self, ids: Sequence[int]) -> dict[int, dict[str, int]]:
        self.asked.append(len(ids))
        if self._silent:
            raise NoAnswer("it sleeps")
        words = dict.fromkeys(LOOK_FIELDS["conns"], 0) | {"tcp_state": ESTABLISHED}
        return {id_: words | {"id": id_} for id_ in ids if id_ % 2 == 0}

    async def table(self, kind: str) -> AsyncIterator[list[dict[str, int]]]:
        if self._silent:
            raise NoAnswer("it sleeps")
        yield [dict.fromkeys(LOOK_FIELDS[kind], 0) | {"prefix": prefix} for prefix in (24, 200)]


def parts(*shards: FakeShard, where: str = "", details: bool = False) -> list[list[dict[str, Any]]]:
    async def run() -> list[list[dict[str, Any]]]:
        return [part async for part in conntable.connections(shards, parse(where), details)]  # type: ignore[arg-type]

    return asyncio.run(run())


def rows(*shards: FakeShard, where: str = "", details: bool = False) -> list[dict[str, Any]]:
    return [row for part in parts(*shards, where=where, details=details) for row in part]


def test_parts_are_bounded_and_engines_are_not_asked() -> None:
    shard = FakeShard(1000)
    found = parts(shard, where="dport >= 10")
    assert max(map(len, found)) <= conntable.ROWS
    assert [row["id"] for part in found for row in part] == list(range(10, 1000))
    assert found[0][0]["bytes_queued"] == 4
    assert shard.asked == []


def test_details_are_asked_for_of_those_that_are_wanted() -> None:
    shard = FakeShard(300)
    found = rows(shard, where="dport < 250", details=True)
    assert [row["id"] for row in found] == list(range(0, 250, 2))  # the others have ended meanwhile
    assert {row["tcp"]["state"] for row in found} == {"established"}
    assert max(shard.asked) <= LOOK_ENTRIES
    assert sum(shard.asked) == 250


def test_a_state_of_tcp_is_looked_up_and_not_shown() -> None:
    found = rows(FakeShard(10), where="state established and dport < 5")
    assert [row["id"] for row in found] == [0, 2, 4]
    assert "tcp" not in found[0]
    assert rows(FakeShard(10), where="state close-wait") == []


def test_an_engine_that_says_nothing_is_asked_once_and_the_rows_say_why() -> None:
    shard = FakeShard(300, silent=True)
    found = rows(shard, FakeShard(2), details=True)
    assert [row.get("why") for row in found] == ["it sleeps"] * 300 + [None]
    assert len(shard.asked) == 1


def test_a_filter_that_needs_it_is_not_answered_without_it() -> None:
    with pytest.raises(NoAnswer, match="shard 0: it sleeps; without it no state of TCP is known"):
        rows(FakeShard(3, silent=True), where="state established")


@pytest.mark.parametrize("details", [False, True])
def test_a_shard_that_is_rebuilt_meanwhile_hides_no_other(details: bool) -> None:
    assert rows(FakeShard(1, rebuilt_at=0), FakeShard(1), details=details)[0]["id"] == 0


def test_a_table_leaves_out_what_makes_no_sense_and_says_who_is_silent() -> None:
    async def run() -> list[list[dict[str, Any]]]:
        shards: Any = (FakeShard(0), FakeShard(0, silent=True))
        return [part async for part in conntable.tables(shards, "routes")]

    (told,), (silent,) = asyncio.run(run())
    assert (told["network"], told["shard"]) == ("::/24", 0)
    assert silent == {"shard": 0, "why": "it sleeps"}
