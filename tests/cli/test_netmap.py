"""usnet-serve --backend netmap where it cannot be: one line with what to do, the right exit code, and nothing left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import Afxdp, network_namespace
from support.link import ip
from support.netmap import StandIn, wired
from support.privilege import needs_network_namespaces, needs_xdp
from support.refusals import AS_ANOTHER_USER, in_use, refused, refused_both_ways
from support.server import run

SILENT = ("--metrics", "off", "--control", "off")
SERVE = ("examples.echo:Echo", "--backend", "netmap", "--address", "10.77.0.1/24", *SILENT)
INTERFACE = "usnet0"


@pytest.fixture
def netmap(tmp_path: Path) -> Iterator[StandIn]:
    """A card with two rings, of which the second test below has an interface."""
    with wired() as (near, _), StandIn(tmp_path, near, {INTERFACE: 2}) as netmap:
        yield netmap
        assert netmap.is_left()


def test_without_an_interface_it_is_wrong_usage() -> None:
    assert refused(2, *SERVE) == "--backend netmap: no --interface is given; name the one to serve on"


@pytest.mark.parametrize(
    "name", ["vale0:", "vale:a-b", "vale 1:us", ":us", "eth1:us", "vale0:us:1", "vale0:" + 60 * "a"]
)
def test_a_name_that_no_port_has_is_wrong_usage(name: str) -> None:
    line = refused_both_ways(2, *SERVE, "--interface", name)
    assert line.startswith(f"--interface {name}: not a name of a port: valeSWITCH:PORT, ")


@pytest.mark.skipif(os.path.exists("/dev/netmap"), reason="there is a /dev/netmap")
@pytest.mark.parametrize("interface", ["eth1", "vale0:us"])
def test_without_the_module(interface: str) -> None:
    assert refused_both_ways(3, *SERVE, "--interface", interface) == (
        "--backend netmap: there is no /dev/netmap: build netmap's module from its sources "
        "(github.com/luigirizzo/netmap) and load it, or use another backend"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, who may become another user")
def test_without_the_right_to_open_it(netmap: StandIn) -> None:
    netmap.path.chmod(0o600)
    line = refused_both_ways(3, *SERVE, "--interface", "vale0:us", env=netmap.env, prefix=AS_ANOTHER_USER)
    assert line == (
        "--backend netmap: /dev/netmap cannot be opened: Permission denied; start the server as root, or give its user "
        "that file"
    )


def test_a_port_that_another_has(netmap: StandIn) -> None:
    netmap.reserve("vale0:us")
    expected = "--interface vale0:us: ring 0 of netmap port vale0:us is used by another program: stop it"
    assert in_use(*SERVE, "--interface", "vale0:us", env=netmap.env) == expected


@needs_xdp
class TestWithAnInterface:
    @pytest.fixture(autouse=True)
    def _pair(self) -> Iterator[None]:
        """With two queues."""
        with network_namespace():
            Afxdp().connect("2")
            yield

    def refusal(self, netmap: StandIn, *options: str) -> str:
        return refused_both_ways(3, *SERVE, "--interface", INTERFACE, *options, env=netmap.env)

    def test_fewer_rings_than_shards(self, netmap: StandIn) -> None:
        expected = "--queues 3: usnet0 has 2 ring pairs; use --queues 2, or ethtool -L usnet0 combined 3"
        assert self.refusal(netmap, "--queues", "3") == expected

    def test_more_rings_than_shards(self, netmap: StandIn) -> None:
        assert self.refusal(netmap, "--queues", "1") == (
            "--queues 1: usnet0 has 2 rings, and nobody would take what comes through the others; use --queues 2, or "
            "ethtool -L usnet0 combined 1"
        )

    def test_an_interface_that_is_down(self, netmap: StandIn) -> None:
        ip("link", "set", INTERFACE, "down")
        assert self.refusal(netmap) == "--interface usnet0: is down; ip link set usnet0 up"

    def test_packets_that_do_not_fit_into_a_buffer(self, netmap: StandIn) -> None:
        ip("link", "set", INTERFACE, "mtu", "2031")
        assert self.refusal(netmap) == (
            "--interface usnet0: packets of 2031 bytes do not fit into a buffer of netmap's; "
            "ip link set usnet0 mtu 2030"
        )

    def test_what_check_says(self, netmap: StandIn) -> None:
        """The card is not touched."""
        done = run("usnet-serve", *SERVE, "--interface", INTERFACE, "--check", env=netmap.env)
        assert done.returncode == 0, done.stderr
        assert "change       usnet0: the kernel's -> in netmap mode, with our station 02:" in done.stdout
        assert netmap.registered == 0


@needs_network_namespaces
def test_an_interface_that_is_not_there(netmap: StandIn) -> None:
    with network_namespace():
        line = refused_both_ways(3, *SERVE, "--interface", "eth9", env=netmap.env)
        assert line == "--interface eth9: there is no such interface; ip link shows which there are"
