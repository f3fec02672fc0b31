"""Many short connections, 1,000 of them begun per second, each at its time: a schedule, and what came of it.

A connection that begins late because others took long does not make those after it later: they catch up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

PER_SECOND = 1000
LATE_SECONDS = 10.0
"""How far a machine that has other things to do may be behind in the end."""

CLIENTS = 8


def schedule(seconds: float, wait: Callable[[float], object] = time.sleep) -> Iterator[int]:
    """Numbers of connections, each when it is to begin; AssertionError when they fall behind."""
    start = time.monotonic()
    for number in range(round(seconds * PER_SECOND)):
        ahead = start + number / PER_SECOND - time.monotonic()
        assert ahead > -LATE_SECONDS, f"connection {number} begins {-ahead:.1f} s late"
        if ahead > 0:
            wait(ahead)
        yield number
    took = time.monotonic() - start
    print(f"{round(seconds * PER_SECOND)} connections in {took:.2f} s")


def churn(one: Callable[[int], None], seconds: float) -> None:
    """Have threads make connections; the first error of one of them is raised."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        for made in [pool.submit(one, number) for number in schedule(seconds)]:
            made.result()
