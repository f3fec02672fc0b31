"""What only a server on a TAP interface has: addresses of its own, an interface, queues."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import Tap, network_namespace
from support.clients import Clients, EchoDialogue, hello
from support.echo import ping
from support.limits import no_descriptor_left
from support.privilege import may_look_into_processes, needs_tap
from support.server import Server

from usnet_framework.errors import StartupError
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.stackplan import plan_stack
from usnet_framework.shards.tap import changes

pytestmark = needs_tap
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])


@pytest.fixture(autouse=True)
def _namespace() -> Iterator[None]:
    with network_namespace():
        yield


def serve(*options: str) -> Server:
    return Server("examples.echo:Echo", *options, backend=Tap())


def echoed(client: socket.socket) -> bytes:
    client.sendall(b"hello")
    return client.recv(5)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@LAYOUTS
def test_both_families_are_served_and_answer_pings(layout: str) -> None:
    with serve("--layout", layout, "--queues", "1") as server:
        for host in (Tap.ipv4, Tap.ipv6):
            ping(host)
            assert hello((host, server.address[1])) == b"hello"


@LAYOUTS
def test_a_connection_knows_both_of_its_ends(layout: str) -> None:
    with serve("--layout", layout, "--queues", "1") as server:
        for host in (Tap.ipv4, Tap.ipv6):
            with socket.create_connection((host, server.address[1]), 10) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
                (conn,) = server.ask("conns")
                assert conn["peer"][:2] == list(client.getsockname()[:2])
                assert conn["local"][:2] == list(client.getpeername()[:2])
            server.wait("it is gone", lambda: server.ask("conns") == [])


def test_one_address_of_several_is_served_and_the_rest_refuses() -> None:
    port = 7000
    with serve("--queues", "1", "--bind", f"tcp://{Tap.ipv4}:{port}", *Tap().options(port)[:-2]) as server:
        assert server.status()["listeners"] == [f"tcp://{Tap.ipv4}:{port}"]
        assert hello((Tap.ipv4, port)) == b"hello"
        for host, closed in ((Tap.ipv4, port + 1), (Tap.ipv6, port)):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, closed), 10)


def test_the_interface_is_made_and_said_to_be() -> None:
    with serve("--queues", "1") as server:
        found = server.findings()
        assert found["backend"]["in_force"] == "tap"
        assert "created" in found["interface"]["in_force"]
        assert found["driver"]["in_force"].startswith("tun (")
        assert (found["queues"]["in_force"], found["MTU"]["in_force"]) == ("1", "1500")
        assert found["offloads"]["in_force"] == found["offloads"]["asked"]
        assert "offloads" not in server.log
        assert found["link"]["in_force"] == "up"
        assert socket.if_nametoindex(Tap.interface)


def test_an_interface_that_was_there_is_joined_and_stays() -> None:
    ip("tuntap", "add", "dev", Tap.interface, "mode", "tap", "multi_queue")
    tap = Tap()
    tap.ended = lambda: None  # type: ignore[method-assign]  # it stays
    with Server("examples.echo:Echo", "--queues", "1", backend=tap) as server:
        found = server.findings()
        assert "joined" in found["interface"]["in_force"]
        assert not found["link"]["ok"]
        assert found["link"]["fix"] == f"ip link set {Tap.interface} up"
        with Ethtool(Tap.interface) as card:
            card.set_feature("tx-tcp-segmentation", False)  # by somebody, with ethtool -K
        offloads = server.findings()["offloads"]
        assert offloads["in_force"] == "without tx-tcp-segmentation"
        assert offloads["fix"] == f"ethtool -K {Tap.interface} tx-tcp-segmentation on"
        ip("link", "set", Tap.interface, "up")
        assert hello(server.address) == b"hello"
    assert socket.if_nametoindex(Tap.interface)


def test_an_interface_made_for_a_user_needs_no_privilege_and_what_is_missing_is_said() -> None:
    ip("tuntap", "add", "dev", Tap.interface, "mode", "tap", "multi_queue", "user", str(os.geteuid()))
    ip("link", "set", Tap.interface, "up")
    tap = Tap()
    tap.ended = lambda: None  # type: ignore[method-assign]  # it stays
    tap.started = lambda: None  # type: ignore[method-assign]  # the address is set below
    ip("address", "add", "10.77.0.2/24", "dev", Tap.interface)
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    with Server("examples.echo:Echo", "--queues", "2", backend=tap, prefix=unprivileged) as server:
        steering = server.findings()["steering"]
        assert not steering["ok"]
        assert "CAP_BPF" in steering["fix"]
        for _ in range(8):  # whichever queue they come through
            assert hello(server.address) == b"hello"


@LAYOUTS
def test_flows_go_to_the_shard_that_owns_them(layout: str) -> None:
    with serve("--layout", layout, "--queues", "4") as server:
        assert server.findings()["steering"]["ok"]
        clients = [server.connect() for _ in range(64)]
        for client in clients:
            client.sendall(b"hello")
        for client in clients:
            assert client.recv(5) == b"hello"
        shards = [conn["shard"] for conn in server.ask("conns")]
        assert sorted(set(shards)) == [0, 1, 2, 3]
        flows = server.findings()["flows"]
        assert flows["ok"]
        assert "those that are open " + "/".join(str(shards.count(shard)) for shard in range(4)) in flows["asked"]
        for client in clients:
            client.close()
        assert server.metrics()["usnet_ip_handed_over_total"] < 16  # of neighbours all shards hear


def leave_queues_to_the_kernel(server: Server) -> None:
    """Take the steering program off, through a copy of the supervisor's descriptor: frames come through any queue."""
    pidfd_getfd, set_steering = 438, 0x800454E0  # TUNSETSTEERINGEBPF
    queue = next(path for path in Path(f"/proc/{server.pid}/fd").iterdir() if os.readlink(path) == "/dev/net/tun")
    pidfd = os.pidfd_open(server.pid)
    fd = ctypes.CDLL(None).syscall(pidfd_getfd, pidfd, int(queue.name), 0)
    assert fd >= 0
    fcntl.ioctl(fd, set_steering, struct.pack("i", -1))
    os.close(fd)
    os.close(pidfd)


