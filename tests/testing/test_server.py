"""Handlers on a simulated network: what the docstring of usnet_framework.testing.server promises to those who test
theirs."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable

import pytest
from support.served import LOSSY, connect, serve

from usnet_framework import CloseReason, Connection, Handler, Shard
from usnet_framework.testing import Network, Profile, SimulationFailed
from usnet_framework.testing.applications import Client, Sender
from usnet_framework.testing.stations import Offload


class Echo(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


class Shout(Handler):
    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(bytes(data).upper())


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("offload", ["none", "card", "virtual"])
def test_through_loss(offload: Offload, address: str) -> None:
    with Network(seed=7) as network:
        server = serve(network, Echo, LOSSY, offload=offload)
        senders = [Sender(100_000, echoed=True) for _ in range(3)]
        for sender in senders:
            connect(network, sender, address)
        assert network.run(60, until=lambda: all(sender.is_over for sender in senders))
        assert [sender.received for sender in senders] == [100_000] * 3
        assert server.statistics()["accepted"] == 3
        assert server.statistics()["tcp_retransmitted"] > 0


def test_what_a_client_gets_grows_in_place() -> None:
    """A copy of all for each piece would take most of the time of a test that receives megabytes."""
    with Network(seed=7) as network:
        serve(network, Shout)
        client = Client(b"hello" * 1000)
        connect(network, client)
        received = client.received
        assert network.run(60, until=lambda: client.received == b"HELLO" * 1000)
        assert client.received is received


def played(seed: int) -> bytes:
    capture = io.BytesIO()
    with Network(seed=seed, capture=capture) as network:
        serve(network, Shout, LOSSY)
        client = Client(b"hello" * 1000)
        connect(network, client)
        assert network.run(60, until=lambda: client.received == b"HELLO" * 1000)
    return capture.getvalue()


def test_equal_seeds_are_equal_to_the_byte() -> None:
    assert played(3) == played(3)
    assert played(3) != played(4)


def test_time_is_virtual_for_coroutines_and_timers() -> None:
    class Slow(Handler):
        async def on_start(self, shard: Shard) -> None:
            await asyncio.sleep(50)

        async def on_data(self, conn: Connection, data: memoryview) -> None:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(3600)
            conn.send(await asyncio.to_thread(bytes(data).upper))
            loop.call_later(5, conn.send, b", later")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.create_future(), 10)
            conn.send(b", at last")

    with Network() as network:
        serve(network, Slow)
        client = Client(b"once")
        connect(network, client)
        assert network.run(until=lambda: client.received == b"ONCE, later")
        assert network.now_s == pytest.approx(50 + 3600 + 5, abs=1e-3)
        assert network.run(until=lambda: client.received == b"ONCE, later, at last")
        assert network.now_s == pytest.approx(50 + 3600 + 10, abs=1e-3)


def test_a_handler_that_never_starts_is_said() -> None:
    class Stuck(Handler):
        async def on_start(self, shard: Shard) -> None:
            await asyncio.Event().wait()

    with Network() as network, pytest.raises(SimulationFailed, match="Stuck"):
        serve(network, Stuck)


def test_a_slow_peer_is_reported() -> None:
    class Giver(Handler):
        refused = drained = 0

        def on_connect(self, conn: Connection) -> None:
            conn.context = 4_000_000
            self.on_drain(conn)

        def on_drain(self, conn: Connection) -> None:
            type(self).drained += 1
            while conn.context:
                conn.context -= 40_000
                if not conn.send(bytes(40_000)):
                    type(self).refused += 1
                    return
            conn.close()

    class Sleeper(Client):
        def on_open(self) -> None:
            super().on_open()
            self.socket.set_option("receive_bytes", 20_000)

    with Network() as network:
        serve(network, Giver, Profile(delay_s=0.001))
        client = Sleeper()
        connect(network, client)
        assert network.run(600, until=lambda: client.is_over)
        assert len(client.received) == 4_000_000
    assert Giver.refused > 10
    assert Giver.drained == Giver.refused + 1 or Giver.drained == Giver.refused


def test_a_handler_that_pauses_closes_the_window() -> None:
    class Pauser(Handler):
        got = 0

        def on_data(self, conn: Connection, data: memoryview) -> None:
            type(self).got += len(data)
            conn.pause_reading()
            asyncio.get_running_loop().call_later(0.1, conn.resume_reading)

    with Network() as network:
        serve(network, Pauser)
        sender = Sender(8_000_000)
        connect(network, sender)
        network.run(1)
        assert 0 < Pauser.got < 4_000_000
        assert sender.sent < 8_000_000
        assert network.run(600, until=lambda: Pauser.got == 8_000_000)


def test_an_exception_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Fragile(Handler):
        closed: list[CloseReason] = []  # noqa: RUF012

        def on_data(self, conn: Connection, data: memoryview) -> None:
            conn.send(b"%d" % (10 // int(bytes(data))))

        def on_close(self, conn: Connection, reason: CloseReason) -> None:
            self.closed.append(reason)

    with Network() as network, caplog.at_level(logging.ERROR):
        serve(network, Fragile)
        good, bad = Client(b"5"), Client(b"0")
        connect(network, good)
        connect(network, bad)
        assert network.run(until=lambda: bad.is_over)
        assert (bad.reason, good.received) == ("reset", b"2")
        good.send(b"2")
        assert network.run(until=lambda: good.received == b"25")
        assert Fragile.closed == [CloseReason.ERROR]
    assert "ZeroDivisionError" in caplog.text


def test_idle_connections_are_closed_in_virtual_time() -> None:
    with Network() as network:
        serve(network, Echo, idle_timeout=300)
        client = Client(b"x")
        connect(network, client)
        assert network.run(until=lambda: client.is_over)
        assert 300 < network.now_s < 301


def test_connections_are_listed_and_counted() -> None:
    with Network() as network:
        server = serve(network, Echo)
        client = Client(b"hello")
        connect(network, client)
        network.run(until=lambda: client.received == b"hello")
        (connection,) = server.connections()
        assert (connection.peer[0], connection.bytes_in, connection.bytes_out) == ("10.0.0.100", 5, 5)
        client.close()
        network.run(1)
        assert list(server.connections()) == []


def test_the_deadline_of_a_start_that_is_over_keeps_no_network_going() -> None:
    with Network() as network:
        serve(network, Echo)
        assert not network.run(until=lambda: False)
        assert network.now_s < 60, "addresses are announced a few times"


def test_what_does_not_come_in_time_fails_the_test() -> None:
    with Network() as network:
        serve(network, Echo)
        client = Client(b"?")
        connect(network, client)
        network.run(until=lambda: client.received == b"?", limit=5)
        with pytest.raises(SimulationFailed, match="not there after 5 seconds of virtual time"):
            network.run(until=lambda: client.received == b"more", limit=5)


@pytest.mark.parametrize(
    "make", [lambda network: network.serve(Echo, "10.0.0.1"), lambda network: network.node("fd00::1")]
)
def test_an_address_without_its_prefix_is_refused(make: Callable[[Network], object]) -> None:
    """It would have no neighbours, and nothing would say why nobody answers."""
    with Network() as network, pytest.raises(ValueError, match="1: what is needed is an address with its prefix"):
        make(network)
