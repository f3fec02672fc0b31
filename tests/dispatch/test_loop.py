"""The worker's event loop: the port, timers, signals, threads and other descriptors side by side."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from support.fake_engine import FakeEngine
from support.until import until

from usnet_framework import Connection, Handler
from usnet_framework._dispatch import Port
from usnet_framework.shards.loop import WorkerLoop

DEADLINE_S = 20


class Echo(Handler):
    def __init__(self) -> None:
        self.received = 0

    def on_data(self, conn: Connection, data: memoryview) -> None:
        self.received += 1
        conn.send(data)


@pytest.fixture(params=["sleep", "adaptive", "busy"])
def poll(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(port: Port, poll: str, main: Coroutine[Any, Any, None]) -> None:
    loop = WorkerLoop()
    loop.serve(port, poll)
    try:
        loop.run_until_complete(asyncio.wait_for(main, DEADLINE_S))
    finally:
        loop.close()
        port.close()


def test_events_from_another_process_wake_the_loop(engine: FakeEngine, poll: str) -> None:
    handler = Echo()
    port = engine.port(handler)
    conn = engine.connect()
    output: list[bytes] = []

    def play_engine() -> None:
        deadline = time.monotonic() + DEADLINE_S
        for i in range(50):
            engine.data(conn, b"%d " % i)
            engine.wake()
            while time.monotonic() < deadline and b"".join(output).count(b" ") <= i:
                output.extend(engine.sent().values())

    async def main() -> None:
        await asyncio.to_thread(play_engine)

    run(port, poll, main())
    assert b"".join(output) == b"".join(b"%d " % i for i in range(50))
    if poll == "sleep":
        assert engine.segment.seat_counters(0)["worker_sleeps"] > 0


def test_everything_of_asyncio_works_beside_a_busy_port(engine: FakeEngine, poll: str) -> None:
    handler = Echo()
    port = engine.port(handler)
    conn = engine.connect()
    left, right = socket.socketpair()
    signals: list[int] = []
    stopping = threading.Event()

    def keep_busy() -> None:
        while not stopping.is_set():
            if engine.produced - engine.consumed < 100:
                engine.data(conn, b"x")
            engine.take()
            engine.take_releases()
            engine.wake()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, signals.append, 1)
        reader, _ = await asyncio.open_connection(sock=left)
        started = loop.time()
        await asyncio.sleep(0.02)
        assert loop.time() - started >= 0.02
        right.sendall(b"hello\n")
        assert await reader.readline() == b"hello\n"
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: signals)
        assert await asyncio.to_thread(lambda: 5) == 5
        await until(lambda: handler.received > 100)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        run(port, poll, main())
    finally:
        stopping.set()
        thread.join()
        left.close()
        right.close()


def test_what_timers_send_is_committed_before_the_loop_sleeps(engine: FakeEngine, poll: str) -> None:
    class Later(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            asyncio.get_running_loop().call_later(0.005, conn.send, b"later")

    port = engine.port(Later())
    conn = engine.connect()
    engine.data(conn, b"x")

    async def main() -> None:
        await until(lambda: engine.look())

    run(port, poll, main())
    assert engine.sent() == {conn: b"later"}


def test_a_port_without_traffic_sleeps(engine: FakeEngine) -> None:
    port = engine.port(Echo())

    async def main() -> None:
        await asyncio.sleep(0.1)

    before = time.process_time()
    run(port, "sleep", main())
    assert engine.segment.seat_counters(0)["worker_sleeps"] < 10
    assert time.process_time() - before < 0.09


def test_interrupts_leave_the_loop(engine: FakeEngine) -> None:
    class Interrupted(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            raise KeyboardInterrupt

    port = engine.port(Interrupted())
    engine.data(engine.connect(), b"x")
    loop = WorkerLoop()
    loop.serve(port, "sleep")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()
    assert engine.consumed == 0


def test_a_loop_leaves_no_descriptor(engine: FakeEngine) -> None:
    port = engine.port(Echo())
    before = len(os.listdir("/proc/self/fd"))
    loop = WorkerLoop()
    loop.serve(port, "sleep")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_unknown_poll_modes(engine: FakeEngine) -> None:
    loop = WorkerLoop()
    with pytest.raises(ValueError, match="'sometimes' is none of adaptive, busy, sleep"):
        loop.serve(engine.port(Echo()), "sometimes")
    loop.close()
