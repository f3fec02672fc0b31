"""Context variables: callbacks, tasks and on_error of a connection see what that connection set, and nothing else."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import decimal
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from support.fake_engine import FakeEngine, run_all
from support.recorder import Recorder

from usnet_framework import CloseReason, Connection, Handler
from usnet_framework._dispatch import Port
from usnet_framework.shards.loop import WorkerLoop

user: ContextVar[str] = ContextVar("user", default="nobody")


class Remembers(Recorder):
    """Notes the user; a message sets it, or raises, or does nothing."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        self.note("data", conn, user.get())
        if data == b"raise":
            user.set("raiser")
            raise LookupError
        if data:
            user.set(bytes(data).decode())

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.note("close", conn, user.get())

    def on_error(self, conn: Connection, exception: BaseException) -> bool:
        self.note("error", conn, user.get())
        return True


def seen(handler: Recorder, conn: int) -> list[Any]:
    """Who the user was at each call, but for on_connect."""
    return [call[2] for call in handler.calls if call[1] == conn and call[0] != "connect"]


@pytest.mark.parametrize("batch", [1, 64])
def test_what_a_callback_sets_is_seen_by_its_connection_alone(engine: FakeEngine, batch: int) -> None:
    handler = Remembers()
    port = engine.port(handler)
    ann, bob, none = (engine.connect(slot) for slot in range(3))
    told = ((ann, b"ann"), (none, b""), (bob, b"bob"), (none, b""), (ann, b""), (bob, b"rob"), (none, b""))
    for conn, message in told:
        engine.data(conn, message)
        if batch == 1:
            run_all(port)
    for conn in (bob, ann, none):
        engine.disconnect(conn)
    run_all(port)
    assert seen(handler, ann) == ["nobody", "ann", "ann"]
    assert seen(handler, bob) == ["nobody", "bob", "rob"]
    assert seen(handler, none) == ["nobody"] * 4
    assert user.get() == "nobody"


def test_it_begins_with_what_was_set_when_the_port_was_made(engine: FakeEngine) -> None:
    handler = Remembers()

    def make() -> Port:
        user.set("everybody")
        return engine.port(handler)

    port = contextvars.copy_context().run(make)
    first, second = engine.connect(0), engine.connect(1)
    for conn, message in ((first, b"ann"), (second, b""), (first, b"")):
        engine.data(conn, message)
    run_all(port)
    assert seen(handler, first) == ["everybody", "ann"]
    assert seen(handler, second) == ["everybody"]
    assert user.get() == "nobody"


def test_on_error_sees_what_the_callback_that_raised_had_set(engine: FakeEngine) -> None:
    handler = Remembers()
    port = engine.port(handler)
    conn, other = engine.connect(0), engine.connect(1)
    for number, message in ((conn, b"raise"), (other, b""), (conn, b"raise"), (other, b"")):
        engine.data(number, message)
    run_all(port)
    assert seen(handler, conn) == ["nobody", "raiser", "raiser", "raiser"]
    assert seen(handler, other) == ["nobody", "nobody"]


