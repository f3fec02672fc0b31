"""Below TCP: the kernel resolves our addresses and pings us, and we resolve the kernel's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.backends import network_namespace
from support.echo import ping
from support.host import Host
from support.link import INTERFACE, OUR_ADDRESSES, OURS, Link, connect, ip, neighbours, setting, station
from support.privilege import needs_tap
from support.server import Server

from usnet_framework.testing.packets import (
    BROADCAST_MAC,
    ETHER_ARP,
    ETHER_IPV4,
    PROTOCOL_TCP,
    Arp,
    Ethernet,
    Ipv4,
)
from usnet_framework.testing.segments import Tcp

pytestmark = needs_tap
NOTIFY = {4: "arp_notify", 6: "ndisc_notify"}
NOBODYS = {4: "10.77.0.3", 6: "fd77::3"}


@pytest.fixture(scope="module")
def server(ethernet: Link) -> Iterator[Server]:
    """Whose addresses nobody else has claimed within the first second: whoever asks for one then gets it."""
    with Server("examples.echo:Echo", "--queues", "1", backend=ethernet) as server:
        server.wait("its addresses are its own", lambda: {row["state"] for row in server.ask("addr")} == {"ours"})
        yield server


@pytest.mark.parametrize("size", [0, 1, 1000, 1447, 1452])
def test_pings_are_answered(server: Server, version: int, size: int) -> None:
    ping(OURS[version], size)


@pytest.mark.parametrize("size", [1473, 4001, 60_000])
def test_pings_in_fragments_are_answered(server: Server, version: int, size: int) -> None:
    """In fragments too: RFC 1122 section 3.2.2.6, RFC 4443 section 4.2."""
    before = server.metrics()["usnet_ip_reassembled_total"]
    ping(OURS[version], size)
    assert server.metrics()["usnet_ip_reassembled_total"] > before


def test_the_kernel_resolves_our_addresses_anew(server: Server, version: int) -> None:
    ip("neighbour", "flush", "dev", INTERFACE)
    ping(OURS[version])
    station = neighbours()[OURS[version]]
    assert int(station[:2], 16) & 3 == 2  # locally administered, one station
    ip("neighbour", "flush", "dev", INTERFACE)
    ping(OURS[version])
    assert neighbours()[OURS[version]] == station


def test_the_kernel_probes_that_we_are_still_there(server: Server, version: int) -> None:
    """It asks us alone instead of everybody."""
    ping(OURS[version])
    ip("neighbour", "change", OURS[version], "dev", INTERFACE, "nud", "probe")
    server.wait("the answer came", lambda: "REACHABLE" in ip("neighbour", "show", OURS[version], "dev", INTERFACE))


def test_the_kernel_hears_of_our_addresses_when_we_start(version: int) -> None:
    """We announce them: the kernel, which asks nobody, is willing to believe that."""
    believes = {4: ["arp_accept"], 6: ["accept_untracked_na", "forwarding"]}[version]
    with network_namespace(), ExitStack() as settings:
        link = Link()
        for name in believes:
            settings.enter_context(setting(f"net/ipv{version}/conf/{INTERFACE}/{name}", 1))
        with Server("examples.echo:Echo", "--queues", "1", backend=link) as server:
            server.wait("the kernel has heard", lambda: OURS[version] in neighbours())


def test_the_kernel_finds_out_that_an_address_is_ours(server: Server, version: int) -> None:
    """It wants to have it, too, and asks first: RFC 5227, RFC 4862 section 5.4."""
    if version == 6:
        ip("address", "add", f"{OURS[6]}/128", "dev", INTERFACE)
        server.wait("it gives the address up", lambda: "dadfailed" in ip("-6", "address", "show", "dev", INTERFACE))
        ip("address", "delete", f"{OURS[6]}/128", "dev", INTERFACE)
    else:
        assert asks_for(OURS[4])
        assert not asks_for(NOBODYS[4], seconds=0.2)


def asks_for(address: str, seconds: float = 10.0) -> bool:
    """Whether somebody answers an ARP probe."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_ARP)) as link:
        link.bind((INTERFACE, ETHER_ARP))
        mac = link.getsockname()[4]
        link.settimeout(seconds)
        probe = Arp(Arp.REQUEST, mac, "0.0.0.0", bytes(6), address)
        link.send(Ethernet(BROADCAST_MAC, mac, ETHER_ARP, probe.build()).build())
        while True:
            try:
                answer = Arp.parse(Ethernet.parse(link.recv(2048)).payload[:28])
            except TimeoutError:
                return False
            if answer.operation == Arp.REPLY and answer.sender == address:
                return True


