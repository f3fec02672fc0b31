"""usnet-ctl: ask a running server over its control socket.

    usnet-ctl status     what runs, as a table
    usnet-ctl conns      the connections, two lines each, like `ss -ti`; a filter chooses (conns 'dport > 1024'), and -v
                         shows round trips, windows, queues and congestion control
    usnet-ctl stack      the counters of our stack, and how much they have grown since the last call, like nstat
    usnet-ctl neigh      what the stack of each shard believes: the stations on its link,
    usnet-ctl routes     the ways to others,
    usnet-ctl addr       and its addresses
    usnet-ctl capture    its packets as pcapng, with their connections, and why some were dropped
    usnet-ctl doctor     what was asked for, what is in force, and how to get what is not; with --fix it puts back what
                         servers that were killed have left changed on this machine, and asks none
    usnet-ctl bind A     listen on address A too, as --bind has it, until the server is restarted
    usnet-ctl unbind A   listen there no more; connections that are open stay
    usnet-ctl upgrade    go on with the network processes of the version installed now, all connections open
    usnet-ctl reload     replace every worker by one that imported the application anew
    usnet-ctl rollback   go back to the code before the last reload, within --reload-probation
    usnet-ctl stop       drain and stop; with --wait it returns when the server is gone, or after --timeout seconds

What only looks does so again and again with --watch, until Ctrl-C or the end of the server. `usnet-ctl --pkgconfigdir`
asks no server: it prints where pkg-config finds the C library that came with the package.
Exit codes: 0 done, 2 wrong usage, 3 no server answered or it refused. `--json` prints what the server said.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from usnet_framework import inherited, logs, values
from usnet_framework.cli import watch
from usnet_framework.cli.capture import CAPTURE
from usnet_framework.cli.conns import CONNS
from usnet_framework.cli.output import show
from usnet_framework.cli.stack import STACK
from usnet_framework.cli.status import DOCTOR, STATUS
from usnet_framework.cli.subcommand import Run, Subcommand, asking, shown
from usnet_framework.cli.tables import ADDR, NEIGH, ROUTES
from usnet_framework.config import ENVIRONMENT_PREFIX, default_control_path
from usnet_framework.errors import UsageError, UsnetError
from usnet_framework.installed import VERSION, pkgconfig_folder
from usnet_framework.shards import control
from usnet_framework.values import nearest

WAIT_S = 60.0
INTERRUPTED = 130  # as a shell says of a command that SIGINT has ended
FLAGS = ("--control", "--json", "--pkgconfigdir", "--version", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    try:
        inherited.reset()
        command, arguments = _parse(sys.argv[1:] if argv is None else argv)
        if arguments.watch is not None:
            return watch.watch(command.run, arguments)
        for text in command.run(arguments):
            if not show(text, end=""):
                break
    except UsnetError as error:
        print(f"usnet-ctl: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parse(argv: Sequence[str]) -> tuple[Subcommand, argparse.Namespace]:
    """What stands in front of the command is for all of them; what stands behind it is the command's. An option that is
    misspelt is refused before its value is taken for a command. UsageError."""
    first, unknown = _parser().parse_known_args(argv)
    if unknown:
        raise UsageError(_unknown(unknown[0], FLAGS, "stands behind the command that it is of"))
    command = _command(first.command)
    parser = _command_parser(first.command)
    arguments, unknown = parser.parse_known_intermixed_args(_spelt_out(first.rest), first)
    if unknown:
        flags = [*FLAGS, *parser._option_string_actions]
        raise UsageError(_unknown(unknown[0], flags, f"is no option of {first.command}"))
    return command, arguments


def _unknown(word: str, flags: Sequence[str], misplaced: str) -> str:
    flag = word.split("=")[0]
    if not flag.startswith("-"):
        return f"{flag}: unknown argument"
    owners = [name for name in COMMANDS if flag in _command_parser(name)._option_string_actions]
    if owners:
        return f"{flag}: {misplaced}; it is of {', '.join(owners)}"
    return f"{flag}: unknown option{nearest(flag, flags)}"


def _spelt_out(words: Sequence[str]) -> Iterator[str]:
    """--watch takes what is behind it only if that is a number: mostly it is a filter."""
    for word, behind in zip(words, [*words, ""][1:], strict=True):
        alone = word == "--watch" and not behind[:1].isdigit()
        yield f"--watch={watch.EVERY_S:g}" if alone else word


def _command(name: str | None) -> Subcommand:
    if name is None:
        raise UsageError(f"COMMAND: none is given; give one of {', '.join(COMMANDS)}")
    if name not in COMMANDS:
        raise UsageError(f"COMMAND: {name!r} is none of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    return COMMANDS[name]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(logs.lines(message), file)  # the default of --control may be no text


class _PrintFolder(argparse.Action):
    """--pkgconfigdir: like --version, it prints and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(pkgconfig_folder())
        parser.exit()


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; give the path of the server's control socket")
    return text


