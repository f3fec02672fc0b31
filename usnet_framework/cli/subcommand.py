"""What a command of usnet-ctl is made of, and what most of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from usnet_framework import logs
from usnet_framework.errors import ControlError
from usnet_framework.installed import VERSION
from usnet_framework.shards import control

T = TypeVar("T")

Run = Callable[[argparse.Namespace], Iterable[str]]
"""Does it, and says what is to be shown, line ends included, as it comes. `control` is the path of the server's socket,
`json` asks for JSON; the rest are the command's own options. UsnetError."""


def no_options(parser: argparse.ArgumentParser) -> None:
    """Of a command without options of its own."""


@dataclass(frozen=True)
class Subcommand:
    """`watch`: it only looks, so it has --watch."""

    help: str
    run: Run
    add_options: Callable[[argparse.ArgumentParser], None] = no_options
    watch: bool = False


def asking(command: str, form: Callable[[Any], str]) -> Run:
    """One question without arguments, and its answer."""

    def run(arguments: argparse.Namespace) -> Iterator[str]:
        yield shown(command, control.request(arguments.control, command), form, arguments.json)

    return run


def shown(command: str, result: T, form: Callable[[T], str], as_json: bool) -> str:
    """A result as text or JSON, with its line end. ControlError: it is not what this version knows."""
    return understood(command, lambda: logs.to_json(result) if as_json else form(result)) + "\n"


def shown_list(
    command: str, parts: Iterable[list[Any]], form: Callable[[list[Any]], list[str]], as_json: bool, head: str = ""
) -> Iterator[str]:
    """A long list in the parts in which it comes; `form` makes lines of a part, and `head` stands above the first.
    ControlError as `shown` has it."""
    before = "["
    for part in parts:
        if not as_json:
            yield head + understood(command, partial(_lines, form, part))
            head = ""
        elif part:
            yield before + ", ".join(map(logs.to_json, part))
            before = ", "
    if as_json:
        yield "[]\n" if before == "[" else "]\n"


def _lines(form: Callable[[list[Any]], list[str]], part: list[Any]) -> str:
    return "".join(f"{line}\n" for line in form(part))


def understood(command: str, form: Callable[[], T]) -> T:
    """What is made of an answer. ControlError: it is not what this version knows."""
    try:
        return form()
    except (AttributeError, LookupError, TypeError, ValueError):
        raise ControlError(
            f"{command}: the server's answer is not what usnet {VERSION} expects; "
            "use the usnet-ctl that it was installed with"
        ) from None


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


def since(now_ns: int, then_ns: int) -> str:
    return duration(max(0, now_ns - then_ns) / 1e9)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
