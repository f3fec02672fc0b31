"""`usnet-ctl neigh`, `routes` and `addr`: what the stack of each shard believes, like ip neigh, ip route, ip addr."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

from usnet_framework.cli.subcommand import Run, Subcommand, shown_list, since
from usnet_framework.shards import control

Cells = Callable[[dict[str, Any], int], tuple[str, ...]]
"""A row of a table, and what time it is in nanoseconds; behind the number of the shard."""

WIDE = 26  # most addresses: rows come before all of them are known
WIDEST = 43  # any address, with its prefix


def _neighbour(row: dict[str, Any], now_ns: int) -> tuple[str, ...]:
    router = "router" if row["router"] else ""
    waiting = f"{row['queued']} waiting" if row["queued"] else ""
    confirmed, used = (_ago(now_ns, row[name]) for name in ("confirmed_ns", "used_ns"))
    return (row["address"] or "-", row["mac"] or "-", row["state"], confirmed, used, f"{router} {waiting}".strip())


def _route(row: dict[str, Any], now_ns: int) -> tuple[str, ...]:
    gateway = "elsewhere" if row["elsewhere"] else row["gateway"] or "on the link"
    expires = "" if row["expires_ns"] is None else f"expires in {since(row['expires_ns'], now_ns)}"
    return (row["network"], gateway, row["origin"], expires)


def _address(row: dict[str, Any], now_ns: int) -> tuple[str, ...]:
    claimed = f"claimed by {row['claimed_by']}" if row["claimed_by"] else ""
    return (row["address"], row["state"], claimed)


def _ago(now_ns: int, then_ns: int | None) -> str:
    return "-" if then_ns is None else since(now_ns, then_ns)


def _table(command: str, head: dict[str, int], cells: Cells) -> Run:
    """`head`: the width of each column behind the shard's."""
    widths = (5, *head.values())

    def line(texts: tuple[str, ...]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()

    def lines_of(rows: list[dict[str, Any]]) -> list[str]:
        now_ns = time.monotonic_ns()
        return [
            f"shard {row['shard']}: {row['why']}" if "why" in row else line((str(row["shard"]), *cells(row, now_ns)))
            for row in rows
        ]

    def run(arguments: argparse.Namespace) -> Iterator[str]:
        parts = control.stream(arguments.control, command)
        yield from shown_list(command, parts, lines_of, arguments.json, head=f"{line(('SHARD', *head))}\n")

    return run


NEIGH = Subcommand(
    "the stations on the link that our stack knows",
    _table("neigh", {"ADDRESS": WIDE, "MAC": 17, "STATE": 10, "CONFIRMED": 9, "USED": 6, "": 0}, _neighbour),
    watch=True,
)
ROUTES = Subcommand(
    "the ways that our stack knows",
    _table("routes", {"NETWORK": WIDE, "BY": WIDE, "ORIGIN": 10, "": 0}, _route),
    watch=True,
)
ADDR = Subcommand(
    "the addresses of our stack", _table("addr", {"ADDRESS": WIDEST, "STATE": 6, "": 0}, _address), watch=True
)
