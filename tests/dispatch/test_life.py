"""The life of a worker: what comes in which order, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress

import pytest
from support.lives import PATIENCE_S, Life, pipe
from support.server import wait

from usnet_framework.app import misspelt_callbacks
from usnet_framework.handler import Handler

SAYS = """
def say(text):
    print(text, file=sys.stderr, flush=True)
"""


def said(log: str) -> list[str]:
    """What the handler said; log lines begin with a time."""
    return [line for line in log.splitlines() if not line.startswith("20")]


ORDER = SAYS + """
class App(Handler):
    def __init__(self):
        say("made")

    async def on_warm(self):
        await asyncio.sleep(0.01)
        self.background = asyncio.create_task(self.beat())
        say("warm")

    async def beat(self):
        try:
            await asyncio.sleep(3600)
        finally:
            say("beat ended")

    async def on_start(self, shard):
        await asyncio.sleep(0.01)
        say(f"start {shard.serial} {not self.background.done()}")

    def on_data(self, conn, data):
        conn.send(data)

    def on_shutdown(self, why, deadline):
        say(f"shutdown {why} {0 < deadline - time.monotonic() <= 3600}")

    async def on_stop(self):
        await asyncio.sleep(0.01)
        say("stop")
"""


def test_the_order_of_life() -> None:
    with Life(ORDER) as life:
        life.serve()
        conn = life.engine.connect()
        life.data(conn, b"x")
        assert life.output(conn, 1) == b"x"
        life.tell("yield", timeout=PATIENCE_S)
        life.data(conn, b"y")
        assert life.output(conn, 1) == b"y"
        status, log = life.leaves()
        assert status == 0
        assert said(log) == ["made", "warm", "start 1 True", "shutdown reload True", "stop", "beat ended"]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (["drain"], ["stop"]),
        (["yield", "drain"], ["reload", "stop"]),
        ([], ["reload"]),
    ],
)
def test_why_it_is_shut_down(told: list[str], why: list[str]) -> None:
    with Life(ORDER) as life:
        life.serve()
        for kind in told:
            life.tell(kind, timeout=PATIENCE_S)
        _, log = life.leaves()
        assert [line.split()[1] for line in said(log) if line.startswith("shutdown")] == why


@pytest.mark.parametrize("started", [False, True])
def test_one_that_never_served_leaves_too(started: bool) -> None:
    with Life(ORDER) as life:
        life.start() if started else life.hears()
        if started:
            assert life.hears() == {"type": "started"}
        status, log = life.leaves()
        assert status == 0
        ends = ["start 1 True", "shutdown reload True", "stop"] if started else []
        assert said(log) == ["made", "warm", *ends, "beat ended"]


@pytest.mark.parametrize(
    ("where", "what", "error"),
    [
        ("def __init__(self)", "making the handler", "LookupError('why')"),
        ("def __init__(self)", "making the handler", "SystemExit('why')"),
        ("def on_warm(self)", "on_warm", "LookupError('why')"),
        ("async def on_warm(self)", "on_warm", "SystemExit('why')"),
        ("async def on_warm(self)", "on_warm", "asyncio.CancelledError('why')"),
        ("async def on_start(self, shard)", "on_start", "LookupError('why')"),
        ("async def on_start(self, shard)", "on_start", "asyncio.CancelledError('why')"),
    ],
)
def test_what_raises_before_it_serves_is_told(where: str, what: str, error: str) -> None:
    with Life(f"class App(Handler):\n    {where}: raise {error}\n") as life:
        if what == "on_start":
            life.start()
        message = life.hears()
        name = error.partition("(")[0].rpartition(".")[2]
        assert message == {"type": "failed", "error": f"app:App: {what} failed: {name}: why (<string>:6)"}
        status, log = life.ends()
        assert status == 3
        assert log == ""


def test_a_port_that_is_none_is_told() -> None:
    with Life("class App(Handler): pass") as life:
        life.start()
        assert life.hears() == {"type": "started"}
        with open("/dev/null", "rb") as null:
            life.tell("attach", [null.fileno()] * 4, port=0)
            message = life.hears()
        assert message is not None
        assert message["type"] == "failed"
        assert message["error"].startswith("app:App: taking its seat failed: ")


HANDLES = SAYS + """
class App(Handler):
    async def on_data(self, conn, data):
        say("begins")
        try:
            await asyncio.sleep(float(data))
            conn.send(data)
        finally:
            say("finally")

    def on_error(self, conn, exception):
        say("on_error")
