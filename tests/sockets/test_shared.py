"""usnet-serve on addresses that it shares with the kernel: who gets which packets, and what follows the kernel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from serving.test_capabilities import assert_serves_with, only
from support.asking import Asking
from support.backends import Afxdp, network_namespace
from support.clients import Clients, EchoDialogue
from support.echo import ping
from support.privilege import needs_xdp
from support.server import Server, command, wait
from support.shared import SharedInterface, ip, kernel_echoes

from usnet_framework.shards.rtnetlink import link
from usnet_framework.testing.packets import Ipv4
from usnet_framework.testing.segments import Tcp

pytestmark = needs_xdp

ECHO = "examples.echo:Echo"
ASKING = (f"support.asking:{Asking.__name__}", "--app-dir", "tests")
HOSTS = {4: Afxdp.ipv4, 6: Afxdp.ipv6}
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
FAMILIES = pytest.mark.parametrize("family", [4, 6])
ONE = ("--queues", "1")


@pytest.fixture
def interface() -> Iterator[SharedInterface]:
    with network_namespace(), SharedInterface() as interface:
        yield interface


def connect(interface: SharedInterface, host: str, port: int, timeout: float = 10) -> socket.socket:
    with interface.clients():
        return socket.create_connection((host, port), timeout)


def echoed(client: socket.socket, data: bytes = b"hello") -> bool:
    client.sendall(data)
    return client.recv(len(data), socket.MSG_WAITALL) == data


def answers(interface: SharedInterface, host: str, port: int, timeout: float = 10) -> bool:
    """Somebody does, and says what is said to him."""
    with suppress(OSError), connect(interface, host, port, timeout) as client:
        return echoed(client)
    return False


def findings(server: Server, what: str) -> list[str]:
    return [finding["in_force"] for finding in server.ask("doctor") if finding["what"] == what]


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_both_families_are_served_at_the_kernels_addresses(interface: SharedInterface, layout: str) -> None:
    with Server(ECHO, "--queues", "2", "--layout", layout, backend=interface) as server:
        for host in HOSTS.values():
            assert answers(interface, host, server.address[1])
            with interface.clients():
                ping(host)  # the kernel answers
        assert findings(server, "interface") == ["usnet0, shared with the kernel"]
        # that of the link comes when the kernel has asked whether somebody else has it
        server.wait("all are shared", lambda: set(findings(server, "address")) == {"shared with the kernel"})


@FAMILIES
def test_the_kernel_goes_on_at_the_same_address(interface: SharedInterface, family: int) -> None:
    """Over one connection and over new ones: before, while, when network processes die, and after."""
    interface.connect("2")
    host = HOSTS[family]
    with kernel_echoes(host) as port, connect(interface, host, port) as ssh:
        assert echoed(ssh)
        with (
            Server(ECHO, "--queues", "2", backend=interface) as server,
            connect(interface, host, server.address[1]) as ours,
        ):
            assert echoed(ssh)
            assert echoed(ours)
            assert answers(interface, host, port)
            for pid in server.network_pids():
                os.kill(pid, signal.SIGKILL)
            assert echoed(ssh)
            assert answers(interface, host, port)
            assert echoed(ours)
        assert echoed(ssh)
        assert answers(interface, host, port)
        assert not answers(interface, host, server.address[1])  # the kernel refuses


def test_a_death_under_load_loses_nothing(interface: SharedInterface) -> None:
    with Server(ECHO, "--queues", "2", backend=interface) as server:
        old = server.network_pids()
        with interface.clients(), Clients(server.address, 20, EchoDialogue) as clients:
            for pid in old:
                goes_on(clients)
                os.kill(pid, signal.SIGKILL)
            server.wait("others serve", lambda: len(set(server.network_pids()) - set(old)) == 2)
            goes_on(clients)
        assert clients.incidents == []


def goes_on(clients: Clients) -> None:
    before = clients.answered
    wait("they are answered", lambda: clients.answered > before + 100)


@FAMILIES
def test_clients_behind_a_router_are_answered_as_they_come(interface: SharedInterface, family: int) -> None:
    """The kernel has no route to them; packets too large for their link are made smaller as the router says."""
    data = os.urandom(1 << 20)
    with Server(ECHO, *ONE, backend=interface) as server:
        with interface.far_away(mtu=1300):
            client = socket.create_connection((HOSTS[family], server.address[1]), 60)
        with client:
            sender = threading.Thread(target=client.sendall, args=[data])
            sender.start()
            with client.makefile("rb") as echo:
                assert echo.read(len(data)) == data
            sender.join(10)
        assert server.metrics()["usnet_tcp_path_mtu_lowered_total"] > 0


def test_fragments_of_tcp_are_dropped_and_counted(interface: SharedInterface) -> None:
    with Server(ECHO, *ONE, backend=interface) as server:
        ends = (interface.clients_ipv4, interface.ipv4)
        segment = Tcp(40000, server.address[1], 1, 1, ".", payload=bytes(64)).build(*ends)
        packet = Ipv4(*ends, Tcp.PROTOCOL, segment)
        with interface.clients(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for fragment in packet.fragments(32):
                raw.sendto(fragment.build(), (interface.ipv4, 0))
        server.wait("they are counted", lambda: findings(server, "packets for us") == ["3 were dropped"])
        assert server.drops()["fragments"] == 3
        assert answers(interface, interface.ipv4, server.address[1])


def test_addresses_come_and_go(interface: SharedInterface) -> None:
    """A listener on all of them follows; one on an address that goes is missed, and is there again with it."""
    interface.connect("1")
    ip(f"address add 10.77.0.8/24 dev {interface.interface}")
    binds = ("--bind", "tcp://*:7000", "--bind", "tcp://10.77.0.8:7001")
    options = interface.options(7000, ONE)[:-2]
    with Server(ECHO, *ONE, *options, *binds, backend=interface) as server:
        assert not answers(interface, "10.77.0.9", 7000, 0.1)
        ip(f"address add 10.77.0.9/24 dev {interface.interface}")
        server.wait("it is served", lambda: answers(interface, "10.77.0.9", 7000, 1))
        with connect(interface, "10.77.0.8", 7001) as client:
            assert echoed(client)
            ip(f"address delete 10.77.0.8/24 dev {interface.interface}")
            server.wait("it is missed", lambda: server.get("/readyz")[0] == 503)
            assert "interface usnet0 has no address 10.77.0.8" in server.get("/readyz")[1]
            assert answers(interface, "10.77.0.9", 7000)
            ip(f"address add 10.77.0.8/24 dev {interface.interface}")
            server.wait("it is there again", lambda: server.get("/readyz")[0] == 200)
            server.wait("it is served", lambda: answers(interface, "10.77.0.8", 7001, 1))


def test_another_mac_address_is_missed(interface: SharedInterface) -> None:
    """Frames come to that one then, and the stack takes them for another station's."""
    with Server(ECHO, *ONE, backend=interface) as server:
        before = link(interface.interface).mac.hex(":")
        ip(f"link set {interface.interface} address 02:00:00:00:00:77")
        said = "usnet0 has another MAC address than when the server started"
        server.wait("it is missed", lambda: said in server.get("/readyz")[1])
        assert server.get("/readyz")[0] == 503
        ip(f"link set {interface.interface} address {before}")
        server.wait("it is ready", lambda: server.get("/readyz")[0] == 200)
        server.wait("it is served", lambda: answers(interface, interface.ipv4, server.address[1], 1))


