"""The figures of `usnet-bench report`, drawn by matplotlib from the rows of reportrows.py.

A figure is drawn three times: as a picture for light paper, as one for dark paper, and as SVG for the page. In the SVG,
colours are variables of the page (`var(--ink)`), so it is light or dark as the reader has it. Each server has one
colour in all figures; inline is a solid line, split a dashed one."""

from __future__ import annotations

import io
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from usnet_framework.bench import report, reportrows
from usnet_framework.bench.reportrows import KINDS, Results, Row, family
from usnet_framework.bench.timeline import EVENTS, SUBJECTS
from usnet_framework.errors import StartupError

DOTS_PER_INCH = 110
FARTHEST = 2.0  # that a bar which was reached is drawn
HIGHEST = 5  # that answers after an event are drawn, over the usual: those that had waited come together
WINDOWS_MS = {"worker": (-100, 250), "network": (-100, 250), "reload": (-200, 1500)}
WIDTH = 11.0  # inches
MARKERS = {"inline": "o", "split": "s"}
HATCHES = {"user": "", "system": "///", "softirq": "..."}

Colours = Mapping[str, str]

LIGHT: Colours = {
    "ink": "#1b1f24", "muted": "#5d6673", "grid": "#d5dae1", "paper": "#ffffff",
    "reached": "#2a7d46", "missed": "#c0312b",
    "kernel": "#1f63b5", "tap": "#c2570c", "afxdp": "#1d8a5b", "uvloop": "#8b44b8", "asyncio": "#9a7b00",
    "epoll": "#4a525e", "mirror": "#8b95a3", "lwip": "#b03a76",
    "user": "#1f63b5", "system": "#c2570c", "softirq": "#8b95a3",
}  # fmt: skip
DARK: Colours = {
    "ink": "#e8ebef", "muted": "#a3adba", "grid": "#3a424d", "paper": "#15181d",
    "reached": "#5fce88", "missed": "#ff7a72",
    "kernel": "#6fb1ff", "tap": "#ff9d57", "afxdp": "#56d39b", "uvloop": "#cb98f5", "asyncio": "#e3c344",
    "epoll": "#b9c2ce", "mirror": "#808b99", "lwip": "#f285b8",
    "user": "#6fb1ff", "system": "#ff9d57", "softirq": "#808b99",
}  # fmt: skip
VARIABLES: Colours = {name: f"#0000{number:02x}" for number, name in enumerate(LIGHT, start=1)}
"""Stand-ins, which become variables when the SVG is there."""

Draw = Callable[[Any, Sequence[Row], Colours], None]
"""Fills a figure of matplotlib's."""


@dataclass(frozen=True)
class Picture:
    """`parts`: whose commands are shown below; one that ends in "-" stands for all that begin so."""

    name: str
    title: str
    text: str
    parts: tuple[str, ...]
    rows: Callable[[Results], list[Row]]
    draw: Draw


def check() -> None:
    """Before anything is measured. StartupError: nothing can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise StartupError("report: matplotlib is not installed: pip install 'usnet_framework[bench]'") from error


def png(picture: Picture, rows: Sequence[Row], colours: Colours) -> bytes:
    found = io.BytesIO()
    with _figure(colours) as figure:
        picture.draw(figure, rows, colours)
        figure.savefig(found, format="png", dpi=DOTS_PER_INCH)
    return found.getvalue()


def svg(picture: Picture, rows: Sequence[Row]) -> str:
    """An element for the page. Its names begin with the picture's, so that those of two pictures do not meet."""
    found = io.StringIO()
    with _figure(VARIABLES, transparent=True) as figure:
        picture.draw(figure, rows, VARIABLES)
        figure.savefig(found, format="svg", metadata={"Date": None, "Creator": None})
    return _embedded(found.getvalue(), picture)


def _embedded(text: str, picture: Picture) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{picture.title}"', text, count=1)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", text)
    for name, stand_in in VARIABLES.items():
        text = text.replace(stand_in, f"var(--{name})")
    return text


