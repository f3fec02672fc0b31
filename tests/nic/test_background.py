"""Work that hangs holds nobody up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from usnet_framework.shards.background import Background


class Work:
    """Goes on when it may."""

    def __init__(self) -> None:
        self.begun = 0
        self.most = 0
        self._running = 0
        self.may_go_on = threading.Event()

    def __call__(self) -> None:
        self.begun += 1
        self._running += 1
        self.most = max(self.most, self._running)
        self.may_go_on.wait(60)
        self._running -= 1


def test_what_is_asked_for_while_it_runs_is_done_once_more() -> None:
    """As it may have asked before what the one who asks now knows of."""

    async def ask() -> None:
        work = Work()
        background = Background("test", work)
        first = background.ask()
        others = [background.ask() for _ in range(5)]
        assert background.runs_for_s > 0
        assert not first.done()
        work.may_go_on.set()
        assert await asyncio.gather(first, *others) == [None] * 6
        assert (work.begun, work.most, background.runs_for_s) == (2, 1, 0.0)

    asyncio.run(ask())


def test_what_goes_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("refused")

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        background = Background("test", fail)
        assert str(await background.ask()) == "refused"
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        assert str(await background.ask()) == "can't start new thread"
        assert background.runs_for_s == 0.0

    asyncio.run(ask())


HANGS = """
import asyncio, threading
from usnet_framework.shards.background import Background

async def main():
    background = Background("hangs", threading.Event().wait)
    background.ask()
    background.ask()

asyncio.run(main())
print("over")
"""


def test_the_end_of_the_process_does_not_wait_for_it() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", HANGS], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("over\n", "", 0)
