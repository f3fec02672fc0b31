"""usnet-serve on the queues of an interface that the kernel serves as well: what is in force, who gets which packets,
and that nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.away import Away
from support.backends import Afxdp
from support.clients import hello
from support.echo import ping
from support.link import ip
from support.privilege import needs_xdp
from support.refusals import refused
from support.server import Server, command, wait

from usnet_framework.shards.ethtool import Ethtool

pytestmark = needs_xdp

ECHO = "examples.echo:Echo"
KERNELS = "10.77.0.200"


def test_what_is_in_force_is_said(interface: Afxdp) -> None:
    with Server(ECHO, "--queues", "2", backend=interface) as server:
        found = server.findings()
        assert found["backend"]["in_force"] == "afxdp"
        assert found["shards"]["in_force"] == "2"
        assert found["XDP"]["in_force"] == "in the driver"
        assert found["packets"]["in_force"] == "the kernel copies"
        assert interface.interface in str(found["interface"]["in_force"])


def test_there_are_as_many_shards_as_queues_unless_told_otherwise(interface: Afxdp) -> None:
    interface.connect("3")
    with Server(ECHO, backend=interface) as server:
        assert len(server.network_pids()) == 3
        assert hello(server.address) == b"hello"


@pytest.mark.parametrize("size", [1000, 4001])
def test_pings_are_answered_in_fragments_too(interface: Afxdp, size: int) -> None:
    with Server(ECHO, "--queues", "2", backend=interface):
        for host in (Afxdp.ipv4, Afxdp.ipv6):
            ping(host, size)


def talk(address: str, port: int) -> str:
    """A program that says "ready" when its connection is open, and a word for each line that came back."""
    return (
        "import socket, sys\n"
        f"with socket.create_connection(({address!r}, {port}), 10) as client:\n"
        "    print('ready', flush=True)\n"
        "    for line in sys.stdin.buffer:\n"
        "        client.sendall(line)\n"
        "        print(client.recv(100).decode().strip(), flush=True)\n"
    )


class Talk:
    """A connection from another network namespace to the kernel's sockets, echo for echo."""

    def __init__(self, away: Away, address: str, port: int) -> None:
        program = [*away.enter, sys.executable, "-c", talk(address, port)]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def hears(self, word: str) -> bool:
        assert self._process.stdout
        return self._process.stdout.readline().decode() == f"{word}\n"

    def goes_on(self) -> bool:
        assert self._process.stdin
        self._process.stdin.write(b"still here\n")
        self._process.stdin.flush()
        return self.hears("still here")

    def end(self) -> None:
        self._process.communicate(timeout=10)


@contextlib.contextmanager
def clients_elsewhere(interface: Afxdp) -> Iterator[Away]:
    """The other end of the pair in a namespace of its own; the kernel has an address at ours."""
    with Away() as away:
        ip("link", "set", interface.peer, "netns", str(away.pid))
        ip("address", "add", f"{KERNELS}/24", "dev", interface.interface)
        away.run("ip", "link", "set", interface.peer, "up")
        away.run("ip", "address", "add", "10.77.0.2/24", "dev", interface.peer)
        yield away


def echoes(listener: socket.socket) -> None:
    """One connection."""
    client, _ = listener.accept()
    with client:
        while data := client.recv(100):
            client.sendall(data)


def test_the_kernel_has_its_traffic_before_while_and_after(interface: Afxdp) -> None:
    """Of an address of its own on the same interface, over one connection."""
    interface.connect("2")
    with clients_elsewhere(interface) as away, socket.create_server((KERNELS, 0)) as listener:
        thread = threading.Thread(target=echoes, args=[listener])
        thread.start()
        ssh = Talk(away, *listener.getsockname())
        assert ssh.hears("ready")
        assert ssh.goes_on()
        with Server(ECHO, "--queues", "2", backend=interface) as server:
            ours = Talk(away, *server.address)
            assert ours.hears("ready")
            assert ssh.goes_on()
            old = server.network_pids()
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            assert ssh.goes_on()
            server.wait("others serve", lambda: len(set(server.network_pids()) - set(old)) == 2)
            assert ours.goes_on()
            ours.end()
        assert ssh.goes_on()
        ssh.end()
        thread.join(10)


@pytest.mark.parametrize("host", [Afxdp.ipv4, Afxdp.ipv6])
def test_what_nobody_listens_on_is_refused_by_our_stack(interface: Afxdp, host: str) -> None:
    with Server(ECHO, "--queues", "1", backend=interface) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, server.address[1] - 1), 10)
        assert hello((host, server.address[1])) == b"hello"


def memberships(interface: Afxdp) -> str:
    return ip("maddress", "show", "dev", interface.interface)


def test_a_server_that_is_killed_leaves_nothing(interface: Afxdp) -> None:
    """Program and multicast groups go with their last descriptors; the next server starts at once."""
    interface.connect("1")
    wait("the kernel has its own IPv6 address", lambda: "inet6 ff02::1:ff" in memberships(interface))
    groups = memberships(interface)
    with Server(ECHO, "--queues", "1", backend=interface, stop=False) as server:
        assert memberships(interface) != groups
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        server.wait("its processes are gone", lambda: not server.processes())
    assert memberships(interface) == groups
    with Server(ECHO, "--queues", "1", backend=interface) as server:
        assert hello(server.address) == b"hello"


def test_an_interface_that_another_server_has_is_refused(interface: Afxdp) -> None:
    with Server(ECHO, "--queues", "1", backend=interface) as server:
        options = [*interface.options(7001, ["--queues", "1"]), "--metrics", "off", "--control", "off"]
        line = refused(3, ECHO, *options)
        other = f"the server of process {server.pid} has it; kill {server.pid}, or use another interface"
        assert line == f"--interface usnet0: {other}"
        assert hello(server.address) == b"hello"


@pytest.mark.parametrize("one", ["rx", "tx"])
def test_the_card_has_its_queues_back_when_the_server_is_gone(interface: Afxdp, one: str) -> None:
    """Each shard has one to receive from and one to send from."""
    interface.connect("2")
    with Ethtool(interface.interface) as card:
        before = replace(card.channels(), **{one: 1})
        card.set_channels(before)
        with Server(ECHO, "--queues", "2", backend=interface) as server:
            assert (card.channels().rx, card.channels().tx) == (2, 2)
            for _ in range(8):  # of either shard
                assert hello(server.address) == b"hello"
        assert card.channels() == before
        with Server(ECHO, "--queues", "2", backend=interface, stop=False) as server:
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait(10)
            server.wait("its processes are gone", lambda: not server.processes())
        assert (card.channels().rx, card.channels().tx) == (2, 2)
        subprocess.run([command("usnet-ctl"), "doctor", "--fix"], check=True)
        assert card.channels() == before
