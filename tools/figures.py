#!/usr/bin/env python3
"""The tables of figures in README.md, made of docs/figures.json.

    tools/figures.py take REPORT.JSON      keep what the tables need of a report of usnet-bench; then `make docs`

docs/figures.json has the parts of reports that the tables need: of each its command, the machine, and its figures by
name. Taking replaces the parts of which the report has all that is needed, and says which it leaves as they were. A
table is known by its header line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures.json"
ABSENT = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"

Parts = dict[str, Any]


class Figures:
    """Of all parts. `needed`: what was asked for, and whether there has to be a figure."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts
        self.needed: dict[tuple[str, str], bool] = {}

    def __call__(self, part: str, name: str) -> float:
        self.needed[part, name] = True
        value: float = self._parts[part]["figures"][name]
        return value

    def text(self, part: str, name: str, form: str) -> str:
        """A dash where there is no such figure, as of a server that cannot do it."""
        self.needed[part, name] = False
        value = self._parts[part]["figures"].get(name)
        return ABSENT if value is None else format(value, form)

    def command(self, part: str) -> str:
        return f"`{self._parts[part]['command']}`"


Table = Callable[[Figures], Iterator[str]]


def _servers(of: Figures) -> Iterator[str]:
    yield f"| server | messages/s | {TIMES} uvloop | p50 | p99 |"
    yield "| --- | --- | --- | --- | --- |"
    for server, name in (
        ("epoll-c", "C, epoll"),
        ("usnet-inline", "usnet, inline"),
        ("usnet-split", "usnet, split on one core"),
        ("usnet-split-2", "usnet, split on two cores, one shared with the load"),
        ("uvloop", "uvloop"),
        ("asyncio", "asyncio"),
    ):
        carried, base = of("servers", f"{server}.throughput"), of("servers", "uvloop.throughput")
        times = (of("servers", f"{server}.{percent}_us") / 1e3 for percent in ("p50", "p99"))
        yield f"| {name} | {carried:,.0f} | {carried / base:.2f} | {' | '.join(f'{each:.2f} ms' for each in times)} |"


TAP = ("usnet-tap-inline", "usnet-tap-split")


def _over_tap(of: Figures) -> Iterator[str]:
    yield "| load | options | C, epoll | usnet over TAP, inline | usnet over TAP, split |"
    yield "| --- | --- | --- | --- | --- |"
    bulk = "--connections 4 --size 1048576"
    for part, load, options, figure, unit, form in (
        ("tap", "echo of 60 bytes, 128 connections, messages/s", "", "throughput", "", ",.0f"),
        ("tap-1", "the same, 1 connection, p50", "--connections 1", "p50_us", " µs", ".1f"),
        ("tap-connect", "connect, one echo, close, per second", "--connect", "throughput", "", ",.0f"),
        ("tap-up", "1 MiB to the server, 4 connections, Gbit/s", f"--way up {bulk}", "gbit", "", ".1f"),
        ("tap-down", "1 MiB from the server, 4 connections, Gbit/s", f"--way down {bulk}", "gbit", "", ".1f"),
        ("tap-both", "echo of 1 MiB, 4 connections, Gbit/s each way at once", bulk, "gbit", "", ".1f"),
    ):
        base = of(part, f"epoll-c.{figure}")
        ours = [of(part, f"{server}.{figure}") for server in TAP]
        ratios = [f" ({each / base:.2f} {TIMES})" if figure != "gbit" else "" for each in ours]
        cells = [f"{each:{form}}{unit}{ratio}" for each, ratio in zip(ours, ratios, strict=True)]
        shown = f" `{options}` " if options else " "
        yield f"| {load} |{shown}| {base:{form}}{unit} | {' | '.join(cells)} |"


def _ceiling(of: Figures) -> Iterator[str]:
    yield "| C, epoll | usnet over TAP, inline | usnet over TAP, split | lwIP, C | mirror, C |"
    yield "| --- | --- | --- | --- | --- |"
    base = of("tap-ceiling", "epoll-c.throughput")
    others = [of("tap-ceiling", f"{server}.throughput") for server in (*TAP, "lwip-tap", "mirror-tap")]
    yield f"| {base:,.0f} | {' | '.join(f'{each:,.0f} ({each / base:.2f} {TIMES})' for each in others)} |"


AFXDP = ("usnet-afxdp-inline", "usnet-afxdp-split")


