"""A shared interface without a server: what the supervisor has of it, and a stack of the test's beside it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import mmap
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.privilege import needs_xdp
from support.shared import SharedInterface as Wire
from support.shared import ip, kernel_echoes
from support.until import SECONDS, until

from usnet_framework._native import mapped_ip
from usnet_framework._native_bpf import XdpProgram
from usnet_framework._native_device import Device, Packet, Pool
from usnet_framework._native_kernel import ADDRESSES_MAX, ROUTES_MAX, table_bytes
from usnet_framework._native_stack import Link, Stack
from usnet_framework._native_xdp import Queue, xdp_socket
from usnet_framework.addresses import IpAddress
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import outgoing, servedports, sharing
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.listeners import parse_bind
from usnet_framework.shards.rtnetlink import link
from usnet_framework.shards.servedports import Place
from usnet_framework.shards.sharing import NO_ROOM, SharedInterface, addresses_of
from usnet_framework.shards.stackplan import plan_stack
from usnet_framework.shards.undo import Journal, left, put_back

pytestmark = needs_xdp

PORTS = (40000, 40009)
IP_FREEBIND = 15


class Opener:
    """A stack that opens connections from the interface's addresses."""

    def __init__(self, opened: ExitStack, journals: Path) -> None:
        name = Wire.interface
        index = socket.if_nametoindex(name)
        plan = plan_stack(name, (), (), [], "afxdp", lambda name: addresses_of(name, index), PORTS)
        program = XdpProgram()
        opened.callback(program.close)
        self.shared = SharedInterface(plan)
        self.shared.open(index, program)
        opened.callback(self.shared.close)
        card = opened.enter_context(Ethtool(name))
        journal = Journal(card, journals)
        opened.callback(journal.close)
        self.shared.reserve(journal)
        program.attach(name, native=True)
        pool = Pool(256, 4096)
        opened.callback(pool.close)
        memory = os.memfd_create("test", os.MFD_CLOEXEC)
        fd = xdp_socket(Queue(name, 0, link(name).mac, 1500), pool.address, pool.frames, pool.frame_bytes, memory)
        program.set_queue(0, fd)
        self._pool, self._device = pool, Device.xdp(fd, memory)
        opened.callback(self._device.close)
        self._device.attach(pool)
        options = {"port_low": PORTS[0], "port_high": PORTS[1], "accept_partial_checksum": True}
        self.stack = Stack(link=Link(mac=link(name).mac), shared=True, **options)
        opened.callback(self.stack.close)
        self.stack.share(mmap.mmap(self.shared.table_fd, table_bytes(), prot=mmap.PROT_READ))

    async def until(self, what: Callable[[], bool]) -> None:
        """Live, until it is so."""

        def turned() -> bool:
            self._turn()
            return what()

        await until(turned)

    def _turn(self) -> None:
        received = self._device.peek()
        for packet in received:
            self.stack.input(b"".join(frame.data for frame in self._pool.chain(packet.frame)))
            self._pool.drop(packet.frame)
        self._device.release(len(received))
        self.stack.poll(time.monotonic_ns())
        for wanted in self.stack.questions():
            self.shared.ask(mapped_ip(wanted))
        while self._device.reserve(1) and (output := self.stack.output()) is not None:
            self._device.submit([Packet([output.data])])
        self._device.flush()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with network_namespace(), Wire() as wire:
        wire.connect("1")
        yield wire


@pytest.mark.parametrize("host", [Wire.clients_ipv4, Wire.clients_ipv6, Wire.far_ipv4])
def test_a_connection_that_our_stack_opens_comes_back(wire: Wire, tmp_path: Path, host: str) -> None:
    """From a port that was set aside, to whom the kernel finds: a neighbour, or a router that it knows the way by."""
    with ExitStack() as opened:
        if host == Wire.far_ipv4:
            with wire.far_away():
                port = opened.enter_context(kernel_echoes(host))
            ip(f"route add 10.88.0.0/16 via {wire.clients_ipv4}")
        else:
            with wire.clients():
                port = opened.enter_context(kernel_echoes(host))
        opener = Opener(opened, tmp_path)
        stack = opener.stack

        async def talk() -> bytes:
            opener.shared.follow(stack.follow)
            conn = stack.connect((host, port))
            await opener.until(lambda: stack.info(conn).state == "established")
            assert stack.info(conn).local[1] in range(PORTS[0], PORTS[1] + 1)
            stack.write(conn, b"hello")
            await opener.until(lambda: stack.info(conn).unread == 5)
            return stack.read(conn)

        assert asyncio.run(talk()) == b"hello"


