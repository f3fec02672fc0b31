"""usnet-ctl: ask a running server over its control socket.

    usnet-ctl status     what runs, as a table
    usnet-ctl conns      the connections, two lines each, like `ss -ti`
    usnet-ctl doctor     what was asked for, what is in force, and how to get what is not; with --fix it puts back what
                         servers that were killed have left changed on this machine, and asks none
    usnet-ctl bind A     listen on address A too, as --bind has it, until the server is restarted
    usnet-ctl unbind A   listen there no more; connections that are open stay
    usnet-ctl upgrade    go on with the network processes of the version installed now, all connections open
    usnet-ctl reload     replace every worker by one that imported the application anew
    usnet-ctl rollback   go back to the code before the last reload, within --reload-probation
    usnet-ctl stop       drain and stop; with --wait it returns when the server is gone, or after --timeout seconds

`usnet-ctl --pkgconfigdir` asks no server: it prints where pkg-config finds the C library that came with the package.
Exit codes: 0 done, 2 wrong usage, 3 no server answered or it refused. `--json` prints what the server said.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from usnet_framework import inherited, logs, values
from usnet_framework.cli.output import show
from usnet_framework.config import ENVIRONMENT_PREFIX, default_control_path
from usnet_framework.errors import ControlError, UsageError, UsnetError
from usnet_framework.installed import pkgconfig_folder
from usnet_framework.shards import control, undo
from usnet_framework.values import endpoint_text, nearest

WAIT_S = 60.0
FLAGS = ("--control", "--json", "--wait", "--timeout", "--pkgconfigdir", "--version", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    try:
        inherited.reset()
        arguments = _parse(argv)
        result = _ask(arguments)
        seen = fixed_text if arguments.fix else COMMANDS[arguments.command][1]
        show(_text(arguments.command, result, logs.to_json if arguments.json else seen))
    except UsnetError as error:
        print(f"usnet-ctl: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """An option that is misspelt is refused before its value is taken for a command. UsageError."""
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        raise UsageError(f"{flag}: unknown {'option' if flag.startswith('-') else 'argument'}{nearest(flag, FLAGS)}")
    _check_command(arguments.command)
    return arguments


def _ask(arguments: argparse.Namespace) -> Any:
    """The server's answer."""
    command, address = arguments.command, _address(arguments)
    if arguments.fix:
        return _fix(command)
    if command != "stop" and (arguments.wait or arguments.timeout is not None):
        raise UsageError(f"{command}: --wait and --timeout are of stop")
    if arguments.timeout is not None and not arguments.wait:
        raise UsageError("--timeout: without --wait nothing is waited for")
    if arguments.wait:
        return control.stop_and_wait(arguments.control, WAIT_S if arguments.timeout is None else arguments.timeout)
    try:
        return control.request(arguments.control, command, **address)
    except ControlError:
        left = undo.leftovers() if command == "doctor" else []
        if not left:
            raise
        return [finding.as_dict() for finding in left]


def _fix(command: str) -> list[str]:
    """What was put back, a line each. ControlError: something could not be."""
    if command != "doctor":
        raise UsageError(f"{command}: --fix is of doctor")
    lines = undo.undo_leftovers()
    if undo.leftovers():
        raise ControlError(f"doctor --fix: {'; '.join(lines)}; run it as root, or look why the driver refuses")
    return lines


def _text(command: str, result: Any, form: Callable[[Any], str]) -> str:
    """What is seen of a result. ControlError: it is not what this version knows."""
    try:
        return form(result)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise ControlError(
            f"{command}: the server's answer is not what usnet {version('usnet_framework')} expects; "
            "use the usnet-ctl that it was installed with"
        ) from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(logs.lines(message), file)  # the default of --control may be no text


