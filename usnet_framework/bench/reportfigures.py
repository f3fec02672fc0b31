"""The figures of `usnet-bench report` one by one, each with a name: PART.SERVER.FIGURE, or PART.FIGURE. The tables of
the README are made of them (tools/figures.py)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from usnet_framework.bench.reload import STEAL_LIMIT

Figures = dict[str, float]
Named = Iterator[tuple[str, float | None]]

ROWS = ("throughput", "ratio", "p50_us", "p99_us")


def _compare(result: Mapping[str, Any]) -> Named:
    bits = result["load"]["size"] * 8 / 1e9
    for row in result["summaries"]:
        yield from ((f"{row['name']}.{key}", row[key]) for key in ROWS)
        yield f"{row['name']}.gbit", None if row["throughput"] is None else row["throughput"] * bits
    if not result.get("fixed"):
        return
    yield "fixed_rate", result["fixed"]["rate"]
    for row in result["fixed"]["summaries"]:
        yield f"{row['name']}.server_us", row["cost"]["server_us"]
        yield f"{row['name']}.wakes", row["cost"]["wakes"]


def _kill(result: Mapping[str, Any]) -> Named:
    yield "kills", len(result["milliseconds"])
    yield "median_ms", result["median_ms"]
    yield "p99_ms", result["p99_ms"]


def _reload(result: Mapping[str, Any]) -> Named:
    yield "reloads", result["seen"]["reloads"]
    yield "longest_s", result["longest_s"]
    for name in ("quiet", "reloading"):
        clean = [one for one in result["windows"] if one["name"] == name and one["steal"] <= STEAL_LIMIT]
        yield f"{name}.p999_ms", statistics.median(one["p999_ms"] for one in clean) if clean else None
        yield f"{name}.max_ms", max((one["max_ms"] for one in clean), default=None)


def _sharing(result: Mapping[str, Any]) -> Named:
    yield from ((f"{way}_mib", size / 2**20) for way, size in result["bytes"].items())


def _memory(result: Mapping[str, Any]) -> Named:
    yield "shards", result["shards"]
    yield from ((f"{cost['part']}_bytes", cost["per_connection"]) for cost in result["costs"])


def _latency(result: Mapping[str, Any]) -> Named:
    for one in result["distributions"]:
        yield from ((f"{one['name']}.{key}", one[key]) for key in ("p50_us", "p99_us", "p999_us"))


def _others(result: Mapping[str, Any]) -> Named:
    yield from result["figures"].items()


_OF: Mapping[str, Callable[[Mapping[str, Any]], Named]] = {
    "compare": _compare, "flood": _compare, "kill": _kill, "reload": _reload, "sharing": _sharing, "memory": _memory,
    "latency": _latency, "figures": _others,
}  # fmt: skip


def figures(parts: Mapping[str, Mapping[str, Any]]) -> Figures:
    """Of all parts that could be measured; a figure that does not exist is left out."""
    found: Figures = {}
    for name, part in parts.items():
        if "result" in part and (of := _OF.get(part["kind"])):
            found |= {f"{name}.{each}": value for each, value in of(part["result"]) if value is not None}
    return found
