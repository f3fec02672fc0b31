"""`usnet-ctl stack`: the counters of our stack like nstat, since its start and since they were last looked at.

Each user has a last time of his own (history.py); with --watch it is the round before. Counters of a shard that was
rebuilt begin at zero again, and so do all when the server is another one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from usnet_framework._native import STACK_COUNTERS
from usnet_framework.cli import history
from usnet_framework.cli.subcommand import Subcommand, columns, duration, shown, understood
from usnet_framework.shards import control

HELP = dict(STACK_COUNTERS)
BEFORE = "before_drop_"
"""In front of the reason of what no shard ever had."""

Sources = dict[str, dict[str, int]]
"""Counters by name: of each shard, and of what is in front of all of them."""


def compared(now: Mapping[str, Any], last: Any) -> dict[str, Any]:
    """Sums over the shards: `total`, and how much of it came `since` the last time, `seconds` ago."""
    known = last if _is_of_the_same(last, now) else None
    before = _sources(known) if known is not None else {}
    counters: dict[str, dict[str, int]] = {}
    for source, values in _sources(now).items():
        for name, value in values.items():
            old = before.get(source, {}).get(name, 0)
            sums = counters.setdefault(name, {"total": 0, "since": 0})
            sums["total"] += value
            sums["since"] += value - old if old <= value else value
    then_ns = now["started_ns"] if known is None else known["now_ns"]
    return {
        "first": known is None,
        "seconds": round((now["now_ns"] - then_ns) / 1e9, 3),
        "counters": counters,
        "shards": now["shards"],
    }


def _is_of_the_same(last: Any, now: Mapping[str, Any]) -> bool:
    """It is an answer of this server. A file may hold anything."""
    try:
        _sources(last)
        return bool(last["server"] == now["server"] and last["now_ns"] <= now["now_ns"])
    except (AttributeError, LookupError, TypeError, ValueError):
        return False


def _sources(answer: Mapping[str, Any]) -> Sources:
    found = {f"shard {one['shard']}": {name: int(value) for name, value in one["counters"].items()}
             for one in answer["shards"]}  # fmt: skip
    return found | {"before": {f"{BEFORE}{reason}": int(value) for reason, value in answer["drops"].items()}}


def stack_text(seen: Mapping[str, Any], show_all: bool, why: str) -> str:
    """A line per counter that has counted; `why` nothing could be kept for the next time."""
    ago = duration(seen["seconds"])
    head = f"since the server started, {ago} ago" if seen["first"] else f"since the last look, {ago} ago"
    rows = [("COUNTER", "SINCE", "TOTAL", "")]
    for name, counted in seen["counters"].items():
        if show_all or counted["total"]:
            rows.append((name, str(counted["since"]), str(counted["total"]), _help(name)))
    note = [f"the next look cannot be compared with this one: {why}"] if why else []
    return "\n".join([head, *columns(rows), *note])


def _help(name: str) -> str:
    return "dropped before any shard had it" if name.startswith(BEFORE) else HELP.get(name, "")


def _stack(arguments: argparse.Namespace) -> Iterator[str]:
    now, why = control.request(arguments.control, "stack"), ""
    if arguments.watch is None:
        last, why = history.exchange(arguments.control, now)
    else:
        last, arguments.last = getattr(arguments, "last", None), now
    seen = understood("stack", lambda: compared(now, last))
    yield shown("stack", seen, lambda seen: stack_text(seen, arguments.all, why), arguments.json)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="counters that are zero, too")


STACK = Subcommand("the counters of our stack, and how much they have grown", _stack, _add_options, watch=True)
