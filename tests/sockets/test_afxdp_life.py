"""What may happen to the interface of a server on AF_XDP while it serves: it is said, and costs no turns; what can go
on goes on afterwards."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sockets.test_streams import receive
from support.backends import Afxdp, current_namespace, inside, network_namespace
from support.clients import Clients, EchoDialogue, hello
from support.link import ip
from support.obedient import pattern
from support.privilege import may_look_into_processes, needs_xdp
from support.server import Server

from usnet_framework._native_bpf import BpfError, XdpProgram
from usnet_framework.shards.ethtool import Ethtool

pytestmark = needs_xdp

ECHO = "examples.echo:Echo"
TURNS_A_SECOND = 3000
"""Of a shard that looks every millisecond whether there is room to send, and does more now and then."""


def is_ready(server: Server) -> bool:
    return server.get("/readyz")[0] == 200


def assert_it_says(server: Server, trouble: str, fix: str) -> None:
    server.wait(f"it says that {trouble}", lambda: trouble in server.get("/readyz")[1])
    assert not is_ready(server)
    assert server.status()["state"] == "degraded"
    found = server.findings()["interface"]
    assert (found["ok"], found["reason"]) == (False, trouble)
    assert fix in str(found["fix"])


def assert_it_rests(server: Server, shards: int) -> None:
    """For half a second, whatever else the machine does then."""
    began_s, before = time.monotonic(), server.metrics()["usnet_polls_total"]
    time.sleep(0.5)
    turns, took_s = server.metrics()["usnet_polls_total"] - before, time.monotonic() - began_s
    assert turns < shards * TURNS_A_SECOND * took_s


@pytest.mark.parametrize(
    ("layout", "end", "trouble", "fix"),
    [
        ("split", Afxdp.interface, "interface usnet0 is down", "ip link set usnet0 up"),
        ("inline", Afxdp.interface, "interface usnet0 is down", "ip link set usnet0 up"),
        ("split", Afxdp.peer, "interface usnet0 has no carrier", "its other end"),
    ],
)
def test_connections_go_on_when_the_link_is_there_again(
    interface: Afxdp, layout: str, end: str, trouble: str, fix: str
) -> None:
    with Server(ECHO, "--layout", layout, "--queues", "2", backend=interface) as server:
        with Clients(server.address, 16, EchoDialogue) as clients:
            ip("link", "set", end, "down")
            assert_it_says(server, trouble, fix)
            assert_it_rests(server, shards=2)
            ip("link", "set", end, "up")
            server.wait("it is ready", lambda: is_ready(server))
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + 64)
        assert not clients.incidents, clients.incidents
        assert server.findings()["interface"]["ok"]
        server.wait("it is said to be over", lambda: "no longer: interface usnet0 " in server.log)
        assert {shard.get("network_restarts", 0) for shard in server.status()["shards"]} == {0}


def test_a_link_that_is_down_until_nothing_more_can_be_sent_is_no_reason_to_spin(interface: Afxdp) -> None:
    """Each connection begins with ten segments, and the ring holds 1,024."""
    with Server("support.obedient:Obedient", "--app-dir", "tests", "--queues", "1", backend=interface) as server:
        clients, (worker,) = [server.connect(60) for _ in range(128)], server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        for client in clients:
            client.sendall(b"big 100000\n")
        server.wait("they are heard", lambda: all(conn["bytes_in"] == 11 for conn in server.ask("conns")))
        ip("link", "set", interface.interface, "down")
        full = server.metrics()["usnet_device_tx_full_total"]
        os.kill(worker.pid, signal.SIGCONT)
        server.wait("it has no room", lambda: server.metrics()["usnet_device_tx_full_total"] > full)
        assert_it_rests(server, shards=1)
        ip("link", "set", interface.interface, "up")
        for client in clients:
            assert receive(client, 100000) == pattern(100000)
            client.close()


@pytest.mark.parametrize(("layout", "poll"), [("split", "adaptive"), ("inline", "busy")])
def test_an_interface_that_is_removed_is_joined_when_it_is_back(interface: Afxdp, layout: str, poll: str) -> None:
    options = ["--layout", layout, "--poll", poll, "--queues", "2"]
    with Server(ECHO, *options, backend=interface) as server:
        assert hello(server.address) == b"hello"
        interface.remove()
        assert_it_says(server, "interface usnet0 was removed", "put it back")
        server.wait("its shards try again", lambda: server.log.count("tried again in") >= 2)
        interface.connect("2")
        server.wait("it is ready", lambda: is_ready(server))
        assert hello(server.address) == b"hello"
        assert "interface usnet0 was removed; it is joined again" in server.log


def test_an_interface_that_was_elsewhere_is_joined_when_it_is_back(interface: Afxdp) -> None:
    """It has its old number, and our program, and none of its queues."""
    with Server(ECHO, "--queues", "2", backend=interface) as server, ExitStack() as opened:
        assert hello(server.address) == b"hello"
        here = current_namespace()
        opened.callback(os.close, here)
        with network_namespace():
            there = current_namespace()
        opened.callback(os.close, there)
        send_to(interface.interface, there)
        assert_it_says(server, "interface usnet0 was removed", "put it back")
        with inside(there):
            send_to(interface.interface, here)
        ip("link", "set", interface.interface, "up")
        server.wait("it is ready", lambda: is_ready(server))
        assert hello(server.address) == b"hello"
        assert "interface usnet0 was removed; it is joined again" in server.log


def set_queues(name: str, queues: int) -> None:
    with Ethtool(name) as card:
        card.set_channels(replace(card.channels(), rx=queues))


def queues_of(name: str) -> int:
    with Ethtool(name) as card:
        return card.channels().rx


def test_an_interface_that_is_renamed_is_served_as_before_and_gets_its_settings_back(interface: Afxdp) -> None:
    """Another one has its name then. A shard that begins anew does so where the others are."""
    interface.connect("2")
    set_queues(interface.interface, 1)
    with Server(ECHO, "--queues", "2", backend=interface) as server:
        assert "usnet0 channels: 1 receiving, 2 sending -> 2 receiving" in server.log
        with Clients(server.address, 16, EchoDialogue) as clients:
            ip("link", "set", "usnet0", "down")
            ip("link", "set", "usnet0", "name", "other0")
            ip("link", "set", "other0", "up")
            ip("link", "add", "usnet0", "type", "veth", "peer", "name", "other1")
            server.wait("it is ready", lambda: is_ready(server))
            found = server.findings()["interface"]
            assert (found["asked"], found["ok"], "other0, " in str(found["in_force"])) == ("usnet0", False, True)
            assert "--interface other0" in str(found["fix"])
            os.kill(server.network_pids()[0], signal.SIGKILL)
            server.wait("it is replaced", lambda: server.status()["shards"][0]["network_restarts"] == 1)
            before = clients.answered
            server.wait("answers go on", lambda: clients.answered > before + 64)
        assert not clients.incidents, clients.incidents
        os.kill(server.status()["shards"][0]["keeper_pid"], signal.SIGKILL)
        server.wait("its shard is built anew", lambda: server.status()["shards"][0]["rebuilds"] == 1)
        server.wait("it is ready", lambda: is_ready(server))
        for _ in range(8):
            assert hello(server.address) == b"hello"
        assert server.log.count("interface usnet0 is called other0 now; it is served as before") == 1
    assert queues_of("other0") == 1


def send_to(interface: str, namespace: int) -> None:
    ip("link", "set", interface, "netns", f"/proc/{os.getpid()}/fd/{namespace}")


def test_queues_that_somebody_adds_are_said_to_get_nothing(interface: Afxdp) -> None:
    interface.connect("2", most="4")
    with (
        Server(ECHO, "--queues", "2", backend=interface) as server,
        Ethtool(interface.interface) as card,
    ):
        two = card.channels()
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            card.set_channels(replace(two, rx=1))  # the kernel takes none away that a server has
        card.set_channels(replace(two, rx=4))
        more = "interface usnet0 receives on 4 queues, of which 2 are served"
        assert_it_says(server, more, "ethtool -L usnet0 rx 2, or restart the server with --queues 4")
        server.wait("it is logged", lambda: more in server.log)
        card.set_channels(two)
        server.wait("it is ready", lambda: is_ready(server))
        assert hello(server.address) == b"hello"
        server.wait("it is logged", lambda: is_ready(server) and f"no longer: {more}" in server.log)


def test_another_mtu_is_said_to_be_of_no_effect(interface: Afxdp) -> None:
    with Server(ECHO, "--queues", "1", backend=interface) as server:
        assert "packet size" not in server.findings()
        ip("link", "set", interface.interface, "mtu", "1400")
        found = server.findings()["packet size"]
        assert (found["ok"], found["in_force"]) == (False, "1500")
        assert found["reason"] == "the MTU was changed since the server started, and longer packets may be lost"
        said = "interface usnet0 has an MTU of 1400 now; the stacks go on with 1500 until a restart"
        server.wait("it is logged", lambda: said in server.log)
        assert "1400" in str(found["asked"])
        assert hello(server.address) == b"hello"


def detach(server: Server) -> None:
    """Its program, through a copy of the supervisor's descriptor, as bpftool does by its number."""
    system_call, bpf, detach_link, pidfd_getfd = ctypes.CDLL(None, use_errno=True).syscall, 321, 34, 438
    links = [fd for fd in Path(f"/proc/{server.pid}/fd").iterdir() if "bpf_link" in os.readlink(fd)]
    pidfd = os.pidfd_open(server.pid)
    for link in links:
        fd = system_call(pidfd_getfd, pidfd, int(link.name), 0)
        assert fd >= 0
        attributes = ctypes.create_string_buffer(struct.pack("=I", fd))
        assert system_call(bpf, detach_link, attributes, len(attributes)) == 0
        os.close(fd)
    os.close(pidfd)


