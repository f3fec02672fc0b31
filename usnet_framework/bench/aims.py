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
    of: Callable[[Summary, Summary, int], float]  # a row, the one it is compared with, bytes of a message
    at_fixed_rate: bool = False

    @property
    def sign(self) -> str:
        return "at least" if self.is_met is operator.ge else "at most"

    @property
    def is_ratio(self) -> bool:
        return "{base}" in self.text


FIGURES: Mapping[str, Figure] = {
    "ratio": Figure("messages/s, x {base}", operator.ge, lambda row, base, size: over(row.throughput, base.throughput)),
    "p50": Figure("p50, x {base}", operator.le, lambda row, base, size: over(row.p50_us, base.p50_us)),
    "cpu": Figure(
        "server core per message at the fixed rate, x {base}",
        operator.le,
        lambda row, base, size: over(row.cost.server_us, base.cost.server_us),
        at_fixed_rate=True,
    ),
    "rate": Figure("messages/s", operator.ge, lambda row, base, size: row.throughput),
    "gbit": Figure("Gbit/s", operator.ge, lambda row, base, size: row.throughput * size * 8 / 1e9),
}


@dataclass(frozen=True)
class Aim:
    server: str
    figure: str
    bar: float
    other: str = ""  # that a ratio is to; by default the base of the comparison


def parse(text: str) -> Aim:
    """SERVER:FIGURE:BAR or SERVER:FIGURE/OTHER:BAR."""
    server, _, rest = text.partition(":")
    what, _, bar = rest.partition(":")
    figure, slash, other = what.partition("/")
    try:
        if figure in FIGURES and bool(slash) == bool(other) and (FIGURES[figure].is_ratio or not slash):
            return Aim(server, figure, float(bar), other)
    except ValueError:
        pass
    ratios = ", ".join(name for name in FIGURES if FIGURES[name].is_ratio)
    raise UsageError(
        f"--aim {text}: it is SERVER:FIGURE:BAR, and FIGURE one of {', '.join(FIGURES)}; "
        f"{ratios} may name the server to compare with, in place of --base: SERVER:FIGURE/OTHER:BAR"
    )


def check(aims: Sequence[Aim], servers: Sequence[str], fixed: bool) -> None:
    for aim in aims:
        for server in (aim.server, aim.other or aim.server):
            if server not in servers:
                raise UsageError(f"--aim: {server!r} is not one of the servers compared: {', '.join(servers)}")
        if FIGURES[aim.figure].at_fixed_rate and not fixed:
            raise UsageError(f"--aim {aim.server}:{aim.figure}: is measured with --fixed alone")


@dataclass(frozen=True)
class Verdict:
    server: str
    figure: str
    found: float
    sign: str
    bar: float
    is_reached: bool

    def __str__(self) -> str:
        outcome = "reached" if self.is_reached else "missed"
        return f"aim: {self.server}, {self.figure}: {self.found:,.2f}, {self.sign} {self.bar:,g}: {outcome}"


def verdict(aim: Aim, rows: Sequence[Summary], fixed: Sequence[Summary], base: str, size: int) -> Verdict:
    """A run of nothing reaches no bar. `fixed`: the rows at a fixed rate."""
    figure = FIGURES[aim.figure]
    by_name = {row.name: row for row in (fixed if figure.at_fixed_rate else rows)}
    other = aim.other or base
    found = figure.of(by_name[aim.server], by_name[other], size)
    text = figure.text.format(base=other)
    return Verdict(aim.server, text, found, figure.sign, aim.bar, figure.is_met(found, aim.bar))
