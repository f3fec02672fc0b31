"""Four queues of a veth pair, four shards: whatever queue a frame comes through, its connection gets it (P6), and what
happens to one shard is nothing to the others (P10)."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from support.backends import Afxdp
from support.clients import Clients, EchoDialogue
from support.privilege import needs_xdp
from support.server import Server

pytestmark = needs_xdp
ECHO = ("examples.echo:Echo", "--queues", "4")


def echoed(client: socket.socket) -> bytes:
    client.sendall(b"hello")
    return client.recv(5, socket.MSG_WAITALL)


def test_frames_of_the_wrong_queue_reach_their_connection_and_flows_may_move(interface: Afxdp) -> None:
    """The other end sends everything from one queue, then from four, and so on."""
    interface.connect("4")
    interface.send_from(1)
    with Server(*ECHO, backend=interface) as server:
        with Clients(server.address, 64, EchoDialogue) as clients:
            for queues in (1, 4, 2, 4, 1):
                interface.send_from(queues)
                before = clients.answered
                server.wait("answers go on", lambda before=before: clients.answered > before + 320)
            assert {conn["shard"] for conn in server.ask("conns")} == {0, 1, 2, 3}
            drops = server.drops()
        assert not clients.incidents, clients.incidents
        assert drops.get("tcp_no_connection", 0) == 0, drops
        metrics = server.metrics()
        assert metrics["usnet_ip_handed_over_total"] > 64
        assert metrics["usnet_ip_taken_over_total"] >= metrics["usnet_ip_handed_over_total"]


def one_of_each_shard(server: Server) -> dict[int, socket.socket]:
    """Connections. The kernel draws ports, and ports say which shard has a connection."""
    clients: dict[int, socket.socket] = {}
    while len(clients) < 4:
        client = server.connect(30)
        assert echoed(client) == b"hello"
        port = client.getsockname()[1]
        (shard,) = (conn["shard"] for conn in server.ask("conns") if conn["peer"][1] == port)
        if shard in clients:
            client.close()
        else:
            clients[shard] = client
    return clients


def test_the_death_of_a_network_process_is_nothing_to_other_shards(interface: Afxdp) -> None:
    """It is stopped first: nothing that comes through the queue of the others waits for it."""
    interface.connect("4")
    interface.send_from(1)
    with Server(*ECHO, backend=interface) as server:
        clients, before = one_of_each_shard(server), server.network_pids()
        os.kill(before[2], signal.SIGSTOP)
        clients[2].sendall(b"hello")
        for shard in (0, 1, 3):
            assert echoed(clients[shard]) == b"hello"
        with suppress(ProcessLookupError):  # the watchdog was faster
            os.kill(before[2], signal.SIGKILL)
        assert clients[2].recv(5, socket.MSG_WAITALL) == b"hello"

        def replaced() -> list[bool]:
            return [old != new for old, new in zip(before, server.network_pids(), strict=False)]

        server.wait("one is replaced, and no other", lambda: replaced() == [False, False, True, False])
        for client in clients.values():
            assert echoed(client) == b"hello"
            client.close()