def in_loop(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def settle(port: Port) -> None:
    for _ in range(30):
        await asyncio.sleep(0)
        port.run()
    port.commit()


def test_tasks_share_the_context_of_their_connection(engine: FakeEngine) -> None:
    class Tasks(Remembers):
        async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            super().on_data(conn, data)

    handler = Tasks()

    async def test() -> None:
        port = engine.port(handler)
        ann, bob = engine.connect(0), engine.connect(1)
        for conn, message in ((ann, b"ann"), (bob, b"bob"), (ann, b"raise"), (bob, b""), (ann, b"")):
            engine.data(conn, message)
        await settle(port)
        engine.disconnect(ann)
        engine.disconnect(bob)
        await settle(port)
        assert seen(handler, ann) == ["nobody", "ann", "raiser", "raiser", "raiser"]
        assert seen(handler, bob) == ["nobody", "bob", "bob"]
        port.close()

    in_loop(test)


def test_a_task_that_a_callback_starts_begins_with_a_copy(engine: FakeEngine) -> None:
    class Starts(Remembers):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            super().on_data(conn, data)
            self.task = asyncio.get_running_loop().create_task(self.later(conn))

        async def later(self, conn: Connection) -> None:
            self.note("later", conn, user.get())
            user.set("later")

    handler = Starts()

    async def test() -> None:
        port = engine.port(handler)
        conn = engine.connect()
        for message in (b"ann", b""):
            engine.data(conn, message)
            await settle(port)
        assert seen(handler, conn) == ["nobody", "ann", "ann", "ann"]
        port.close()

    in_loop(test)


def test_run_in_context_from_elsewhere(engine: FakeEngine) -> None:
    handler = Remembers()
    port = engine.port(handler)
    ann, bob = engine.connect(0), engine.connect(1)
    run_all(port)
    conn = handler.conns[ann]
    conn.run_in_context(user.set, "ann")
    assert user.get() == "nobody"
    assert conn.run_in_context(user.get) == "ann"
    assert conn.run_in_context(lambda *args, **names: (args, names, user.get()), 1, x=2) == ((1,), {"x": 2}, "ann")
    assert handler.conns[bob].run_in_context(user.get) == "nobody"
    engine.data(ann, b"")
    engine.data(bob, b"")
    run_all(port)
    assert seen(handler, ann) == ["ann"]
    assert seen(handler, bob) == ["nobody"]
    with pytest.raises(LookupError):
        conn.run_in_context({}.__getitem__, "missing")
    with pytest.raises(TypeError, match="a function to call is needed"):
        conn.run_in_context()  # type: ignore[call-arg]


def test_run_in_context_from_within(engine: FakeEngine) -> None:
    """In the callbacks of the connection itself, of another, and in its task."""

    class Within(Remembers):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            user.set(bytes(data).decode())
            self.note("own", conn, conn.run_in_context(user.get))
            for other in self.conns.values():
                if other is not conn:
                    other.run_in_context(user.set, f"{user.get()}'s")
                    self.note("others", conn, other.run_in_context(user.get), user.get())

        async def on_eof(self, conn: Connection) -> None:  # type: ignore[override]
            self.note("eof", conn, conn.run_in_context(user.get), user.get())

    handler = Within()

    async def test() -> None:
        port = engine.port(handler)
        ann, bob = engine.connect(0), engine.connect(1)
        port.run()
        for conn, name in ((ann, b"ann"), (ann, b"eve"), (bob, b"bob")):
            engine.data(conn, name)
        port.run()
        engine.eof(ann)
        engine.eof(bob)
        await settle(port)
        assert handler.calls[2:] == [
            ("own", ann, "ann"), ("others", ann, "ann's", "ann"),
            ("own", ann, "eve"), ("others", ann, "eve's", "eve"),
            ("own", bob, "bob"), ("others", bob, "bob's", "bob"),
            ("eof", ann, "bob's", "bob's"), ("eof", bob, "bob", "bob"),
        ]  # fmt: skip
        port.close()

    in_loop(test)


def test_a_context_that_was_left_for_another_cannot_be_entered_again(engine: FakeEngine) -> None:
    class Nests(Remembers):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            contextvars.copy_context().run(conn.run_in_context, user.get)

        def on_error(self, conn: Connection, exception: BaseException) -> bool:
            self.errors.append(exception)
            return True

    handler = Nests()
    port = engine.port(handler)
    engine.data(engine.connect(), b"x")
    run_all(port)
    assert ["already entered" in str(error) for error in handler.errors] == [True]


def test_of_a_connection_that_has_ended(engine: FakeEngine) -> None:
    handler = Remembers()
    port = engine.port(handler)
    ann, bob = engine.connect(0), engine.connect(1)
    engine.data(ann, b"ann")
    engine.disconnect(ann)
    engine.disconnect(bob)
    run_all(port)
    port.close()
    assert handler.conns[ann].run_in_context(user.get) == "ann"
    assert handler.conns[bob].run_in_context(user.set, "bob") is not None
    assert handler.conns[bob].run_in_context(user.get) == "bob"


def test_an_interrupt_leaves_the_thread_in_its_own_context(engine: FakeEngine) -> None:
    class Interrupted(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            user.set("interrupted")
            raise KeyboardInterrupt

    port = engine.port(Interrupted())
    engine.data(engine.connect(), b"x")

    def run() -> str:
        for _ in range(2):  # within the thread's context, and within the scratch
            with pytest.raises(KeyboardInterrupt):
                port.run()
        return contextvars.copy_context().run(user.get)

    mark: ContextVar[int] = ContextVar("mark")

    def within() -> int:
        mark.set(1)
        run()
        return mark.get()

    assert contextvars.copy_context().run(within) == 1


def test_in_a_thread_without_a_context(engine: FakeEngine) -> None:
    """Python makes a thread's context when it is first needed."""
    handler = Remembers()
    conns = [engine.connect(slot) for slot in range(2)]
    for conn in conns:
        engine.data(conn, b"set")

    def run() -> None:
        port = engine.port(handler)
        _thread.start_new_thread(lambda: (port.run(), done.set()), ())
        done.wait(20)
        port.close()

    done = threading.Event()
    run()
    assert [seen(handler, conn) for conn in conns] == [["nobody"], ["nobody"]]


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_loop_that_serves(engine: FakeEngine, spoilt: bool) -> None:
    """Its context may come out changed; tasks and timers, and whoever runs the loop, do not see that."""
    handler = Remembers()
    loop = WorkerLoop()
    port = engine.port(handler)
    loop.serve(port, "sleep")
    ann, none = engine.connect(0), engine.connect(1)

    async def main() -> None:
        for message in (b"ann" if spoilt else b"", b""):
            engine.data(ann, message)
            engine.data(none, b"")
        timer = loop.create_future()
        loop.call_later(0.001, lambda: timer.set_result(user.get()))
        assert await timer == "nobody"

    for _ in range(2):
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert seen(handler, ann) == ["nobody", *["ann" if spoilt else "nobody"] * 3]
    assert seen(handler, none) == ["nobody"] * 4
    assert user.get() == "nobody"
    loop.close()
    port.close()


def test_decimal_keeps_its_context_there(engine: FakeEngine) -> None:
    """The best known user of context variables."""
    precisions = {}

    class Computes(Recorder):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            if data:
                decimal.getcontext().prec = int(data)
            precisions.setdefault(conn.id, []).append(decimal.getcontext().prec)

    port = contextvars.Context().run(engine.port, Computes())  # pytest's has one already, and all would share it
    one, two = engine.connect(0), engine.connect(1)
    for conn, message in ((one, b"5"), (two, b"7"), (one, b""), (two, b"")):
        engine.data(conn, message)
    run_all(port)
    assert precisions == {one: [5, 5], two: [7, 7]}


def test_contexts_die_with_their_connections(engine: FakeEngine) -> None:
    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    held: ContextVar[Held] = ContextVar("held")

    class Holds(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            held.set(Held())

    def run() -> None:
        port = engine.port(Holds())
        for slot in range(100):
            conn = engine.connect(slot)
            engine.data(conn, b"x")
            engine.disconnect(conn)
            run_all(port)
            engine.take_releases()
        port.close()

    contextvars.Context().run(run)
    assert Held.alive == 0
