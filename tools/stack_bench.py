#!/usr/bin/env python3
"""What the stack itself costs, beside lwIP and beside its aims, in nanoseconds and in instructions, as one table.

    tools/stack_bench.py [--save FILE] STACK_BENCH   FILE: JSON, for usnet-bench report --add
    tools/stack_bench.py --flat STACK_BENCH          only whether a request costs a shard as much with others as without

STACK_BENCH (native/bench/stack) measures; valgrind's callgrind counts the instructions of the functions that it marks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

SERVERS = ("usnet", "lwip")
COUNTED = {  # of a part: the function, rounds, and messages in each, as in stack_bench.c
    "segment": ("measured_segment", 2000, 1),
    "echo": ("measured_turn", 2000, 1),
    "batch": ("measured_turn", 40, 128),
}
RUNS = 9  # of each part, in stack_bench.c
SHARDS = (1, 2, 4, 8)
SHARDS_ROUNDS = 4000  # in stack_bench.c
FLAT = 2.0  # per cent
DEVICES = ("memory", "netmap", "netmap-exchange")
PACKETS = (66, 1514)  # bytes
DEVICE_ROUNDS = 100 * 64  # batches, and packets in each, in devices.c
CONNECTIONS = [10**power for power in range(7)]
PARTS = ("segment", "echo", "batch", "bulk", "curve", "crowd")


class Line(NamedTuple):
    text: str
    what: str
    unit: str
    sign: str = ""  # of the aim: at least, at most
    aim: float = 0.0


LINES = (
    Line("data segment in, event out", "segment", "instructions", "<=", 400),
    Line("", "segment", "ns"),
    Line("echo of 60 bytes, server's half", "echo", "instructions", "<=", 1000),
    Line("", "echo", "ns"),
    Line("client and server", "echo round", "ns"),
    Line("echo, 128 connections at once", "batch", "instructions", "<=", 1600),
    Line("", "batch", "ns"),
    *(Line(f"echo, one of {count:,} connections", f"echo {count}", "ns") for count in CONNECTIONS),
    *(Line(f"echo, 128 of {count:,} at once", f"crowd {count}", "ns") for count in CONNECTIONS[3:6]),
    *(Line(f"memory of {count:,}, both ends", f"memory {count}", "MiB") for count in CONNECTIONS[-2:-1]),
    Line("memory of 1,000,000, both ends", "memory 1000000", "MiB", "<=", 1024),
    Line("opening 10,000, both ends", "open 10000", "/s"),
    Line("opening 1,000,000, both ends", "open 1000000", "/s", ">=", 300_000),
    *(Line(f"echo, one of {count} shards", f"shards {count}", "instructions") for count in SHARDS),
    Line("the most of these over the least", "shards", "% more", "<=", FLAT),
    Line("bulk, MTU 1500, client and server", "bulk in both", "Gbit/s", ">=", 10),
    Line("receiving side alone", "bulk in", "Gbit/s"),
    Line("sending side alone", "bulk out", "Gbit/s"),
    *(
        Line(f"device {device}, {size:,} bytes {way}", f"{device} {size} {way}", "instructions")
        for size in PACKETS
        for way in ("sent", "received")
        for device in DEVICES
    ),
)

NOTES = """\
Client and server are in one thread, on a wire in memory, without offloads; the client is ours in both columns, so
"client and server" under lwip is lwIP with our client. lwIP is Debian's liblwip, as it is built: a shared library at
-O2, with IPv6, locks, core-locking checks and malloc for all memory; no timestamps, no SACK, an initial window of 4
segments, windows of 64 KiB. It finds a connection in a list (few connections favour it, many do not: 10,000 is where
we stop), acknowledges every second segment whatever its size (we wait for two full ones or a timer), and its timers do
not run here, which spares it a walk through all connections four times a second."""

Figures = dict[tuple[str, str, str], float]


def measured(bench: str) -> Iterator[tuple[tuple[str, str, str], float]]:
    for part in PARTS:
        print(f"stack_bench {part} …", file=sys.stderr, flush=True)
        output = subprocess.run([bench, part], stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in output.splitlines():
            what, server, figure, unit = line.split("\t")
            yield (what, server, unit), float(figure)


def instructions(bench: str, server: str, function: str, *part: str) -> int:
    """That callgrind collected between entering and leaving the marked function."""
    command = ["valgrind", "--tool=callgrind", f"--toggle-collect={function}_{server}*"]
    command += ["--callgrind-out-file=/dev/null", bench, *part]
    environment = os.environ | {"STACK_BENCH_SERVER": server}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    assert collected, done.stderr
    return int(collected[1])


def counted(bench: str, servers: set[str]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Instructions of a message."""
    for part, (function, rounds, messages) in COUNTED.items():
        for server in sorted(servers):
            total = instructions(bench, server, function, part, str(rounds))
            yield (part, server, "instructions"), total / (rounds * messages * RUNS)


