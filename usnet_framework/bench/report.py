"""Tables and JSON. A measurement hands over plain data; how it looks is decided here alone."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from usnet_framework.bench.load import Load
from usnet_framework.bench.rounds import Summary, over
from usnet_framework.errors import StartupError


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first is text and leans left, the others are numbers."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = []
    for line in (header, *rows):
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def summary_table(summaries: Sequence[Summary], base: str, load: Load) -> str:
    """Of runs under this load. What an echo takes in it gives out, so one figure of Gbit/s tells of each way."""
    header = (
        "server",
        "median/s",
        "quartiles",
        f"x {base}",
        f"Gbit/s {'each way' if load.way == 'echo' else load.way}",
        "p50 us",
        "p99 us",
        "server core",
        "load core",
        "runs",
        "dropped",
    )
    rows = [
        (
            row.name,
            number(row.throughput),
            f"{number(row.lower)} - {number(row.upper)}",
            number(row.ratio, 3),
            number(row.throughput * load.size * 8 / 1e9, 2),
            number(row.p50_us, 1),
            number(row.p99_us, 1),
            share(row.server_busy),
            share(row.load_busy),
            str(row.runs),
            str(row.dropped),
        )
        for row in summaries
    ]
    return table(header, rows)


def cost_table(summaries: Sequence[Summary], base: str) -> str:
    """What a message took, in microseconds of a core."""
    header = (
        "server", "messages/s", "server core us", "quartiles", f"x {base}", "user", "system", "softirq", "load core us",
        "wakes", "p50 us", "p99 us", "runs", "dropped",
    )  # fmt: skip
    (base_us,) = (row.cost.server_us for row in summaries if row.name == base)
    rows = [
        (
            row.name,
            number(row.throughput),
            number(row.cost.server_us, 2),
            f"{number(row.lower_us, 2)} - {number(row.upper_us, 2)}",
            number(over(row.cost.server_us, base_us), 3),
            number(row.cost.user_us, 2),
            number(row.cost.system_us, 2),
            number(row.cost.softirq_us, 2),
            number(row.cost.load_us, 2),
            number(row.cost.wakes, 3),
            number(row.p50_us, 1),
            number(row.p99_us, 1),
            str(row.runs),
            str(row.dropped),
        )
        for row in summaries
    ]
    return table(header, rows)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_json(result: dict[str, Any]) -> str:
    return json.dumps(_without_nan(result), indent=2)


def save(path: str, result: dict[str, Any]) -> None:
    """StartupError."""
    try:
        Path(path).write_text(as_json(result) + "\n")
    except OSError as error:
        raise StartupError(f"{path}: cannot be written: {error.strerror}") from None


def progress(text: str) -> None:
    """A line for whoever waits; never a part of the result."""
    print(text, file=sys.stderr, flush=True)
