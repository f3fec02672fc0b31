"""What `usnet-ctl doctor` sees in the connections: limits that are off and would help (P8)."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

from usnet_framework._native import Address, ConnectionInfo
from usnet_framework.config import Config
from usnet_framework.shards.findings import Finding

CROWD = 256  # connections of one peer that are worth a word
STUCK_NS = 60_000_000_000


def peer_of(address: Address) -> str | None:
    """As the engine counts them (native/src/engine/peers.h); None of unix sockets."""
    if not isinstance(address, tuple):
        return None
    ip = ipaddress.ip_address(address[0])
    if ip.version == 4 or ip.is_link_local:
        return str(ip)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def crowd_findings(connections: Sequence[ConnectionInfo], config: Config, now_ns: int) -> list[Finding]:
    return [
        *([] if config.max_connections_per_peer else _crowds(connections)),
        *([] if config.send_timeout else _stuck(connections, now_ns)),
    ]


def _crowds(connections: Sequence[ConnectionInfo]) -> list[Finding]:
    peers = Counter(peer for conn in connections if (peer := peer_of(conn.peer)) is not None)
    return [
        Finding(
            what="connections of one peer",
            asked="any number",
            in_force=f"{count} of {len(connections)} are those of {peer}",
            reason="a peer that takes all of them shuts out the others",
            fix="set --max-connections-per-peer, unless it is a load balancer",
            ok=False,
        )
        for peer, count in peers.most_common(1)
        if count >= CROWD and 2 * count > len(connections)
    ]


def _stuck(connections: Sequence[ConnectionInfo], now_ns: int) -> list[Finding]:
    stuck = sum("blocked" in conn.flags and now_ns - conn.active_ns > STUCK_NS for conn in connections)
    if not stuck:
        return []
    return [
        Finding(
            what="peers that do not read",
            asked="any time",
            in_force=f"{stuck} took nothing for {STUCK_NS // 10**9} s",
            reason="what waits for them fills memory that others could use",
            fix="set --send-timeout",
            ok=False,
        )
    ]
