"""`usnet-bench`: load on any echo server, and the measurements that the project's figures come from."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from usnet_framework import inherited, logs, values
from usnet_framework.bench import (
    aims,
    compare,
    flood,
    kill,
    latency,
    memory,
    modes,
    reload,
    report,
    reportrun,
    scale,
    scaleplaces,
    scrape,
    sharing,
    timeline,
)
from usnet_framework.bench.load import SHORT_BYTES, WAYS, Load, program
from usnet_framework.bench.machine import Cores, available_cores, plan_cores
from usnet_framework.bench.network import CHOICES
from usnet_framework.bench.scalepoints import BACKENDS, LAYOUTS, Choice, choose_sides
from usnet_framework.bench.servers import DEFAULT_NAMES, KINDS
from usnet_framework.cli.output import show
from usnet_framework.errors import UsageError, UsnetError
from usnet_framework.shards.topology import read_topology


class Result(Protocol):
    def to_json(self) -> dict[str, Any]: ...

    def to_text(self) -> str: ...


def main(argv: Sequence[str] | None = None) -> int:
    try:
        inherited.reset()
        _clean_up_on_signals()
        options = _parser().parse_args(argv)
        if options.save is not None:
            report.save(options.save, {})  # before anything is measured
        result: Result = options.run(options)
        if options.save is not None:
            report.save(options.save, result.to_json())
        show(report.as_json(result.to_json()) if options.json else result.to_text())
    except UsnetError as error:
        print(f"usnet-bench: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _clean_up_on_signals() -> None:
    """The first signal unwinds the stack: servers end, namespaces go. Those after it must not interrupt that."""

    def unwind(number: int, frame: object) -> NoReturn:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, unwind)


# Each command: what it runs, and its options.


def _echo(options: argparse.Namespace) -> NoReturn:
    """The load generator takes our place, with its own options, output and exit code."""
    path = program("usnet-load")
    os.execv(path, ["usnet-load", "--target", options.target.removeprefix("tcp://"), *options.options])


def _compare(options: argparse.Namespace) -> Result:
    names = options.servers.split(",")
    wanted = [aims.parse(text) for text in options.aim]
    if options.fixed and (options.rate is not None or options.connect):
        raise UsageError("--fixed: chooses its rate, from what messages reach as answers come; no --rate, no --connect")
    setting = compare.Setting(options.network, _cores(options), options.rps, options.segmentation)
    return compare.compare(names, options.base, _load(options), options.rounds, setting, wanted, options.fixed)


def _kill(options: argparse.Namespace) -> Result:
    return kill.run(options.process, options.kills, options.pause)


def _sharing(options: argparse.Namespace) -> Result:
    return sharing.run(options.requests)


def _memory(options: argparse.Namespace) -> Result:
    return memory.run(options.connections, options.shards)


def _scrape(options: argparse.Namespace) -> Result:
    return scrape.run(options.layout, _load(options), options.rounds, _cores(options))


def _flood(options: argparse.Namespace) -> Result:
    return flood.run(options.server, _load(options), options.rounds, options.syns, _cores(options))


def _reload(options: argparse.Namespace) -> Result:
    return reload.run(options.backend, _load(options), options.rounds, options.longest, options.network)


def _on_a_timetable(options: argparse.Namespace) -> Load:
    if options.connect or options.verify:
        raise UsageError("messages leave on a timetable here and are not checked: no --connect, no --verify")
    return _load(options)


def _latency(options: argparse.Namespace) -> Result:
    setting = compare.Setting(options.network, _cores(options), options.rps)
    return latency.run(options.servers.split(","), _on_a_timetable(options), options.rounds, setting)


def _timeline(options: argparse.Namespace) -> Result:
    load = _on_a_timetable(options)
    return timeline.run(options.events, options.servers, load, options.every, options.rounds, options.network)


def _modes(options: argparse.Namespace) -> Result:
    return modes.run(options.servers.split(","), options.network, _cores(options))


def _report(options: argparse.Namespace) -> Result:
    if options.made is not None:
        return reportrun.again(options.made, options.output)
    return reportrun.run(options.output, options.quick, options.add)


def _scale(options: argparse.Namespace) -> Result:
    files = scale.Files(options.csv, options.plot)
    files.check()
    dimensions = ("queues", "backends", "layouts", "workers", "sizes", "connections")
    choice = Choice(*(getattr(options, dimension) for dimension in dimensions))
    load = Load(1, 1, options.duration, options.warmup, options.pipeline, options.rate)
    sides = choose_sides(read_topology().cores, options.server_cores, options.load_cores)
    found = scale.run(choice, scale.Setup(sides, load, options.rounds, options.poll, options.network))
    files.write(found)
    return found


def _load(options: argparse.Namespace) -> Load:
    if options.way != "echo" and (options.size < SHORT_BYTES or options.verify):
        raise UsageError(f"--way {options.way}: messages have {SHORT_BYTES} bytes at least, and cannot be verified")
    return Load(
        connections=options.connections,
        size=options.size,
        duration_s=options.duration,
        warmup_s=options.warmup,
        pipeline=options.pipeline,
        rate=None if options.connect else options.rate,
        verify=options.verify,
        connect=options.connect,
        way=options.way,
    )


def _cores(options: argparse.Namespace) -> Cores:
    planned = plan_cores(available_cores())
    server = planned.server if options.server_core is None else options.server_core
    load = planned.load if options.load_core is None else options.load_core
    others = sorted(available_cores() - {server, load})
    missing = {server, load} - available_cores()
    if missing:
        raise UsageError(f"core {missing.pop()} may not be used here; available: {sorted(available_cores())}")
    return Cores(server=server, extra=others[0] if others else load, load=load)


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _wholes(text: str) -> tuple[int, ...]:
    return tuple(map(_whole, text.split(",")))


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError
    return value


_OF_COMPARE = "which, of those of usnet-bench compare (%(default)s)"


class _Parser(argparse.ArgumentParser):
    """Of the commands as well."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="usnet-bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    echo = _command(
        commands, "echo", _echo, "load on an echo server: HOST:PORT or unix:PATH, then options of usnet-load"
    )
    echo.set_defaults(save=None)
    echo.add_argument("target", metavar="ADDRESS")
    echo.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTION", help="see usnet-bench echo ADDRESS --help")

    table = _comparison(commands)
    kills = _command(commands, "kill", _kill, "first reply after SIGKILL of the only worker or network process")
    kills.add_argument("--process", choices=tuple(kill.PROCESSES), default="worker", help="which (%(default)s)")
    kills.add_argument("--kills", type=_whole, default=50, metavar="N", help="how many (%(default)s)")
    kills.add_argument("--pause", type=_seconds, default=1.0, metavar="S", help="seconds between kills (%(default)s)")

    idle = _command(commands, "memory", _memory, "bytes per idle connection")
    idle.add_argument("--connections", type=_whole, default=100_000, metavar="N", help="how many (%(default)s)")
    idle.add_argument("--shards", type=_whole, metavar="N", help=f"over how many (one per {memory.PER_SHARD})")

    shared = _command(commands, "sharing", _sharing, "unique memory of a worker, forked and spawned")
    shared.add_argument("--requests", type=_whole, default=10_000, metavar="N", help="that it answers (%(default)s)")

    looked_at = _command(commands, "scrape", _scrape, "throughput with and without a scrape of /metrics every 100 ms")
    looked_at.add_argument("--layout", choices=("split", "inline"), default="split", help="(%(default)s)")
    looked_at.set_defaults(way=WAYS[0])
    _load_options(looked_at)
    _core_options(looked_at)

    renewed = _command(commands, "reload", _reload, "what clients notice of reloads")
    renewed.add_argument("--backend", choices=("kernel", "tap"), default="kernel", help="(%(default)s)")
    renewed.add_argument("--longest", type=_seconds, default=2.0, metavar="S", help="of a callback (%(default)s)")
    renewed.add_argument("--network", choices=CHOICES, default="auto", help="where they meet (%(default)s)")
    _load_options(renewed, rate=2000.0)
    renewed.set_defaults(way=WAYS[0], duration=5.0, rounds=5, verify=True)

    scaled = _command(commands, "scale", _scale, "what a request costs, and what is carried, with more and more queues")
    _scale_options(scaled)

    flooded = _command(commands, "flood", _flood, "what clients notice of SYNs from spoofed addresses, as root")
    which = f"of {', '.join(flood.SERVERS)} (%(default)s)"
    flooded.add_argument("--server", default="usnet-afxdp-inline", metavar="NAME", help=which)
    flooded.add_argument("--syns", type=_whole, default=100_000, metavar="R", help="per second (%(default)s)")
    _load_options(flooded)
    _core_options(flooded)
    flooded.set_defaults(way=WAYS[0], connections=100, duration=10.0, rounds=3)

    measured = (table, kills, idle, shared, looked_at, renewed, scaled, flooded, *_for_the_report(commands))
    for each in measured:
        each.add_argument("--json", action="store_true", help="print one JSON object")
        each.add_argument("--save", metavar="FILE", help="write that object there, whatever is printed")
    return parser


