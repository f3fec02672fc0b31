"""usnet-serve --tune over a veth pair: what is set is said before, is in force while the server is there, and is put
back, by the server itself and after it was killed; without it doctor says what to do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import Afxdp, network_namespace
from support.link import tc
from support.privilege import needs_xdp
from support.refusals import refused
from support.server import Server, command, run

from usnet_framework.shards.qdisc import root_qdisc

ECHO = "examples.echo:Echo"
MOUNTS = 'mount -t sysfs sysfs /sys && mkdir -p /run/usnet && mount --bind "$OWN_RUN" /run/usnet'
OWN_MOUNTS = ("unshare", "--mount", "sh", "-c", f'{MOUNTS} && exec "$@"', "sh")
"""A prefix: /sys is of the network namespace that the program is in, and journals are where no other server's are."""

QUEUES = ("--queues", "2")
RPS = [f"/sys/class/net/{Afxdp.interface}/queues/rx-{queue}/rps_cpus" for queue in range(2)]


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Afxdp]:
    """With RPS on one queue, and nothing that waits at the other end."""
    monkeypatch.setenv("OWN_RUN", str(tmp_path))
    with network_namespace():
        pair = Afxdp()
        pair.connect("2")
        tc("qdisc", "delete", "dev", Afxdp.peer, "root")
        inside("sh", "-c", f"echo 1 > {RPS[1]}")
        yield pair


def inside(*command: str) -> str:
    return subprocess.run([*OWN_MOUNTS, *command], check=True, capture_output=True, text=True).stdout


def masks() -> list[int]:
    return [int(line, 16) for line in inside("cat", *RPS).split()]


def serve(backend: Afxdp, *options: str, stop: bool = True) -> Server:
    return Server(ECHO, *QUEUES, *options, backend=backend, prefix=OWN_MOUNTS, stop=stop)


def check(backend: Afxdp, *options: str) -> list[str]:
    silent = ("--metrics", "off", "--control", "off")
    given = (*backend.options(7000, QUEUES), *QUEUES, *silent)
    done = run("usnet-serve", ECHO, *given, *options, "--check", prefix=OWN_MOUNTS)
    assert done.returncode == 0, done.stderr
    return [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("change ")]


@needs_xdp
def test_what_is_tuned_is_said_made_and_put_back(backend: Afxdp) -> None:
    needed = check(backend)
    assert [line for line in check(backend, "--tune") if line not in needed] == [
        "usnet0 sysfs queues/rx-1/rps_cpus: 1 -> 0",
        f"usnet0 qdisc {Afxdp.peer}: the kernel's own -> pfifo limit 1000",
    ]
    assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 1], None)
    with serve(backend, "--tune") as server:
        assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 0], "pfifo limit 1000")
        found = server.findings()
        assert (found["RPS"]["asked"], found["RPS"]["in_force"], found["RPS"]["ok"]) == ("off", "off", True)
        tc("qdisc", "delete", "dev", Afxdp.peer, "root")  # by somebody else
        found = server.findings()[f"qdisc of {Afxdp.peer}"]
        assert (found["ok"], found["fix"]) == (False, f"tc qdisc replace dev {Afxdp.peer} root pfifo limit 1000")
    assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 1], None)


@needs_xdp
def test_what_a_killed_server_has_tuned_is_put_back(backend: Afxdp) -> None:
    with serve(backend, "--tune", stop=False) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
        server.wait("its processes are gone", lambda: not server.processes())
        assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 0], "pfifo limit 1000")
        lines = inside(command("usnet-ctl"), "doctor", "--fix").splitlines()
    assert len(lines) == 2
    assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 1], None)


@needs_xdp
def test_without_tune_doctor_says_what_to_do(backend: Afxdp) -> None:
    with serve(backend) as server:
        found = server.findings()
        assert found["RPS"]["ok"]
        assert found["RPS"]["fix"] == f"start the server with --tune, or echo 0 > {RPS[1]}"
        assert f"tc qdisc replace dev {Afxdp.peer} root" in found[f"qdisc of {Afxdp.peer}"]["fix"]
        assert (masks(), root_qdisc(Afxdp.peer)) == ([0, 1], None)


@pytest.mark.parametrize("backend", ["auto", "kernel", "tap"])
def test_without_a_card_there_is_nothing_to_tune(backend: str) -> None:
    line = refused(2, ECHO, "--backend", backend, "--tune")
    assert line == f"--tune: --backend {backend} has no card to tune; add --backend afxdp, or leave --tune out"
