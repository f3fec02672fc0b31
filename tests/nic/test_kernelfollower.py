"""What the kernel knows of an interface is followed: addresses, routes, neighbours, as they come and go."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from itertools import pairwise

import pytest
from support.backends import current_namespace, inside, network_namespace
from support.link import ip
from support.privilege import needs_network_namespaces
from support.until import until

from usnet_framework._native_kernel import Route
from usnet_framework.addresses import IpNetwork, mapped
from usnet_framework.shards import kernelfollower
from usnet_framework.shards.kernelfollower import ASKED_MAX, KernelFollower
from usnet_framework.shards.kernelview import Address, Dump, KernelView
from usnet_framework.shards.rtnetlink import link

pytestmark = needs_network_namespaces

OURS, OTHER = "eth1", "eth0"
MAC = "02:00:00:00:00:07"


@pytest.fixture(autouse=True)
def _interfaces() -> Iterator[None]:
    """Ours, one more, and whoever is at their other ends."""
    with network_namespace():
        for name in (OURS, OTHER):
            ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
            for end in (name, f"{name}-peer"):
                ip("link", "set", end, "addrgenmode", "none")
                ip("link", "set", end, "up")
        ip("address", "add", "10.0.0.1/24", "dev", OURS)
        ip("address", "add", "fd00::1/64", "dev", OURS, "nodad")
        ip("address", "add", "10.1.0.1/24", "dev", OTHER)
        yield


class Seen:
    """The last that was published. `await until(...)` lets the follower live meanwhile."""

    def __init__(self) -> None:
        self.view = KernelView(0)
        self.follower = KernelFollower(socket.if_nametoindex(OURS), self._take)
        self.follower.catch_up()
        self.follower.publish()
        self._loop = asyncio.new_event_loop()
        self._is_started = False

    def close(self) -> None:
        self.follower.close()
        self._loop.close()

    def _take(self, view: KernelView) -> None:
        self.view = view

    @property
    def addresses(self) -> set[str]:
        return {str(address.own) for address in self.view.addresses if address.usable}

    @property
    def neighbours(self) -> dict[bytes, bytes]:
        return self.view.neighbours

    def routes(self, version: int = 4) -> list[Route]:
        return [route for route in self.view.routes if route.network.version == version]

    def run(self, what: Coroutine[None, None, None]) -> None:
        """In the loop of the follower."""

        async def run() -> None:
            if not self._is_started:
                self._is_started = True
                self.follower.start()
            await what

        self._loop.run_until_complete(run())

    async def until(self, what: Callable[[], bool]) -> None:
        await until(what, lambda: (self.view.addresses, self.view.routes, self.view.neighbours))


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    yield seen
    seen.close()


def packed(address: str) -> bytes:
    return mapped(ip_address(address).packed)


def live(seen: Seen, changes: Callable[[], object], *until: Callable[[], bool]) -> None:
    """Follow, change something, wait for it."""

    async def run() -> None:
        changes()
        for what in until:
            await seen.until(what)

    seen.run(run())


def test_what_there_is_at_first(seen: Seen) -> None:
    assert seen.view.addresses == [Address(ip_interface("10.0.0.1/24")), Address(ip_interface("fd00::1/64"))]
    assert seen.routes(4) == [Route(ip_network("10.0.0.0/24"))]
    assert Route(ip_network("fd00::/64")) in seen.routes(6)
    assert seen.neighbours == {}


def test_addresses_come_and_go_and_their_routes_with_them(seen: Seen) -> None:
    live(seen, lambda: ip("address", "add", "10.0.9.1/24", "dev", OURS),
         lambda: "10.0.9.1/24" in seen.addresses,
         lambda: Route(ip_network("10.0.9.0/24")) in seen.routes())  # fmt: skip
    live(seen, lambda: ip("address", "delete", "10.0.0.1/24", "dev", OURS),
         lambda: seen.addresses == {"10.0.9.1/24", "fd00::1/64"},
         lambda: seen.routes() == [Route(ip_network("10.0.9.0/24"))])  # fmt: skip


def test_an_address_that_the_kernel_still_asks_about_is_not_usable(seen: Seen) -> None:
    live(seen, lambda: ip("address", "add", "fd00::9/64", "dev", OURS),
         lambda: Address(ip_interface("fd00::9/64"), usable=False) in seen.view.addresses,
         lambda: "fd00::9/64" in seen.addresses)  # fmt: skip


def test_routes_come_with_the_best_first(seen: Seen) -> None:
    def add() -> None:
        ip("route", "add", "default", "via", "10.0.0.254")
        ip("route", "add", "10.2.0.0/16", "via", "10.0.0.7", "metric", "20")
        ip("route", "add", "10.2.0.0/16", "via", "10.0.0.8", "metric", "10")
        ip("route", "add", "10.2.3.0/24", "via", "10.1.0.7")
        ip("route", "add", "unreachable", "10.3.0.0/16")
        ip("route", "add", "10.4.0.0/16", "nexthop", "via", "10.0.0.5", "nexthop", "via", "10.0.0.6")
        ip("route", "add", "10.9.0.0/16", "via", "10.0.0.9", "table", "100")

    expected = [
        Route(ip_network("10.2.3.0/24"), elsewhere=True),
        Route(ip_network("10.3.0.0/16"), elsewhere=True),
        Route(ip_network("10.4.0.0/16"), ip_address("10.0.0.5")),
        Route(ip_network("10.4.0.0/16"), ip_address("10.0.0.6")),
        Route(ip_network("10.2.0.0/16"), ip_address("10.0.0.8")),
        Route(ip_network("10.2.0.0/16"), ip_address("10.0.0.7")),
        Route(ip_network("0.0.0.0/0"), ip_address("10.0.0.254")),
    ]
    links = [Route(ip_network("10.0.0.0/24")), Route(ip_network("10.1.0.0/24"), elsewhere=True)]
    live(seen, add, lambda: [route for route in seen.routes() if route not in links] == expected)


def test_routes_elsewhere_matter_only_below_ours(seen: Seen) -> None:
    """Without a default route of ours, 10.1.0.0/24 lies below none."""
    assert not any(route.elsewhere for route in seen.routes())


def test_a_route_that_is_replaced_by_one_that_leaves_elsewhere_is_gone(seen: Seen) -> None:
    live(seen, lambda: ip("route", "add", "default", "via", "10.0.0.254"),
         lambda: Route(ip_network("0.0.0.0/0"), ip_address("10.0.0.254")) in seen.routes())  # fmt: skip
    live(seen, lambda: ip("route", "replace", "default", "via", "10.1.0.254"),
         lambda: seen.routes() == [Route(ip_network("10.0.0.0/24"))])  # fmt: skip


def test_routes_go_with_the_link(seen: Seen) -> None:
    live(seen, lambda: ip("link", "set", OURS, "down"), lambda: seen.routes() == seen.routes(6) == [])


def test_neighbours_are_those_whose_mac_address_is_known(seen: Seen) -> None:
    def add() -> None:
        ip("neighbour", "add", "10.0.0.7", "lladdr", MAC, "dev", OURS)
        ip("neighbour", "add", "fd00::7", "lladdr", MAC, "dev", OURS, "nud", "stale")
        ip("neighbour", "add", "10.1.0.7", "lladdr", MAC, "dev", OTHER)
        ip("neighbour", "add", "10.0.0.8", "dev", OURS, "nud", "failed")

    mac = bytes.fromhex(MAC.replace(":", ""))
    live(seen, add, lambda: seen.neighbours == {packed("10.0.0.7"): mac, packed("fd00::7"): mac})
    moved = lambda: ip("neighbour", "replace", "10.0.0.7", "lladdr", "02:00:00:00:00:08", "dev", OURS)  # noqa: E731
    live(seen, moved, lambda: seen.neighbours[packed("10.0.0.7")][5] == 8)
    live(seen, lambda: ip("neighbour", "delete", "fd00::7", "dev", OURS),
         lambda: list(seen.neighbours) == [packed("10.0.0.7")])  # fmt: skip


def test_neighbours_are_there_from_the_beginning() -> None:
    ip("neighbour", "add", "10.0.0.7", "lladdr", MAC, "dev", OURS)
    seen = Seen()
    seen.close()
    assert list(seen.neighbours) == [packed("10.0.0.7")]


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_the_kernel_asks_the_link_for_a_neighbour(seen: Seen, address: str) -> None:
    ip("address", "add", "fe80::1/64", "dev", OURS, "nodad")
    ours = current_namespace()
    with network_namespace():
        theirs = current_namespace()
        with inside(ours):
            ip("link", "set", f"{OURS}-peer", "netns", f"/proc/{os.getpid()}/fd/{theirs}")
        ip("link", "set", f"{OURS}-peer", "up")
        ip("address", "add", "10.0.0.2/24", "dev", f"{OURS}-peer")
        ip("address", "add", "fd00::2/64", "dev", f"{OURS}-peer", "nodad")
        mac = link(f"{OURS}-peer").mac
        with inside(ours):
            ask = lambda: seen.follower.ask([packed(address)])  # noqa: E731
            live(seen, ask, lambda: seen.neighbours.get(packed(address)) == mac)
    os.close(ours)
    os.close(theirs)


def address_is_asked_for(address: str) -> bool:
    return f"{address} " in ip("neighbour", "show", "dev", OURS, "nud", "all")


def test_neighbours_are_asked_for_at_a_bounded_rate(seen: Seen) -> None:
    many = [packed(f"10.0.{number // 256}.{number % 256}") for number in range(2 * ASKED_MAX)]
    live(seen, lambda: seen.follower.ask(many), lambda: address_is_asked_for("10.0.0.255"))
    assert not address_is_asked_for("10.0.1.0")


def test_news_that_were_lost_are_made_up_for(seen: Seen) -> None:
    """More of them than the socket has room for, while nobody reads."""
    seen.follower._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    added = [f"10.0.0.{host}" for host in range(2, 250)]
    batch = "".join(f"neighbour add {address} lladdr {MAC} dev {OURS}\n" for address in added)
    live(seen, lambda: ip_batch(batch), lambda: set(seen.neighbours) == set(map(packed, added)))


def ip_batch(lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)


def test_changes_without_end_leave_the_loop_its_time(seen: Seen) -> None:
    """After what has cost something, ten times as long is left to others."""
    cost_s = 0.02
    published: list[float] = []

    def publish(view: KernelView) -> None:
        seen.view = view
        published.append(time.monotonic())
        time.sleep(cost_s)

    async def run() -> None:
        for host in range(2, 30):
            ip("neighbour", "add", f"10.0.0.{host}", "lladdr", MAC, "dev", OURS)
            await asyncio.sleep(0)
        await seen.until(lambda: len(seen.neighbours) == 28)

    seen.follower._publish = publish
    seen.run(run())
    pauses = [later - earlier for earlier, later in pairwise(published)]
    assert all(pause >= 10 * cost_s for pause in pauses)


def test_what_could_not_be_passed_on_is_passed_on_later(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without further news. What is wrong is told when it changes, and not each time."""
    caplog.set_level(logging.INFO, "usnet.supervisor")
    monkeypatch.setattr(kernelfollower, "TELL_AGAIN_S", 0.01)
    failures = iter([OSError("no memory"), OSError("no memory"), OSError("no room"), OSError("no room")])

    def publish(view: KernelView) -> None:
        for failure in failures:
            raise failure
        seen.view = view

    seen.follower._publish = publish
    seen.view = KernelView(0)
    live(seen, lambda: ip("neighbour", "add", "10.0.0.7", "lladdr", MAC, "dev", OURS),
         lambda: list(seen.neighbours) == [packed("10.0.0.7")])  # fmt: skip
    assert next(failures, None) is None
    text = "what the kernel knows of the interface is"
    assert [record.getMessage() for record in caplog.records] == [
        f"{text} not passed on: no memory",
        f"{text} not passed on: no room",
        f"{text} passed on again",
    ]


