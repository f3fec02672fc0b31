"""New code under test: it starts beside the old, takes over as under `usnet-serve`, or is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.served import LOSSY, Count, Noted, connect, serve

from usnet_framework import Connection, Handler, Shard
from usnet_framework.testing import Network, Server, SimulationFailed
from usnet_framework.testing.applications import Client


class Old(Noted):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"old ")

    def on_shutdown(self, why: str, deadline: float) -> None:
        self.notes.append(f"told to {why} in {deadline - asyncio.get_running_loop().time():g} s")

    def on_stop(self) -> None:
        self.notes.append("stopped")


class New(Noted):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"new ")


class Slow(Noted):
    """Answers after as many seconds as it is asked to."""

    async def on_data(self, conn: Connection, data: memoryview) -> None:
        await asyncio.sleep(float(bytes(data)))
        conn.send(b"old ")


@pytest.fixture(autouse=True)
def _nothing_is_noted() -> None:
    for handler in (Old, New, Slow):
        handler.notes.clear()


def served(network: Network, client: Client, expected: bytes) -> None:
    client.send(b"?")
    network.run(until=lambda: client.received == expected, limit=5)


def over(network: Network, server: Server) -> None:
    network.run(until=lambda: not server.is_handing_over, limit=120)


def test_what_happens_in_which_order() -> None:
    class Newer(New):
        async def on_warm(self) -> None:
            self.notes.append("warming")
            await asyncio.sleep(1)
            self.notes.append("warm")

        async def on_start(self, shard: Shard) -> None:
            self.notes.append(f"starting {shard.serial}")
            await asyncio.sleep(1)
            self.notes.append("started")

    Newer.notes = Old.notes
    with Network() as network:
        server = serve(network, Old)
        client = connect(network, Client())
        served(network, client, b"old ")
        began_s = network.now_s
        network.clock.later(1.5, lambda: client.send(b"?"))
        server.reload(Newer)
        assert network.now_s - began_s == pytest.approx(2, abs=0.1)
        assert client.received == b"old old ", "it serves while the new one starts"
        over(network, server)
        served(network, client, b"old old new ")
        starts = ["warming", "warm", "starting 2", "started"]
        assert Old.notes == [*starts, "told to reload in 60 s", "stopped", "resumed"]


def test_replacements_are_of_the_new_code() -> None:
    with Network() as network:
        server = serve(network, Old)
        client = connect(network, Client())
        served(network, client, b"old ")
        server.reload(New)
        over(network, server)
        server.reload()
        over(network, server)
        server.kill_worker()
        served(network, client, b"old new ")
        assert (New.notes, server.deaths) == (["resumed"], 1)


def test_connections_move_one_by_one_as_they_are_done() -> None:
    with Network() as network:
        server = serve(network, Slow)
        idle, quick, slow = (connect(network, Client()) for _ in range(3))
        idle.send(b"0")
        quick.send(b"3")
        slow.send(b"9")
        network.run(0.1)
        began_s = network.now_s
        server.reload(New)
        assert network.now_s == began_s
        served(network, idle, b"old new ")
        served(network, connect(network, Client()), b"new ")
        assert network.now_s - began_s < 1
        assert quick.received == slow.received == b""
        slow.send(b"0")  # waits behind what is under way
        network.run(until=lambda: quick.received == b"old ", limit=5)
        served(network, quick, b"old new ")
        network.run(until=lambda: slow.received == b"old old ", limit=10)
        over(network, server)
        served(network, slow, b"old old new ")
        assert (New.notes, network.now_s - began_s) == (["resumed"] * 3, pytest.approx(9, abs=0.2))


def test_who_is_not_done_when_time_is_up_is_reset() -> None:
    with Network() as network:
        server = serve(network, Slow)
        quick, slow = (connect(network, Client(data)) for data in (b"6", b"9"))
        network.run(0.1)
        server.reload(New, overlap=5, timeout=2)
        network.run(until=lambda: slow.is_over, limit=10)
        assert network.now_s == pytest.approx(7, abs=0.2)
        assert (slow.received, slow.reason) == (b"", "reset")
        served(network, quick, b"old new ")


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (False, False)])
def test_connections_that_nobody_can_resume_stay_while_the_overlap_lasts(before: bool, after: bool) -> None:
    def plain(answer: bytes, resumes: bool) -> type[Handler]:
        def on_data(self: Handler, conn: Connection, data: memoryview) -> None:
            conn.send(answer)

        members: dict[str, Any] = {"on_data": on_data}
        if resumes:
            members["on_resume"] = lambda self, conn: None
        return type("Plain", (Handler,), members)

    with Network() as network:
        server = serve(network, plain(b"old ", before))
        client = connect(network, Client())
        served(network, client, b"old ")
        server.reload(plain(b"new ", after), overlap=30)
        served(network, connect(network, Client()), b"new ")
        network.run(29)
        served(network, client, b"old old ")
        assert server.is_handing_over
        network.run(until=lambda: client.is_over, limit=5)
        assert (client.reason, network.now_s) == ("reset", pytest.approx(30, abs=0.2))


def test_tasks_that_were_spawned_are_waited_for_and_others_are_not() -> None:
    class Spawns(Noted):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            self.spawn(self.work("short", 3))
            self.spawn(self.work("long", 30))
            self.task = asyncio.get_running_loop().create_task(self.work("own", 30))

        async def work(self, name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
                self.notes.append(f"{name} done")
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
                self.notes.append(f"{name} cancelled")
                raise

        def on_stop(self) -> None:
            self.notes.append("stopped")

    with Network() as network:
        server = serve(network, Spawns)
        client = connect(network, Client(b"x"))
        network.run(0.1)
        began_s = network.now_s
        server.reload(New, timeout=10)
        served(network, client, b"new ")
        over(network, server)
        assert network.now_s - began_s == pytest.approx(10.1, abs=0.1)
        assert Spawns.notes[:2] == ["short done", "stopped"]
        assert sorted(Spawns.notes[2:]) == ["long cancelled", "own cancelled"]


class Broken(New):
    where = ""

    def __init__(self) -> None:
        self.fail("init")

    async def on_warm(self) -> None:
        await asyncio.sleep(1)
        self.fail("warm")
        await self.hang("warm hangs")

    async def on_start(self, shard: Shard) -> None:
        await asyncio.sleep(1)
        if shard.shard == shard.seat == 1:
            self.fail("start")
        await self.hang("start hangs")

    def fail(self, where: str) -> None:
        if self.where == where:
            raise LookupError(f"no database for {where}")

    async def hang(self, where: str) -> None:
        if self.where == where:
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("where", "error", "match"),
    [
        ("init", LookupError, "no database for init"),
        ("warm", LookupError, "no database for warm"),
        ("start", LookupError, "no database for start"),
        ("warm hangs", SimulationFailed, r"Broken.on_warm took longer than 60 s \(--start-timeout\)"),
        ("start hangs", SimulationFailed, r"Broken.on_start took longer than 60 s \(--start-timeout\)"),
    ],
)
def test_new_code_that_does_not_start_changes_nothing(
    where: str, error: type[Exception], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "where", where)
    with Network() as network:
        server = serve(network, Old, queues=2, workers=2)
        handlers = server.handlers
        client = connect(network, Client())
        served(network, client, b"old ")
        with pytest.raises(error, match=match):
            server.reload(Broken)
        assert server.handlers == handlers
        served(network, client, b"old old ")
        assert (Old.notes, New.notes) == ([], [])
        server.kill_worker()
        assert isinstance(server.handler, Old)


def test_the_next_reload_waits_until_the_old_worker_has_left() -> None:
    with Network() as network:
        server = serve(network, Slow)
        connect(network, Client(b"9"))
        network.run(0.1)
        server.reload(Old)
        assert network.now_s < 1
        server.reload(New)
        assert network.now_s == pytest.approx(9, abs=0.2)
        assert isinstance(server.handler, New)


def test_the_successor_dies_while_the_old_worker_leaves() -> None:
    with Network() as network:
        server = serve(network, Slow)
        idle, slow = (connect(network, Client(data)) for data in (b"0", b"9"))
        network.run(0.1)
        server.reload(New)
        served(network, idle, b"old new ")
        server.kill_worker()
        served(network, idle, b"old new new ")
        network.run(until=lambda: slow.received == b"old ", limit=10)
        served(network, slow, b"old new ")


def test_a_stop_waits_for_old_workers_too() -> None:
    with Network() as network:
        server = serve(network, Slow)
        slow = connect(network, Client(b"4"))
        network.run(0.1)
        server.reload(Old)
        server.stop()
        assert (slow.received, network.now_s) == (b"old ", pytest.approx(5, abs=0.5))
        assert Old.notes == ["told to stop in 10 s", "stopped"]


def reload_twice(server: Server) -> None:
    server.reload(New)
    server.reload(New)  # the second one waits until the old worker has left


@pytest.mark.parametrize("end", [Server.stop, reload_twice])
def test_who_does_not_leave_is_said(end: Callable[[Server], None]) -> None:
    class Stays(Old):
        async def on_stop(self) -> None:
            await asyncio.sleep(12)

    with Network() as network:
        server = serve(network, Stays)
        with pytest.raises(SimulationFailed, match=r"Stays did not leave in time and was killed; look at on_stop"):
            end(server)


class SlowCount(Count):
    async def on_data(self, conn: Connection, data: memoryview) -> None:
        super().on_data(conn, data)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("handler", "kills"), [(SlowCount, False), (Count, True)])
def test_reloads_under_loss_lose_nothing(handler: type[Handler], kills: bool) -> None:
    with Network(seed=5) as network:
        server = serve(network, handler, LOSSY, workers=2)
        clients = [connect(network, Client()) for _ in range(6)]
        for number in range(20):
            for client in clients:
                client.send(b"x" * 10)
            network.run(0.003 * number)
            server.reload()
            if kills:
                server.kill_worker(worker=number % 2)
        expected = b"".join(b"%d " % number for number in range(200))
        network.run(until=lambda: all(client.received == expected for client in clients), limit=60)