@may_look_into_processes
def test_its_program_stays_against_force_and_is_missed_when_it_was_detached(interface: Afxdp) -> None:
    with Server(ECHO, "--queues", "1", backend=interface) as server:
        other = XdpProgram()
        for native in (True, False):
            with pytest.raises(BpfError):
                other.attach(interface.interface, native=native)
        assert hello(server.address) == b"hello"
        detach(server)
        other.attach(interface.interface, native=True)
        assert_it_says(server, "the XDP program of interface usnet0 was detached", "restart the server")
        other.close()


def test_an_address_that_another_station_claims_is_told_of(interface: Afxdp) -> None:
    """The kernel's end takes it, too, and asks for somebody in its name. Clients of the other family notice nothing."""
    with Server(ECHO, "--queues", "2", backend=interface) as server:
        server.wait("it is announced", lambda: server.metrics()["usnet_ip_arp_out_total"] > 3)
        ip("address", "add", f"{Afxdp.ipv4}/32", "dev", interface.peer)
        with socket.socket(type=socket.SOCK_DGRAM) as asker:
            asker.bind((Afxdp.ipv4, 0))
            asker.sendto(b"who are you?", ("10.77.0.9", 9))
        server.wait("it is told", lambda: f"{Afxdp.ipv4} is claimed by another station as well" in server.log)
        (claimed,) = [found for found in server.ask("doctor") if found["asked"] == f"{Afxdp.ipv4}/24"]
        assert (claimed["ok"], "and by another station" in claimed["in_force"]) == (False, True)
        with socket.create_connection((Afxdp.ipv6, server.address[1]), 10) as client:
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"
