"""Of a shared interface, what is listened on leaves the kernel, and nothing else; the kernel's sockets keep it free."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.limits import no_descriptor_left
from support.privilege import needs_network_namespaces

from usnet_framework.addresses import IpAddress
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import servedports
from usnet_framework.shards.kernelsockets import local_ends
from usnet_framework.shards.servedports import Endpoint, ServedPorts, Unclear, look

pytestmark = needs_network_namespaces

LOOPBACK = 1
V4, OTHER_V4, V6 = (ipaddress.ip_address(address) for address in ("127.0.0.1", "127.0.0.2", "::1"))


class Program:
    def __init__(self) -> None:
        self.shared: set[IpAddress] = set()
        self.served: set[tuple[IpAddress, int]] = set()

    def share(self, address: IpAddress) -> None:
        self.shared.add(address)

    def unshare(self, address: IpAddress) -> None:
        self.shared.remove(address)

    def serve(self, address: IpAddress, port: int) -> None:
        self.served.add((address, port))

    def unserve(self, address: IpAddress, port: int) -> None:
        self.served.remove((address, port))


@pytest.fixture(autouse=True)
def _namespace() -> Iterator[None]:
    with network_namespace():
        yield


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def ports(program: Program) -> Iterator[ServedPorts]:
    ports = ServedPorts(program, LOOPBACK)
    ports.follow([V4, OTHER_V4, V6])
    yield ports
    ports.close()


def serve(ports: ServedPorts, endpoint: Endpoint) -> None:
    """With a look at what is unclear; all of it or nothing."""
    ports.serve(endpoint)
    if unclear := ports.unclear():
        ports.clear_up(unclear, look(unclear))
    try:
        ports.check(endpoint)
    except StartupError:
        ports.unserve(endpoint)
        raise


@pytest.mark.parametrize(
    ("host", "served"),
    [("::", {V4, OTHER_V4, V6}), ("0.0.0.0", {V4, OTHER_V4}), ("127.0.0.2", {OTHER_V4}), ("::1", {V6}), ("::2", set())],
)
def test_a_listener_means_addresses_of_the_interface(
    ports: ServedPorts, program: Program, host: str, served: set[IpAddress]
) -> None:
    serve(ports, (host, 7000))
    assert program.served == {(ip, 7000) for ip in served}
    assert program.shared == served
    ports.unserve((host, 7000))
    assert program.served == program.shared == set()


def test_addresses_come_and_go(ports: ServedPorts, program: Program) -> None:
    ports.follow([])
    serve(ports, ("::", 7000))
    serve(ports, ("127.0.0.2", 7001))
    assert program.served == set()
    assert ports.missing() == ["127.0.0.2"]
    ports.follow([V4, OTHER_V4])
    assert program.served == {(V4, 7000), (OTHER_V4, 7000), (OTHER_V4, 7001)}
    assert ports.missing() == []
    ports.follow([V4])
    assert program.served == {(V4, 7000)}
    assert program.shared == {V4}


def test_two_listeners_may_mean_the_same(ports: ServedPorts, program: Program) -> None:
    serve(ports, ("::", 7000))
    serve(ports, ("127.0.0.1", 7000))
    ports.unserve(("::", 7000))
    assert program.served == {(V4, 7000)}


def test_an_address_of_which_nothing_is_served_is_shared_for_connections_of_ours(program: Program) -> None:
    ports = ServedPorts(program, LOOPBACK, all_shared=True)
    ports.follow([V4, V6])
    assert program.shared == {V4, V6}
    assert program.served == set()
    ports.close()


def test_nobody_else_gets_the_port(ports: ServedPorts) -> None:
    serve(ports, ("127.0.0.1", 7000))
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", 7000))
    ports.unserve(("127.0.0.1", 7000))
    socket.create_server(("127.0.0.1", 7000)).close()


def test_the_kernel_takes_it_for_no_connection_of_its_own(ports: ServedPorts) -> None:
    """Even where it has no other."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("7000 7000")
    with socket.create_server(("127.0.0.2", 80)) as listener:
        serve(ports, ("127.0.0.1", 7000))
        with pytest.raises(OSError, match="Cannot assign requested address"):
            socket.create_connection(listener.getsockname())
        ports.unserve(("127.0.0.1", 7000))
        socket.create_connection(listener.getsockname()).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_has_is_refused_and_stays_his(ports: ServedPorts, program: Program, host: str) -> None:
    with socket.create_server((host, 7000)), pytest.raises(InUse) as refusal:
        serve(ports, ("::", 7000))
    assert str(refusal.value) == "tcp://127.0.0.1:7000: the port is in use; stop who listens there or use another port"
    assert program.served == program.shared == set()
    assert ports.refused == {}
    serve(ports, ("::", 7000))
    assert (V4, 7000) in program.served