class _Help(argparse.Action):
    """--help: behind a command it is about that one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> NoReturn:
        command = getattr(namespace, "command", None)
        if command is not None:
            _check_command(command)
        (parser if command is None else _command_parser(command)).print_help()
        parser.exit()


class _PrintFolder(argparse.Action):
    """--pkgconfigdir: like --version, it prints and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(pkgconfig_folder())
        parser.exit()


def _address(arguments: argparse.Namespace) -> dict[str, str]:
    """What the command is about, if it is about an address. A path is one of this process, not of the server."""
    command, text = arguments.command, arguments.address
    if command not in control.ADDRESSED:
        if text is not None:
            raise UsageError(f"{command} {text}: {command} takes no address")
        return {}
    if text is None:
        raise UsageError(f"{command}: no address is given; expected tcp://HOST:PORT or unix:PATH")
    path = text.removeprefix("unix:")
    return {"address": f"unix:{os.path.abspath(path)}" if path not in (text, "") else text}


def _check_command(text: str) -> None:
    if text not in COMMANDS:
        raise UsageError(f"COMMAND: {text!r} is none of {', '.join(COMMANDS)}{nearest(text, COMMANDS)}")


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; give the path of the server's control socket")
    return text


def _parser() -> _Parser:
    parser = _Parser(
        prog="usnet-ctl",
        description="Ask a running server over its control socket.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<8} {text}" for name, (text, _) in COMMANDS.items()),
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("command", metavar="COMMAND")
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="of bind and unbind")
    _add_options(parser)
    _add_options_of_stop(parser)
    _add_options_of_doctor(parser)
    parser.add_argument(
        "--pkgconfigdir", nargs=0, action=_PrintFolder, help="print what PKG_CONFIG_PATH has to hold, and exit"
    )
    parser.add_argument("--version", action="version", version=f"usnet-ctl {version('usnet_framework')}")
    return parser


def _command_parser(command: str) -> _Parser:
    """For its help alone."""
    text = COMMANDS[command][0]
    parser = _Parser(prog=f"usnet-ctl {command}", description=f"{text[0].upper()}{text[1:]}.", add_help=False)
    if command in control.ADDRESSED:
        parser.add_argument("address", metavar="ADDRESS", help="tcp://HOST:PORT or unix:PATH")
    _add_options(parser)
    if command == "stop":
        _add_options_of_stop(parser)
    if command == "doctor":
        _add_options_of_doctor(parser)
    return parser


def _add_options_of_stop(parser: _Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="of stop: return when the server is gone")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help=f"of stop --wait: fail after so many ({WAIT_S:g})"
    )


def _add_options_of_doctor(parser: _Parser) -> None:
    what = "of doctor: put back what killed servers have changed on this machine"
    parser.add_argument("--fix", action="store_true", help=what)


def _seconds(text: str) -> float:
    try:
        return values.seconds(text)
    except ValueError as expected:
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected {expected}") from None


def _add_options(parser: _Parser) -> None:
    """Those of every command."""
    path = os.environ.get(ENVIRONMENT_PREFIX + "CONTROL") or default_control_path()
    whose = "the server's control socket (%(default)s)"
    parser.add_argument("--control", metavar="PATH", type=_path, default=path, help=whose)
    parser.add_argument("--json", action="store_true", help="print what the server said as JSON")
    parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this, or what a command does, and exit")


# What people see.


def status_text(status: dict[str, Any]) -> str:
    """A headline, what is listened on, what is not as it was asked for, and one row per process."""
    what = (f"up {duration(status['uptime'])}", f"usnet {status['version']}", status["backend"], status["layout"])
    head = f"{status['app']}: {', '.join((status['state'], *what))}"
    listening = [f"listening on {address}" for address in status["listeners"]]
    rows: list[tuple[str, ...]] = [("PROCESS", "PID", "STATE", "SERIAL", "RESTARTS", "VERSION")]
    rows.append(("supervisor", str(status["pid"]), "running", "", "", status["version"]))
    for shard in status["shards"]:
        rows += _shard_rows(shard)
    rows += [("zygote", str(pid), "running", "", "", "") for pid in status["zygotes"]]
    rows += [("spare", str(pid), "ready", "", "", "") for pid in status["spares"]]
    notes = [f"note: {warning}" for warning in status["warnings"]]
    return "\n".join([head, *listening, *notes, "", *_columns(rows)])


