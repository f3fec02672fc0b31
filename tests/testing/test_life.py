"""The life of a worker under test: killed anywhere, and stopped, as `usnet-serve` does it."""

from __future__ import annotations

import asyncio

import pytest
from support.served import LOSSY, Count, Noted, connect, serve

from usnet_framework import CloseReason, Connection, Handler, Shard
from usnet_framework.testing import Network, SimulationFailed
from usnet_framework.testing.applications import Client

# SIGKILL.


class Careful(Noted):
    """Answers each message once, by a try that has everything that a killed process does not get to."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        try:
            self.notes.append("began")
            conn.send(bytes(data).upper())
            conn.state = bytes(data)
            self.notes.append("sent")
        finally:
            self.notes.append("finally")


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        (0, []),
        (1, []),  # the try
        (2, ["began"]),
        (3, ["began"]),
        (4, ["began"]),
        (5, ["began", "sent"]),
        (None, ["began", "sent", "finally"]),
    ],
)
def test_nothing_runs_after_the_line_where_it_dies(line: int | None, notes: list[str]) -> None:
    Careful.notes.clear()
    with Network() as network:
        server = serve(network, Careful)
        client = Client()
        connect(network, client)
        network.run(1)
        client.send(b"once")
        first = server.handler
        server.kill_worker(during="on_data", line=line)
        network.run(until=lambda: client.received == b"ONCE", limit=10)
        assert Careful.notes == [*notes, "resumed", "began", "sent", "finally"]
        assert (server.deaths, first is server.handler) == (1, False)
        network.run(10)
        assert client.received == b"ONCE", "and not twice"
        (connection,) = server.connections()
        assert connection.state == "open"


def test_a_line_that_is_not_reached_kills_nobody() -> None:
    with Network() as network:
        server = serve(network, Careful)
        client = Client(b"a")
        connect(network, client)
        server.kill_worker(during="on_data", line=7)
        network.run(until=lambda: client.received == b"A", limit=10)
        assert server.deaths == 0
        server.kill_worker(during="on_data")
        client.send(b"b")
        network.run(until=lambda: client.received == b"AB", limit=10)
        assert server.deaths == 1


def test_a_coroutine_dies_where_it_waits_and_its_connection_with_it() -> None:
    class Waits(Noted):
        async def on_data(self, conn: Connection, data: memoryview) -> None:
            self.notes.append("began")
            try:
                await asyncio.sleep(1)
                conn.send(b"too late")
            finally:
                self.notes.append("finally")

    for during in ("on_data", None):
        Waits.notes.clear()
        with Network() as network:
            server = serve(network, Waits)
            client = Client(b"x")
            connect(network, client)
            if during is None:
                network.run(0.5)
            server.kill_worker(during=during)
            network.run(until=lambda: client.is_over, limit=5)  # noqa: B023
            assert (client.reason, server.deaths) == ("reset", 1)
            network.run(10)
        assert Waits.notes == ["began"], "not when the test is over either"


def test_what_was_scheduled_does_not_happen() -> None:
    class Later(Noted):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            asyncio.get_running_loop().call_later(1, self.notes.append, "later")
            self.task = asyncio.get_running_loop().create_task(self.work())

        async def work(self) -> None:
            with self:
                await asyncio.sleep(2)

        def __enter__(self) -> None:
            self.notes.append("entered")

        def __exit__(self, *_: object) -> None:
            self.notes.append("left")

        def __del__(self) -> None:
            self.notes.append("freed")

    with Network() as network:
        server = serve(network, Later)
        client = Client(b"x")
        connect(network, client)
        network.run(0.5)
        server.kill_worker()
        network.run(10)
        assert Later.notes == ["entered"]


def test_an_event_that_kills_twice_is_poison() -> None:
    class Fragile(Noted):
        closed: list[CloseReason] = []  # noqa: RUF012

        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(data)

        def on_close(self, conn: Connection, reason: CloseReason) -> None:
            self.closed.append(reason)

    with Network() as network:
        server = serve(network, Fragile)
        poison, innocent = Client(), Client()
        connect(network, innocent)
        connect(network, poison)
        network.run(until=lambda: len(list(server.connections())) == 2, limit=5)
        server.kill_worker(during="on_data", line=0, times=2)
        poison.send(b"poison")
        network.run(until=lambda: poison.is_over, limit=5)
        assert (poison.reason, poison.received, server.deaths) == ("reset", b"", 2)
        innocent.send(b"hello")
        network.run(until=lambda: innocent.received == b"hello", limit=5)
        assert Fragile.closed == [CloseReason.POISONED]


def test_killed_at_every_line_under_loss() -> None:
    with Network(seed=5) as network:
        server = serve(network, Count, LOSSY)
        client = Client()
        connect(network, client)
        for number in range(60):
            server.kill_worker(during="on_data", line=number % 12)
            client.send(b"x" * 3)
            network.run(0.1)
        expected = b"".join(b"%d " % number for number in range(180))
        network.run(until=lambda: client.received == expected, limit=60)
        assert server.deaths > 10


def test_connections_survive_a_worker_whose_handler_can_resume() -> None:
    with Network(seed=5) as network:
        server = serve(network, Count, LOSSY)
        clients = [Client() for _ in range(4)]
        for client in clients:
            connect(network, client)
        resumed = 0
        for _ in range(40):
            for client in clients:
                client.send(b"x" * 10)
            network.run(network.seed * 0.004)  # wherever they are by then
            server.kill_worker()
            network.run(0.05)
            assert isinstance(server.handler, Count)
            resumed += len(server.handler.resumed)
        expected = b"".join(b"%d " % number for number in range(400))
        assert network.run(60, until=lambda: all(client.received == expected for client in clients))
        assert resumed > 10


def test_connections_end_with_a_worker_whose_handler_cannot() -> None:
    class Shout(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(bytes(data).upper())

    with Network() as network:
        server = serve(network, Shout)
        client = Client(b"one")
        connect(network, client)
        assert network.run(until=lambda: client.received == b"ONE")
        server.kill_worker()
        assert network.run(until=lambda: client.is_over)
        assert client.reason == "reset"
        another = Client(b"two")
        connect(network, another)
        assert network.run(until=lambda: another.received == b"TWO")


def test_in_a_method_that_a_callback_calls() -> None:
    class Lines(Noted):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            for line in bytes(data).splitlines():
                self.on_line(conn, line)

        def on_line(self, conn: Connection, line: bytes) -> None:
            conn.send(line)
            self.notes.append(line.decode())

    with Network() as network:
        server = serve(network, Lines)
        server.kill_worker(during="on_line", line=1)
        client = connect(network, Client(b"a\nb\n"))
        network.run(until=lambda: client.received == b"ab", limit=10)
        assert (Lines.notes, server.deaths) == (["a", "b"], 1)


@pytest.mark.parametrize(
    ("during", "expected"),
    [
        ("on_date", "Careful has no 'on_date'"),
        ("on_start", "'on_start' is over when a worker serves"),
        ("on_drain", "Careful does not override 'on_drain'"),
        ("notes", "'notes' has no lines of Python"),
    ],
)
def test_where_nobody_can_die_is_said(during: str, expected: str) -> None:
    with Network() as network, pytest.raises(ValueError, match=expected):
        serve(network, Careful).kill_worker(during=during)


def test_a_replacement_that_still_starts_is_waited_for() -> None:
    class Starts(Careful):
        async def on_start(self, shard: Shard) -> None:
            await asyncio.sleep(1)

    with Network() as network:
        server = serve(network, Starts)
        client = connect(network, Client(b"a"))
        server.kill_worker(during="on_data", line=0)
        network.run(until=lambda: server.deaths == 1, limit=5)
        server.kill_worker(during="on_data", line=0)
        assert network.now_s == pytest.approx(2, abs=0.1)
        client.send(b"b")
        network.run(until=lambda: client.received == b"AB", limit=5)
        assert server.deaths == 2


# The end.


def test_what_is_open_gets_its_time() -> None:
    class Polite(Noted):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(data)

        async def on_shutdown(self, why: str, deadline: float) -> None:
            self.notes.append(f"told to {why} in {deadline - asyncio.get_running_loop().time():g} s")

        def on_stop(self) -> None:
            self.notes.append("stopped")

    with Network() as network:
        server = serve(network, Polite)
        leaving, staying = Client(b"a"), Client(b"b")
        connect(network, leaving)
        connect(network, staying)
        network.run(1)
        network.clock.later(0.9, lambda: staying.send(b"c"))
        began_s = network.now_s
        server.stop(timeout=5)
        assert network.now_s - began_s == pytest.approx(1.9, abs=0.2), "a second later nothing had been left to do"
        assert staying.received == b"bc", "it was served while that was not known"
        network.run(until=lambda: staying.is_over and leaving.is_over, limit=1)
        assert staying.reason == "close"
        assert Polite.notes == ["told to stop in 5 s", "stopped"]
        late = Client(b"d")
        connect(network, late)
        network.run(until=lambda: late.is_over, limit=10)
        for gone in (server.stop, server.reload):
            with pytest.raises(SimulationFailed, match="has stopped"):
                gone()
    assert len(Polite.notes) == 2, "once"


def test_killed_as_it_leaves() -> None:
    class Leaves(Noted):
        def on_stop(self) -> None:
            self.notes.append("stopping")
            self.notes.append("stopped")

    with Network() as network:
        server = serve(network, Leaves)
        client = connect(network, Client(b"x"))
        network.run(1)
        server.kill_worker(during="on_stop", line=1)
        server.stop()
        network.run(until=lambda: client.is_over, limit=1)
        assert (Leaves.notes, server.deaths) == (["stopping"], 1)


def test_who_is_busy_gets_all_the_time_that_there_is() -> None:
    class Slow(Noted):
        async def on_data(self, conn: Connection, data: memoryview) -> None:
            await asyncio.sleep(int(bytes(data)))
            conn.send(b"done")

        async def on_shutdown(self, why: str, deadline: float) -> None:
            await asyncio.sleep(1)
            self.notes.append(why)

    with Network() as network:
        server = serve(network, Slow, queues=2)
        quick, slow = Client(b"3"), Client(b"9")
        connect(network, quick)
        connect(network, slow)
        network.run(0.1)
        began_s = network.now_s
        server.stop(timeout=5)
        assert network.now_s - began_s == pytest.approx(5, abs=0.2)
        network.run(until=lambda: quick.is_over and slow.is_over, limit=1)
        assert (quick.received, slow.received) == (b"done", b"")
        assert Slow.notes == ["stop", "stop"]


def test_an_idle_server_stops_at_once() -> None:
    with Network() as network:
        server = serve(network, Careful)
        began_s = network.now_s
        server.stop(timeout=60)
        assert network.now_s - began_s < 1


def test_the_end_is_that_of_a_server() -> None:
    ended = []

    class Ends(Handler):
        async def on_stop(self) -> None:
            await asyncio.sleep(1)
            ended.append(True)

    with Network() as network:
        serve(network, Ends)
        connect(network, Client())
        network.run(1)
    assert ended
