"""--watch: a command that looks, again and again, until somebody has seen enough or the server has ended.

A terminal is cleared in front of each round; elsewhere rounds follow each other, as JSON one line each.
"""

from __future__ import annotations

import argparse
import sys
import time

from usnet_framework.cli.output import show
from usnet_framework.cli.subcommand import Run
from usnet_framework.errors import ServerGone

EVERY_S = 1.0
LEAST_S = 0.1
CLEAR = "\x1b[H\x1b[2J"


def seconds(text: str) -> float:
    """ValueError with what was expected."""
    expected = f"a number of seconds, {LEAST_S:g} or more"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(expected) from None
    if not LEAST_S <= value <= 1e6:
        raise ValueError(expected)
    return value


def watch(run: Run, arguments: argparse.Namespace) -> int:
    """The exit code: SIGINT, a reader that is gone, and a server that has ended after it had answered are no errors.
    UsnetError."""
    rounds = 0
    try:
        while _round(run, arguments, rounds):
            rounds += 1
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return 0
    except ServerGone:
        if not rounds:
            raise
        print("usnet-ctl: the server has ended", file=sys.stderr)
    return 0


def _round(run: Run, arguments: argparse.Namespace, number: int) -> bool:
    """False: nobody reads what is shown."""
    before = _before(arguments.json, number)
    for text in run(arguments):
        if before and not show(before, end="", raw=True):
            return False
        before = ""
        if not show(text, end=""):
            return False
    return True


def _before(as_json: bool, number: int) -> str:
    if as_json:
        return ""
    if sys.stdout is not None and sys.stdout.isatty():
        return CLEAR
    return "\n" if number else ""
