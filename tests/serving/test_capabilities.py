"""A server has enough with the capabilities that ARCHITECTURE.md lists for what it is asked to do."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.backends import Afxdp, Tap, network_namespace
from support.credentials import OTHER, credentials
from support.privilege import needs_other_users, needs_tap, needs_xdp
from support.server import Server, free_port, run

ECHO = "examples.echo:Echo"
SILENT = ("--metrics", "off", "--control", "off")
NUMBERS = {"kill": 5, "setgid": 6, "setuid": 7, "net_bind_service": 10, "net_admin": 12, "net_raw": 13, "ipc_lock": 14,
           "perfmon": 38, "bpf": 39}  # capabilities(7) # fmt: skip
UNPRIVILEGED_FROM = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
STEERED_BY_ANYBODY = Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() == "0"


def only(*names: str) -> list[str]:
    """A prefix: root, as far as these capabilities go."""
    kept = ",".join(["-all", *(f"+{name}" for name in names)])
    return ["setpriv", "--bounding-set", kept, "--inh-caps", "-all"]


def assert_serves_with(server: Server, *names: str) -> None:
    assert credentials(server.pid).capabilities == sum(1 << NUMBERS[name] for name in names)
    with server.connect() as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    for pid in server.network_pids():
        assert credentials(pid).capabilities == 0
    assert finding(server, "capabilities of network processes")["ok"]


def refused(prefix: list[str], *args: str) -> str:
    bind = [] if "--bind" in args else ["--bind", f"tcp://127.0.0.1:{free_port()}"]
    done = run("usnet-serve", ECHO, *bind, *args, *SILENT, prefix=prefix)
    assert done.returncode == 3, done.stderr
    return done.stderr.splitlines()[-1]


def finding(server: Server, what: str) -> dict[str, Any]:
    (found,) = (finding for finding in server.ask("doctor") if finding["what"] == what)
    return found


# Sockets of the kernel.


@needs_other_users
@pytest.mark.parametrize("layout", ["split", "inline"])
def test_none_for_sockets_of_the_kernel(layout: str) -> None:
    with Server(ECHO, "--queues", "2", "--layout", layout, prefix=only()) as server:
        assert_serves_with(server)


@needs_other_users
def test_a_port_below_1024_takes_net_bind_service() -> None:
    bind = ("--bind", f"tcp://127.0.0.1:{low_port()}")
    if UNPRIVILEGED_FROM > 1:
        assert "no permission" in refused(only(), *bind)
    with Server(ECHO, *bind, prefix=only("net_bind_service")) as server:
        server.address = ("127.0.0.1", int(bind[1].rpartition(":")[2]))
        assert_serves_with(server, "net_bind_service")


def low_port() -> int:
    """That nobody listens on; one that asks for the privilege, if the machine has such ports."""
    while True:
        port = random.randrange(600, 1024) if UNPRIVILEGED_FROM >= 1024 else max(1, UNPRIVILEGED_FROM - 1)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


# Another user.


@needs_other_users
@pytest.mark.parametrize("layout", ["split", "inline"])
def test_another_user_takes_setuid_setgid_and_kill(layout: str) -> None:
    names = ("setuid", "setgid", "kill")
    user = ("--user", OTHER.pw_name)
    for name in names:
        assert f"lacks CAP_{name.upper()};" in refused(only(*(other for other in names if other != name)), *user)
    with Server(ECHO, "--queues", "1", "--layout", layout, *user, prefix=only(*names), stop=False) as server:
        assert_serves_with(server, *names)
        os.kill(server.pid, signal.SIGKILL)  # and the kernel ends the others, as only it can


# TAP.


@needs_tap
def test_tap_takes_net_admin() -> None:
    with network_namespace():
        assert "needs CAP_NET_ADMIN" in refused(only(), *Tap().options(7000))
        with Server(ECHO, "--queues", "1", prefix=only("net_admin"), backend=Tap()) as server:
            assert_serves_with(server, "net_admin")


@needs_tap
def test_tap_with_several_queues_takes_bpf_as_well() -> None:
    with network_namespace():
        with Server(ECHO, "--queues", "2", prefix=only("net_admin", "bpf"), backend=Tap()) as server:
            assert_serves_with(server, "net_admin", "bpf")
            assert finding(server, "capabilities")["in_force"] == "CAP_NET_ADMIN, CAP_BPF"
            assert finding(server, "steering")["ok"]
        with Server(ECHO, "--queues", "2", prefix=only("net_admin"), backend=Tap()) as server:
            assert_serves_with(server, "net_admin")
            assert finding(server, "steering")["ok"] == STEERED_BY_ANYBODY


@needs_tap
def test_tap_takes_none_where_the_interface_was_made_for_the_user() -> None:
    with network_namespace():
        made = ["ip", "tuntap", "add", "dev", Tap.interface, "mode", "tap", "user", str(os.geteuid())]
        subprocess.run(made, check=True)
        subprocess.run(["ip", "link", "set", Tap.interface, "up"], check=True)
        backend = Tap()
        with Server(ECHO, "--queues", "1", prefix=only(), backend=backend, stop=False) as server:
            assert_serves_with(server)
            found = finding(server, "capabilities")
            assert (found["in_force"], found["reason"]) == ("none", "it does without the rest")
            assert server.stop() == 0
            subprocess.run(["ip", "link", "delete", Tap.interface], check=True)


@needs_xdp
def test_afxdp_takes_these_five_and_says_which_is_missing() -> None:
    needed = ("net_admin", "net_raw", "bpf", "perfmon", "ipc_lock")
    with network_namespace():
        backend = Afxdp()
        with Server(ECHO, "--queues", "1", prefix=only(*needed), backend=backend) as server:
            assert_serves_with(server, *needed)
            found = finding(server, "capabilities")
            assert set(found["asked"].split(", ")) == {f"CAP_{name.upper()}" for name in needed}
            assert found["in_force"] == found["asked"]
        limited = ["prlimit", "--memlock=65536"]
        for missing in needed:
            rest = only(*(name for name in needed if name != missing))
            line = refused([*limited, *rest], *backend.options(7000, ["--queues", "1"]))
            assert f"CAP_{missing.upper()}" in line
