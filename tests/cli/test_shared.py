"""usnet-serve --backend afxdp without --address: what it refuses, one line with what to do, and what --check says."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import Afxdp, network_namespace
from support.privilege import needs_xdp
from support.refusals import in_use, refused_both_ways
from support.server import command
from support.shared import SharedInterface, ip

pytestmark = needs_xdp

RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
ASKED = ("--backend", "afxdp", "--interface", Afxdp.interface)
SERVE = ("examples.echo:Echo", *ASKED, "--metrics", "off", "--control", "off")


@pytest.fixture(autouse=True)
def _interface() -> Iterator[None]:
    with network_namespace(), SharedInterface() as interface:
        interface.connect("1")
        yield
        assert "xdp" not in ip(f"link show {Afxdp.interface}")
        assert RESERVED.read_text() == "8080\n"


@pytest.fixture(autouse=True)
def _reserved(_interface: None) -> None:
    RESERVED.write_text("8080\n")


def test_an_address_that_is_not_on_the_interface() -> None:
    line = refused_both_ways(3, *SERVE, "--bind", "tcp://10.77.0.2:7000")
    assert line.startswith("--bind tcp://10.77.0.2:7000: address not on the interface: usnet0 has 10.77.0.1, ")


def test_an_interface_without_addresses() -> None:
    ip(f"address flush dev {Afxdp.interface}")
    line = refused_both_ways(3, *SERVE)
    assert line.startswith("--interface usnet0: has no address to share with the kernel; ip address add ")


def test_a_port_that_is_in_use() -> None:
    """--check says all that is in use, and ends as starting would."""
    expected = "tcp://10.77.0.1:7000: the port is in use; stop who listens there or use another port"
    with socket.create_server(("0.0.0.0", 7000)):
        assert in_use(*SERVE) == expected


def test_outgoing_ports_that_others_have() -> None:
    line = refused_both_ways(3, *SERVE, "--outgoing-ports", "8000-8999")
    assert line.startswith("--outgoing-ports 8000-8999: 8080 of them are reserved already ")
    with socket.create_server((Afxdp.ipv4, 9000)):
        line = refused_both_ways(3, *SERVE, "--outgoing-ports", "9000-9999")
    assert line.startswith("--outgoing-ports 9000-9999: the kernel has connections at 9000; ")


def test_what_will_be_changed_is_said_by_check() -> None:
    shown = check("--outgoing-ports", "40000-40999")
    assert "change       usnet0 ports 40000-40999: the kernel's -> reserved" in shown


def check(*options: str) -> list[str]:
    checked = [command("usnet-serve"), *SERVE, "--check", *options]
    return subprocess.run(checked, check=True, capture_output=True, text=True).stdout.splitlines()
