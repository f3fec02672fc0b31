"""A slow peer and a slow handler cost bounded memory and disturb nobody else (P5)."""

from __future__ import annotations

import hashlib
import selectors
import socket

import psutil
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.handlers import PIECE_BYTES, PIECES, flood_chunk
from support.obedient import pattern
from support.server import Serve
from support.sizes import BULK_BYTES, sized

FLOOD_BYTES = min(1 << 30, 32 * BULK_BYTES)
MEMORY_MAX = 64 << 20  # resident, of a network process or a worker: segment pages in use, and Python itself


def resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@sized
def test_a_slow_reader_gets_many_times_what_may_wait_for_it(serve: Serve) -> None:
    chunk = flood_chunk()
    with serve("support.handlers:Flood", "--app-dir", "tests", "--queues", "1") as server:
        (worker,) = server.workers()
        pids = [worker.pid, *server.network_pids()]
        with Clients(server.address, 8, EchoDialogue) as others, server.connect(timeout=60) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(b"flood %d" % (FLOOD_BYTES // len(chunk)))
            most = received = 0
            digest, buffer = hashlib.blake2b(), bytearray(1 << 20)
            while received < FLOOD_BYTES:
                count = client.recv_into(buffer)
                assert count, f"ended after {received} bytes\n{server.log}"
                digest.update(memoryview(buffer)[:count])
                before, received = received, received + count
                if before >> 24 != received >> 24:  # every 16 MiB
                    most = max(most, *map(resident, pids))
        expected = hashlib.blake2b()
        for _ in range(FLOOD_BYTES // len(chunk)):
            expected.update(chunk)
        assert received == FLOOD_BYTES
        assert digest.digest() == expected.digest()
        print(f"{FLOOD_BYTES >> 20} MiB to a slow reader: at most {most >> 20} MiB resident in a process")
        assert most < MEMORY_MAX
        assert not others.incidents, others.incidents


def receive(client: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = client.recv(length - len(received))
        assert piece, f"ended after {len(received)} bytes"
        received += piece
    return bytes(received)


@EVERYWHERE
def test_many_slow_readers_leave_room_for_the_others(serve: Serve) -> None:
    """Each holds what a connection may hold; the frames of a stack of our own are then short."""
    options = ("--queues", "1", "--buffer-limit", "512")
    with serve("support.obedient:Obedient", "--app-dir", "tests", *options) as server:
        slow = [server.connect(timeout=60) for _ in range(200)]
        for client in slow:
            client.sendall(b"big 1000000\n")
        for number in range(100):
            with server.connect() as client:
                client.sendall(b"echo %04d\n" % number)
                assert receive(client, 4) == b"%04d" % number
        for client in slow:
            assert receive(client, 1000000) == pattern(1000000)
            client.close()


SLOW = 300
BUFFER_MIB = 32
FRAMES_MIB = 96  # what so many connections may have in send frames, and more


def read_all(clients: list[socket.socket], length: int) -> list[bytes]:
    """So many bytes from each, at the same time: a worker may have memory for one only when others have read."""
    received = {client: bytearray() for client in clients}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(60)
            assert ready, f"nothing for a minute; from some {sorted(map(len, received.values()))[0]} bytes came"
            for key, _ in ready:
                client = key.fileobj
                assert isinstance(client, socket.socket)
                piece = client.recv(1 << 18)
                assert piece, f"ended after {len(received[client])} bytes"
                received[client] += piece
                if len(received[client]) >= length:
                    selector.unregister(client)
    return [bytes(data) for data in received.values()]


def test_many_slow_readers_cost_a_bounded_sum(serve: Serve) -> None:
    options = ("--queues", "1", "--buffer-limit", str(BUFFER_MIB))
    with serve("support.handlers:Pieces", "--app-dir", "tests", *options) as server:
        (worker,) = server.workers()
        before = resident(worker.pid)
        slow = [server.connect(timeout=60) for _ in range(SLOW)]
        for client in slow:
            client.sendall(b"all of it")
        server.wait("all were heard", lambda: server.metrics()["usnet_worker_bytes_in_total"] >= SLOW * 9)
        grown = resident(worker.pid) - before
        counts = server.metrics()
        refused = counts["usnet_sends_crowded_total"]
        print(f"{SLOW} slow readers: {grown >> 20} MiB in the worker, {refused:.0f} refused")
        assert grown < (BUFFER_MIB + FRAMES_MIB) << 20
        assert counts["usnet_overflow_bytes"] <= BUFFER_MIB << 20
        assert refused >= SLOW // 2
        expected = b"".join(bytes([piece]) * PIECE_BYTES for piece in range(PIECES, 0, -1))
        for data in read_all(slow, len(expected)):
            assert data == expected
        for client in slow:
            client.close()


def fill(client: socket.socket) -> int:
    """Send until nothing more is taken for half a second."""
    client.settimeout(0.5)
    sent = 0
    try:
        while True:
            sent += client.send(bytes(65536))
    except TimeoutError:
        return sent


def test_a_handler_that_never_reads(serve: Serve) -> None:
    with serve("support.handlers:NeverReads", "--app-dir", "tests", "--queues", "1") as server:
        (worker,) = server.workers()
        pids = [worker.pid, *server.network_pids()]
        with Clients(server.address, 8, EchoDialogue) as others:
            stuck = [server.connect() for _ in range(4)]
            for client in stuck:
                client.sendall(b"stop reading")
            taken = [fill(client) for client in stuck]
            before = others.answered
            server.wait("the others go on", lambda: others.answered > before + 8)
            most = max(map(resident, pids))
            print(f"a handler that never reads: {max(taken) >> 10} KiB taken from a peer, {most >> 20} MiB resident")
            assert most < MEMORY_MAX
            for client in stuck:
                client.close()
        assert all(count < 64 << 20 for count in taken), taken
        assert not others.incidents, others.incidents