def test_an_interface_that_was_removed_is_joined_again(interface: SharedInterface) -> None:
    """With its addresses, and with what was bound meanwhile."""
    with Server(ECHO, *ONE, backend=interface) as server:
        server.ctl("bind", f"tcp://{interface.ipv4}:7001")
        interface.connect("1")
        for port in (server.address[1], 7001):
            server.wait("it is served", lambda port=port: answers(interface, interface.ipv4, port, 1))  # type: ignore[misc]


def test_a_port_that_is_unbound_is_the_kernels_when_its_connections_have_ended(interface: SharedInterface) -> None:
    """Those to the same port of another address are not waited for."""
    with Server(ECHO, *ONE, backend=interface) as server:
        where = f"tcp://{interface.ipv4}:7001"
        assert not answers(interface, interface.ipv4, 7001)
        server.ctl("bind", where)
        server.ctl("bind", f"tcp://[{interface.ipv6}]:7001")
        with connect(interface, interface.ipv6, 7001) as other:
            with connect(interface, interface.ipv4, 7001) as client:
                assert echoed(client)
                server.ctl("unbind", where)
                assert not answers(interface, interface.ipv4, 7001)
                assert echoed(client)
            server.wait("it is free", lambda: can_be_bound(interface.ipv4, 7001))
            assert echoed(other)
        with kernel_echoes(interface.ipv4, 7001):
            assert answers(interface, interface.ipv4, 7001)
            assert "the port is in use" in server.refusal("bind", where)
            assert answers(interface, interface.ipv4, 7001)


def can_be_bound(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_server((host, port)):
        return True
    return False


def test_a_handler_asks_others_by_the_kernels_connections(interface: SharedInterface) -> None:
    """From the same address; of the few ports that the kernel may use for that it leaves out those that are ours."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40099")
    with Server(*ASKING, *ONE, "--outgoing-ports", "40000-40089", backend=interface) as server:
        with (
            interface.clients(),
            kernel_echoes(interface.clients_ipv4) as port,
            socket.create_connection(server.address, 10) as client,
        ):
            for _ in range(8):
                client.sendall(f"{interface.clients_ipv4} {port}".encode())
                assert int(client.recv(5)) in range(40090, 40100)
        assert findings(server, "outgoing ports") == ["40000-40089, reserved"]
        RESERVED.write_text("\n")
        assert findings(server, "outgoing ports") == ["40000-40089, not reserved"]


def test_reserved_ports_are_given_back(interface: SharedInterface) -> None:
    """At the end; after a SIGKILL by the next server, or by doctor --fix."""
    RESERVED.write_text("8080\n")
    options = (ECHO, *ONE, "--outgoing-ports", "40000-40999")
    with Server(*options, backend=interface):
        assert RESERVED.read_text() == "8080,40000-40999\n"
    assert RESERVED.read_text() == "8080\n"
    for _ in range(2):
        with Server(*options, backend=interface, stop=False) as server:
            assert RESERVED.read_text() == "8080,40000-40999\n"
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait(10)
            server.wait("its processes are gone", lambda: not server.processes())
        assert RESERVED.read_text() == "8080,40000-40999\n"
    subprocess.run([command("usnet-ctl"), "doctor", "--fix"], check=True)
    assert RESERVED.read_text() == "8080\n"


def test_it_takes_these_five(interface: SharedInterface) -> None:
    needed = ("net_admin", "net_raw", "bpf", "perfmon", "ipc_lock")
    with Server(ECHO, *ONE, "--outgoing-ports", "40000-40999", prefix=only(*needed), backend=interface) as server:
        with interface.clients():
            assert_serves_with(server, *needed)
        assert RESERVED.read_text() == "40000-40999\n"
