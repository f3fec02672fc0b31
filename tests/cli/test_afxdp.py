"""usnet-serve --backend afxdp where it cannot be: one line with what to do, exit code 3, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from support.backends import Afxdp, network_namespace
from support.privilege import needs_network_namespaces, needs_xdp
from support.refusals import in_use, refused, refused_both_ways
from support.server import Server, command
from support.shared import ip

from usnet_framework._native_bpf import XdpProgram
from usnet_framework._native_tap import tap_queue
from usnet_framework.errors import StartupError
from usnet_framework.shards.afxdp import check_kernel
from usnet_framework.shards.ethtool import Ethtool

SILENT = ("--metrics", "off", "--control", "off")
SERVE = ("examples.echo:Echo", "--backend", "afxdp", "--address", "10.77.0.1/24", *SILENT)


@pytest.fixture
def pair() -> Iterator[None]:
    """A veth pair with two queues."""
    with network_namespace():
        Afxdp().connect("2")
        yield
        assert "xdp" not in ip(f"link show {Afxdp.interface}")


class Joined(Afxdp):
    """The interface that is there."""

    def __init__(self) -> None:
        self._queues = "2"


def test_without_an_interface_it_is_wrong_usage() -> None:
    assert refused(2, *SERVE) == "--backend afxdp: no --interface is given; name the one to serve on"


def test_a_kernel_that_is_too_old() -> None:
    for release in ("5.11.0", "6.1.0-37-amd64", "7.3"):
        check_kernel(release)
    with pytest.raises(StartupError) as refused:
        check_kernel("5.10.0-35-amd64")
    expected = "--backend afxdp: takes Linux 5.11 or newer, and this is 5.10.0-35-amd64; upgrade the kernel"
    assert str(refused.value) == expected


@needs_network_namespaces
def test_an_interface_that_is_not_there() -> None:
    with network_namespace():
        line = refused_both_ways(3, *SERVE, "--interface", "eth9")
        assert line.startswith("--interface eth9: there is no such interface; ")


@needs_network_namespaces
def test_the_loopback() -> None:
    with network_namespace():
        assert refused_both_ways(3, *SERVE, "--interface", "lo") == (
            "--interface lo: is the loopback, and no card; name a card, or use --backend kernel for clients on this "
            "host"
        )


@needs_xdp
@pytest.mark.usefixtures("pair")
class TestWithAnInterface:
    interface = ("--interface", Afxdp.interface)

    def test_that_is_down(self) -> None:
        ip(f"link set {Afxdp.interface} down")
        assert refused_both_ways(3, *SERVE, *self.interface) == "--interface usnet0: is down; ip link set usnet0 up"

    def test_whose_address_is_asked_for(self) -> None:
        """Traffic of the kernel, the administrator's too, would come to our station."""
        ip(f"address add 10.77.0.1/16 dev {Afxdp.interface}")
        expected = "--address 10.77.0.1/24: usnet0 has it already; leave --address out to share it with the kernel, or "
        assert refused_both_ways(3, *SERVE, *self.interface).startswith(expected)

    @pytest.mark.parametrize(
        ("queues", "expected"),
        [
            ("3", "--queues 3: usnet0 has 2 (veth); use --queues 2"),
            (
                "1",
                "--queues 1: usnet0 receives on 2 queues, and its driver (veth) cannot leave one out; use --queues 2, "
                "or ethtool -L usnet0 rx 1",
            ),
        ],
    )
    def test_of_another_number_of_queues(self, queues: str, expected: str) -> None:
        assert refused_both_ways(3, *SERVE, *self.interface, "--queues", queues).startswith(expected)

    def test_whose_packets_neither_fit_into_a_frame_nor_come_in_several(self) -> None:
        queue = tap_queue("large0", multi_queue=False)
        ip("link set large0 up mtu 9000")
        expected = (
            "--interface large0: packets of 9000 bytes do not fit into a frame, and its driver gives none in several; "
            "ip link set large0 mtu 3498"
        )
        assert refused_both_ways(3, *SERVE, "--interface", "large0") == expected
        os.close(queue)

    @pytest.mark.parametrize(("required", "what"), [("native", "native XDP"), ("zerocopy", "zero-copy")])
    def test_whose_driver_lacks_what_is_required(self, required: str, what: str) -> None:
        """In this driver native XDP takes as many queues as the peer has to send to."""
        with Ethtool(Afxdp.interface) as card:
            card.set_channels(replace(card.channels(), rx=1))
        line = refused_both_ways(3, *SERVE, *self.interface, "--queues", "1", "--require", f"hugepages,{required}")
        assert line == (
            f"--require {required}: the driver of usnet0 has no {what}; leave it out, or use another interface"
        )

    def test_that_refuses_what_its_driver_has(self) -> None:
        """Its peer may send packets that are too large for a program in this driver, which only trying tells."""
        ip(f"link set {Afxdp.peer} mtu 9000")
        assert refused(3, *SERVE, *self.interface, "--require", "native") == (
            "--require native: the driver of usnet0 takes no XDP program at this MTU, its own or its peer's; "
            "leave it out, or use another interface"
        )

    def test_that_has_a_program_of_somebody_else(self) -> None:
        with closing(XdpProgram()) as other:
            other.attach(Afxdp.interface, native=True)
            line = in_use(*SERVE, *self.interface)
            assert line.startswith("--interface usnet0: another XDP program is attached to it; ")

    def test_that_another_server_of_ours_has(self) -> None:
        with Server("examples.echo:Echo", "--queues", "2", backend=Joined()) as server:
            expected = f"the server of process {server.pid} has it; kill {server.pid}, or use another interface"
            assert in_use(*SERVE, *self.interface) == f"--interface usnet0: {expected}"

    def test_without_the_right_to_load_programs(self) -> None:
        drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups")
        line = refused_both_ways(3, *SERVE, *self.interface, prefix=drop)
        assert line.startswith("--backend afxdp: the kernel does not load the XDP program (Operation not permitted), ")

    def test_without_memory_that_may_be_locked(self) -> None:
        line = refused_both_ways(3, *SERVE, *self.interface, prefix=locking(65536))
        assert line == (
            "2 x 128 MiB of frames are locked in memory, the limit is 0.0625 MiB; give the server CAP_IPC_LOCK, raise "
            "the limit (ulimit -Hl, LimitMEMLOCK=), or use a smaller --max-connections"
        )

    def test_with_the_right_to_lock_memory(self) -> None:
        assert "2 x 128 MiB of frames in force: the server has CAP_IPC_LOCK\n" in checked(*self.interface)