def _over_afxdp(of: Figures) -> Iterator[str]:
    yield "| load | options | C, epoll | mirror, C | usnet over AF_XDP, inline | usnet over AF_XDP, split |"
    yield "| --- | --- | --- | --- | --- | --- |"
    bulk, both = "--connections 4 --size 1048576", ("mirror-afxdp", *AFXDP)
    carried, fixed, bits = ("throughput", "", ",.0f"), ("server_us", " µs", ".1f"), ("gbit", "", ".2f")
    rates = {part: f"{of(part, 'fixed_rate'):,.0f} messages/s" for part in ("afxdp", "afxdp-rps")}
    for part, load, options, servers, (figure, unit, form) in (
        ("afxdp", "echo of 60 bytes, 128 connections, messages/s", "", both, carried),
        ("afxdp-rps", "the same, each kernel receiving on the core of its own side", "--rps", both, carried),
        ("afxdp-1", "the same, 1 connection, p50", "--connections 1", AFXDP, ("p50_us", " µs", ".1f")),
        ("afxdp", f"a message at {rates['afxdp']}: time of the server's core", "--fixed", both, fixed),
        ("afxdp-rps", f"the same at {rates['afxdp-rps']}", "--fixed --rps", both, fixed),
        ("afxdp-connect", "connect, one echo, close, per second", "--connect", AFXDP, carried),
        ("afxdp-up", "1 MiB to the server, 4 connections, Gbit/s", f"{UNCUT} up {bulk}", AFXDP, bits),
        ("afxdp-down", "1 MiB from the server, 4 connections, Gbit/s", f"{UNCUT} down {bulk}", AFXDP, bits),
    ):
        base = of(part, f"epoll-c.{figure}")
        ours = [of(part, f"{server}.{figure}") for server in servers]
        cells = [f" {each:{form}}{unit} ({each / base:.2f} {TIMES}) " for each in ours]
        cells = cells if servers == both else [" ", *cells]
        shown = f" `{options}` " if options else " "
        yield f"| {load} |{shown}| {base:{form}}{unit} |{'|'.join(cells)}|"


UNCUT = "--no-segmentation --way"


def _stack(of: Figures) -> Iterator[str]:
    yield "| what | usnet | lwIP |"
    yield "| --- | --- | --- |"

    def cells(*figures: tuple[str, str]) -> str:
        names = ([f"{what}.{server}.{unit}" for what, unit in figures] for server in ("usnet", "lwip"))
        return " | ".join(", ".join(of.text("stack", name, ",.0f") for name in each) for each in names)

    costs = {name: cells((name, "instructions"), (name, "ns")) for name in ("segment", "echo")}
    yield f"| a data segment in, its event out: instructions, ns | {costs['segment']} |"
    yield f"| an echo of 60 bytes, the server's half: instructions, ns | {costs['echo']} |"
    most = max(of("stack", f"shards {count}.usnet.instructions") for count in (1, 2, 4, 8))
    yield f"| the same on each of 1, 2, 4 or 8 shards of a server: instructions | {most:,.0f} | |"
    yield f"| the same, one of 10,000 connections, ns | {cells(('echo 10000', 'ns'))} |"
    yield f"| the same, one of 1,000,000 connections, ns | {cells(('echo 1000000', 'ns'))} |"
    yield f"| 1,000,000 connections, both ends, MiB | {cells(('memory 1000000', 'MiB'))} |"
    yield f"| opening them, both ends on one core, per second | {cells(('open 1000000', '/s'))} |"
    bulk = (of.text("stack", f"bulk in both.{server}.Gbit/s", ".1f") for server in ("usnet", "lwip"))
    yield f"| bulk, both ends on one core, checksums verified, Gbit/s | {' | '.join(bulk)} |"


def _others(of: Figures) -> Iterator[str]:
    yield "| what | figure | command |"
    yield "| --- | --- | --- |"
    for what, figure, command in _lines(of):
        yield f"| {what} | {figure} | {command} |"