def _for_the_report(commands: Any) -> list[Any]:
    """What it shows and no other command measures, and the report itself."""
    spread = _command(commands, "latency", _latency, "how long answers take at a fixed rate, by bucket")
    usual = "usnet-inline,usnet-split,uvloop,epoll-c"
    spread.add_argument("--servers", default=usual, metavar="LIST", help=_OF_COMPARE)
    spread.add_argument("--network", choices=CHOICES, default="auto", help="where they meet (%(default)s)")
    spread.add_argument("--rps", action="store_true", help="each kernel receives on the core of its side's process")
    _load_options(spread, rate=20_000.0)
    _core_options(spread)
    spread.set_defaults(way=WAYS[0], connections=32, rounds=3)

    around = _command(commands, "timeline", _timeline, "answers by time around deaths and a reload, beside a peer")
    for name, known in (("events", tuple(timeline.EVENTS)), ("servers", tuple(timeline.SUBJECTS))):
        shown = f"({','.join(known)})"
        around.add_argument(f"--{name}", type=_some_of(known), default=known, metavar="LIST", help=shown)
    around.add_argument("--every", type=_whole, default=10, metavar="MS", help="of a stretch (%(default)s)")
    around.add_argument("--network", choices=CHOICES, default="auto", help="where they meet (%(default)s)")
    _load_options(around, rate=10_000.0)
    around.set_defaults(way=WAYS[0], connections=32, duration=3.0, rounds=3, pipeline=64)

    facts = _command(commands, "modes", _modes, "what figures are to be read with: the machine, and what is in force")
    facts.add_argument("--servers", default=",".join(modes.DEFAULT_NAMES), metavar="LIST", help=_OF_COMPARE)
    facts.add_argument("--network", choices=CHOICES, default="auto", help="where they are (%(default)s)")
    _core_options(facts)

    whole = _command(commands, "report", _report, "all of this in one page, with figures; as root: half an hour")
    whole.add_argument("--quick", action="store_true", help="in two minutes, to look at it; not for figures")
    whole.add_argument("--output", default="usnet-report", metavar="FOLDER", help="(%(default)s)")
    whole.add_argument("--add", action="append", default=[], metavar="FILE", help="JSON of a part measured elsewhere")
    whole.add_argument("--from", dest="made", metavar="FILE", help="measure nothing: write it anew from a report.json")
    return [spread, around, facts, whole]