@may_look_into_processes
def test_frames_that_come_through_another_queue_are_handed_to_their_owner() -> None:
    with serve("--queues", "4") as server:
        leave_queues_to_the_kernel(server)
        with Clients(server.address, 32, EchoDialogue) as clients:
            server.wait("answers come", lambda: clients.answered > 320)
            shards = {conn["shard"] for conn in server.ask("conns")}
            drops = server.drops()
        assert not clients.incidents, clients.incidents
        assert shards == {0, 1, 2, 3}
        assert drops.get("tcp_no_connection", 0) == 0, drops  # each came to its owner; a busy machine may lose some
        metrics = server.metrics()
        assert metrics["usnet_ip_handed_over_total"] > 16
        crossed = int(server.findings()["flows"]["in_force"].split(" of ")[0])
        assert crossed >= metrics["usnet_ip_handed_over_total"]
        assert metrics["usnet_ip_taken_over_total"] >= metrics["usnet_ip_handed_over_total"]


def stack_counters(server: Server) -> dict[str, float]:
    """What the stack and its device count."""
    kinds = ("usnet_ip_", "usnet_tcp_", "usnet_device_", "usnet_drops_")
    return {name: value for name, value in server.metrics().items() if name.startswith(kinds)}


@LAYOUTS
def test_what_is_refused_is_counted(layout: str) -> None:
    with serve("--layout", layout, "--queues", "1") as server:
        before = stack_counters(server)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.address[0], 9), 10)
        after = stack_counters(server)
        grown = {name: after[name] - value for name, value in before.items()}
        assert grown["usnet_tcp_in_segments_total"] == grown["usnet_tcp_out_resets_total"] >= 1  # it may ask again
        assert grown["usnet_device_rx_packets_total"] >= grown["usnet_tcp_in_segments_total"]


@LAYOUTS
def test_cookies_are_counted(layout: str) -> None:
    limits = ("--max-connections", "1", "--backlog", "1")
    with serve("--layout", layout, "--queues", "1", *limits) as server, server.connect() as accepted:
        accepted.sendall(b"hello")
        assert accepted.recv(5) == b"hello"
        assert server.metrics()["usnet_tcp_syn_cookies_sent_total"] == 0
        with server.connect(), server.connect():  # one waits, and for the other one there is no room to wait
            assert server.metrics()["usnet_tcp_syn_cookies_sent_total"] > 0


def test_counters_go_on_with_the_next_network_process() -> None:
    with serve("--queues", "1") as server:
        for takeovers in range(1, 4):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((server.address[0], 9), 10)
            before = stack_counters(server)
            server.kill_network_process()
            assert hello(server.address) == b"hello"
            after = stack_counters(server)
            assert not {name: (value, after[name]) for name, value in before.items() if after[name] < value}
            assert after["usnet_ip_adopted_total"] == takeovers


