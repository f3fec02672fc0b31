"""The picture of `usnet-bench scale`: a panel for each figure, a line for each series, over the number of queues. What
matplotlib makes of it goes into a file whose name says the format: .png, .svg, .pdf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from usnet_framework.bench.scalecosts import Costs
from usnet_framework.bench.scalefit import Law
from usnet_framework.bench.scalesummary import Fitted, Summary
from usnet_framework.errors import StartupError, UsageError

PANELS: Sequence[tuple[str, Callable[[Costs], float]]] = (
    ("requests per second", lambda costs: costs.throughput),
    ("server's processes: CPU time per request, us", lambda costs: costs.processes),
    ("server's cores: CPU time per request, us", lambda costs: costs.server),
    ("load's cores: CPU time per request, us", lambda costs: costs.load),
    ("server's context switches per request", lambda costs: costs.switches),
    ("wakes between its processes per request", lambda costs: costs.wakes),
    ("packets that crossed, per million", lambda costs: costs.crossed),
    ("requests of the busiest shard, over the mean", lambda costs: costs.spread),
)
FORMATS = (".png", ".svg", ".pdf")
INCHES = (17.0, 8.5)
DOTS_PER_INCH = 120
CURVE_POINTS = 100
MARKERS = "osD^vPX*"


def check(path: str) -> None:
    """Before anything is measured. UsageError, StartupError: it could not be drawn."""
    if Path(path).suffix not in FORMATS:
        raise UsageError(f"--plot {path}: the name of the file says its format: {', '.join(FORMATS)}")
    _figure()


def draw(path: str, title: str, rows: Sequence[Summary], laws: Sequence[Fitted]) -> None:
    """OSError: the file cannot be written."""
    picture(title, rows, laws).savefig(path, dpi=DOTS_PER_INCH)


def picture(title: str, rows: Sequence[Summary], laws: Sequence[Fitted]) -> Any:
    """A figure of matplotlib's."""
    figure = _figure()
    panels, series = list(figure.subplots(2, 4).flat), _series(rows)
    for panel, (text, of) in zip(panels, PANELS, strict=True):
        _prepare(panel, text, [row.point.queues for row in rows])
        for number, line in enumerate(series):
            _line(panel, number, line, of)
        panel.set_ylim(bottom=0)  # once all lines are there: it ends the search for a scale
    by_name = {fitted.series: fitted.law for fitted in laws}
    for number, line in enumerate(series):
        if law := by_name.get(line[0].point.series):
            _curve(panels[0], number, line, law)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False)
    figure.suptitle(title)
    return figure


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StartupError(
            "--plot: matplotlib is not installed: pip install 'usnet_framework[bench]', or leave it out"
        ) from error
    return Figure(figsize=INCHES, layout="constrained")


def _series(rows: Sequence[Summary]) -> list[list[Summary]]:
    names = dict.fromkeys(row.point.series for row in rows)
    return [[row for row in rows if row.point.series == name] for name in names]


def _prepare(panel: Any, title: str, queues: Sequence[int]) -> None:
    ticks = sorted(set(queues))
    panel.set_title(title, fontsize="medium")
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.yaxis.set_major_formatter("{x:,.10g}")
    panel.set_xlabel("queues")
    panel.grid(alpha=0.3)


def _line(panel: Any, number: int, rows: Sequence[Summary], of: Callable[[Costs], float]) -> None:
    """A point is filled where each process has a core to itself."""
    color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
    queues, values = [row.point.queues for row in rows], [of(row.costs) for row in rows]
    panel.plot(queues, values, color=color, marker=marker, markerfacecolor="white", label=rows[0].point.series)
    filled = [(x, y) for x, y, row in zip(queues, values, rows, strict=True) if row.has_room]
    if filled:
        panel.plot(*zip(*filled, strict=True), color=color, marker=marker, linestyle="none")


def _curve(panel: Any, number: int, rows: Sequence[Summary], law: Law) -> None:
    least, most = rows[0].point.queues, rows[-1].point.queues
    places = [least * (most / least) ** (step / CURVE_POINTS) for step in range(CURVE_POINTS + 1)]
    panel.plot(places, [law.at(place) for place in places], color=f"C{number % 10}", linestyle="dotted")
