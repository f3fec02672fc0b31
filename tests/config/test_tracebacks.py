"""Tracebacks of one place are shown a few times and then counted; places have nothing to do with each other."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import pytest

from usnet_framework.tracebacks import AT_ONCE, PLACES_MAX, WINDOW_S, TracebackLimit


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> TracebackLimit:
    return TracebackLimit(clock)


def raised(error: type[Exception], line: int = 1) -> logging.LogRecord:
    """As if raised on this line of app.py."""
    try:
        exec(compile("\n" * (line - 1) + "raise error", "app.py", "exec"), {"error": error})
    except Exception:
        return logging.getLogger("shop").makeRecord("shop", logging.ERROR, "", 0, "oops", (), sys.exc_info())
    raise AssertionError("nothing was raised")


def shown(limit: TracebackLimit, times: int, record: Callable[[], logging.LogRecord]) -> list[str]:
    return [one.getMessage() for _ in range(times) for one in limit.admit(record())]


def bad() -> logging.LogRecord:
    return raised(ValueError)


def test_the_first_ones_are_shown_and_the_rest_is_counted(limit: TracebackLimit) -> None:
    told = shown(limit, AT_ONCE + 100, bad)
    assert told[:AT_ONCE] == ["oops"] * AT_ONCE
    assert [line.partition(":")[0] for line in told[AT_ONCE:]] == [f"{n} more like it" for n in (1, 10, 100)]
    assert "ValueError at app.py:1" in told[-1]


def test_the_rest_is_told_once_the_window_has_ended(limit: TracebackLimit, clock: Clock) -> None:
    shown(limit, AT_ONCE + 7, bad)
    clock.now_s += WINDOW_S
    other = logging.makeLogRecord({"msg": "something else"})
    assert [one.getMessage()[:14] for one in limit.admit(other)] == ["7 more like it", "something else"]
    assert shown(limit, 1, bad) == ["oops"]


def test_nothing_is_told_twice(limit: TracebackLimit) -> None:
    shown(limit, AT_ONCE + 10, bad)
    assert limit.ended() == []


def test_what_is_left_is_told_at_the_end(limit: TracebackLimit) -> None:
    shown(limit, AT_ONCE + 11, bad)
    (rest,) = limit.ended()
    assert (rest.getMessage()[:15], rest.name, rest.levelno) == ("11 more like it", "shop", logging.ERROR)


@pytest.mark.parametrize("other", [lambda: raised(KeyError), lambda: raised(ValueError, line=2)])
def test_another_place_is_shown(limit: TracebackLimit, other: Callable[[], logging.LogRecord]) -> None:
    shown(limit, 2 * AT_ONCE, bad)
    assert shown(limit, 1, other) == ["oops"]


def test_records_without_a_traceback_are_shown(limit: TracebackLimit) -> None:
    assert len(shown(limit, 1000, lambda: logging.makeLogRecord({"msg": "hello"}))) == 1000


def test_places_are_bounded(limit: TracebackLimit) -> None:
    for line in range(1, 2 * PLACES_MAX):
        assert shown(limit, 1, lambda: raised(ValueError, line)) == ["oops"]  # noqa: B023
    assert len(limit._windows) == PLACES_MAX


def test_a_child_of_a_fork_leaves_what_is_to_be_told_to_its_parent(limit: TracebackLimit) -> None:
    for _ in range(AT_ONCE + 3):
        limit.admit(raised(ValueError))
    child = os.fork()
    if child == 0:
        os._exit(len(limit.ended()) + 10 * len(limit.admit(raised(ValueError))))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert [record.getMessage()[:14] for record in limit.ended()] == ["3 more like it"]