def test_one_that_somebody_has_on_an_address_that_comes_later_is_told(ports: ServedPorts, program: Program) -> None:
    ports.follow([V4])
    serve(ports, ("::", 7000))
    with socket.create_server(("127.0.0.2", 7000)):
        ports.follow([V4, OTHER_V4])
        assert program.served == {(V4, 7000)}
        assert list(ports.refused) == [(OTHER_V4, 7000)]
    ports.follow([V4, OTHER_V4])
    assert program.served == {(V4, 7000), (OTHER_V4, 7000)}
    assert ports.refused == {}


def test_connections_that_the_kernel_has_there_go_on(ports: ServedPorts, program: Program) -> None:
    """Of a server that listens no more: our stack knows nothing of them, and would reset them."""
    with socket.create_server(("127.0.0.1", 7000)) as listener:
        client = socket.create_connection(("127.0.0.1", 7000))
        accepted, _ = listener.accept()
    with client, accepted:
        with pytest.raises(InUse, match="the kernel still has connections there"):
            serve(ports, ("127.0.0.1", 7000))
        assert program.served == set()
        accepted.close()
        assert client.recv(1) == b""
    serve(ports, ("127.0.0.1", 7000))
    assert program.served == {(V4, 7000)}


def test_what_the_last_server_left_in_time_wait_is_in_nobodys_way(ports: ServedPorts, program: Program) -> None:
    leave_time_wait(7000)
    serve(ports, ("127.0.0.1", 7000))
    assert program.served == {(V4, 7000)}