def _parser() -> _Parser:
    parser = _Parser(
        prog="usnet-ctl",
        description="Ask a running server over its control socket.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<8} {command.help}" for name, command in COMMANDS.items()),
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="options of the command: COMMAND --help")
    _add_options(parser)
    parser.add_argument(
        "--pkgconfigdir", nargs=0, action=_PrintFolder, help="print what PKG_CONFIG_PATH has to hold, and exit"
    )
    parser.add_argument("--version", action="version", version=f"usnet-ctl {VERSION}")
    return parser


def _command_parser(name: str) -> _Parser:
    command = COMMANDS[name]
    parser = _Parser(
        prog=f"usnet-ctl {name}",
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_options(parser)
    parser.set_defaults(watch=None)
    if command.watch:
        what = f"again and again, every so many seconds ({watch.EVERY_S:g})"
        parser.add_argument("--watch", metavar="SECONDS", nargs="?", type=_every, help=what)
    command.add_options(parser)
    return parser


def _add_options(parser: _Parser) -> None:
    """Those of every command."""
    path = os.environ.get(ENVIRONMENT_PREFIX + "CONTROL") or default_control_path()
    whose = "the server's control socket (%(default)s)"
    parser.add_argument("--control", metavar="PATH", type=_path, default=path, help=whose)
    parser.add_argument("--json", action="store_true", help="print what the server said as JSON")
    parser.add_argument("-h", "--help", action="help", help="show this, or what a command does, and exit")


def _every(text: str) -> float:
    return _number(text, watch.seconds)


def _timeout(text: str) -> float:
    return _number(text, values.seconds)


def _number(text: str, parse: values.Parse) -> float:
    try:
        return float(parse(text))
    except ValueError as expected:
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected {expected}") from None


# Commands that need little.


def _done_text(result: Any) -> str:
    return result if isinstance(result, str) else "done"


def _at_address(command: str) -> Run:
    """A path is one of this process, not of the server."""

    def run(arguments: argparse.Namespace) -> Iterator[str]:
        text = arguments.address
        if text is None:
            raise UsageError(f"{command}: no address is given; expected tcp://HOST:PORT or unix:PATH")
        path = text.removeprefix("unix:")
        address = f"unix:{os.path.abspath(path)}" if path not in (text, "") else text
        result = control.request(arguments.control, command, address=address)
        yield shown(command, result, _done_text, arguments.json)

    return run


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="tcp://HOST:PORT or unix:PATH")


def _stop(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.timeout is not None and not arguments.wait:
        raise UsageError("--timeout: without --wait nothing is waited for")
    if arguments.wait:
        result = control.stop_and_wait(arguments.control, WAIT_S if arguments.timeout is None else arguments.timeout)
    else:
        result = control.request(arguments.control, "stop")
    yield shown("stop", result, _done_text, arguments.json)


def _add_options_of_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="return when the server is gone")
    what = f"of --wait: fail after so many ({WAIT_S:g})"
    parser.add_argument("--timeout", metavar="SECONDS", type=_timeout, help=what)


COMMANDS: dict[str, Subcommand] = {
    "status": STATUS,
    "conns": CONNS,
    "stack": STACK,
    "neigh": NEIGH,
    "routes": ROUTES,
    "addr": ADDR,
    "capture": CAPTURE,
    "doctor": DOCTOR,
    "bind": Subcommand(
        "listen on ADDRESS too, until the server is restarted", _at_address("bind"), _add_address
    ),
    "unbind": Subcommand(
        "listen on ADDRESS no more; open connections stay", _at_address("unbind"), _add_address
    ),
    "reload": Subcommand("replace every worker by one with the application's new code", asking("reload", _done_text)),
    "rollback": Subcommand(
        "go back to the code before the last reload, while that has not proven itself", asking("rollback", _done_text)
    ),
    "upgrade": Subcommand("go on with the network processes that are installed now", asking("upgrade", _done_text)),
    "stop": Subcommand("drain and stop", _stop, _add_options_of_stop),
}
