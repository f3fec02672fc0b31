"""usnet-flood: what it sends, and its end."""

from __future__ import annotations

import json
import signal
import subprocess

import psutil
import pytest
from support.privilege import needs_network_namespaces
from support.server import wait

from usnet_framework.bench.load import program
from usnet_framework.bench.netns import CLIENT_INTERFACE, SERVER_ADDRESS, SERVER_INTERFACE
from usnet_framework.bench.network import Network, open_network

SOURCES = 3


def tcp_counters(network: Network) -> dict[str, int]:
    """Of the server's kernel."""
    shown = subprocess.run(network.on_server(["cat", "/proc/net/snmp"]), capture_output=True, text=True, check=True)
    names, values = (line.split()[1:] for line in shown.stdout.splitlines() if line.startswith("Tcp:"))
    return dict(zip(names, map(int, values), strict=True))


@needs_network_namespaces
def test_a_kernel_takes_its_segments_for_right() -> None:
    with open_network("veth") as network:
        of_server = network.on_server(["cat", f"/sys/class/net/{SERVER_INTERFACE}/address"])
        mac = subprocess.run(of_server, capture_output=True, text=True, check=True).stdout.strip()
        line = [program("usnet-flood"), CLIENT_INTERFACE, mac, SERVER_ADDRESS, "7000", str(SOURCES), "1000"]
        with subprocess.Popen(network.on_client(line), stdout=subprocess.PIPE) as flood:
            wait("segments come", lambda: tcp_counters(network)["InSegs"] >= 10)
            flood.terminate()
            output, _ = flood.communicate(timeout=30)
        counters = tcp_counters(network)
    assert json.loads(output)["sent"] >= 10
    assert counters["InErrs"] == counters["InCsumErrors"] == 0


@needs_network_namespaces
def test_it_ends_with_its_parent() -> None:
    line = [program("usnet-flood"), "lo", "02:00:00:00:00:01", "127.0.0.1", "7", "1", "1"]
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up; "$@" & echo $!; wait', "sh", *line], stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout
        flood = psutil.Process(int(shell.stdout.readline()))
        wait("it handles signals", lambda: _catches_sigterm(flood.pid))
        shell.kill()
    gone, _ = psutil.wait_procs([flood], timeout=30)
    assert gone


def _catches_sigterm(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        (caught,) = (int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    "arguments",
    [[], ["lo", "nothing", "127.0.0.1", "7", "1", "1"], ["lo", "02:00:00:00:00:01", "127.0.0.1", "7", "0", "1"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = subprocess.run([program("usnet-flood"), *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: usnet-flood ")
