"""The queue of a flow as it is predicted, against a Toeplitz hash that is written as its definition reads."""

from __future__ import annotations

import random
from ipaddress import ip_address
from types import SimpleNamespace
from typing import cast

import pytest

from usnet_framework._native import ConnectionInfo
from usnet_framework.shards.steering import (
    Spread,
    agrees,
    flow_findings,
    queue_of,
    spread,
    steering_key,
    steering_table,
)

MICROSOFT = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"  # of the RSS specification
)


def toeplitz(key: bytes, remote: tuple[str, int], local: tuple[str, int]) -> int:
    """Each bit of addresses and ports that is set adds the 32 bits of the key that begin where it stands."""
    data = b"".join(ip_address(host).packed for host, _ in (remote, local))
    data += b"".join(port.to_bytes(2, "big") for _, port in (remote, local))
    bits, length = int.from_bytes(data, "big"), 8 * len(data)
    whole = int.from_bytes(key, "big")
    found = 0
    for place in range(length):
        if bits >> (length - 1 - place) & 1:
            found ^= whole >> (8 * len(key) - 32 - place) & 0xFFFFFFFF
    return found


def connection(peer: tuple[str, int], local: tuple[str, int]) -> ConnectionInfo:
    return cast(ConnectionInfo, SimpleNamespace(peer=peer, local=local))


def flows(version: int, count: int) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    draw = random.Random(version)
    bits = 32 if version == 4 else 128
    return [
        tuple((str(ip_address(draw.getrandbits(bits) | 1 << bits - 1)), draw.randrange(1, 65536)) for _ in range(2))  # type: ignore[misc]
        for _ in range(count)
    ]


def test_the_definition_gives_the_hash_of_the_specification() -> None:
    assert toeplitz(MICROSOFT, ("66.9.149.187", 2794), ("161.142.100.80", 1766)) == 0x51CCC178


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("entries", [64, 128, 512])
def test_a_card_puts_each_flow_where_it_is_predicted(version: int, entries: int) -> None:
    table = steering_table(entries, 4)
    assert agrees(entries, 4)
    for remote, local in flows(version, 200):
        hashed = toeplitz(steering_key(40), remote, local)
        assert queue_of(remote, local, 128) == hashed % 128
        assert queue_of(remote, local, 4) == table[hashed % entries] == queue_of(local, remote, 4)


@pytest.mark.parametrize(("entries", "queues"), [(0, 1), (64, 3), (192, 2), (100, 4)])
def test_a_table_that_cannot_name_the_owners(entries: int, queues: int) -> None:
    assert not agrees(entries, queues)


def test_a_key_is_as_long_as_the_card_wants_it() -> None:
    assert steering_key(5).hex() == "6d5a6d5a6d"


def test_how_evenly_flows_are_spread() -> None:
    found = spread(((("10.0.0.2", port), ("10.0.0.1", 7000)) for port in range(32768, 32768 + 1024)), 4)
    assert sum(found.flows) == 1024
    assert 1.0 <= found.imbalance < 1.5
    assert str(Spread((3, 1))) == "3/1 (max/mean 1.50)"
    assert Spread((0, 0)).imbalance == 1.0


@pytest.mark.parametrize(("crossed", "ok"), [(64, True), (65, False)])
def test_what_came_is_held_against_what_is_predicted(crossed: int, ok: bool) -> None:
    """So many packets, or one in a hundred, may have crossed."""
    connections = [connection(("10.0.0.2", port), ("10.0.0.1", 7000)) for port in range(40000, 40064)]
    predicted = spread(((("10.0.0.2", port), ("10.0.0.1", 7000)) for port in range(40000, 40064)), 2)
    counters = [{"ip_rx_packets": 3000, "ip_handed_over": 0}, {"ip_rx_packets": 1000, "ip_handed_over": crossed}]
    (found,) = flow_findings(connections, counters)
    assert found.ok == ok == (found.reason == "")
    assert found.asked == f"each to the queue of its shard; those that are open {predicted}"
    assert found.in_force == f"{crossed} of 4000 packets crossed to their owner; packets 3000/1000 (max/mean 1.50)"
    counters[0]["ip_rx_packets"] = 100_000
    assert flow_findings(connections, counters)[0].ok
    assert flow_findings(connections, counters[:1]) == []
