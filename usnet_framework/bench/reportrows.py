"""What the figures of `usnet-bench report` show, as rows: those that are drawn (reportdraw.py) and that go into the CSV
files. They are made of the JSON of the parts (reportplan.py); a part that is missing has no rows. A figure that does
not exist is None."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Results = Mapping[str, Any]
"""JSON of the parts that could be measured, by name."""

BINS_PER_DECADE = 20  # of latencies
KINDS = ("user", "system", "softirq")


def family(server: str) -> str:
    """What has the same colour in all figures."""
    for name in ("afxdp", "tap"):
        if server.startswith(f"usnet-{name}-"):
            return name
    if server.startswith("usnet-"):
        return "kernel"
    return server.partition("-")[0]  # mirror-tap is a mirror, epoll-c epoll


def over_connections(results: Results) -> list[Row]:
    """A row for each server and number of connections, in that order."""
    rows = []
    for name, result in results.items():
        if not name.startswith("connections-"):
            continue
        for one in result["summaries"]:
            keys = ("throughput", "lower", "upper", "p50_us", "p99_us", "runs", "dropped")
            rows.append({"server": one["name"], "connections": result["load"]["connections"]} | _some(one, keys))
    servers = list(dict.fromkeys(row["server"] for row in rows))
    return sorted(rows, key=lambda row: (servers.index(row["server"]), row["connections"]))


def _some(of: Mapping[str, Any], keys: Sequence[str]) -> Row:
    return {key: of[key] for key in keys}


def cost_of_a_message(results: Results) -> list[Row]:
    """At the fixed rate."""
    if "afxdp-rps" not in results:
        return []
    fixed = results["afxdp-rps"]["fixed"]
    keys = ("server_us", *(f"{kind}_us" for kind in KINDS), "load_us", "wakes")
    return [
        {"server": one["name"], "rate": fixed["rate"]} | _some(one["cost"], keys)
        for one in fixed["summaries"]
        if one["cost"]["server_us"] is not None
    ]


def over_shards(results: Results) -> list[Row]:
    """A row for each series and number of queues."""
    if "scale" not in results:
        return []
    rows = []
    for one in results["scale"]["summaries"]:
        point, costs = one["point"], one["costs"]
        rows.append(
            _some(point, ("backend", "layout", "queues"))
            | {"own_core_each": one["has_room"], "processes_us": _sum(costs, ("network", "worker", "rest"))}
            | {"cores_us": _sum(costs, [f"server_{kind}" for kind in KINDS])}
            | _some(costs, ("switches", "wakes", "crossed", "throughput"))
        )
    return rows


def _sum(of: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    values = [of[key] for key in keys]
    return None if None in values else sum(values)


def latencies(results: Results) -> list[Row]:
    """A row for each server and bin that is not empty. Bins are equally wide on a logarithmic scale."""
    rows = []
    for one in results.get("latency", {}).get("distributions", ()):
        bins: dict[int, int] = {}
        for edge_us, answers in one["buckets"]:
            place = math.floor(math.log10(max(edge_us, 1e-3)) * BINS_PER_DECADE)
            bins[place] = bins.get(place, 0) + answers
        for place, answers in sorted(bins.items()):
            edges = (10 ** (place / BINS_PER_DECADE), 10 ** ((place + 1) / BINS_PER_DECADE))
            counts = {"answers": answers, "share": answers / one["answers"]}
            rows.append({"server": one["name"], "from_us": edges[0], "to_us": edges[1]} | counts)
    return rows


def around_events(results: Results) -> list[Row]:
    """A row for each run and stretch. The run whose worst answer is the median of those of its kind is `typical`."""
    if "timeline" not in results:
        return []
    timeline = results["timeline"]
    every_ms, rows = timeline["every_ms"], []
    for run in timeline["runs"]:
        alike = [one for one in timeline["runs"] if (one["server"], one["event"]) == (run["server"], run["event"])]
        median = statistics.median_low(one["worst_ms"] for one in alike)
        typical = run is next(one for one in alike if one["worst_ms"] == median)
        for number, answers in enumerate(run["answers"]):
            rows.append(
                _some(run, ("event", "server", "round", "connections_lost", "messages_lost", "worst_ms", "silent_ms"))
                | {"typical": typical, "after_ms": number * every_ms - run["event_ms"], "answers": answers}
            )
    return rows


def bars(results: Results) -> list[Row]:
    """A row for each bar; `reach` is 1 where it is just reached, and more beyond."""
    rows = []
    for part, result in results.items():
        for one in result.get("aims", ()):
            found, bar = one["found"], one["bar"]
            at_most = one["sign"] == "at most"
            reach = None if not found else bar / found if at_most else found / bar
            keys = ("server", "figure", "found", "sign", "bar", "is_reached")
            rows.append({"part": part} | _some(one, keys) | {"reach": reach})
    return rows