@LAYOUTS
def test_peers_beyond_the_link_are_reached_by_the_gateway(layout: str) -> None:
    with serve("--layout", layout, "--queues", "1", "--gateway", "10.77.0.2") as server:
        ip("address", "add", "192.0.2.1/32", "dev", "lo")
        with socket.create_connection(server.address, 10, source_address=("192.0.2.1", 0)) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"


def test_without_a_gateway_peers_beyond_the_link_are_not_answered() -> None:
    with serve("--queues", "1") as server:
        ip("address", "add", "192.0.2.1/32", "dev", "lo")
        with pytest.raises(TimeoutError):
            socket.create_connection(server.address, 0.5, source_address=("192.0.2.1", 0))
        server.wait("it is counted", lambda: server.metrics()["usnet_drops_total"] > 0)
        assert hello(server.address) == b"hello"


@LAYOUTS
def test_who_claims_an_address_of_the_server_is_told_of(layout: str) -> None:
    """The kernel's end takes it too, and asks for somebody in its name. Clients of the other family notice nothing."""
    with serve("--layout", layout, "--queues", "1") as server:
        server.wait("it is announced", lambda: server.metrics()["usnet_ip_arp_out_total"] > 3)
        ip("address", "add", f"{Tap.ipv4}/32", "dev", Tap.interface)
        with socket.socket(type=socket.SOCK_DGRAM) as asker:
            asker.bind((Tap.ipv4, 0))
            asker.sendto(b"who are you?", ("10.77.0.9", 9))
        server.wait("it is told", lambda: f"{Tap.ipv4} is claimed by another station as well" in server.log)
        assert "supervisor  usnet.supervisor: address 10.77.0.1" in server.log
        (claimed,) = [found for found in server.ask("doctor") if found["asked"] == f"{Tap.ipv4}/24"]
        assert "and by another station" in claimed["in_force"]
        assert not claimed["ok"]
        assert any("another station" in warning for warning in server.status()["warnings"])
        assert server.metrics()["usnet_ip_address_conflicts_total"] > 0
        assert hello((Tap.ipv6, server.address[1])) == b"hello"


@LAYOUTS
def test_a_stopping_server_finishes_what_is_open_and_refuses_the_rest(layout: str) -> None:
    with serve("--layout", layout, "--queues", "1") as server, server.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        server.process.send_signal(signal.SIGTERM)
        server.wait("it stops", lambda: server.status()["state"] == "stopping")
        server.wait("new ones are refused", lambda: is_refused(server.address))
        client.sendall(b"still here")
        assert client.recv(10) == b"still here"


def is_refused(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, 10) as client:
            return client.recv(1) == b""
    except ConnectionError:
        return True


class Unreachable(Server):
    """One that serves, and is not ready."""

    def _started(self) -> bool:
        return "listening on" in self.log


@LAYOUTS
def test_a_server_whose_address_another_station_has_is_not_ready(layout: str) -> None:
    """The kernel's end has it before the server starts."""
    ip("tuntap", "add", "dev", Tap.interface, "mode", "tap", "multi_queue")
    ip("link", "set", Tap.interface, "up")
    ip("address", "add", f"{Tap.ipv4}/24", "dev", Tap.interface)
    tap = Tap()
    tap.ended = lambda: None  # type: ignore[method-assign]  # it stays
    with Unreachable("examples.echo:Echo", "--layout", layout, "--queues", "1", backend=tap) as server:
        taken = f"address {Tap.ipv4}/24 is in use by another station"
        server.wait("it is noticed", lambda: taken in server.get("/readyz")[1])
        assert server.get("/readyz")[0] == 503
        (claimed,) = [found for found in server.ask("doctor") if found["asked"] == f"{Tap.ipv4}/24"]
        assert (claimed["in_force"], claimed["ok"]) == ("not served", False)
        assert server.status()["state"] == "degraded"
        assert hello((Tap.ipv6, server.address[1])) == b"hello"


@LAYOUTS
@pytest.mark.parametrize("queues", ["1", "2"])
def test_an_interface_that_is_removed_is_made_again(layout: str, queues: str) -> None:
    with serve("--layout", layout, "--queues", queues) as server:
        ip("link", "delete", Tap.interface)
        server.wait("it is noticed", lambda: "the interface was removed" in server.log)
        server.wait("its shards are back", lambda: "it was made again" in server.get("/readyz")[1])
        assert server.get("/readyz")[0] == 503
        found = server.findings()["interface"]
        assert (found["ok"], found["in_force"]) == (False, "made again")
        assert f"dev {Tap.interface}" in found["fix"]
        Tap().started()  # its kernel end gets its addresses
        server.wait("it is ready", lambda: server.get("/readyz")[0] == 200)
        for _ in range(4):
            assert hello(server.address) == b"hello"


