"""An answer is whole or its connection is reset: no end of file stands behind half of it, whoever dies (P1).

Unix sockets cannot be reset, so this holds for TCP; and on a stack of our own nobody is left to send an end of file.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.handlers import PAGE_BYTES
from support.server import Server, free_port

HANDLER = ("support.handlers:Page", "--app-dir", "tests", "--queues", "1")
CLIENTS = 5
GIVEN_UP = "10 engines crashed within 10 s; giving up"


@pytest.fixture(params=["tcp", "fd"])
def bind(request: pytest.FixtureRequest) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Port, --bind, and descriptors to hand down: of a listener of the server's own, and of somebody else's."""
    if request.param == "tcp":
        port = free_port()
        yield port, f"tcp://127.0.0.1:{port}", ()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1], f"fd:{listener.fileno()}", (listener.fileno(),)


def ask(port: int) -> socket.socket:
    """A client that has a part of its answer and reads no further."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    client.sendall(b"page")
    assert client.recv(1)
    return client


def rest(client: socket.socket) -> int:
    """Bytes until the end of file."""
    count = 0
    while piece := client.recv(1 << 20):
        count += len(piece)
    return count


def assert_reset(client: socket.socket) -> None:
    """Not an end of file after a part of the answer."""
    with client, pytest.raises(ConnectionResetError):
        rest(client)


def test_a_killed_keeper_resets_what_was_not_all_sent(bind: tuple[int, str, tuple[int, ...]]) -> None:
    port, address, pass_fds = bind
    with Server(*HANDLER, "--bind", address, pass_fds=pass_fds) as server:
        clients = [ask(port) for _ in range(CLIENTS)]
        os.kill(server.status()["shards"][0]["keeper_pid"], signal.SIGKILL)
        for client in clients:
            assert_reset(client)


def children(pid: int) -> list[int]:
    """Of its main thread. psutil would look at every process of the machine, for longer than "at once" is."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_network_process_that_always_crashes_resets_what_was_not_all_sent(
    bind: tuple[int, str, tuple[int, ...]],
) -> None:
    """The keeper gives up after ten of them within ten seconds; nobody is left who knows the answer."""
    port, address, pass_fds = bind
    with Server(*HANDLER, "--bind", address, pass_fds=pass_fds) as server:
        clients = [ask(port) for _ in range(CLIENTS)]
        keeper = server.status()["shards"][0]["keeper_pid"]

        def crash_for_a_while() -> bool:
            for _ in range(100):
                with suppress(FileNotFoundError, ProcessLookupError):
                    for network in children(keeper):
                        os.kill(network, signal.SIGSEGV)
                time.sleep(0.001)
            return GIVEN_UP in server.log

        server.wait("the keeper gives up", crash_for_a_while)
        for client in clients:
            assert_reset(client)
        server.wait("the shard is made anew", lambda: server.status()["shards"][0]["rebuilds"] == 1)
        with ask(port) as client:
            assert rest(client) == PAGE_BYTES - 1


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_a_killed_supervisor_resets_what_was_not_all_sent(bind: tuple[int, str, tuple[int, ...]], layout: str) -> None:
    port, address, pass_fds = bind
    with Server(*HANDLER, "--bind", address, "--layout", layout, pass_fds=pass_fds, stop=False) as server:
        clients = [ask(port) for _ in range(CLIENTS)]
        server.process.kill()
        server.process.wait()
        for client in clients:
            assert_reset(client)


def test_what_was_all_sent_ends_in_order(bind: tuple[int, str, tuple[int, ...]]) -> None:
    port, address, pass_fds = bind
    with Server(*HANDLER, "--bind", address, pass_fds=pass_fds) as server, ask(port) as client:
        assert rest(client) == PAGE_BYTES - 1
        client.close()
        server.wait("it is gone", lambda: server.ask("conns") == [])


def test_what_was_all_handed_to_the_kernel_arrives_although_the_keeper_dies(
    bind: tuple[int, str, tuple[int, ...]],
) -> None:
    """Our FIN is queued behind the answer: nothing of it needs us any more."""
    port, address, pass_fds = bind
    with Server(*HANDLER, "--bind", address, pass_fds=pass_fds) as server, ask(port) as client:
        # Read until the kernel has the rest.
        received = 1
        while server.ask("conns")[0]["state"] != "linger":
            received += len(client.recv(1 << 18))
        os.kill(server.status()["shards"][0]["keeper_pid"], signal.SIGKILL)
        assert received + rest(client) == PAGE_BYTES