"""


def test_callbacks_that_are_in_time_are_waited_for() -> None:
    with Life(HANDLES) as life:
        life.serve()
        conn = life.engine.connect()
        life.data(conn, b"0.2")
        wait_for_task(life, conn)
        life.tell("retire", timeout=PATIENCE_S)
        assert life.hears() == {"type": "left"}
        assert life.output(conn, 3) == b"0.2"
        assert said(life.ends()[1]) == ["begins", "finally"]
        assert not life.engine.is_dirty(conn)


def test_callbacks_that_are_not_are_cancelled() -> None:
    """Their finally blocks run by cancellation, not by the garbage collector; nobody is asked what to make of it."""
    with Life(HANDLES) as life:
        life.serve()
        conn = life.engine.connect()
        life.data(conn, b"3600")
        wait_for_task(life, conn)
        life.tell("retire", timeout=0.1)
        assert life.hears() == {"type": "left"}
        status, log = life.ends()
        assert status == 0
        assert said(log) == ["begins", "finally"]
        assert "connections reset, not finished in time (--graceful-timeout): 1" in log
        assert "Task was destroyed" not in log


def wait_for_task(life: Life, conn: int) -> None:
    wait("a task runs", lambda: life.engine.is_dirty(conn))


def test_what_finally_blocks_send_arrives() -> None:
    application = """
    class App(Handler):
        async def on_data(self, conn, data):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                conn.send(b"sorry")
                conn.close()
    """
    with Life(application) as life:
        life.serve()
        conn = life.engine.connect()
        life.data(conn, b"x")
        wait_for_task(life, conn)
        life.tell("retire", timeout=0.1)
        assert life.hears() == {"type": "left"}
        assert life.output(conn, 5) == b"sorry"
        assert not life.engine.is_dirty(conn)


def test_tasks_that_will_not_be_cancelled_are_left_behind() -> None:
    application = SAYS + """
class App(Handler):
    async def on_start(self, shard):
        self.task = asyncio.create_task(self.stay())
        self.generator = self.generate()
        await anext(self.generator)

    async def stay(self):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def generate(self):
        yield
"""
    with Life(application) as life:
        life.serve()
        status, log = life.leaves()
        assert status == 0
        assert "tasks that go on after they were cancelled, and are left behind: 1" in log
        assert "Task was destroyed" not in log


def test_asynchronous_generators_are_closed() -> None:
    application = SAYS + """
class App(Handler):
    async def on_start(self, shard):
        self.generator = self.generate()
        await anext(self.generator)

    async def generate(self):
        try:
            yield
        finally:
            await asyncio.sleep(0)
            say("closed")
"""
    with Life(application) as life:
        life.serve()
        assert said(life.leaves()[1]) == ["closed"]


def test_left_is_said_before_threads_and_exit_hooks() -> None:
    application = """
    import atexit
    atexit.register(time.sleep, 3600)

    class App(Handler):
        def on_start(self, shard):
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    """
    with Life(application) as life:
        life.serve()
        life.tell("retire", timeout=PATIENCE_S)
        assert life.hears() == {"type": "left"}
        assert life.process.poll() is None


def test_spawned_tasks_are_waited_for_and_connections_are_not_theirs() -> None:
    application = SAYS + """
class App(Handler):
    def on_data(self, conn, data):
        self.spawn(self.work(float(data)))
        conn.send(b"begun")

    async def work(self, seconds):
        await asyncio.sleep(seconds)
        say("worked")
        raise LookupError("afterwards")
"""
    with Life(application) as life:
        life.serve()
        conn = life.engine.connect()
        life.data(conn, b"0.2")
        assert life.output(conn, 5) == b"begun"
        assert not life.engine.is_dirty(conn)
        log = life.leaves()[1]
        assert "worked" in log
        assert "a spawned task raised" in log
        assert "LookupError: afterwards" in log


def test_a_shutdown_that_is_a_coroutine_is_waited_for() -> None:
    application = SAYS + """
class App(Handler):
    async def on_shutdown(self, why, deadline):
        await asyncio.sleep(0.2)
        say("done")