def test_a_station_without_an_address_is_none(seen: Seen) -> None:
    """Its MAC address is all zeros: what is sent there comes to nobody."""

    def add() -> None:
        ip("neighbour", "add", "10.0.0.8", "lladdr", "00:00:00:00:00:00", "dev", OURS)
        ip("neighbour", "add", "10.0.0.7", "lladdr", MAC, "dev", OURS)

    live(seen, add, lambda: packed("10.0.0.7") in seen.neighbours)
    assert packed("10.0.0.8") not in seen.neighbours


def view_of(*routes: Route) -> KernelView:
    view = KernelView(1)
    view._routes[Dump.IPV4_ROUTES] = [(0, route) for route in routes]
    return view


def test_which_routes_elsewhere_matter_is_as_a_slow_look_has_it() -> None:
    chance = random.Random(12)

    def network() -> IpNetwork:
        return ip_network((chance.randrange(16) << 28 | chance.randrange(16) << 20, chance.randrange(33)), strict=False)

    for _ in range(50):
        ours = [Route(network()) for _ in range(3)]
        others = [Route(network(), elsewhere=True) for _ in range(20)]
        slow = {route for route in others for own in ours if route.network.subnet_of(own.network)}  # type: ignore[arg-type]
        assert {route for route in view_of(*ours, *others).routes if route.elsewhere} == slow


def test_twice_the_routes_cost_twice_as_much() -> None:
    """A router may have all those of the Internet."""
    calls = [0]

    def cost(count: int) -> int:
        networks = [ip_network((number << 12, 24)) for number in range(count)]
        view = view_of(*map(Route, networks), *(Route(network, elsewhere=True) for network in networks))
        calls[0] = 0
        sys.setprofile(lambda _frame, event, _argument: calls.__setitem__(0, calls[0] + (event == "call")))
        try:
            assert len(view.routes) == 2 * count
        finally:
            sys.setprofile(None)
        return calls[0]

    assert cost(400) < 3 * cost(200)