def locking(limit: int) -> tuple[str, ...]:
    """May lock so much, and may not raise that."""
    rights = "-ipc_lock,-sys_resource"
    return ("prlimit", f"--memlock={limit}", "setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")


def checked(*options: str, prefix: tuple[str, ...] = ()) -> str:
    """What --check says."""
    serve = [*prefix, command("usnet-serve"), *SERVE, "--check", *options]
    return subprocess.run(serve, check=True, capture_output=True, text=True).stdout


@needs_xdp
@pytest.mark.usefixtures("pair")
def test_what_will_be_changed_is_said_by_check() -> None:
    with Ethtool(Afxdp.interface) as card:
        card.set_channels(replace(card.channels(), rx=1))
        plan = checked("--interface", Afxdp.interface, "--queues", "2")
        lines = [line.split(maxsplit=1)[1] for line in plan.splitlines() if line.startswith("change ")]
        changes = [re.sub(r"02(:[0-9a-f]{2}){5}$", "MAC", line) for line in lines]
        assert changes == [
            "usnet0 channels: 1 receiving, 2 sending -> 2 receiving",
            "usnet0 station: the kernel's -> the kernel's and ours, MAC",
            "usnet0 XDP program: none -> ours",
        ]
        assert card.channels().rx == 1


@needs_xdp
@pytest.mark.usefixtures("pair")
def test_huge_pages_that_are_not_there() -> None:
    """2 GiB of frames in each of two shards. How many are free is the whole machine's, and other tests'."""
    asked = ("--interface", Afxdp.interface, "--require", "hugepages", "--max-connections", "524288")
    for options in (asked, ("--check", *asked)):
        assert refused(3, *SERVE, *options).startswith("--require hugepages: 2048 huge pages of 2 MiB are needed, ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--backend", "kernel", "--require", "native"), "--require native: the kernel backend has no such thing: "),
        (("--backend", "tap", "--require", "zerocopy"), "--require zerocopy: --backend tap has no such thing; "),
    ],
)
def test_what_a_backend_never_has_is_wrong_usage(options: tuple[str, ...], expected: str) -> None:
    assert refused(2, "examples.echo:Echo", *SILENT, *options).startswith(expected)
