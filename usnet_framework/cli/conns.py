"""`usnet-ctl conns`: the connections, two lines each like `ss -ti`, with -v five.

A filter is read here first, so that a mistake in it is one of usage, and obeyed by the server: what is not wanted does
not cross the control socket. Rows are shown as they come.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from usnet_framework.cli.subcommand import Subcommand, shown_list, since
from usnet_framework.shards import control
from usnet_framework.shards.connfilter import parse
from usnet_framework.values import endpoint_text

HEAD = f"{'STATE':<8} {'LOCAL':<28} {'PEER':<28} SEAT"
WINDOWS = (
    "cwnd", "ssthresh", "snd_wnd", "rcv_wnd", "in_flight", "sacked", "lost", "retransmitted", "backoff", "probes",
)  # fmt: skip
FILTER_HELP = """filters, as ss has them:
  sport, dport        a port of ours, of the peer: sport = :443, dport > 1024
  src, dst            an address of ours, of the peer: dst 10.0.0.0/8, src [fd00::1]:443
  state               open, closing, linger; or one of TCP: established, close-wait, ...
  and, or, not, ( )   also &, |, !; side by side means and"""


def lines_of(connections: Sequence[dict[str, Any]]) -> list[str]:
    """Two lines per connection: who speaks with whom, and how it is going; more, where there are details."""
    now_ns = time.monotonic_ns()
    lines = []
    for conn in connections:
        local, peer = endpoint_text(conn["local"]), endpoint_text(conn["peer"])
        age, idle = since(now_ns, conn["opened_ns"]), since(now_ns, conn["active_ns"])
        flags = "".join(f" {flag}" for flag in conn["flags"])
        lines.append(f"{conn['state']:<8} {local:<28} {peer:<28} {conn['shard']}.{conn['seat']}")
        lines.append(
            f"         id:{conn['id']} in:{conn['bytes_in']} out:{conn['bytes_out']} queued:{conn['bytes_queued']} "
            f"age:{age} idle:{idle}{flags}"
        )
        lines += [f"         {line}" for line in _details(conn)]
    return lines


def _details(conn: dict[str, Any]) -> Iterator[str]:
    if conn.get("why"):
        yield f"no details: {conn['why']}"
    if (queues := conn.get("queues")) is not None:
        yield " ".join(f"{name}:{_number(value)}" for name, value in queues.items())
    if (tcp := conn.get("tcp")) is not None:
        agreed = "".join(f" {name}" for name in tcp["agreed"])
        yield f"{tcp['state']} {tcp['congestion']}:{tcp['phase']}{agreed} {_path(tcp)}"
        yield _windows(tcp)


def _path(tcp: dict[str, Any]) -> str:
    round_trip = f"{_ms(tcp['srtt_us'])}/{_ms(tcp['rttvar_us'])}" if tcp["srtt_us"] else "-"
    times = f"rtt:{round_trip} min:{_ms(tcp['min_rtt_us'])} rto:{_ms(tcp['rto_us'])}"
    return f"{times} mss:{tcp['snd_mss']} mtu:{tcp['path_mtu']}"


def _windows(tcp: dict[str, Any]) -> str:
    shown = [f"{name}:{_number(tcp[name])}" for name in WINDOWS]
    scales = f"wscale:{tcp['snd_wscale']},{tcp['rcv_wscale']}"
    return " ".join([*shown, scales])


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _ms(microseconds: int | None) -> str:
    return "-" if microseconds is None else f"{microseconds / 1000:g}"


def _conns(arguments: argparse.Namespace) -> Iterator[str]:
    where = " ".join(arguments.filter)
    parse(where)
    asked: dict[str, Any] = {"where": where} if where else {}
    if arguments.verbose:
        asked["details"] = True
    parts = control.stream(arguments.control, "conns", **asked)
    yield from shown_list("conns", parts, lines_of, arguments.json, head=f"{HEAD}\n")


def _add_options(parser: argparse.ArgumentParser) -> None:
    what = "with round trip, windows, queues and congestion control: milliseconds and bytes; -: not known, or none"
    parser.add_argument("-v", "--verbose", action="store_true", help=what)
    parser.add_argument("filter", metavar="FILTER", nargs="*", help="only those; see below")
    parser.epilog = FILTER_HELP


CONNS = Subcommand("the connections, two lines each", _conns, _add_options, watch=True)
