"""Namespaces come and go with the block that made them, however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.privilege import needs_network_namespaces, needs_tap

from usnet_framework.bench import netns, network
from usnet_framework.bench.netns import VethPair, namespaces
from usnet_framework.bench.network import add_station, add_tap, open_network
from usnet_framework.errors import StartupError, UsageError

pytestmark = needs_network_namespaces


def ours() -> list[str]:
    pair = VethPair()
    return sorted({pair.server.namespace, pair.client.namespace} & set(namespaces()))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert ours() == []


def test_both_sides_reach_each_other() -> None:
    with open_network("veth") as pair:
        assert len(ours()) == 2
        host, _ = pair.new_address()
        route = pair.on_client(["ip", "route", "get", host])
        assert "dev ub" in subprocess.run(route, capture_output=True, text=True, check=True).stdout
        assert host in subprocess.run(pair.on_server(["ip", "addr"]), capture_output=True, text=True, check=True).stdout


def test_the_sending_side_has_a_queue_and_the_route_says_cubic() -> None:
    with open_network("veth") as pair:
        for side in (pair.on_client, pair.on_server):
            queues = subprocess.run(side(["tc", "qdisc"]), capture_output=True, text=True, check=True).stdout
            routes = subprocess.run(side(["ip", "route"]), capture_output=True, text=True, check=True).stdout
            assert "qdisc pfifo" in queues
            assert "congctl cubic" in routes


@needs_tap
def test_a_tap_interface_has_the_queue_and_the_route_of_the_pair() -> None:
    with open_network("veth") as pair:
        tap = add_tap(pair)
        queues = subprocess.run(tap.on_client(["tc", "qdisc"]), capture_output=True, text=True, check=True).stdout
        host, _ = tap.new_address()
        way = subprocess.run(tap.on_server(["ip", "route"]), capture_output=True, text=True, check=True).stdout
    kinds = [line.split()[1] for line in queues.splitlines() if f"dev {netns.TAP_INTERFACE}" in line]
    routes = [line for line in way.splitlines() if f"dev {netns.TAP_INTERFACE}" in line]
    assert host not in way
    assert kinds == ["pfifo"]
    assert [line.split()[0] for line in routes] == [netns.TAP_NETWORK]
    assert "congctl cubic" in routes[0]


FEATURES = """
import sys
from usnet_framework.shards.ethtool import Ethtool
with Ethtool(sys.argv[1]) as card:
    print(*(name for name, feature in card.features().items() if feature.active))
"""


def active(command: list[str]) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_neither_side_segments_when_told_not_to() -> None:
    with open_network("veth") as pair:
        sides = ((pair.on_server, netns.SERVER_INTERFACE), (pair.on_client, netns.CLIENT_INTERFACE))
        ask = [side([sys.executable, "-P", "-c", FEATURES, device]) for side, device in sides]
        before = [active(command) for command in ask]
        network.stop_segmenting(pair)
        after = [active(command) for command in ask]
    assert all("tx-tcp-segmentation" in one for one in before)
    assert all("tx-generic-segmentation" in one for one in after)
    assert not any(name.startswith("tx-tcp") for one in after for name in one)


def test_a_station_is_found_anew_by_each_server() -> None:
    with open_network("veth") as pair:
        station = add_station(pair)
        host, _ = station.new_address()
        old = ["lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", netns.CLIENT_INTERFACE]
        subprocess.run(pair.on_client(["ip", "neighbour", "add", host, *old]), check=True)
        station.new_address()
        known = subprocess.run(pair.on_client(["ip", "neighbour"]), capture_output=True, text=True, check=True).stdout
    assert host not in known


def test_a_tap_interface_needs_namespaces() -> None:
    with open_network("loopback") as loopback, pytest.raises(UsageError, match="not loopback"):
        add_tap(loopback)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_they_are_removed_when_the_block_is_left_by(error: type[BaseException]) -> None:
    with pytest.raises(error), open_network("veth"):
        raise error
    assert ours() == []


def test_they_are_removed_when_making_them_fails_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "CONGESTION_CONTROL", "no-such-thing")
    with pytest.raises(StartupError, match="no-such-thing"), open_network("veth"):
        pass
    assert ours() == []
    with open_network("auto") as fallen_back:
        assert fallen_back.description.startswith("loopback (no veth pair: ip ")


def test_what_a_killed_process_left_is_removed_by_the_next() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = f"{netns.PREFIX}{dead.pid}-server"
    subprocess.run(["ip", "netns", "add", left], check=True)
    with open_network("veth"):
        assert left not in namespaces()


def test_without_the_privilege_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.os, "geteuid", lambda: 1000)
    with open_network("auto") as fallen_back:
        assert fallen_back.description == "loopback (no veth pair: not root)"
        with pytest.raises(StartupError, match="--rps needs network namespaces, not loopback"):
            network.receive_at_home(fallen_back, 0, 1)
    with pytest.raises(StartupError, match="not root"), open_network("veth"):
        pass


@needs_tap
def test_each_kernel_receives_on_its_own_core_when_told_to() -> None:
    with open_network("veth") as pair:
        tap = add_tap(pair)
        for place in (pair, tap):
            network.receive_at_home(place, server_core=0, load_core=1)
        masks = [
            subprocess.run(
                side(["sh", "-c", f"cat /sys/class/net/{device}/queues/rx-0/rps_cpus"]),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for side, device in (
                (pair.on_server, netns.SERVER_INTERFACE),
                (pair.on_client, netns.CLIENT_INTERFACE),
                (tap.on_client, netns.TAP_INTERFACE),
            )
        ]
    assert [int(mask, 16) for mask in masks] == [1, 2, 2]


def test_loopback_has_no_side_to_receive_on() -> None:
    with open_network("loopback") as loopback, pytest.raises(UsageError, match="--rps needs network namespaces"):
        network.receive_at_home(loopback, 0, 1)


@pytest.mark.parametrize(
    ("core", "mask"), [(0, "1"), (5, "20"), (31, "80000000"), (32, "1,00000000"), (69, "20,00000000,00000000")]
)
def test_sets_of_processors_are_written_as_the_kernel_reads_them(core: int, mask: str) -> None:
    assert netns.cpu_mask(core) == mask


def test_a_set_of_several_processors() -> None:
    assert netns.cpu_mask(0, 33, 5) == "2,00000021"
