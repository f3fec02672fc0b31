"""usnet-ctl looks into servers that run: details of connections, counters, and what stacks believe of their link."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.backends import Backend, Kernel, backend_named, network_namespace
from support.everywhere import TAP
from support.privilege import needs_xdp
from support.server import REPOSITORY, STOP_SECONDS, WITH_THE_TEST, Server, command, run
from support.shared import SharedInterface

from usnet_framework.errors import ControlError

ECHO = "examples.echo:Echo"
MANY = 300  # more than one part of an answer, and than an engine says at once


@pytest.fixture(scope="module")
def server(backend: Backend) -> Iterator[Server]:
    with Server(ECHO, "--queues", "2", backend=backend) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[socket.socket]:
    """A connection over which 5 bytes have gone there and back."""
    with server.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        yield client


def port_of(client: socket.socket) -> int:
    return int(client.getsockname()[1])


def looked_at(server: Server, client: socket.socket) -> dict[str, Any]:
    (conn,) = server.ask("conns", details=True, where=f"dport = :{port_of(client)}")
    return conn


def is_kernel(server: Server) -> bool:
    return isinstance(server._backend, Kernel)


def test_a_connection_has_the_details_of_its_transport(server: Server, client: socket.socket) -> None:
    def quiet() -> Any:
        tcp = looked_at(server, client)["tcp"]
        return tcp["in_flight"] == 0 and tcp

    tcp = server.wait("all is acknowledged", quiet)
    theirs = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert (tcp["state"], tcp["phase"]) == ("established", "open")
    assert tcp["congestion"] in ("cubic", "reno", "bbr")
    assert abs(tcp["snd_mss"] - theirs) <= 12  # with or without the option of timestamps
    assert tcp["path_mtu"] > tcp["snd_mss"]
    assert tcp["srtt_us"] > 0
    assert tcp["rto_us"] > tcp["srtt_us"]
    assert tcp["cwnd"] >= 2 * tcp["snd_mss"]
    assert tcp["ssthresh"] is None
    assert (tcp["retransmitted"], tcp["backoff"], tcp["lost"]) == (0, 0, 0)
    assert {"window_scaling", "sack"} <= {*tcp["agreed"]}


def test_what_waits_for_a_worker_is_seen(server: Server, client: socket.socket) -> None:
    worker = next(one.pid for one in server.workers() if one.shard == looked_at(server, client)["shard"])
    os.kill(worker, signal.SIGSTOP)
    try:
        client.sendall(bytes(1000))
        server.wait("it waits", lambda: looked_at(server, client)["queues"]["unconsumed"] == 1000)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert len(client.recv(1000, socket.MSG_WAITALL)) == 1000
    server.wait("it waits no more", lambda: looked_at(server, client)["queues"]["unconsumed"] == 0)


def test_the_end_of_a_connection_is_seen(server: Server, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    where = f"dport {port_of(client)} state established"
    server.wait("it is closing, or gone", lambda: not server.ask("conns", where=where))


def test_filters_choose(server: Server, client: socket.socket) -> None:
    with server.connect() as other:
        mine, its = port_of(client), port_of(other)
        server.wait("both are accepted", lambda: len(server.ask("conns", where=f"dport {mine} or dport {its}")) == 2)
        found = server.ctl("conns", f"dport {mine} and dst {client.getsockname()[0]}/24 and state established")
        assert [conn["peer"][1] for conn in found] == [mine]
        assert mine not in [conn["peer"][1] for conn in server.ctl("conns", "not", "dport", "=", f":{mine}")]
        assert server.ctl("conns", "sport = :1") == []
    text = run("usnet-ctl", "conns", "-v", f"dport {mine}", "--control", str(server.control)).stdout
    assert len(text.splitlines()) == 6
    assert re.search(r" established [a-z]+:open .* mss:[0-9]+ ", text)


def test_a_filter_that_makes_no_sense_is_refused_with_its_place(server: Server) -> None:
    """usnet-ctl never asks for it: it looks at filters before."""
    with pytest.raises(ControlError, match=r"^conns: filter: ':htp' at character 9: expected a port"):
        server.ask("conns", where="sport = :htp")


def test_many_connections_come_in_parts_and_none_is_missing(server: Server) -> None:
    with ExitStack() as opened:
        ports = {port_of(opened.enter_context(server.connect())) for _ in range(MANY)}
        server.wait("all are accepted", lambda: len(server.ask("conns")) >= MANY)
        for details in (False, True):
            found = server.ask("conns", details=details)
            assert {conn["peer"][1] for conn in found} >= ports
            assert len({conn["id"] for conn in found}) == len(found)
        assert all(conn["tcp"]["state"] == "established" for conn in found if conn["peer"][1] in ports)


def test_counters_of_the_stack(server: Server, client: socket.socket) -> None:
    if is_kernel(server):
        assert "backend kernel has no stack of its own; ask the kernel: nstat" in server.refusal("stack")
        return
    with watching(server, "stack", "--json") as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline())["counters"]["tcp_in_segments"] for _ in range(2))
        process.send_signal(signal.SIGINT)
    assert first["total"] >= 2  # a handshake and a request
    assert second["since"] == second["total"] - first["total"]


def test_what_the_stacks_believe_of_their_link(server: Server, client: socket.socket) -> None:
    commands = {"neigh": "ip neigh", "routes": "ip route", "addr": "ip addr"}
    if is_kernel(server):
        for name, otherwise in commands.items():
            assert f"backend kernel has no stack of its own; ask the kernel: {otherwise}" in server.refusal(name)
        return
    shard, ours = looked_at(server, client)["shard"], f"{server.address[0]}/24"

    def states() -> list[str]:
        return [row["state"] for row in server.ask("addr") if row["address"] == ours]

    server.wait("nobody else has claimed it", lambda: states() == ["ours"] * 2)
    neighbours, routes, addresses = (server.ask(name) for name in commands)
    (station,) = [row for row in neighbours if row["shard"] == shard and row["address"] == client.getsockname()[0]]
    assert station["state"] in ("reachable", "stale", "delay", "probe")
    assert len(station["mac"]) == 17
    assert {row["shard"] for row in addresses} == {0, 1}
    assert [row["origin"] for row in routes if row["network"] == "10.77.0.0/24"] == ["link"] * 2
    for name in commands:
        assert run("usnet-ctl", name, "--control", str(server.control)).stdout.startswith("SHARD")


def test_a_network_process_that_stands_still_holds_nobody_up(server: Server, client: socket.socket) -> None:
    """On a machine that is slow, it was replaced before it was asked: then the next one has answered."""
    before = looked_at(server, client)
    network = server.network_pids()[before["shard"]]
    os.kill(network, signal.SIGSTOP)
    try:
        stands = looked_at(server, client)
        assert stands["id"] == before["id"]
        assert stands["tcp"] or stands["why"] == "its network process does not answer"
    finally:
        with suppress(ProcessLookupError):
            os.kill(network, signal.SIGCONT)
    server.wait("it answers again", lambda: looked_at(server, client).get("tcp"))


def test_the_next_network_process_is_asked(server: Server, client: socket.socket) -> None:
    before = looked_at(server, client)
    network = server.network_pids()[before["shard"]]
    os.kill(network, signal.SIGKILL)
    after = server.wait("the next one says it", lambda: (conn := looked_at(server, client)).get("tcp") and conn)
    assert (after["id"], after["tcp"]["snd_mss"]) == (before["id"], before["tcp"]["snd_mss"])


@pytest.mark.parametrize("name", ["kernel", TAP])
def test_an_inline_worker_is_asked(name: str) -> None:
    with (
        backend_named(name) as backend,
        Server(ECHO, "--layout", "inline", "--queues", "1", backend=backend) as server,
        server.connect() as client,
    ):
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        assert looked_at(server, client)["tcp"]["state"] == "established"


@needs_xdp
def test_of_a_shared_interface_the_kernel_is_believed() -> None:
    with (
        network_namespace(),
        SharedInterface() as interface,
        Server(ECHO, "--queues", "1", backend=interface) as server,
        interface.clients(),
        server.connect() as client,
    ):
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        ways = {row["network"]: row["origin"] for row in server.ask("routes")}
        assert ways["10.77.0.0/24"] == "kernel"
        assert {f"{interface.ipv4}/24": "ours"}.items() <= {
            row["address"]: row["state"] for row in server.ask("addr")
        }.items()
        (client_station,) = server.ask("neigh")  # of which frames came, whatever address is behind it
        assert (client_station["address"], client_station["state"]) == (None, "told")
        assert client_station["mac"] is not None


# Of every backend the same.


def watching(server: Server, *args: str) -> subprocess.Popen[str]:
    line = [*WITH_THE_TEST, command("usnet-ctl"), *args, "--watch", "0.1", "--control", str(server.control)]
    return subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    with Server(ECHO) as server:
        yield server


def test_a_watch_goes_on_until_it_is_interrupted(plain: Server) -> None:
    with watching(plain, "status", "--json") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["pid"] for _ in range(3)] == [plain.pid] * 3
        process.send_signal(signal.SIGINT)
        assert (process.wait(STOP_SECONDS), process.communicate()[1]) == (0, "")


def test_a_watch_ends_with_its_reader(plain: Server) -> None:
    with watching(plain, "conns") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(STOP_SECONDS) == 0


def test_a_watch_ends_with_the_server() -> None:
    with Server(ECHO, stop=False) as server, watching(server, "conns") as process:
        assert process.stdout is not None
        process.stdout.readline()
        server.stop()
        assert process.wait(STOP_SECONDS) == 0
        assert process.communicate()[1] == "usnet-ctl: the server has ended\n"


def test_a_unix_socket_has_queues_alone(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with Server(ECHO, "--bind", f"unix:{path}") as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        (conn,) = server.ask("conns", details=True)
        assert (conn["tcp"], conn["queues"]["unread"], conn["queues"]["unacknowledged"]) == (None, 0, None)
        assert server.ask("conns", where="state established") == []
        assert "why" not in conn