def is_echoed(client: socket.socket) -> bool:
    data = os.urandom(100_000)
    client.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := client.recv(1 << 20)):
        got += piece
    return got == data


def our_station() -> str:
    """Our MAC address, as the kernel knows it."""
    ping(OURS[4])
    return neighbours()[OURS[4]]


def kernel_moves() -> None:
    """To another MAC address, which makes it forget its neighbours."""
    before = station()
    ip("link", "set", INTERFACE, "address", f"{int(before[:2], 16) ^ 0x40:02x}{before[2:]}")


def test_a_connection_goes_on_when_the_kernel_has_another_mac_address(server: Server, version: int) -> None:
    with connect(version, server.address[1]) as client:
        for _ in range(3):
            assert is_echoed(client)
            kernel_moves()
        assert is_echoed(client)


SILENTLY = pytest.param(0, id="silently", marks=pytest.mark.slow)  # it takes seconds until we doubt


@pytest.mark.parametrize("speaks", [SILENTLY, pytest.param(1, id="loudly")])
def test_a_kernel_that_moves_and_does_not_ask(server: Server, version: int, speaks: int) -> None:
    """It knows us: only its announcement tells us, or our own doubt when nothing is acknowledged any more."""
    ours = our_station()
    switch = f"net/ipv{version}/conf/{INTERFACE}/{NOTIFY[version]}"
    with connect(version, server.address[1]) as client, setting(switch, speaks):
        assert is_echoed(client)
        kernel_moves()
        ip("neighbour", "replace", OURS[version], "dev", INTERFACE, "lladdr", ours, "nud", "permanent")
        assert is_echoed(client)
        ip("neighbour", "delete", OURS[version], "dev", INTERFACE)


def test_peers_that_are_not_there_cost_nobody_else(server: Server) -> None:
    """Connections are asked for from addresses that nobody has: the answer has nowhere to go."""
    before = server.metrics()["usnet_ip_neighbours_failed_total"]
    ours = bytes.fromhex(our_station().replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
        link.bind((INTERFACE, 0))
        mac = link.getsockname()[4]
        for number in range(50, 250):
            source = f"10.77.0.{number}"
            syn = Tcp(1024, server.address[1], 1, 0, "S").build(source, OURS[4])
            packet = Ipv4(source, OURS[4], PROTOCOL_TCP, syn)
            link.send(Ethernet(ours, mac, ETHER_IPV4, packet.build()).build())
    with connect(4, server.address[1]) as client:
        assert is_echoed(client)
        server.wait("they were asked for", lambda: server.metrics()["usnet_ip_neighbours_failed_total"] > before + 10)
        assert is_echoed(client)


def test_an_address_that_nobody_has_is_not_answered_for(server: Server, version: int) -> None:
    nobody = NOBODYS[version]
    with pytest.raises((AssertionError, OSError)):
        ping(nobody, seconds=1)
    assert nobody not in neighbours()


def test_an_address_that_nobody_has_cannot_be_reached(version: int) -> None:
    with network_namespace():
        Link()
        with Host(*OUR_ADDRESSES) as host:
            with pytest.raises(OSError, match="No route to host"):
                host.connect(NOBODYS[version], 7)
            assert host.counters()["ip_neighbours_failed"] == 1
