"""What a comparison is to show: a figure of one server and its bar, and whether it was reached."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from usnet_framework.bench.rounds import Summary, over
from usnet_framework.errors import UsageError


@dataclass(frozen=True)
class Figure:
    text: str
    is_met: Callable[[float, float], bool]
    of: Callable[[Summary, Summary, int], float]  # a row, the base's row, bytes of a message

    @property
    def sign(self) -> str:
        return "at least" if self.is_met is operator.ge else "at most"


FIGURES: Mapping[str, Figure] = {
    "ratio": Figure("messages/s, x {base}", operator.ge, lambda row, base, size: over(row.throughput, base.throughput)),
    "p50": Figure("p50, x {base}", operator.le, lambda row, base, size: over(row.p50_us, base.p50_us)),
    "rate": Figure("messages/s", operator.ge, lambda row, base, size: row.throughput),
    "gbit": Figure("Gbit/s", operator.ge, lambda row, base, size: row.throughput * size * 8 / 1e9),
}


@dataclass(frozen=True)
class Aim:
    server: str
    figure: str
    bar: float


def parse(text: str) -> Aim:
    """SERVER:FIGURE:BAR."""
    server, _, rest = text.partition(":")
    figure, _, bar = rest.partition(":")
    try:
        if figure in FIGURES:
            return Aim(server, figure, float(bar))
    except ValueError:
        pass
    raise UsageError(f"--aim {text}: it is SERVER:FIGURE:BAR, and FIGURE one of {', '.join(FIGURES)}")


def check(aims: Sequence[Aim], servers: Sequence[str]) -> None:
    for aim in aims:
        if aim.server not in servers:
            raise UsageError(f"--aim: {aim.server!r} is not one of the servers compared: {', '.join(servers)}")


def verdict(aim: Aim, rows: Sequence[Summary], base: str, size: int) -> str:
    """One line; a run of nothing reaches no bar."""
    by_name = {row.name: row for row in rows}
    figure = FIGURES[aim.figure]
    found = figure.of(by_name[aim.server], by_name[base], size)
    outcome = "reached" if figure.is_met(found, aim.bar) else "missed"
    text = figure.text.format(base=base)
    return f"aim: {aim.server}, {text}: {found:,.2f}, {figure.sign} {aim.bar:,g}: {outcome}"
