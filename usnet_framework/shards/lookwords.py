"""What an engine says of a connection or of its link, as people and programs read it.

An entry comes as words by name (native/src/engine/look.h). An inline engine shares its process with the application,
which may write what it likes: an entry that makes no sense is left out.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from typing import Any

from usnet_framework._native import LOOK_VALUES, TCP_AGREED, TCP_STATES
from usnet_framework.shards.addressbook import plain

UNKNOWN = 2**64 - 1
Words = Mapping[str, int]
PAIR = struct.Struct("<QQ")

PLAIN = (
    "srtt_us", "rttvar_us", "min_rtt_us", "rto_us", "cwnd", "ssthresh", "snd_mss", "path_mtu", "snd_wnd", "rcv_wnd",
    "snd_wscale", "rcv_wscale", "in_flight", "sacked", "lost", "retransmitted", "backoff", "probes",
)  # fmt: skip
"""Fields of a TCP connection that are numbers: bytes, microseconds, segments."""

QUEUES = ("unread", "out_of_order", "unacknowledged", "unsent", "unconsumed")
"""Fields of any connection: bytes that wait."""


def connection(words: Words) -> dict[str, Any]:
    """What is known beyond the connection table: `queues`, and `tcp`, which is None of a unix socket."""
    queues = {name: _known(words[name]) for name in QUEUES}
    if not words["tcp_state"]:
        return {"queues": queues, "tcp": None}
    return {"queues": queues, "tcp": {
        "state": TCP_STATES.get(words["tcp_state"], str(words["tcp_state"])),
        "congestion": _text(words, "congestion"),
        "phase": _named("phase", words["phase"]),
        "agreed": [name for name, bit in TCP_AGREED.items() if words["agreed"] & bit],
        **{name: _known(words[name]) for name in PLAIN},
    }}  # fmt: skip


def tcp_state(words: Words) -> str | None:
    return TCP_STATES.get(words["tcp_state"])


def neighbour(words: Words) -> dict[str, Any]:
    """`address` is None of a station that is known by its Ethernet address alone."""
    ip = _ip(words, "ip")
    return {
        "address": None if ip == bytes(16) else plain(ip),
        "mac": _mac(words["mac"]),
        "state": _named("neighbour", words["state"]),
        "router": bool(words["is_router"]),
        "probes": words["probes"],
        "queued": words["queued"],
        "confirmed_ns": words["confirmed_ns"] or None,
        "used_ns": words["used_ns"] or None,
    }


def route(words: Words) -> dict[str, Any]:
    """`gateway` is None where the network is on the link."""
    gateway = plain(_ip(words, "gateway"))
    return {
        "network": str(ipaddress.ip_network((plain(_ip(words, "network")), words["prefix"]), strict=False)),
        "gateway": None if ipaddress.ip_address(gateway).is_unspecified else gateway,
        "origin": _named("origin", words["origin"]),
        "elsewhere": bool(words["is_elsewhere"]),
        "expires_ns": words["expires_ns"] or None,
    }


def address(words: Words) -> dict[str, Any]:
    return {
        "address": f"{plain(_ip(words, 'ip'))}/{words['prefix']}",
        "state": _named("address", words["state"]),
        "probes": words["probes"],
        "announcements": words["announcements"],
        "claimed_by": _mac(words["claimed_by"]),
    }


TABLES: dict[str, Callable[[Words], dict[str, Any]]] = {"neigh": neighbour, "routes": route, "addr": address}
"""What an engine is asked about besides connections."""


def _known(word: int) -> int | None:
    return None if word == UNKNOWN else word


def _named(of: str, number: int) -> str:
    return LOOK_VALUES[of].get(number, str(number))


def _ip(words: Words, name: str) -> bytes:
    return PAIR.pack(words[f"{name}_first"], words[f"{name}_second"])


def _text(words: Words, name: str) -> str:
    return _ip(words, name).partition(b"\0")[0].decode(errors="backslashreplace")


def _mac(word: int) -> str | None:
    return None if word == UNKNOWN else word.to_bytes(8, "little")[:6].hex(":")