def counted_shards(bench: str) -> Figures:
    """Instructions of a request on one of so many shards, and how far they are apart."""
    requests = {
        count: instructions(bench, "usnet", "measured_shard", "shards", str(count)) / SHARDS_ROUNDS for count in SHARDS
    }
    apart = (max(requests.values()) / min(requests.values()) - 1) * 100
    figures = {(f"shards {count}", "usnet", "instructions"): each for count, each in requests.items()}
    return {**figures, ("shards", "usnet", "% more"): apart}


def counted_devices(bench: str) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Instructions of a packet, each way, without system calls."""
    for device in DEVICES:
        for size in PACKETS:
            for way, function in (("sent", "measured_send"), ("received", "measured_receive")):
                total = instructions(bench, "usnet", function, device, str(size))
                yield (f"{device} {size} {way}", "usnet", "instructions"), total / DEVICE_ROUNDS


def verdict(line: Line, figure: float | None) -> str:
    if not line.sign or figure is None:
        return ""
    return f"{line.sign} {line.aim:,.0f}: {'met' if is_met(line, figure) else 'missed'}"


def is_met(line: Line, figure: float) -> bool:
    return figure <= line.aim if line.sign == "<=" else figure >= line.aim


def row(line: Line, figures: Figures) -> list[str]:
    values = [figures.get((line.what, server, line.unit)) for server in SERVERS]
    digits = 1 if line.unit in ("Gbit/s", "% more") else 0
    cells = ["-" if value is None else f"{value:,.{digits}f}" for value in values]
    ours, theirs = values
    ratio = f"{ours / theirs:.2f}" if ours and theirs else "-"
    return [line.text, line.unit, *cells, ratio, verdict(line, ours)]


def table(figures: Figures, lines: Iterable[Line] = LINES) -> str:
    rows = [["one core, memory device", "", *SERVERS, "usnet / lwip", "aim of usnet"]]
    rows += [row(line, figures) for line in lines]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    text = []
    for cells in rows:
        left = [cells[0].ljust(widths[0]), cells[1].ljust(widths[1])]
        right = [cell.rjust(width) for cell, width in zip(cells[2:5], widths[2:5], strict=True)]
        text.append("  ".join([*left, *right, cells[5]]).rstrip())
    return "\n".join(text)


def part(figures: Figures, text: str) -> dict[str, object]:
    """Of a report: figures by name, and the aims as usnet-bench compare has them."""
    aims = [
        {"server": "usnet", "figure": f"{line.text or line.what}, {line.unit}", "found": found, "bar": line.aim,
         "sign": "at most" if line.sign == "<=" else "at least", "is_reached": is_met(line, found)}
        for line in LINES
        if line.sign and (found := figures.get((line.what, "usnet", line.unit))) is not None
    ]  # fmt: skip
    named = {".".join(name): figure for name, figure in figures.items()}
    return {"name": "stack", "command": "make bench-stack", "figures": named, "aims": aims, "text": text}


def flat(bench: str) -> int:
    figures = counted_shards(bench)
    lines = [line for line in LINES if (line.what, "usnet", line.unit) in figures]
    print(table(figures, lines))
    return 0 if figures["shards", "usnet", "% more"] <= FLAT else 1


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "--flat":
        return flat(arguments[1])
    saved = arguments[1] if len(arguments) == 3 and arguments[0] == "--save" else None
    if len(arguments) != (1 if saved is None else 3):
        print("usage: stack_bench.py [--flat | --save FILE] STACK_BENCH", file=sys.stderr)
        return 2
    *_, bench = arguments
    if shutil.which(bench) is None:
        print(f"stack_bench: {bench}: there is no such program; make bench-stack builds it", file=sys.stderr)
        return 2
    figures: Figures = dict(measured(bench))
    servers = {server for _, server, _ in figures}
    if shutil.which("valgrind"):
        figures.update(counted(bench, servers))
        figures.update(counted_shards(bench))
        figures.update(counted_devices(bench))
    else:
        print("stack_bench: valgrind is not installed: instructions are not counted", file=sys.stderr)
    if "lwip" not in servers:
        print("stack_bench: built without lwIP (liblwip-dev, -Dlwip=enabled): it is left out", file=sys.stderr)
    text = table(figures) + (f"\n\n{NOTES}" if "lwip" in servers else "")
    print(text)
    if saved is not None:
        Path(saved).write_text(json.dumps(part(figures, text)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
