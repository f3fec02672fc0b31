"""The life of a worker under test: killed anywhere, replaced by new code, stopped, as `usnet-serve` does it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from usnet_framework import CloseReason, Connection, Handler, Shard
from usnet_framework.testing import Network, Profile, Server, SimulationFailed
from usnet_framework.testing.applications import Client
from usnet_framework.testing.network import Application

LOSSY = Profile(delay_s=0.02, loss=0.05)


class Noted(Handler):
    """Writes down what it does, for all instances of a class."""

    notes: list[str]

    def __init_subclass__(cls) -> None:
        cls.notes = []

    def on_resume(self, conn: Connection) -> None:
        self.notes.append("resumed")


def connect(network: Network, application: Application) -> None:
    number = len(network.nodes) + 100
    network.node(f"10.0.0.{number}/24").connect(("10.0.0.1", 7000), application)


def serve(network: Network, handler: type[Handler], **options: Any) -> Server:
    return network.serve(handler, "10.0.0.1/24", **options)


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
    class Count(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            count = int.from_bytes(conn.state)
            for _ in data:
                conn.send(b"%d " % count)
                count += 1
            conn.state = count.to_bytes(4)

        def on_resume(self, conn: Connection) -> None: ...

    with Network(seed=5) as network:
        server = serve(network, Count, up=LOSSY, down=LOSSY)
        client = Client()
        connect(network, client)
        for number in range(60):
            server.kill_worker(during="on_data", line=number % 12)
            client.send(b"x" * 3)
            network.run(0.1)
        expected = b"".join(b"%d " % number for number in range(180))
        network.run(until=lambda: client.received == expected, limit=60)
        assert server.deaths > 10


@pytest.mark.parametrize(("during", "expected"), [("on_date", "a worker may die in"), ("on_start", "may die in")])
def test_where_nobody_can_die_is_said(during: str, expected: str) -> None:
    with Network() as network, pytest.raises(ValueError, match=expected):
        serve(network, Careful).kill_worker(during=during)


# New code.


class Old(Noted):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"old ")

    def on_stop(self) -> None:
        self.notes.append("stopped")


class New(Noted):
    async def on_warm(self) -> None:
        await asyncio.sleep(1)
        self.warm = True

    async def on_start(self, shard: Shard) -> None:
        assert self.warm
        await asyncio.sleep(1)
        self.notes.append(f"started {shard.serial}, the old one {'has' if Old.notes else 'has not'} stopped")

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"new ")


def test_new_code_serves_the_same_connections() -> None:
    Old.notes.clear()
    New.notes.clear()
    with Network() as network:
        server = serve(network, Old)
        client = Client(b"?")
        connect(network, client)
        network.run(until=lambda: client.received == b"old ", limit=5)
        server.reload(New)
        client.send(b"?")
        network.run(until=lambda: client.received == b"old new ", limit=5)
        assert (Old.notes, New.notes) == (["stopped"], ["started 2, the old one has not stopped", "resumed"])
        server.reload()
        assert isinstance(server.handler, New)
        server.kill_worker()
        assert isinstance(server.handler, New), "a replacement has the new code"
        assert server.deaths == 1


def test_new_code_that_does_not_start_changes_nothing() -> None:
    class Broken(New):
        async def on_start(self, shard: Shard) -> None:
            await asyncio.sleep(1)
            raise LookupError("no database")

    Old.notes.clear()
    with Network() as network:
        server = serve(network, Old)
        client = Client(b"?")
        connect(network, client)
        with pytest.raises(LookupError, match="no database"):
            server.reload(Broken)
        client.send(b"?")
        network.run(until=lambda: client.received == b"old old ", limit=5)
        assert Old.notes == []
        server.kill_worker()
        assert isinstance(server.handler, Old)


def test_the_old_code_finishes_what_it_began() -> None:
    class Slow(Old):
        async def on_data(self, conn: Connection, data: memoryview) -> None:
            await asyncio.sleep(int(bytes(data)))
            conn.send(b"old ")

    with Network() as network:
        server = serve(network, Slow)
        quick, slow = Client(b"3"), Client(b"9")
        connect(network, quick)
        connect(network, slow)
        network.run(0.1)
        server.reload(New, timeout=5)
        assert quick.received == b"old "
        quick.send(b"?")
        network.run(until=lambda: quick.received == b"old new ", limit=5)
        assert slow.reason == "reset", "it had five seconds"


def test_connections_of_a_handler_that_cannot_resume_are_reset() -> None:
    class Plain(Handler):
        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(data)

    with Network() as network:
        server = serve(network, Plain)
        client = Client(b"x")
        connect(network, client)
        network.run(until=lambda: client.received == b"x", limit=5)
        server.reload()
        network.run(until=lambda: client.is_over, limit=5)
        assert client.reason == "reset"


# Several shards.


class Place(Noted):
    """Answers with the number of its shard."""

    async def on_start(self, shard: Shard) -> None:
        self.number = shard.shard

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"%d " % self.number)


@pytest.mark.parametrize("profile", [Profile(), LOSSY], ids=["perfect", "lossy"])
def test_connections_are_spread_over_shards_and_stay_there(profile: Profile) -> None:
    Place.notes.clear()
    with Network(seed=3) as network:
        server = serve(network, Place, queues=3, up=profile, down=profile)
        clients = [Client(b"?") for _ in range(24)]
        for client in clients:
            connect(network, client)
        network.run(until=lambda: all(client.received for client in clients), limit=60)
        shards = [int(client.received) for client in clients]
        assert {0, 1, 2} == set(shards)
        assert [handler.number for handler in server.handlers] == [0, 1, 2]  # type: ignore[attr-defined]
        assert server.statistics()["accepted"] == len(list(server.connections())) == 24
        server.kill_worker(shard=1)
        for client in clients:
            client.send(b"?")
        network.run(until=lambda: all(len(client.received) == 4 for client in clients), limit=60)
        assert [client.received for client in clients] == [b"%d %d " % (shard, shard) for shard in shards]
        assert Place.notes == ["resumed"] * shards.count(1)
        server.reload()
        for client in clients:
            client.send(b"?")
        network.run(until=lambda: all(len(client.received) == 6 for client in clients), limit=60)
        assert Place.notes == ["resumed"] * (shards.count(1) + len(clients))
        server.stop(timeout=1)
        network.run(until=lambda: all(client.is_over for client in clients), limit=60)


def test_a_frame_that_comes_to_the_wrong_shard_finds_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usnet_framework.testing.server.flow", lambda frame: None)  # a card that knows nothing of flows
    with Network(seed=3) as network:
        server = serve(network, Place, queues=3)
        clients = [Client(b"?") for _ in range(12)]
        for client in clients:
            connect(network, client)
        network.run(until=lambda: all(client.received for client in clients), limit=10)
        assert len({bytes(client.received) for client in clients}) > 1
        statistics = server.statistics()
        assert statistics["ip_taken_over"] >= statistics["ip_handed_over"] > 12


def test_of_a_reload_that_fails_half_way_the_rest_stays_old() -> None:
    class Once(Place):
        async def on_start(self, shard: Shard) -> None:
            await super().on_start(shard)
            if shard.shard == 1:
                raise LookupError("no more licences")

    with Network() as network:
        server = serve(network, Place, queues=3)
        with pytest.raises(LookupError):
            server.reload(Once)
        assert [type(handler) for handler in server.handlers] == [Once, Place, Place]


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
        server = serve(network, Old)
        began_s = network.now_s
        server.stop(timeout=60)
        assert network.now_s - began_s < 1


# Waiting.


def test_what_does_not_come_in_time_fails_the_test() -> None:
    with Network() as network:
        serve(network, Old)
        client = Client(b"?")
        connect(network, client)
        network.run(until=lambda: client.received == b"old ", limit=5)
        with pytest.raises(SimulationFailed, match="not there after 5 seconds of virtual time"):
            network.run(until=lambda: client.received == b"more", limit=5)