class Program:
    """Remembers what is served."""

    def __init__(self) -> None:
        self.served: set[tuple[str, int]] = set()

    def serve(self, address: IpAddress, port: int) -> None:
        self.served.add((str(address), port))

    def unserve(self, address: IpAddress, port: int) -> None:
        self.served.remove((str(address), port))

    def share(self, address: IpAddress) -> None: ...
    def unshare(self, address: IpAddress) -> None: ...
    def set_outgoing(self, first: int, last: int) -> None: ...


def shared(opened: ExitStack, program: Program, *more: str, ports: tuple[int, int] | None = None) -> SharedInterface:
    index = socket.if_nametoindex(Wire.interface)
    binds = [parse_bind(bind) for bind in ("tcp://0.0.0.0:7000", f"tcp://{Wire.ipv4}:7001", *more)]
    plan = plan_stack(Wire.interface, (), (), binds, "afxdp", lambda name: addresses_of(name, index), ports)
    made = SharedInterface(plan)
    made.open(index, program)
    opened.callback(made.close)
    return made


def unserved(made: SharedInterface) -> dict[str, str]:
    """Of its findings: what is not served, and why."""
    return {finding.asked: finding.reason for finding in made.findings() if not finding.ok}


async def hear_no_more(made: SharedInterface) -> None:
    """News of the kernel, such as that nobody else has the link-local address, would have everything looked at."""
    asyncio.get_running_loop().remove_reader(made._follower._socket)
    await until(lambda: made._follower._timer is None)


def test_addresses_that_find_no_room_in_the_table_are_left_to_the_kernel_and_told(wire: Wire) -> None:
    """The stack would drop what comes to them. Those that listeners name come first."""
    hosts = [f"10.77.0.{host}" for host in range(10, 12 + ADDRESSES_MAX)]
    for host in hosts:
        ip(f"address add {host}/24 dev {wire.interface}")
    program = Program()
    with ExitStack() as opened:
        made = shared(opened, program, f"tcp://{hosts[-1]}:7002")
        first = {wire.ipv4, hosts[-1], *hosts[: ADDRESSES_MAX - 2]}
        assert {ip for ip, port in program.served if port == 7000} == first
        assert (hosts[-1], 7002) in program.served
        lost = [f"{host}/24" for host in hosts[ADDRESSES_MAX - 2 : -1]]
        left_out = [address for address, reason in unserved(made).items() if reason == NO_ROOM]
        assert [address for address in left_out if ":" not in address] == lost
        assert made.trouble() is None
        with pytest.raises(StartupError, match=f"tcp://{hosts[-2]}:7003: the address is not served: a server"):
            asyncio.run(made.serve((hosts[-2], 7003)))