def test_a_free_port_costs_no_look_at_the_connections_of_the_machine(
    ports: ServedPorts, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a million. Where something is at ports, those at these ports are looked at, all at once."""
    looked_at: list[tuple[tuple[int, int], ...]] = []

    def ends(*asked: tuple[int, int]) -> list[tuple[IpAddress, int]]:
        looked_at.append(asked)
        return local_ends(*asked)

    monkeypatch.setattr(servedports, "local_ends", ends)
    serve(ports, ("::", 7000))
    assert looked_at == []
    for port in (7001, 7002):
        leave_time_wait(port)
        ports.serve(("127.0.0.1", port))
    assert looked_at == []
    unclear = ports.unclear()
    ports.clear_up(unclear, look(unclear))
    assert looked_at == [((7001, 7001), (7002, 7002))]
    assert program.served >= {(V4, 7001), (V4, 7002)}


def leave_time_wait(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener, socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = listener.accept()
        accepted.close()
        assert client.recv(1) == b""


def test_while_it_is_unclear_what_is_at_a_port_nobody_else_gets_it(ports: ServedPorts, program: Program) -> None:
    leave_time_wait(7000)
    ports.serve(("127.0.0.1", 7000))
    assert program.served == set()
    with pytest.raises(Unclear, match="the kernel is being asked whether it has connections there"):
        ports.check(("127.0.0.1", 7000))
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", 7000))
    ports.unserve(("127.0.0.1", 7000))
    socket.create_server(("127.0.0.1", 7000)).close()


def test_what_has_changed_since_it_was_looked_at_is_left_as_it_is(ports: ServedPorts, program: Program) -> None:
    leave_time_wait(7000)
    ports.serve(("127.0.0.1", 7000))
    before = ports.unclear()
    ports.unserve(("127.0.0.1", 7000))
    ports.clear_up(before, {})
    assert program.served == set()
    ports.serve(("127.0.0.1", 7000))
    ports.clear_up(before, {})
    assert program.served == set()
    ports.clear_up(ports.unclear(), {})
    assert program.served == {(V4, 7000)}
    assert ports.refused == {}


def test_connections_that_the_kernel_has_are_not_looked_for_again_with_all_news(
    ports: ServedPorts, program: Program
) -> None:
    with socket.create_server(("127.0.0.2", 7000)) as listener:
        client = socket.create_connection(("127.0.0.2", 7000))
        accepted, _ = listener.accept()
    with client, accepted:
        ports.follow([V4])
        serve(ports, ("::", 7000))
        ports.follow([V4, OTHER_V4])
        unclear = ports.unclear()
        assert list(unclear) == [(OTHER_V4, 7000)]
        ports.clear_up(unclear, look(unclear))
        ports.follow([V4, OTHER_V4, V6])
        assert ports.unclear() == {}
        assert list(ports.refused) == [(OTHER_V4, 7000)]
        ports.try_again()
        assert list(ports.unclear()) == [(OTHER_V4, 7000)]


def test_where_the_kernel_does_not_answer_nothing_is_served_and_nobody_kept_out(
    ports: ServedPorts, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: tuple[int, int]) -> list[tuple[IpAddress, int]]:
        raise TimeoutError("timed out")

    leave_time_wait(7000)
    monkeypatch.setattr(servedports, "local_ends", ends)
    with pytest.raises(StartupError, match="does not tell whether it has connections there: timed out"):
        serve(ports, ("127.0.0.1", 7000))
    assert program.served == set()
    socket.create_server(("127.0.0.1", 7000)).close()


def test_an_address_that_is_just_being_removed_is_in_nobodys_way(ports: ServedPorts, program: Program) -> None:
    """The kernel has it no longer, and we have not heard of it."""
    gone = ipaddress.ip_address("192.0.2.1")
    ports.follow([V4, gone])
    serve(ports, ("::", 7000))
    serve(ports, ("192.0.2.1", 7001))
    assert program.served == {(V4, 7000)}
    assert ports.refused.keys() == {(gone, 7000), (gone, 7001)}
    ports.follow([V4])
    assert ports.refused == {}
    assert ports.missing() == ["192.0.2.1"]


def test_what_was_refused_is_tried_again(ports: ServedPorts, program: Program) -> None:
    ports.follow([V4])
    serve(ports, ("::", 7000))
    with socket.create_server(("127.0.0.2", 7000)):
        ports.follow([V4, OTHER_V4])
        ports.try_again()
        assert not ports.holds((OTHER_V4, 7000))
    ports.try_again()
    assert ports.holds((OTHER_V4, 7000))
    assert ports.refused == {}


def test_without_descriptors_nothing_of_a_listener_is_left(ports: ServedPorts, program: Program) -> None:
    """And nobody is said to have the port."""
    refused = pytest.raises(StartupError, match="Too many open files; listen on fewer addresses, or raise")
    with no_descriptor_left(), refused as refusal:
        serve(ports, ("::", 7000))
    assert not isinstance(refusal.value, InUse)
    ports.try_again()
    assert program.served == set()


class Full(Program):
    """Its maps have no room."""

    def serve(self, address: IpAddress, port: int) -> None:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))


def test_what_the_program_does_not_take_is_not_listed_and_not_held() -> None:
    ports = ServedPorts(Full(), LOOPBACK)
    ports.follow([V4])
    with pytest.raises(StartupError, match=r"its packets cannot be taken from the kernel: Arg"):
        serve(ports, ("::", 7000))
    assert ports.missing() == []
    assert ports.refused == {}
    socket.create_server(("127.0.0.1", 7000)).close()
    with pytest.raises(ValueError, match="not in list"):
        ports.unserve(("::", 7000))
    ports.close()


def test_a_listener_that_goes_takes_what_no_other_one_means(ports: ServedPorts) -> None:
    serve(ports, ("0.0.0.0", 7000))
    serve(ports, ("127.0.0.1", 7000))
    assert ports.ending(("0.0.0.0", 7000)) == {(OTHER_V4, 7000)}
    assert ports.ending(("127.0.0.1", 7000)) == set()


def test_endpoints_of_before_are_served_as_the_addresses_come(program: Program) -> None:
    """One that somebody has got meanwhile is refused, and keeps no other one from being served."""
    ports = ServedPorts(program, LOOPBACK, endpoints=[("127.0.0.1", 7000), ("127.0.0.1", 7001)])
    with socket.create_server(("127.0.0.1", 7000)):
        ports.follow([V4])
        assert program.served == {(V4, 7001)}
        with pytest.raises(InUse, match=r"tcp://127.0.0.1:7000: the port is in use"):
            ports.check(("127.0.0.1", 7000))
    ports.close()
