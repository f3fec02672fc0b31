"""Whose task runs is said while it runs: a worker that dies in it is known to have died for that connection (P3)."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.fake_engine import FakeEngine
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection
from usnet_framework._dispatch import Port

EVENT, TASK = 1 << 32, 2 << 32


class Marks(Recorder):
    """Notes what the engine would find, before and after each wait."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__()
        self.engine = engine
        self.marks: list[int] = []
        self.gate = asyncio.Event()

    def mark(self) -> None:
        self.marks.append(self.engine.handling)

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        self.mark()
        try:
            await self.gate.wait()
        finally:
            self.mark()

    def on_eof(self, conn: Connection) -> None:
        self.mark()


def in_loop(engine: FakeEngine, test: Callable[[Marks, Port], Awaitable[None]]) -> None:
    async def main() -> None:
        handler = Marks(engine)
        port = engine.port(handler)
        try:
            await test(handler, port)
        finally:
            port.close()

    asyncio.run(main())


async def settle(port: Port) -> None:
    for _ in range(10):
        await asyncio.sleep(0)
        port.run()
    port.commit()


def test_a_step_is_marked_and_a_wait_is_not(engine: FakeEngine) -> None:
    async def test(handler: Marks, port: Port) -> None:
        engine.data(engine.connect(3), b"x")
        port.run()
        await settle(port)
        assert handler.marks == [TASK | 3]
        assert engine.handling == 0
        handler.gate.set()
        await settle(port)
        assert handler.marks == [TASK | 3, TASK | 3]
        assert engine.handling == 0

    in_loop(engine, test)


def test_an_event_behind_a_task_is_marked_as_its_connections(engine: FakeEngine) -> None:
    async def test(handler: Marks, port: Port) -> None:
        conn = engine.connect(4)
        engine.data(conn, b"x")
        engine.eof(conn)
        handler.gate.set()
        port.run()
        await settle(port)
        assert handler.marks == [TASK | 4] * 3
        assert engine.handling == 0

    in_loop(engine, test)


def test_a_cancelled_task_is_marked_too(engine: FakeEngine) -> None:
    async def test(handler: Marks, port: Port) -> None:
        engine.data(engine.connect(5), b"x")
        port.run()
        await settle(port)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await settle(port)
        assert task.cancelled()
        assert handler.marks == [TASK | 5] * 2
        assert engine.handling == 0

    in_loop(engine, test)


def test_a_place_that_was_left_is_not_marked(engine: FakeEngine) -> None:
    """It may be another connection's, which would be blamed."""

    async def test(handler: Marks, port: Port) -> None:
        conn = engine.connect(6)
        engine.data(conn, b"x")
        port.run()
        await settle(port)
        engine.disconnect(conn, CloseReason.RESET)
        port.run()
        handler.gate.set()
        await settle(port)
        assert handler.marks == [TASK | 6, 0]

    in_loop(engine, test)


def test_a_closed_port_is_not_touched(engine: FakeEngine) -> None:
    async def test(handler: Marks, port: Port) -> None:
        engine.data(engine.connect(), b"x")
        port.run()
        await settle(port)
        port.close()
        handler.gate.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert handler.marks == [TASK, 0]

    in_loop(engine, test)


def test_a_process_that_ends_in_a_task_leaves_the_mark(engine: FakeEngine) -> None:
    class Exits(Marks):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            raise SystemExit(1)

    async def main() -> None:
        port = engine.port(Exits(engine))
        engine.data(engine.connect(7), b"x")
        port.run()
        await settle(port)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert engine.handling == TASK | 7


def test_what_a_handler_runs_itself_is_not_marked(engine: FakeEngine) -> None:
    class Spawns(Marks):
        def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            self.coroutine = self.later()
            self.mark()

        async def later(self) -> None:
            self.mark()

    async def main() -> None:
        handler = Spawns(engine)
        port = engine.port(handler)
        engine.data(engine.connect(0), b"x")
        port.run()
        await handler.coroutine
        assert handler.marks == [EVENT | 1, 0]
        port.close()

    asyncio.run(main())


def test_a_task_shows_its_coroutine(engine: FakeEngine) -> None:
    async def test(handler: Marks, port: Port) -> None:
        engine.data(engine.connect(), b"x")
        port.run()
        await settle(port)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        assert "Marks.on_data" in repr(task)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["on_data"]
        assert task.get_coro().cr_code is Marks.on_data.__code__  # type: ignore[union-attr]
        with pytest.raises(AttributeError, match="nothing"):
            task.get_coro().nothing  # type: ignore[union-attr]  # noqa: B018
        task.cancel()
        await settle(port)

    in_loop(engine, test)


def test_a_coroutine_that_is_never_run_is_closed_as_one(engine: FakeEngine) -> None:
    """As the loop does with tasks that it never came to run: it closes them through what it was given."""

    async def test(handler: Marks, port: Port) -> None:
        engine.data(engine.connect(), b"x")
        port.run()
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.get_coro().close()  # type: ignore[union-attr]
        await settle(port)
        assert isinstance(task.exception(), RuntimeError)  # cannot reuse already awaited coroutine
        assert handler.marks == []

    in_loop(engine, test)


PY_TP_CLEAR = 51  # typeslots.h


def clear(step: object) -> None:
    """As the garbage collector does it to a cycle, in which something may run that still has the step."""
    get_slot = ctypes.pythonapi.PyType_GetSlot
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(get_slot(type(step), PY_TP_CLEAR))(step)


def test_a_step_that_the_garbage_collector_has_cleared_raises(engine: FakeEngine) -> None:
    steps: list[Any] = []

    class Keeps(Marks):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            task = asyncio.current_task()
            assert task is not None
            steps.append(task.get_coro())

    async def main() -> None:
        port = engine.port(Keeps(engine))
        engine.data(engine.connect(), b"x")
        port.run()
        await settle(port)
        port.close()

    async def drive() -> None:
        await asyncio.create_task(steps[0])

    asyncio.run(main())
    clear(steps[0])
    for use in (lambda: steps[0].send(None), steps[0].close, lambda: steps[0].cr_frame, lambda: asyncio.run(drive())):
        with pytest.raises(RuntimeError):
            use()
