"""What a worker executes, asked for from outside: faulthandler writes its Python stack when STACK_SIGNAL comes.

A handler of the C level does it, so it works in a callback that never returns; a process that is stopped says nothing.
All workers share one pipe, made before the first of them, and one is asked at a time. Its end for workers is
non-blocking: whatever they write, none waits for us. What is read is bounded, has a deadline, and is shown to people
only, because a worker may write anything there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import suppress

STACK_SIGNAL = signal.SIGRTMIN + 1
STACK_BYTES = 65536
STACK_S = 2.0  # from the signal to the last byte; a moment unless the machine is overloaded
QUIET_S = 0.1  # after some bytes: then that was all

_FRAME = re.compile(r'  File "(.*)", line (\S+) in (.*)')


class StackPipe:
    """`writer` is the descriptor for workers."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, pid: int) -> str:
        """The stack of a child that was not waited for; empty when it gives none."""
        async with self._one_at_a_time:
            if not catches(pid, STACK_SIGNAL):
                return ""  # it would die of the signal
            self._read(STACK_BYTES)  # what is left of others
            with suppress(OSError):  # it is gone, or may not be asked: it gives none
                os.kill(pid, STACK_SIGNAL)
            return (await self._answer()).decode(errors="backslashreplace")

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)

    async def _answer(self) -> bytes:
        loop, readable, found = asyncio.get_running_loop(), asyncio.Event(), b""
        deadline_s = time.monotonic() + STACK_S
        loop.add_reader(self._reader, readable.set)
        try:
            while len(found) < STACK_BYTES:
                left_s = deadline_s - time.monotonic()
                await asyncio.wait_for(readable.wait(), min(left_s, QUIET_S) if found else left_s)
                readable.clear()
                found += self._read(STACK_BYTES - len(found))
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._reader)
        return found

    def _read(self, most: int) -> bytes:
        try:
            return os.read(self._reader, most)
        except BlockingIOError:
            return b""


def innermost(stack: str) -> str:
    """FILE:LINE in FUNCTION, of the thread that took the signal; empty when there is no such line."""
    _, current, rest = stack.partition("Current thread ")
    found = _FRAME.search(rest if current else stack)
    return f"{found[1]}:{found[2]} in {found[3]}" if found else ""


def is_stopped(pid: int) -> bool:
    """By SIGSTOP, or a debugger."""
    return _of_status(pid, "State").startswith(("T", "t"))


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal."""
    mask = _of_status(pid, "SigCgt")
    return bool(mask) and bool(int(mask, 16) >> (number - 1) & 1)


def _of_status(pid: int, name: str) -> str:
    """Empty: there is no such process."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return ""