def test_an_address_that_is_served_stays_when_others_come_before_it(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel lists those of IPv6 last, and connections would end."""
    program = Program()
    with ExitStack() as opened:
        made = shared(opened, program, "tcp://*:7002")
        assert (wire.ipv6, 7002) in program.served

        async def run() -> None:
            made.follow(lambda: None)
            for host in range(10, 10 + ADDRESSES_MAX):
                ip(f"address add 10.77.0.{host}/24 dev {wire.interface}")
            await until(lambda: f"10.77.0.{9 + ADDRESSES_MAX}/24" in unserved(made))
            assert f"address 10.77.0.{9 + ADDRESSES_MAX}/24 of usnet0 is not served: {NO_ROOM}" in caplog.text
            assert (wire.ipv6, 7002) in program.served
            made.close()

        asyncio.run(run())


def test_routes_that_find_no_room_are_told(wire: Wire) -> None:
    routes = "".join(f"route add 10.{88 + n // 256}.{n % 256}.0/24 via 10.77.0.9\n" for n in range(ROUTES_MAX))
    subprocess.run(["ip", "-batch", "-"], input=routes, text=True, check=True)
    with ExitStack() as opened:
        (finding,) = (one for one in shared(opened, Program()).findings() if one.what == "routes and neighbours")
        assert not finding.ok
        assert int(finding.in_force.removeprefix("all but ")) >= 1


def test_the_broadcast_address_of_a_network_is_left_to_the_kernel(wire: Wire) -> None:
    """Somebody has given it to the interface; what comes to it is for all hosts."""
    ip(f"address add 10.78.0.255/24 dev {wire.interface}")
    program = Program()
    with ExitStack() as opened:
        made = shared(opened, program)
        assert {ip for ip, port in program.served if port == 7000} == {wire.ipv4}
        assert unserved(made)["10.78.0.255/24"] == "it is the broadcast address of its network"


def test_a_port_is_served_when_whoever_had_it_is_gone(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing tells of that. Until then doctor says who does what."""
    caplog.set_level(logging.INFO, "usnet.supervisor")
    program, place = Program(), ("10.77.0.9", 7000)
    with ExitStack() as opened:
        made = shared(opened, program)

        async def run() -> None:
            made.follow(lambda: None)
            with socket.socket() as other:
                other.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # before the interface has the address
                other.bind(place)
                other.listen()
                ip(f"address add {place[0]}/24 dev {wire.interface}")
                await until(lambda: made.trouble() is not None)
                (finding,) = (one for one in made.findings() if one.what == "tcp://10.77.0.9:7000")
                assert finding.reason == "the port is in use; stop who listens there or use another port"
                assert finding.fix == "the server tries again, every 10 s at least"
                assert "tcp://10.77.0.9:7000 is not served: the port is in use" in caplog.text
                await hear_no_more(made)
            await until(lambda: place in program.served)
            assert made.trouble() is None
            assert "tcp://10.77.0.9:7000 is served from now on" in caplog.text
            made.close()

        asyncio.run(run())


def test_an_interface_that_has_no_address_any_more_is_in_trouble(wire: Wire) -> None:
    program = Program()
    with ExitStack() as opened:
        made = shared(opened, program)
        assert made.trouble() is None

        async def lose(what: str, trouble: str) -> None:
            ip(f"address {what} dev {wire.interface}")  # the broadcast address of a network is the kernel's
            await until(lambda: made.trouble() == trouble, made.trouble)

        async def run() -> None:
            made.follow(lambda: None)
            await lose(f"delete {wire.ipv4}/24", f"interface usnet0 has no address {wire.ipv4}")
            await lose("flush", "interface usnet0 has no address")
            await lose("add 10.78.0.255/24", "interface usnet0 has no address that can be served")
            assert program.served == set()
            made.close()

        asyncio.run(run())


class Looker:
    """Of whether the kernel has connections: not in the thread of the loop, and not before it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: set[Place] = set()
        self.may_answer = threading.Event()
        monkeypatch.setattr(sharing, "look", self._look)

    def _look(self, unclear: Mapping[Place, socket.socket]) -> dict[Place, StartupError]:
        assert threading.current_thread() is not threading.main_thread()
        self.asked |= unclear.keys()
        assert self.may_answer.wait(SECONDS)
        return servedports.look(unclear)


@pytest.fixture
def looker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Looker]:
    looker = Looker(monkeypatch)
    yield looker
    looker.may_answer.set()


@contextmanager
def connection_at(host: str, port: int) -> Iterator[None]:
    """Of the kernel; nobody listens there any more. It ends in TIME-WAIT."""
    with socket.create_server((host, port)) as listener:
        client = socket.create_connection((host, port))
        accepted, _ = listener.accept()
    with client:
        with accepted:
            yield
        assert client.recv(1) == b""


def test_what_is_bound_while_the_kernel_looks_at_its_connections_does_not_hold_the_loop_up(
    wire: Wire, looker: Looker
) -> None:
    program, place = Program(), (wire.ipv4, 7002)
    with connection_at(*place):
        pass
    with ExitStack() as opened:
        made = shared(opened, program)

        async def run() -> None:
            made.follow(lambda: None)
            serving = asyncio.create_task(made.serve(place))
            await until(lambda: bool(looker.asked))
            ip(f"address add 10.77.0.9/24 dev {wire.interface}")
            await until(lambda: ("10.77.0.9", 7000) in program.served)
            assert place not in program.served
            looker.may_answer.set()
            await serving
            assert place in program.served
            made.close()

        asyncio.run(run())


def test_what_is_bound_where_the_kernel_has_connections_is_refused_whole(
    wire: Wire, looker: Looker, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asked for it is told, and not the log."""
    program = Program()
    looker.may_answer.set()
    ip(f"address add 10.77.0.9/24 dev {wire.interface}")
    with ExitStack() as opened:
        made = shared(opened, program)

        async def run() -> None:
            made.follow(lambda: None)
            with connection_at(wire.ipv4, 7002), pytest.raises(InUse, match="the kernel still has connections there"):
                await made.serve(("0.0.0.0", 7002))
            assert not any(port == 7002 for _, port in program.served)
            assert made.trouble() is None
            assert "7002" not in caplog.text
            await made.serve(("0.0.0.0", 7002))
            assert program.served >= {(wire.ipv4, 7002), ("10.77.0.9", 7002)}
            made.close()

        asyncio.run(run())


def test_a_port_where_the_kernel_had_connections_is_served_when_they_have_ended(wire: Wire, looker: Looker) -> None:
    program, place = Program(), ("10.77.0.9", 7000)
    looker.may_answer.set()
    with ExitStack() as opened:
        made = shared(opened, program)

        async def run() -> None:
            made.follow(lambda: None)
            ip(f"address add {place[0]}/24 dev lo")
            with connection_at(*place):
                ip(f"address add {place[0]}/24 dev {wire.interface}")
                await until(lambda: "the kernel still has connections there" in (made.trouble() or ""))
                assert place not in program.served
                await hear_no_more(made)
            await until(lambda: place in program.served)
            assert made.trouble() is None
            made.close()

        asyncio.run(run())


def test_an_interface_may_go_while_the_kernel_looks_at_its_connections(wire: Wire, looker: Looker) -> None:
    """What was bound meanwhile is served when there is another one of the name."""
    first, second, place = Program(), Program(), (wire.ipv4, 7002)
    with connection_at(*place):
        pass
    with ExitStack() as opened:
        made = shared(opened, first)

        async def run() -> None:
            made.follow(lambda: None)
            serving = asyncio.create_task(made.serve(place))
            await until(lambda: bool(looker.asked))
            made.close()
            wire.connect("1")
            made.open(socket.if_nametoindex(wire.interface), second)
            looker.may_answer.set()
            await serving
            await until(lambda: place in second.served)
            assert place not in first.served
            made.close()

        asyncio.run(run())


def test_another_interface_of_the_name_is_shared_in_the_same_way(wire: Wire) -> None:
    """With what was bound meanwhile; the stacks are told of it."""
    first, second, woken = Program(), Program(), []
    with ExitStack() as opened:
        made = shared(opened, first)

        async def run() -> None:
            made.follow(lambda: woken.append(1))
            await made.serve((wire.ipv4, 7002))
            made.unserve((wire.ipv4, 7001))
            made.close()
            wire.connect("1")
            made.open(socket.if_nametoindex(wire.interface), second)
            ip(f"address add 10.77.0.9/24 dev {wire.interface}")
            await until(lambda: ("10.77.0.9", 7000) in second.served)
            made.close()

        asyncio.run(run())
    assert second.served == {(wire.ipv4, 7000), ("10.77.0.9", 7000), (wire.ipv4, 7002)}
    assert woken


def test_a_port_that_somebody_has_got_meanwhile_keeps_no_other_from_being_served_again(wire: Wire) -> None:
    """When the server joins another interface of the name."""
    first, second = Program(), Program()
    with ExitStack() as opened:
        made = shared(opened, first)

        async def run() -> None:
            made.follow(lambda: None)
            made.close()
            wire.connect("1")
            with socket.create_server((wire.ipv4, 7001)):
                made.open(socket.if_nametoindex(wire.interface), second)
                assert second.served == {(wire.ipv4, 7000)}
                assert made.trouble() is not None
                await hear_no_more(made)
            await until(lambda: (wire.ipv4, 7001) in second.served)
            made.close()

        asyncio.run(run())


def test_an_interface_that_is_back_costs_one_look_at_the_connections_at_outgoing_ports(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop waits for it; before the ports are reserved it would say nothing for good."""
    looks: list[tuple[int, int]] = []
    monkeypatch.setattr(outgoing, "check_unused", lambda ports, _: looks.append(ports))
    with ExitStack() as opened:
        made = shared(opened, Program(), ports=PORTS)
        assert looks == [PORTS]

        async def run() -> None:
            made.follow(lambda: None)
            made.close()
            looks.clear()
            made.open(socket.if_nametoindex(wire.interface), Program())
            assert looks == []
            journal = Journal(opened.enter_context(Ethtool(wire.interface)), tmp_path)
            made.reserve(journal)
            journal.close()
            assert looks == [PORTS]
            made.close()

        asyncio.run(run())


def test_what_the_program_does_not_take_is_told_as_that(wire: Wire) -> None:
    class Full(Program):
        def share(self, address: IpAddress) -> None:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))

    with ExitStack() as opened, pytest.raises(StartupError) as refused:
        shared(opened, Full(), ports=PORTS)
    assert str(refused.value) == (
        "--interface usnet0: its packets cannot be taken from the kernel: [Errno 7] Argument list too long"
    )


def test_ports_that_another_server_is_quicker_to_reserve_are_refused(wire: Wire, tmp_path: Path) -> None:
    """All of them as well as a part: they would be thought to be ours."""
    with ExitStack() as opened:
        made = shared(opened, Program(), ports=PORTS)
        journal = Journal(opened.enter_context(Ethtool(wire.interface)), tmp_path)
        for others in ((40005, 40020), PORTS):
            outgoing.reserve(others, True)
            with pytest.raises(StartupError, match="of them are reserved already"):
                made.reserve(journal)
            outgoing.reserve(others, False)
        made.reserve(journal)
        journal.close()
        assert outgoing.reserved() == set()


def test_reserved_ports_are_put_back_when_somebody_has_taken_some_out(wire: Wire, tmp_path: Path) -> None:
    with ExitStack() as opened:
        made = shared(opened, Program(), ports=PORTS)
        journal = Journal(opened.enter_context(Ethtool(wire.interface)), tmp_path)
        made.reserve(journal)
        outgoing.reserve((PORTS[0], PORTS[0] + 4), False)
        journal.close()
        assert outgoing.reserved() == set()


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "No space left on device; the server writes down what"), (errno.EROFS, "it takes CAP_NET_ADMIN")],
)
def test_why_ports_cannot_be_reserved_is_told(wire: Wire, number: int, text: str) -> None:
    class Refusing:
        def change(self, kind: str, name: str, value: object) -> None:
            raise OSError(number, os.strerror(number))

    with ExitStack() as opened, pytest.raises(StartupError, match=text):
        shared(opened, Program(), ports=PORTS).reserve(Refusing())  # type: ignore[arg-type]


def test_another_server_that_has_the_list_of_ports_is_not_waited_for_in_the_loop(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is stopped. What stays reserved is written down, and put back later."""

    def sleep(_: float) -> None:
        raise AssertionError("the loop waits")

    with ExitStack() as opened:
        made, card = shared(opened, Program(), ports=PORTS), opened.enter_context(Ethtool(wire.interface))
        journal = Journal(card, tmp_path)
        made.reserve(journal)
        with monkeypatch.context() as patched, outgoing.lock_path().open("r+") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            patched.setattr(outgoing.time, "sleep", sleep)
            journal.close()
        assert left(wire.interface, "ports", tmp_path) == ["40000-40009"]
        put_back(wire.interface, tmp_path)
        assert outgoing.reserved() == set()
