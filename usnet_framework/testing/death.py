"""What SIGKILL does to a worker, done to one that shares its process with the test.

A killed process does nothing more: no `finally`, no `__exit__`, no `__del__`, no callback that was scheduled. Python
runs those when it unwinds a stack and when it frees an object. So the stack of whoever dies is never unwound, and what
it left is never freed:

    bury(*objects)   they are kept until the process ends, and not freed then either
    Doomed(…)        a thread that works for its caller until a chosen line of a method; there it stops for good

A thread that has stopped costs its stack, a few dozen KB, until the test process ends.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from usnet_framework._dispatch import keep_for_good
from usnet_framework.handler import Handler

BEFORE = ("on_warm", "on_start")


def bury(*objects: Any) -> None:
    """Keep them for good: freed, a coroutine or a generator would run its `finally`."""
    for one in objects:
        keep_for_good(one)


class Doomed:
    """Works for its caller, in a thread of its own, until it is where it dies: in a method of the handler.

    `line`: it dies when so many lines of one call have run; None: when the call ends, or waits for the first time if it
    is a coroutine's. ValueError: there is no such method, it is not called, or it has no Python code."""

    def __init__(self, handler: Handler, method: str, line: int | None) -> None:
        self._code = _code(handler, method)
        self._line = line
        self._lines: dict[FrameType, int] = {}
        self._work: Callable[[], Any] | None = None
        self._result: Any = None
        self._raised: BaseException | None = None
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self.is_dead = False
        threading.Thread(target=self._serve, name=f"worker that dies in {method}", daemon=True).start()

    def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, or raises. None when it died in there: then it is not to be used again."""
        self._work = work
        self._go.release()
        self._done.acquire()
        if self._raised is not None:
            raise self._raised
        return self._result

    def end(self) -> None:
        """It has not died, and need not."""
        self._work = None
        self._go.release()

    def _serve(self) -> None:
        sys.settrace(self._trace)
        while True:
            self._go.acquire()
            if self._work is None:
                return
            self._raised = None
            try:
                self._result = self._work()
            except BaseException as error:
                self._raised = error
            self._done.release()

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._trace_call if frame.f_code is self._code else None

    def _trace_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and self._line is not None:
            if self._lines.setdefault(frame, 0) == self._line:
                self._die()
            self._lines[frame] += 1
        elif event == "return" and self._line is None:
            self._die()
        return self._trace_call

    def _die(self) -> None:
        self._result = None
        self.is_dead = True
        self._done.release()
        for_ever = threading.Lock()
        with for_ever:
            for_ever.acquire()


def _code(handler: Handler, method: str) -> CodeType:
    function = getattr(type(handler), method, None)
    if function is None:
        raise ValueError(f"{type(handler).__qualname__} has no {method!r} in which a worker may die")
    if method in BEFORE:
        raise ValueError(f"{method!r} is over when a worker serves, so it does not die in it")
    if method != "on_error" and function is getattr(Handler, method, None):
        raise ValueError(f"{type(handler).__qualname__} does not override {method!r}, so it is not called")
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        raise ValueError(f"{method!r} has no lines of Python, so nobody can die in it")
    return code