@LAYOUTS
def test_an_interface_that_was_joined_and_is_removed_is_joined_when_it_is_back(layout: str) -> None:
    def make() -> None:
        ip("tuntap", "add", "dev", Tap.interface, "mode", "tap", "multi_queue")
        ip("link", "set", Tap.interface, "up")

    make()
    tap = Tap()
    tap.ended = lambda: None  # type: ignore[method-assign]  # it stays
    with Server("examples.echo:Echo", "--layout", layout, "--queues", "1", backend=tap) as server:
        ip("link", "delete", Tap.interface)
        server.wait("it says so", lambda: f"interface {Tap.interface} was removed" in server.get("/readyz")[1])
        found = server.findings()["interface"]
        assert (found["ok"], found["in_force"]) == (False, "none")
        server.wait("it is tried again", lambda: server.log.count("tried again in") >= 2)
        assert not os.path.exists(f"/sys/class/net/{Tap.interface}")
        make()
        tap.started()
        server.wait("it is ready", lambda: server.get("/readyz")[0] == 200)
        assert hello(server.address) == b"hello"


def test_an_inline_worker_that_dies_is_replaced_on_the_same_queue() -> None:
    with serve("--layout", "inline", "--queues", "1") as server:
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            (old,) = server.workers()
            os.kill(old.pid, signal.SIGKILL)
            server.wait("another one serves", lambda: [new.serial for new in server.workers()] == [old.serial + 1])
            server.wait("the client hears it", lambda: was_reset(client))
        assert hello(server.address) == b"hello"


def without_room(server: Server, count: int) -> list[socket.socket]:
    """Clients that were sent more than they have room for, and do not read: the kernel's end has taken its window back
    from what is in flight."""

    def attempts() -> float:
        metrics = server.metrics()
        return metrics["usnet_tcp_timeouts_total"] + metrics["usnet_tcp_window_probes_total"]

    clients, before = [server.connect() for _ in range(count)], attempts()
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"give 1000000\n")
    server.wait("none of them has room", lambda: attempts() > before + 2 * count)
    return clients


def was_reset(client: socket.socket) -> bool:
    """Said once. Nothing is read, which would make room."""
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def test_readers_without_room_hear_that_their_connections_are_over() -> None:
    """The worker dies, and its handler cannot go on with the connections of another."""
    with Server("support.bulk:Bulk", "--app-dir", "tests", "--queues", "1", backend=Tap()) as server:
        clients = without_room(server, 60)
        os.kill(server.workers()[0].pid, signal.SIGKILL)
        server.wait("another one serves", lambda: server.ask("conns") == [] and server.workers())
        for client in clients:
            server.wait("the client hears it", lambda client=client: was_reset(client))
            client.close()


def test_a_shard_that_is_rebuilt_takes_its_queue_again() -> None:
    with serve("--queues", "1") as server:
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            os.kill(server.status()["shards"][0]["keeper_pid"], signal.SIGKILL)
            server.wait("it is rebuilt", lambda: server.status()["shards"][0]["rebuilds"] == 1 and server.workers())
            server.wait("the client hears it", lambda: was_reset(client))
        assert hello(server.address) == b"hello"


def kill_owner(server: Server, layout: str) -> None:
    """Whoever has the connections' memory mapped, and nobody else."""
    shard = server.status()["shards"][0]
    os.kill(shard["keeper_pid"] if layout == "split" else shard["workers"][0]["pid"], signal.SIGKILL)


@LAYOUTS
def test_clients_that_only_wait_hear_that_nobody_knows_of_them_any_more(layout: str) -> None:
    """Half of them will never send anything again, the others have no room for what they would be sent."""
    with Server(
        "support.bulk:Bulk", "--app-dir", "tests", "--layout", layout, "--queues", "1", backend=Tap()
    ) as server:
        clients = without_room(server, 30) + [server.connect() for _ in range(30)]
        server.wait("all are known", lambda: len(server.ask("conns")) == len(clients))
        kill_owner(server, layout)
        for client in clients:
            server.wait("the client hears it", lambda client=client: was_reset(client))
            client.close()
        with server.connect() as fresh:
            fresh.sendall(b"give 5\n")
            assert fresh.recv(5)


def test_an_interface_that_cannot_be_looked_for_is_not_taken_for_a_missing_one() -> None:
    """It would be said that it is going to be made."""
    refused = pytest.raises(StartupError, match=r"lo: the kernel does not tell whether it is there: .*files")
    with no_descriptor_left(), refused:
        changes(plan_stack("lo", ("10.0.0.1/24",), (), [], "tap"), 1)
