"""The whole server on network cards with real drivers: every connection is served by the shard that is predicted,
through whatever queue its packets come; network processes die; the kernel has its own traffic on the same interface all
the time; afterwards the card is as it was."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import pytest
from support.bulk import MEBIBYTE, digest, digest_of, stream
from support.guest import PATIENCE_S, GuestServer, KernelConnection, echoed, kernel_connection, serving, settings
from support.machine import IGB, PLAIN, QUEUES, VIRTIO, Cable, Machine
from support.server import wait

from usnet_framework.shards.steering import queue_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

FLOWS = 100
"""Of IPv4, and as many of IPv6."""
FIRST_PORT = 20000
BULK_BYTES = 8 * MEBIBYTE
OPTIONS = {IGB: ("--require", "zerocopy")}
MODES = {IGB: "the card uses our frames", VIRTIO: "the kernel copies", PLAIN: "the kernel copies"}


@pytest.fixture(scope="module", params=[IGB, VIRTIO, PLAIN], ids=lambda cable: str(cable.guest))
def kernel(guest: Machine, request: pytest.FixtureRequest) -> Iterator[tuple[Cable, KernelConnection]]:
    """Before the server is, and after."""
    with kernel_connection(guest, request.param) as connection:
        assert connection.goes_on()
        yield request.param, connection


@pytest.fixture(scope="module")
def server(guest: Machine, kernel: tuple[Cable, KernelConnection]) -> Iterator[GuestServer]:
    """On each card in turn, which is left as it was found."""
    cable, connection = kernel
    before = settings(guest, cable)
    with serving(guest, cable, *OPTIONS.get(cable, ())) as one:
        yield one
        assert connection.goes_on()
    assert connection.goes_on()
    assert settings(guest, cable) == before
    assert guest.run("ls", "/run/usnet/undo") == ""


def connection_of(server: GuestServer, version: int, shard: int) -> socket.socket:
    """One that the shard owns."""
    remote, local = server.cable.host_addresses[version == 6], server.address(version)
    port = next(port for port in count(FIRST_PORT + FLOWS) if queue_of((remote, port), local, QUEUES) == shard)
    return server.connect(version, port)


def test_what_is_in_force_is_said(server: GuestServer) -> None:
    assert server.finding("XDP")["in_force"] == "in the driver"
    assert server.finding("packets")["in_force"] == MODES[server.cable]
    assert server.finding("card steering")["ok"] == (server.cable != PLAIN)


def test_every_connection_is_served_by_the_shard_that_is_predicted(server: GuestServer) -> None:
    """Of a card without RSS they come through any queue; `doctor` says so, and it costs the way to their owner."""
    crossed = server.counter("usnet_ip_handed_over_total")
    with ExitStack() as opened:
        for version in (4, 6):
            for port in range(FIRST_PORT, FIRST_PORT + FLOWS):
                client = opened.enter_context(server.connect(version, port))
                assert echoed(client, b"from %d" % port)
        found = {tuple(one["peer"][:2]): one["shard"] for one in server.ask("conns")}
        flows = server.finding("flows")
    crossed = server.counter("usnet_ip_handed_over_total") - crossed
    hosts = zip((4, 6), server.cable.host_addresses, strict=True)
    assert found == {
        (host, port): queue_of((host, port), server.address(version), QUEUES)
        for version, host in hosts
        for port in range(FIRST_PORT, FIRST_PORT + FLOWS)
    }
    if server.cable == PLAIN:
        assert not flows["ok"]
        assert crossed > FLOWS
    else:
        assert flows["ok"]
        assert crossed < FLOWS / 10  # of neighbours, who are heard by all


@pytest.mark.parametrize("version", [4, 6])
def test_much_content_is_whole(server: GuestServer, version: int) -> None:
    with server.connect(version) as client, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_all, client)
        assert digest_of(lambda: client.recv(MEBIBYTE)) == (BULK_BYTES, digest(BULK_BYTES))
        sent.result()


def send_all(client: socket.socket) -> None:
    for part in stream(BULK_BYTES):
        client.sendall(part)
    client.shutdown(socket.SHUT_WR)


def test_connections_go_on_when_network_processes_are_killed(
    server: GuestServer, kernel: tuple[Cable, KernelConnection]
) -> None:
    """One of them, then all."""
    old = server.network_pids()
    with ExitStack() as opened:
        where = [(version, shard) for version in (4, 6) for shard in range(QUEUES)]
        clients = {at: opened.enter_context(connection_of(server, *at)) for at in where}
        assert all(echoed(client, b"before") for client in clients.values())
        server.kill(old[1])
        assert all(echoed(client, b"others") for (_, shard), client in clients.items() if shard != 1)
        assert all(echoed(client, b"all") for client in clients.values())
        wait("another serves", lambda: server.network_pids()[1] not in (None, old[1]), PATIENCE_S)
        server.kill(*server.network_pids())
        assert kernel[1].goes_on()
        assert all(echoed(client, b"after") for client in clients.values())
    wait("others serve", lambda: not {None, *old} & {*server.network_pids()}, PATIENCE_S)
