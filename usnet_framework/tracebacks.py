"""How many tracebacks of one place are shown: a peer that makes a callback raise with each request must not fill the
log, nor take the time of those who write it.

A place is the type of the exception and the line that raised it. The first AT_ONCE records of a place are shown in each
WINDOW_S. Of those after them only the number is told: at the first, tenth, hundredth, and so on, and the rest when the
window has ended and anything is logged, or the process ends."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AT_ONCE = 5
WINDOW_S = 10.0
PLACES_MAX = 256  # that are remembered; beyond that the oldest is forgotten, and shown again

Place = tuple[str, str, int]


@dataclass
class _Window:
    began_s: float
    like: dict[str, Any]  # of the last one that was not shown; without its frames, which hold what the callback had
    seen: int = 0
    told: int = 0  # of those that were not shown

    @property
    def hidden(self) -> int:
        return max(0, self.seen - AT_ONCE)


class TracebackLimit:
    """`clock` is in seconds, and only goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Place, _Window] = {}  # the oldest first
        _limits.add(self)

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """What is to be shown now that this was logged."""
        now_s = self._clock()
        shown = self._close(now_s - WINDOW_S)
        place = _place(record)
        if place is None:
            return [*shown, record]
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = _Window(now_s, origin(record))
            if len(self._windows) > PLACES_MAX:
                shown += self._forget(next(iter(self._windows)))
        window.seen += 1
        if window.hidden == 0:
            return [*shown, record]
        window.like = origin(record)
        return shown + (self._tell(place, window) if _is_power_of_ten(window.hidden) else [])

    def ended(self) -> list[logging.LogRecord]:
        """What is left to be told; no more records come."""
        return self._close(self._clock())

    def leave_to_parent(self) -> None:
        """In a child of a fork: what was not shown is the parent's to tell."""
        self._windows.clear()

    def _close(self, before_s: float) -> list[logging.LogRecord]:
        told: list[logging.LogRecord] = []
        while self._windows:
            place, window = next(iter(self._windows.items()))
            if window.began_s > before_s:
                break
            told += self._forget(place)
        return told

    def _forget(self, place: Place) -> list[logging.LogRecord]:
        window = self._windows.pop(place)
        return self._tell(place, window) if window.hidden > window.told else []

    def _tell(self, place: Place, window: _Window) -> list[logging.LogRecord]:
        window.told = window.hidden
        kind, file, line = place
        text = "%d more like it: %s at %s:%d, within %.0f s"
        arguments = (window.hidden, kind, file, line, self._clock() - window.began_s)
        return [logging.makeLogRecord({**window.like, "msg": text, "args": arguments})]


_limits: weakref.WeakSet[TracebackLimit] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for limit in list(_limits):
        limit.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


def origin(record: logging.LogRecord) -> dict[str, Any]:
    """Who said it, how loud, and when."""
    return {name: getattr(record, name) for name in ("name", "levelno", "levelname", "created", "msecs")}


def _place(record: logging.LogRecord) -> Place | None:
    """None: it has no traceback."""
    if not record.exc_info or record.exc_info[0] is None:
        return None
    kind, _, trace = record.exc_info
    if trace is None:
        return kind.__qualname__, record.pathname, record.lineno
    while trace.tb_next is not None:
        trace = trace.tb_next
    return kind.__qualname__, trace.tb_frame.f_code.co_filename, trace.tb_lineno


def _is_power_of_ten(number: int) -> bool:
    return set(str(number)[1:]) <= {"0"} and str(number)[0] == "1"