"""
    with Life(application) as life:
        life.serve()
        assert said(life.leaves()[1]) == ["done"]


def test_on_shutdown_may_end_idle_connections() -> None:
    application = """
    class App(Handler):
        def __init__(self):
            self.conns = set()

        def on_connect(self, conn):
            self.conns.add(conn)
            conn.send(b"hello")

        async def on_data(self, conn, data):
            await asyncio.sleep(float(data))
            conn.send(data)

        def on_shutdown(self, why, deadline):
            for conn in self.conns:
                conn.close_when_idle()
    """
    with Life(application) as life:
        life.serve()
        idle, busy = life.engine.connect(0), life.engine.connect(1)
        life.data(busy, b"0.2")
        wait_for_task(life, busy)
        life.tell("drain", timeout=PATIENCE_S)
        closed: list[int] = []

        def both_closed() -> bool:
            closed.extend(command.conn for command in life.engine.take() if command.op.name == "CLOSE")
            return len(closed) == 2

        wait("both are closed", both_closed)
        assert closed == [idle, busy]


def test_context_variables_of_on_start_are_those_of_connections() -> None:
    application = SAYS + """
variable = contextvars.ContextVar("variable", default="nothing")

class App(Handler):
    async def on_warm(self):
        variable.set("warm")

    def on_start(self, shard):
        variable.set(variable.get() + " start")

    def on_data(self, conn, data):
        conn.send(variable.get().encode())
        variable.set("data")

    def on_shutdown(self, why, deadline):
        say(variable.get())

    def on_stop(self):
        say(variable.get())
"""
    with Life(application) as life:
        life.serve()
        for slot in range(2):
            conn = life.engine.connect(slot)
            life.data(conn, b"x")
            assert life.output(conn, 10) == b"warm start"
        assert said(life.leaves()[1]) == ["warm start", "warm start"]


@pytest.mark.parametrize("end", ["sys.exit(9)", "asyncio.get_running_loop().stop()"])
def test_a_handler_that_ends_its_worker(end: str) -> None:
    """One that exits dies as if it were killed: no finally block runs. Nothing is said of tasks that were pending."""
    application = f"""
    class App(Handler):
        def on_start(self, shard):
            self.task = asyncio.create_task(self.wait())

        async def wait(self):
            try:
                await asyncio.sleep(3600)
            finally:
                print("finally", file=sys.stderr)

        def on_data(self, conn, data):
            {end}
    """
    with Life(application) as life:
        life.serve()
        life.data(life.engine.connect(), b"x")
        assert life.hears() is None
        status, log = life.ends()
        assert status == (9 if "exit" in end else 0)
        assert log == ("" if "exit" in end else "finally\n")


@pytest.mark.parametrize("callback", ["__init__(self)", "on_warm(self)", "on_start(self, shard)"])
def test_a_fork_that_comes_back_before_there_is_a_port(callback: str) -> None:
    application = f"""
    class App(Handler):
        def {callback}:
            if (pid := os.fork()) != 0:
                os.waitpid(pid, 0)
    """
    with Life(application) as life:
        life.serve()
        status, log = life.leaves()
        assert status == 0
        assert log.count("a fork of this worker came back from its callback") == 1


def test_it_shows_its_stack_while_it_hangs() -> None:
    ours, theirs = pipe()
    application = """
    class App(Handler):
        def on_data(self, conn, data):
            self.hang_here()

        def hang_here(self):
            print("hangs", file=sys.stderr, flush=True)
            while True:
                pass
    """
    with Life(application, stack_fd=theirs) as life:
        os.close(theirs)
        life.serve()
        life.data(life.engine.connect(), b"x")
        assert life.process.stderr is not None
        assert life.process.stderr.readline() == "hangs\n"
        life.process.send_signal(signal.SIGRTMIN + 1)
        stack = os.read(ours, 65536).decode()
        deadline = time.monotonic() + 20
        while "run_forever" not in stack and time.monotonic() < deadline:
            stack += os.read(ours, 65536).decode()
        assert re.search(r'File "<string>", line \d+ in hang_here\n  File "<string>", line 8 in on_data', stack)
        assert life.process.poll() is None
    with suppress(OSError):
        os.close(ours)


def test_misspelt_names_of_new_callbacks_are_found() -> None:
    class App(Handler):
        def on_shutdwon(self, why: str, deadline: float) -> None: ...
        def on_warmup(self) -> None: ...

    assert misspelt_callbacks(App) == {"on_shutdwon": "on_shutdown", "on_warmup": "on_warm"}