def _lines(of: Figures) -> Iterator[tuple[str, str, str]]:
    yield (
        f"first reply after SIGKILL of the only worker, {of('kill', 'kills'):.0f} kills, ten a second",
        _median_and_p99(of, "kill"),
        of.command("kill"),
    )
    yield (
        f"the same of a network process, {of('kill-network', 'kills'):.0f} kills",
        _median_and_p99(of, "kill-network"),
        of.command("kill-network"),
    )
    yield (
        f"{of('reload-long', 'reloads'):.0f} reloads beside clients that read 9 MB slowly, callbacks that wait for up "
        f"to {of('reload-long', 'longest_s'):g} s, and threads that wake up a thousand times a second: latency of "
        "2,000 messages/s without reloads and with them",
        f"{_quiet_and_reloading(of, 'reload-long')}; never not ready, nothing lost",
        of.command("reload-long"),
    )
    yield (
        f"the same over TAP, {of('reload-tap', 'reloads'):.0f} reloads",
        _quiet_and_reloading(of, "reload-tap"),
        of.command("reload-tap"),
    )
    yield (
        f"twenty poisonous messages a second for 15 s from one peer, {of('poison', 'deaths'):.0f} deaths of the only "
        "worker: an innocent connection",
        f"p50 {of('poison', 'p50_ms'):.1f} ms, p99 {of('poison', 'p99_ms'):.1f} ms",
        of.command("poison"),
    )
    yield (
        "unique memory of one more worker after 10,000 requests, its application imports 50 MiB: spawned, forked",
        ", ".join(f"{of('sharing', f'{way}_mib'):.1f} MiB" for way in ("spawned", "forked")),
        of.command("sharing"),
    )
    yield (
        "memory of worker and of network process while 1 GiB goes to a slow reader, or while a handler never reads",
        f"{of('backpressure', 'mib'):.0f} MiB each",
        of.command("backpressure"),
    )
    total, *parts = (of("memory", f"{part}_bytes") for part in ("all", "segments", "network", "worker"))
    yield (
        f"an idle connection, of 100,000 in {of('memory', 'shards'):.0f} shards",
        "{:.0f} bytes: segment {:.0f}, network process {:.0f}, worker {:.0f}".format(total, *parts),
        f"{of.command('memory')}, as root",
    )
    yield (
        "an event through dispatcher, Python `Echo` and commit",
        f"{of('dispatch', 'ns'):.0f} ns",
        of.command("dispatch"),
    )
    yield (
        "hand-over of a descriptor between two cores, batches of 32",
        f"{of('ring', 'ns'):.1f} ns",
        f"{of.command('ring')} (its last line)",
    )


def _median_and_p99(of: Figures, part: str) -> str:
    return f"median {of(part, 'median_ms'):.1f} ms, p99 {of(part, 'p99_ms'):.1f} ms"


def _quiet_and_reloading(of: Figures, part: str) -> str:
    p999 = " and ".join(f"{of(part, f'{name}.p999_ms'):.1f}" for name in ("quiet", "reloading"))
    most = " and ".join(f"{of(part, f'{name}.max_ms'):.0f}" for name in ("quiet", "reloading"))
    return f"p99.9 {p999} ms, max {most} ms"


TABLES: tuple[Table, ...] = (_servers, _over_tap, _ceiling, _over_afxdp, _stack, _others)


def read(path: Path = FIGURES) -> Parts:
    found: Parts = json.loads(path.read_text())
    return found


def tables(parts: Parts) -> list[str]:
    of = Figures(parts)
    return ["\n".join(table(of)) for table in TABLES]


def put(text: str, table: str) -> str:
    """The text with this table in place of the one that has the same header. ValueError: there is none."""
    header = table.partition("\n")[0]
    changed, count = re.subn(rf"^{re.escape(header)}\n(?:\|.*\n)+", lambda _: f"{table}\n", text, flags=re.M)
    if count != 1:
        raise ValueError(f"{count} tables begin with {header}")
    return changed


ALIASES = {"tap-ceiling": "tap"}
"""Tables that show another choice of servers of the same part."""


def take(parts: Parts, report: Mapping[str, Any]) -> Parts:
    """The parts, with what the tables need of the report in place of what was there."""
    of = Figures(parts)
    for table in TABLES:
        list(table(of))
    kernel = ".".join(report["machine"]["kernel"].split(".")[:2])
    machine = "{processor}, {cores} cores, Linux {0}, Python {python}".format(kernel, **report["machine"])
    taken = dict(parts)
    for name in parts:
        part = ALIASES.get(name, name)
        wanted = {figure: must_be for (asked, figure), must_be in sorted(of.needed.items()) if asked == name}
        found = {figure: report["figures"].get(f"{part}.{figure}") for figure in wanted}
        missing = [figure for figure, must_be in wanted.items() if must_be and found[figure] is None]
        if missing or part not in report["parts"]:
            print(f"{name}: left as it was: no {', '.join(missing) or 'such part'}", file=sys.stderr)
            continue
        kept = {figure: round(value, 3) for figure, value in found.items() if value is not None}
        command = report["parts"][part]["command"]
        taken[name] = {"command": command, "machine": machine, "made": report["made"], "figures": kept}
    return taken


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] != "take":
        print("usage: figures.py take REPORT.JSON", file=sys.stderr)
        return 2
    report = json.loads(Path(arguments[1]).read_text())
    if report["quick"]:
        print(f"{arguments[1]}: made by --quick: its runs are too short for figures", file=sys.stderr)
        return 2
    FIGURES.write_text(json.dumps(take(read(), report), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
