"""In the emulated machine: set up a network card for its queues, and hold it until SIGTERM: `hold.py INTERFACE QUEUES`.

Beside it a packet socket for each queue notes which flows come through it (PACKET_FANOUT_QM; the kernel counts queues
from 1 there). What the card was like, is like, and what came, is written to the file STATE; a server that is killed
leaves there what it wrote when the card was ready."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.nic import Nic, Wanted, planned, read_card

STATE = Path("/tmp/card.json")
ALL_PROTOCOLS, SOL_PACKET, PACKET_FANOUT, FANOUT_QM, SO_RCVBUFFORCE = 0x0003, 263, 18, 5, 33
RECEIVED_BYTES = 1 << 22


def settings(interface: str) -> dict[str, Any]:
    with Ethtool(interface) as card:
        found = read_card(card)
    assert found.channels is not None
    assert found.rss is not None
    return {
        "queues": found.queues,
        "key": found.rss.key.hex(),
        "table": found.rss.table,
        "fields": {flow: sorted(fields) for flow, fields in found.fields.items()},
        "driver": found.driver.name,
    }


def set_hash_again(interface: str) -> None:
    """As it is."""
    with Ethtool(interface) as card:
        card.set_rss(card.rss())


def packet_sockets(interface: str, queues: int, opened: ExitStack) -> list[socket.socket]:
    """The one at place i gets what comes through queue i."""
    sockets = []
    for _ in range(queues):
        one = opened.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)))
        one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVED_BYTES)
        one.bind((interface, ALL_PROTOCOLS))
        one.setsockopt(SOL_PACKET, PACKET_FANOUT, FANOUT_QM << 16 | 1)
        one.setblocking(False)
        sockets.append(one)
    return sockets[1:] + sockets[:1]


def flows(one: socket.socket) -> list[tuple[int, int]]:
    """(version, port of the other side) of every packet of TCP that begins a connection."""
    found = []
    while True:
        try:
            packet, (_, _, direction, *_) = one.recvfrom(2048)
        except BlockingIOError:
            return found
        version, at = (4, 34) if packet[12:14] == b"\x08\x00" else (6, 54)
        protocol = packet[23] if version == 4 else packet[20]
        if direction != socket.PACKET_OUTGOING and protocol == socket.IPPROTO_TCP and packet[at + 13] & 0x12 == 0x02:
            found.append((version, struct.unpack_from("!H", packet, at)[0]))


def write(state: dict[str, Any]) -> None:
    STATE.with_suffix(".new").write_text(json.dumps(state))
    STATE.with_suffix(".new").rename(STATE)


def main() -> None:
    interface, queues = sys.argv[1], int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    wanted = Wanted(interface, queues)
    state: dict[str, Any] = {"before": settings(interface), "planned": planned(wanted)}
    nic = Nic(wanted)
    state |= {"during": settings(interface), "findings": [asdict(finding) for finding in nic.findings()]}
    with ExitStack() as opened:
        sockets = packet_sockets(interface, queues, opened)
        write(state)
        signal.sigwait({signal.SIGTERM})
        state["seen"] = [flows(one) for one in sockets]
    nic.close()
    write(state | {"after": settings(interface), "left": os.listdir("/run/usnet/undo")})


if __name__ == "__main__":
    main()
