"""What doctor says of connections as they are: crowds of one peer, and peers that do not read."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from usnet_framework._native import Address, ConnectionInfo
from usnet_framework.config import Config
from usnet_framework.shards import commands
from usnet_framework.shards.crowds import CROWD, STUCK_NS, crowd_findings, peer_of

NOW_NS = 10**12
OFF = Config()


def conn(peer: Address = ("10.0.0.1", 1), *flags: str, silent_ns: int = 0) -> ConnectionInfo:
    return ConnectionInfo(
        id=1, shard=0, slot=0, seat=0, port=0, state="open", flags=flags, peer=peer, local=("10.0.0.9", 80), bytes_in=0,
        bytes_out=0, bytes_queued=0, state_length=0, opened_ns=0, active_ns=NOW_NS - silent_ns,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.7", 80), "192.0.2.7"),
        (("2001:db8:0:1::7", 80, 0, 0), "2001:db8:0:1::/64"),
        (("fe80::7", 80, 0, 2), "fe80::7"),
        ("", None),
    ],
)
def test_a_peer_is_an_address_or_a_64(address: Address, peer: str | None) -> None:
    assert peer_of(address) == peer


def test_a_peer_with_most_of_many_connections_is_named() -> None:
    others = [conn((f"10.1.0.{i}", 1)) for i in range(100)]
    (finding,) = crowd_findings([conn() for _ in range(CROWD)] + others, OFF, NOW_NS)
    assert finding.in_force == f"{CROWD} of {CROWD + 100} are those of 10.0.0.1"
    assert "--max-connections-per-peer" in finding.fix
    assert not finding.ok


def test_few_connections_or_a_limit_are_no_finding() -> None:
    crowd = [conn() for _ in range(CROWD)]
    assert crowd_findings(crowd[1:], OFF, NOW_NS) == []
    assert crowd_findings(crowd, replace(OFF, max_connections_per_peer=10), NOW_NS) == []
    assert crowd_findings(crowd + [conn((f"10.1.{i // 256}.{i % 256}", 1)) for i in range(CROWD)], OFF, NOW_NS) == []


def test_peers_that_have_not_read_for_long_are_counted() -> None:
    stuck = [conn(("10.0.0.1", 1), "blocked", silent_ns=STUCK_NS + 1), conn(("10.0.0.1", 1), silent_ns=STUCK_NS + 1)]
    (finding,) = crowd_findings(stuck, OFF, NOW_NS)
    assert finding.in_force == "1 took nothing for 60 s"
    assert "--send-timeout" in finding.fix
    assert crowd_findings(stuck, replace(OFF, send_timeout=30.0), NOW_NS) == []


def test_the_loop_has_its_turns_while_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a million."""

    async def run() -> None:
        loop, had_a_turn = asyncio.get_running_loop(), threading.Event()

        def count(*_: object) -> list[Any]:
            loop.call_soon_threadsafe(had_a_turn.set)
            assert had_a_turn.wait(30)
            return []

        async def look() -> None: ...

        monkeypatch.setattr(commands, "crowd_findings", count)
        server = SimpleNamespace(config=OFF, segments={}, look=look, findings=list, rights=list)
        await commands.Commands(cast(commands.Server, server)).doctor()
        assert had_a_turn.is_set()

    asyncio.run(run())