def _shard_rows(shard: dict[str, Any]) -> list[tuple[str, ...]]:
    number = shard["shard"]
    rows: list[tuple[str, ...]] = []
    if shard["network_pid"]:
        restarts = str(shard["network_restarts"])
        version = str(shard["network_version"])
        rows.append((f"network {number}", str(shard["network_pid"]), shard["state"], "", restarts, version))
        rows.append((f"keeper {number}", str(shard["keeper_pid"]), "running", "", str(shard["rebuilds"]), ""))
    for worker in shard["workers"]:
        name = f"worker {number}.{worker['seat']}"
        pid = str(worker["pid"] or "-")
        state = "out of service" if worker["out_of_service"] else worker["state"]
        if worker["hangs"] is not None:
            state = f"hangs {duration(worker['hangs'])}"
        rows.append((name, pid, state, str(worker["serial"]), str(worker["restarts"]), ""))
        if (leaving := worker["leaving"]) is not None:
            rows.append((name, str(leaving["pid"]), leaving["state"], str(leaving["serial"]), "", ""))
    return rows


def conns_text(connections: Iterable[dict[str, Any]]) -> str:
    """Two lines per connection: who speaks with whom, and how it is going."""
    now = time.monotonic_ns()
    lines = [f"{'STATE':<8} {'LOCAL':<28} {'PEER':<28} SEAT"]
    for conn in connections:
        local, peer = endpoint_text(conn["local"]), endpoint_text(conn["peer"])
        age, idle = _since(now, conn["opened_ns"]), _since(now, conn["active_ns"])
        flags = "".join(f" {flag}" for flag in conn["flags"])
        lines.append(f"{conn['state']:<8} {local:<28} {peer:<28} {conn['shard']}.{conn['seat']}")
        lines.append(
            f"         id:{conn['id']} in:{conn['bytes_in']} out:{conn['bytes_out']} queued:{conn['bytes_queued']} "
            f"age:{age} idle:{idle}{flags}"
        )
    return "\n".join(lines)


def doctor_text(findings: Iterable[dict[str, Any]]) -> str:
    """One line per finding, with the reason and the fix under those that are less than what was asked for."""
    lines = []
    for finding in findings:
        mark = "ok" if finding["ok"] else "LESS"
        lines.append(f"{mark:<5} {finding['what']}: asked {finding['asked']}, in force {finding['in_force']}")
        lines += [f"      {name}: {finding[name]}" for name in ("reason", "fix") if finding[name]]
    return "\n".join(lines)


def fixed_text(lines: Iterable[str]) -> str:
    return "\n".join(lines) or "nothing is left over"


def done_text(result: Any) -> str:
    return result if isinstance(result, str) else "done"


def duration(seconds: float) -> str:
    """Two units at most: 4.2s, 3m05s, 7h02m, 12d03h."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    return f"{hours}h{minute:02}m" if hours else f"{minutes}m{second:02}s"


def _since(now_ns: int, then_ns: int) -> str:
    return duration(max(0, now_ns - then_ns) / 1e9)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


COMMANDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "status": ("what runs, as a table", status_text),
    "conns": ("the connections, two lines each", conns_text),
    "doctor": ("what is in force, and why", doctor_text),
    "bind": ("listen on ADDRESS too, until the server is restarted", done_text),
    "unbind": ("listen on ADDRESS no more; open connections stay", done_text),
    "reload": ("replace every worker by one with the application's new code", done_text),
    "rollback": ("go back to the code before the last reload, while that has not proven itself", done_text),
    "upgrade": ("go on with the network processes that are installed now", done_text),
    "stop": ("drain and stop", done_text),
}
