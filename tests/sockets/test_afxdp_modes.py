"""How packets come and go on the queues of an interface: what is in force is said, exported, and works, whatever its
network processes die of."""

from __future__ import annotations

import fcntl
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.backends import Afxdp, network_namespace
from support.clients import Clients, EchoDialogue
from support.privilege import PREFIX, needs_xdp
from support.server import Server

pytestmark = needs_xdp

ECHO = ("examples.echo:Echo", "--queues", "1")
SET_APART = Path("/proc/sys/vm/nr_hugepages")


@pytest.fixture
def interface() -> Iterator[Afxdp]:
    with network_namespace():
        interface = Afxdp()
        interface.connect("1")
        yield interface


def in_force(server: Server, what: str) -> str:
    (found,) = (finding for finding in server.ctl("doctor") if finding["what"] == what)
    return str(found["in_force"])


def how(server: Server) -> dict[str, str]:
    """The labels of usnet_packets_info."""
    (labels,) = re.findall(r"^usnet_packets_info\{(.*)\} 1\.0$", server.get("/metrics")[1], flags=re.M)
    return dict(re.findall(r'(\w+)="([^"]*)"', labels))


def killed_under_load(server: Server, dialogue: type[EchoDialogue], connections: int = 16) -> None:
    """Network processes are; the clients notice nothing."""
    with Clients(server.address, connections, dialogue) as clients:
        for _ in range(5):
            before = clients.answered
            server.wait("clients are served", lambda before=before: clients.answered > before + 2 * connections)
            server.kill_network_process()
        before = clients.answered
        server.wait("answers go on", lambda: clients.answered > before + connections)
    assert not clients.incidents, "\n".join(clients.incidents[:10])


def test_how_packets_come_and_go_is_exported(interface: Afxdp) -> None:
    with Server(*ECHO, "--require", "native", backend=interface) as server:
        labels = how(server)
        assert labels.pop("frames") in ("ordinary pages", "huge pages")
        assert labels == {
            "interface": "usnet0",
            "program": "driver",
            "copies": "kernel",
            "checksums": "interface",
            "polled_by": "interrupts",
        }


class Large(EchoDialogue):
    SIZES = (30_000,)


def test_packets_of_several_frames(interface: Afxdp) -> None:
    for name in (interface.interface, interface.peer):
        subprocess.run(["ip", "link", "set", name, "mtu", "9000"], check=True)
    with Server(*ECHO, "--require", "native", backend=interface) as server:
        assert in_force(server, "MTU") == "9000"
        with server.connect() as client:
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 8900
        killed_under_load(server, Large)
        counters = server.metrics()
        received, sent = (counters[f"usnet_device_{way}_bytes_total"] for way in ("rx", "tx"))
        packets = counters["usnet_device_rx_packets_total"] + counters["usnet_device_tx_packets_total"]
        assert (received + sent) / packets > 3600  # more than a frame holds, acknowledgements included
        assert counters["usnet_device_tx_errors_total"] == counters["usnet_device_rx_errors_total"] == 0


def spins(server: Server) -> None:
    if in_force(server, "poll") != "busy":
        pytest.skip("there are fewer cores than processes")


def test_a_driver_that_comes_by_itself_is_not_polled(interface: Afxdp) -> None:
    with Server(*ECHO, "--poll", "busy", backend=interface) as server:
        spins(server)
        (found,) = (finding for finding in server.ctl("doctor") if finding["what"] == "the driver's work")
        assert found["in_force"] == "by interrupts"
        assert found["fix"].startswith("echo 2 > /sys/class/net/usnet0/napi_defer_hard_irqs; ")
        assert how(server)["polled_by"] == "interrupts"


def test_a_driver_that_waits_is_polled(interface: Afxdp) -> None:
    """For a moment; then it comes by itself all the same, as with drivers that do not tell whom to poll."""
    settings = f"/sys/class/net/{interface.interface}"
    late = f"echo 200000 > {settings}/gro_flush_timeout; echo 2 > {settings}/napi_defer_hard_irqs"
    prefix = ["unshare", "--mount", "sh", "-ec", f'mount -t sysfs none /sys; {late}; exec "$@"', "sh"]
    with Server(*ECHO, "--poll", "busy", prefix=prefix, backend=interface) as server:
        spins(server)
        killed_under_load(server, EchoDialogue)
        (found,) = (finding for finding in server.ctl("doctor") if finding["what"] == "the driver's work")
        assert found["in_force"] == "by network processes" or found["fix"] == "use --poll adaptive"


@contextmanager
def huge_pages(count: int) -> Iterator[None]:
    """So many more, of the whole machine: one test at a time, and with room for two servers of others, which take them
    where they find enough."""
    count += 2 * 64
    with Path(tempfile.gettempdir(), "usnet-test-huge-pages").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = int(SET_APART.read_text())
        try:
            SET_APART.write_text(str(before + count))
        except OSError:
            pytest.skip(f"{PREFIX}may not set huge pages apart")
        try:
            assert int(SET_APART.read_text()) == before + count, "this machine has no memory for huge pages"
            yield
        finally:
            SET_APART.write_text(str(before))


@pytest.mark.parametrize("layout", ["split", "inline"])
def test_frames_in_huge_pages(interface: Afxdp, layout: str) -> None:
    """32 MiB of them, and some: pages are whole."""
    with huge_pages(18):
        options = ("--max-connections", "4100", "--require", "hugepages", "--layout", layout)
        with Server(*ECHO, *options, backend=interface) as server:
            assert in_force(server, "huge pages") == "all frames"
            assert how(server)["frames"] == "huge pages"
            if layout == "split":
                killed_under_load(server, EchoDialogue)
            with server.connect() as client:
                client.sendall(b"hello")
                assert client.recv(5, socket.MSG_WAITALL) == b"hello"
