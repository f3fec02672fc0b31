"""Poison all the time: what it costs a connection that has nothing to do with it (P3).

Twenty messages a second from one peer for fifteen seconds, each on a connection of its own and the end of two workers.
`pytest -m slow -s` prints how long the answers of an innocent connection took."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

import pytest
from support.server import Serve

SECONDS = 15.0
POISON_S = 0.05
POISONER = "127.0.0.9"
PAUSE_S = 0.002
P99_MS = float(os.environ.get("USNET_POISON_P99_MS", "inf"))  # set it on a quiet machine


async def poison(address: tuple[str, int]) -> None:
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(*address, local_addr=(POISONER, 0))
        writer.write(b"poison: do not drink")
        await reader.read()
        writer.close()


async def flood(address: tuple[str, int]) -> int:
    """How many were sent. None waits for another one's end."""
    tasks, end_s = [], time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        tasks.append(asyncio.create_task(poison(address)))
        await asyncio.sleep(POISON_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(tasks)


async def ask(address: tuple[str, int], flooding: asyncio.Task[int]) -> list[float]:
    """Milliseconds of each answer, while the flood lasts; the last may come after it."""
    reader, writer = await asyncio.open_connection(*address)
    took_ms: list[float] = []
    while not flooding.done():
        message = b"%08d" % len(took_ms)
        began_s = time.monotonic()
        writer.write(message)
        assert await asyncio.wait_for(reader.readexactly(len(message)), 60) == message
        took_ms.append((time.monotonic() - began_s) * 1e3)
        await asyncio.sleep(PAUSE_S)
    writer.close()
    return took_ms


async def measure(address: tuple[str, int]) -> tuple[int, list[float]]:
    flooding = asyncio.create_task(flood(address))
    took_ms = await ask(address, flooding)
    return await flooding, sorted(took_ms)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["kernel"], indirect=True)  # loopback addresses are there to be had
def test_an_innocent_connection_is_answered_in_a_flood_of_poison(serve: Serve) -> None:
    with serve("support.handlers:Poisonable", "--app-dir", "tests", "--queues", "1") as server:
        sent, took_ms = asyncio.run(measure(server.address))
        metrics = server.metrics()
    p50, p99 = took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100]
    print(
        f"\n{sent} poison messages in {SECONDS:g} s, {metrics['usnet_poisoned_total']:g} condemned, "
        f"{metrics['usnet_worker_restarts_total']:g} workers died; innocent: {len(took_ms)} answers, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {took_ms[-1]:.1f} ms"
    )
    assert p99 <= P99_MS