def _comparison(commands: Any) -> Any:
    table = _command(commands, "compare", _compare, "servers side by side, in turn, under the same load")
    others = ", ".join(name for name in KINDS if name not in DEFAULT_NAMES)
    which = "which (%(default)s); there are also, with a stack of their own, as root: " + others
    table.add_argument("--servers", default=",".join(DEFAULT_NAMES), metavar="LIST", help=which)
    table.epilog = (
        "A server over TAP has its own stack at one end of the interface, and the load sits at the kernel's end. A "
        "server on kernel sockets cannot be measured there: the others meet the load over --network, in turn with it. "
        "Over AF_XDP they are on the same veth pair."
    )
    table.add_argument("--base", default=compare.DEFAULT_BASE, metavar="NAME", help="ratios to this one (%(default)s)")
    table.add_argument("--network", choices=CHOICES, default="auto", help="where they meet (%(default)s)")
    table.add_argument("--rps", action="store_true", help="each kernel receives on the core of its side's process")
    figures = (
        f"a bar to say below the table whether it was reached; figures: {', '.join(aims.FIGURES)}; "
        "ratio/NAME is to that server instead of --base"
    )
    table.add_argument("--aim", action="append", default=[], metavar="SERVER:FIGURE:BAR", help=figures)
    costs = "then at half the rate that the slowest reached: what a message takes, in processor time and wakes"
    table.add_argument("--fixed", action="store_true", help=costs)
    cutting = "the kernels cut what TCP sends, not the interfaces"
    table.add_argument("--no-segmentation", dest="segmentation", action="store_false", help=cutting)
    whither = "messages go up to servers that answer little, or answers come down for little (%(default)s)"
    table.add_argument("--way", choices=WAYS, default=WAYS[0], help=whither)
    _load_options(table)
    _core_options(table)
    return table


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], Result], help: str) -> Any:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def _load_options(parser: argparse.ArgumentParser, rate: float | None = None) -> None:
    add = parser.add_argument
    usually = "as answers come" if rate is None else f"{rate:g}, without --connect"
    add("--connections", type=_whole, default=128, metavar="N", help="(%(default)s)")
    add("--size", type=_whole, default=60, metavar="BYTES", help="of a message (%(default)s)")
    add("--pipeline", type=_whole, default=1, metavar="K", help="unanswered messages per connection (%(default)s)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=_seconds, default=rate, metavar="R", help=f"messages per second ({usually})")
    pace.add_argument("--connect", action="store_true", help="a new connection for each message")
    add("--duration", type=_seconds, default=2.0, metavar="S", help="seconds of each run (%(default)s)")
    add("--warmup", type=_seconds, default=0.5, metavar="S", help="seconds before, not measured (%(default)s)")
    add("--rounds", type=_whole, default=7, metavar="N", help="(%(default)s)")
    add("--verify", action="store_true", help="number and checksum messages, fail when anything is wrong")


def _scale_options(parser: argparse.ArgumentParser) -> None:
    add, usual = parser.add_argument, Choice()
    for name, known in (("backends", BACKENDS), ("layouts", LAYOUTS)):
        add(f"--{name}", type=_some_of(known), default=known, metavar="LIST", help=f"({','.join(known)})")
    for name, of in (
        ("queues", "a network process each"),
        ("workers", "of each queue, in the split layout"),
        ("sizes", "bytes of a message"),
        ("connections", "of all generators together"),
    ):
        default = getattr(usual, name)
        shown = f"{of} ({','.join(map(str, default))})"
        add(f"--{name}", type=_wholes, default=default, metavar="LIST", help=shown)
    add("--pipeline", type=_whole, default=1, metavar="K", help="unanswered messages per connection (%(default)s)")
    add("--rate", type=_seconds, metavar="R", help="messages per second of every point (as answers come)")
    add("--duration", type=_seconds, default=1.0, metavar="S", help="seconds of each run (%(default)s)")
    add("--warmup", type=_seconds, default=0.5, metavar="S", help="seconds before, not measured (%(default)s)")
    add("--rounds", type=_whole, default=3, metavar="N", help="turns of each point (%(default)s)")
    asleep = "as usnet-serve has it; who spins spends time on nothing (%(default)s)"
    add("--poll", choices=("sleep", "adaptive", "busy"), default="sleep", help=asleep)
    add("--network", choices=scaleplaces.CHOICES, default="veth", help="loopback: kernel sockets only (%(default)s)")
    add("--server-cores", type=values.cores, metavar="LIST", help="(half of the machine)")
    add("--load-cores", type=values.cores, metavar="LIST", help="(the other half)")
    add("--csv", metavar="FILE", help="write a line for each point there")
    add("--plot", metavar="FILE", help="draw it: FILE.png, .svg or .pdf; needs usnet_framework[bench]")


def _core_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server-core", type=int, metavar="N", help="(the lowest)")
    parser.add_argument("--load-core", type=int, metavar="N", help="(the highest)")


if __name__ == "__main__":
    sys.exit(main())