@contextmanager
def _figure(colours: Colours, transparent: bool = False) -> Iterator[Any]:
    """A new one, with everything that has no colour of its own in those of the paper."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(colours, transparent)):
        yield Figure(layout="constrained")


def _style(colours: Colours, transparent: bool) -> dict[str, Any]:
    ink, muted, paper = (colours[name] for name in ("ink", "muted", "paper"))
    return {
        "figure.facecolor": "none" if transparent else paper,
        "savefig.facecolor": "none" if transparent else paper,
        "axes.facecolor": "none",
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": "medium",
        "axes.titlelocation": "left",
        "grid.color": colours["grid"],
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "hatch.color": paper,
        "hatch.linewidth": 0.8,
        "legend.frameon": False,
        "font.size": 10,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.5,
        "svg.fonttype": "path",  # it looks the same everywhere
        "svg.hashsalt": "usnet",
    }


# Lines of servers.


def _line_style(server: str, colours: Colours) -> dict[str, Any]:
    layout = "split" if "-split" in server else "inline" if server.startswith("usnet-") else ""
    color = colours[family(server)]
    return {
        "color": color,
        "linestyle": "dashed" if layout == "split" else "solid" if layout else "dashdot",
        "marker": MARKERS.get(layout, "^"),
        "markerfacecolor": colours["paper"] if layout == "split" else color,
    }


def _groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _legend(figure: Any, panel: Any, columns: int = 4) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _powers_of_two(panel: Any, values: Iterable[int], label: str) -> None:
    ticks = sorted(set(values))
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel(label)


def _draw_connections(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    figure.set_size_inches(WIDTH, 5.0)
    panels = figure.subplots(1, 3)
    kinds = (("throughput", "thousand messages/s", 1e3), ("p50_us", "p50, us", 1), ("p99_us", "p99, us", 1))
    for panel, (key, title, unit) in zip(panels, kinds, strict=True):
        for (server,), line in _groups(rows, "server").items():
            places = [row["connections"] for row in line]
            panel.plot(places, [_number(row[key]) / unit for row in line], label=server, **_line_style(server, colours))
        _powers_of_two(panel, (row["connections"] for row in rows), "connections")
        panel.set_title(title)
        panel.yaxis.set_major_formatter("{x:,.10g}")
    panels[0].set_ylim(bottom=0)
    for panel in panels[1:]:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter("{x:,.10g}")
    _legend(figure, panels[0])


def _draw_cost(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    figure.set_size_inches(WIDTH, 1.6 + 0.38 * len(rows))
    panel = figure.subplots()
    ordered = sorted(rows, key=lambda row: -_number(row["server_us"]))
    places, begins = range(len(ordered)), [0.0] * len(ordered)
    for kind in KINDS:
        widths = [_number(row[f"{kind}_us"]) for row in ordered]
        panel.barh(places, widths, left=begins, height=0.62, color=colours[kind], hatch=HATCHES[kind], label=kind)
        begins = [begin + width for begin, width in zip(begins, widths, strict=True)]
    for place, row in zip(places, ordered, strict=True):
        text = f" {row['server_us']:.2f} us, {row['wakes']:.2f} wakes"
        _beside(panel, row["server_us"], place, text, colours)
    panel.set_yticks(places, [row["server"] for row in ordered])
    panel.grid(visible=False, axis="y")
    panel.set_xlim(0, 1.35 * max(row["server_us"] for row in rows))
    panel.set_xlabel(f"us of the server's core per message, at {ordered[0]['rate']:,.0f} messages/s")
    panel.legend(loc="upper right")  # where the bars are short


def _beside(panel: Any, x: float, y: float, text: str, colours: Colours) -> None:
    """The limits of the panel leave room for it."""
    panel.text(x, y, text, va="center", color=colours["ink"]).set_in_layout(False)


def _draw_shards(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    figure.set_size_inches(WIDTH, 5.0)
    panels = figure.subplots(1, 3)
    kinds = (
        ("processes_us", "us per request of the server's processes"),
        ("cores_us", "us per request of the server's cores"),
        ("switches", "context switches per request"),
    )
    for panel, (key, title) in zip(panels, kinds, strict=True):
        for (backend, layout), line in _groups(rows, "backend", "layout").items():
            style = _line_style(f"usnet-{backend}-{layout}", colours)
            places = [row["queues"] for row in line]
            panel.plot(places, [_number(row[key]) for row in line], label=f"{backend}, {layout}", **style)
        _powers_of_two(panel, (row["queues"] for row in rows), "shards")
        panel.set_title(title)
        panel.set_ylim(bottom=0)
    _legend(figure, panels[0], 6)


def _draw_latency(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    titles = {"kernel": "kernel sockets", "tap": "our stack over TAP", "afxdp": "our stack over AF_XDP"}
    by_panel: dict[str, list[Row]] = {}
    for row in rows:
        name = family(row["server"])
        by_panel.setdefault(name if name in titles else "kernel", []).append(row)
    figure.set_size_inches(WIDTH, 0.9 + 2.1 * len(by_panel))
    panels = figure.subplots(len(by_panel), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, (name, part) in zip(panels, by_panel.items(), strict=True):
        for (server,), bins in _groups(part, "server").items():
            _histogram(panel, server, bins, colours)
        panel.set_title(titles[name])
        panel.set_ylabel("share of answers")
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderpad=0)
    panels[-1].set_xlabel("us from when the message was due until its answer came")
    panels[-1].xaxis.set_major_formatter("{x:,.10g}")
    panels[-1].set_xlim(left=min(row["from_us"] for row in rows), right=_almost_all(rows))


def _almost_all(rows: Sequence[Row]) -> float:
    """Where one answer in ten thousand of the slowest server is beyond."""
    found = 0.0
    for bins in _groups(rows, "server").values():
        left = 1.0
        for row in bins:
            left -= row["share"]
            if left < 1e-4:
                found = max(found, row["to_us"])
                break
    return found or max(row["to_us"] for row in rows)


def _histogram(panel: Any, server: str, bins: Sequence[Row], colours: Colours) -> None:
    """Bins that are missing are empty."""
    step = bins[0]["to_us"] / bins[0]["from_us"]
    edges, shares = [bins[0]["from_us"]], []
    for row in bins:
        while row["from_us"] > edges[-1] * math.sqrt(step):
            edges.append(edges[-1] * step)
            shares.append(0.0)
        edges.append(row["to_us"])
        shares.append(row["share"])
    style = _line_style(server, colours)
    panel.set_xscale("log")
    panel.stairs(shares, edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.6, label=server)
    panel.stairs(shares, edges, color=style["color"], fill=True, alpha=0.12)


def _draw_timeline(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    by_panel = _groups(rows, "event", "server")
    events, servers = ([name for name in of if any(name in key for key in by_panel)] for of in (EVENTS, SUBJECTS))
    figure.set_size_inches(WIDTH, 0.6 + 2.3 * len(events))
    panels = figure.subplots(len(events), len(servers), sharey="row", squeeze=False)
    for event, line in zip(events, panels, strict=True):
        for server, panel in zip(servers, line, strict=True):
            if found := by_panel.get((event, server)):
                _around(panel, event, server, found, colours)
            else:
                panel.axis("off")
                text = f"{server} has no network process"
                panel.text(0.5, 0.5, text, ha="center", color=colours["muted"], transform=panel.transAxes)
    for panel in panels[-1]:
        panel.set_xlabel("ms since it happened")


def _around(panel: Any, event: str, server: str, rows: Sequence[Row], colours: Colours) -> None:
    every_ms = rows[1]["after_ms"] - rows[0]["after_ms"]
    color = colours["kernel" if server == "usnet" else server]
    for run in _groups(rows, "round").values():
        typical = run[0]["typical"]
        edges = [*(row["after_ms"] for row in run), run[-1]["after_ms"] + every_ms]
        answers = [row["answers"] for row in run]
        if typical:
            panel.stairs(answers, edges, color=color, linewidth=1.5, zorder=3)
            panel.set_title(
                f"{server}: {EVENTS[event]}\nlost: {run[0]['connections_lost']} connections, "
                f"{run[0]['messages_lost']} messages; worst answer {run[0]['worst_ms']:,.0f} ms"
            )
        else:
            panel.stairs(answers, edges, color=color, linewidth=0.8, alpha=0.35)
    panel.axvline(0, color=colours["missed"], linewidth=1, linestyle="dotted")
    least, most = WINDOWS_MS[event]
    panel.set_xlim(least, min(most, rows[-1]["after_ms"] + every_ms))
    usual = statistics.median(row["answers"] for row in rows)
    panel.set_ylim(0, HIGHEST * max(usual, 1))
    panel.set_ylabel(f"answers in {every_ms:.0f} ms")


def _draw_bars(figure: Any, rows: Sequence[Row], colours: Colours) -> None:
    """From the top, in the order of the parts."""
    figure.set_size_inches(WIDTH, 1.2 + 0.36 * len(rows))
    panel, places = figure.subplots(), range(len(rows))
    for place, row in zip(places, rows, strict=True):
        outcome, hatch = ("reached", "") if row["is_reached"] else ("missed", "///")
        reach = min(row["reach"] or 0, FARTHEST)
        panel.barh(place, reach, height=0.6, color=colours[outcome], hatch=hatch)
        text = f" {outcome}: {report.number(_number(row['found']), 2)}, {row['sign']} {row['bar']:,g}"
        _beside(panel, max(reach, 1), place, text, colours)
    panel.axvline(1, color=colours["ink"], linewidth=1.2)
    panel.set_yticks(places, [f"{row['part']}: {row['server']}, {row['figure']}" for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, FARTHEST + 1.2)  # and what stands beside it
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("found over bar (bar over found where less is better): 1 is reached")


PICTURES = (
    Picture(
        "bars", "Bars",
        "What was to be reached, and whether it was.",
        ("stack", "tap", "tap-", "afxdp", "afxdp-", "flood"), reportrows.bars, _draw_bars,
    ),
    Picture(
        "connections", "Throughput and percentiles over connections",
        "An echo of 60 bytes in a closed loop: each connection sends when its answer has come. The server has one "
        "core, the load another. Medians of all rounds. Servers over TAP meet the load at an interface of their own.",
        ("connections-",), reportrows.over_connections, _draw_connections,
    ),
    Picture(
        "cost", "What a message costs at a fixed rate",
        "All servers get the same load, half of what the slowest reaches. Nobody spins. Each kernel receives on its "
        "own side's core.",
        ("afxdp-rps",), reportrows.cost_of_a_message, _draw_cost,
    ),
    Picture(
        "shards", "CPU time of a request over shards",
        "Flat is perfect: another shard does not make a request dearer. Where processes share cores, throughput says "
        "nothing, so it is not shown; costs do.",
        ("scale",), reportrows.over_shards, _draw_shards,
    ),
    Picture(
        "latency", "How long an answer takes, by backend",
        "At a rate that all servers carry easily. Bins are equally wide on the logarithmic scale. One answer in ten "
        "thousand may be beyond the right edge; the CSV has it.",
        ("latency",), reportrows.latencies, _draw_latency,
    ),
    Picture(
        "timeline", "Answers around a death and a reload",
        "A server with one worker, and the same messages at the same rate for both; faint lines are the other rounds. "
        "The peer is uvloop under a process manager at its best: it holds the socket, forks workers that have imported "
        "everything, and clients connect again at once. Its connections end with their worker all the same.",
        ("timeline",), reportrows.around_events, _draw_timeline,
    ),
)  # fmt: skip
