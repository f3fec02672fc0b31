"""Servers under test of several shards and workers."""

from __future__ import annotations

import pytest
from support.served import LOSSY, Noted, connect, serve

from usnet_framework import Connection, Shard
from usnet_framework.testing import Network, Profile
from usnet_framework.testing.applications import Client


class Place(Noted):
    """Answers with the numbers of its shard and worker, and how many workers were there before."""

    async def on_start(self, shard: Shard) -> None:
        self.name = b"%d.%d" % (shard.shard, shard.seat)
        self.replaced = shard.serial - 1

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(b"%b/%d " % (self.name, self.replaced))


def ask(network: Network, clients: list[Client]) -> list[str]:
    """What each answers now."""
    for client in clients:
        client.received.clear()
        client.send(b"?")
    network.run(until=lambda: all(client.received.endswith(b" ") for client in clients), limit=60)
    return [client.received.decode().strip() for client in clients]


@pytest.mark.parametrize(
    ("profile", "address"), [(Profile(), "10.0.0.1"), (LOSSY, "fd00::1")], ids=["perfect-4", "lossy-6"]
)
@pytest.mark.parametrize(
    ("queues", "workers", "places"), [(3, 1, ["0.0", "1.0", "2.0"]), (2, 2, ["0.0", "0.1", "1.0", "1.1"])]
)
def test_connections_are_spread_and_stay_there(
    profile: Profile, address: str, queues: int, workers: int, places: list[str]
) -> None:
    Place.notes.clear()
    with Network(seed=3) as network:
        server = serve(network, Place, profile, queues=queues, workers=workers)
        clients = [connect(network, Client(), address) for _ in range(24)]
        first = ask(network, clients)
        assert sorted(set(first)) == [f"{place}/0" for place in places]
        assert [handler.name.decode() for handler in server.handlers] == places  # type: ignore[attr-defined]
        assert server.statistics()["accepted"] == len(list(server.connections())) == 24
        killed = places[-1]
        server.kill_worker(shard=queues - 1, worker=workers - 1)
        assert ask(network, clients) == [one.replace(f"{killed}/0", f"{killed}/1") for one in first]
        assert Place.notes == ["resumed"] * first.count(f"{killed}/0")
        server.reload()
        network.run(until=lambda: not server.is_handing_over, limit=60)
        assert ask(network, clients) == [one.replace("/0", "/2" if one.startswith(killed) else "/1") for one in first]
        assert Place.notes == ["resumed"] * (first.count(f"{killed}/0") + len(clients))
        server.stop(timeout=1)
        network.run(until=lambda: all(client.is_over for client in clients), limit=60)


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_a_flow_comes_to_the_right_shard(address: str) -> None:
    """Of neighbours all shards have to hear, so what is counted begins when they know them."""
    with Network(seed=3) as network:
        server = serve(network, Place, queues=3)
        clients = [connect(network, Client(), address) for _ in range(12)]
        ask(network, clients)
        before = server.statistics()["ip_handed_over"]
        ask(network, clients)
        assert server.statistics()["ip_handed_over"] == before


def test_a_frame_that_comes_to_the_wrong_shard_finds_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usnet_framework.testing.server.flow", lambda frame: None)  # a card that knows nothing of flows
    with Network(seed=3) as network:
        server = serve(network, Place, queues=3)
        assert len(set(ask(network, [connect(network, Client()) for _ in range(12)]))) > 1
        statistics = server.statistics()
        assert statistics["ip_taken_over"] >= statistics["ip_handed_over"] > 12


def test_poison_kills_two_workers_of_its_seat_and_none_beside_it() -> None:
    with Network() as network:
        server = serve(network, Place, workers=2)
        clients = [connect(network, Client()) for _ in range(8)]
        before = ask(network, clients)
        (victim, *_) = [client for client, name in zip(clients, before, strict=True) if name == "0.1/0"]
        server.kill_worker(worker=1, during="on_data", line=0, times=2)
        victim.send(b"poison")
        network.run(until=lambda: victim.is_over, limit=5)
        assert (victim.reason, server.deaths) == ("reset", 2)
        clients.remove(victim)
        before.remove("0.1/0")
        assert ask(network, clients) == [name.replace("0.1/0", "0.1/2") for name in before]
