"""deploy/systemd: the unit is as closed as it claims, and a server can live in it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest
from support.manager import Manager, activated
from support.privilege import needs_program
from support.sandbox import allowed_by, sandboxed
from support.server import Server, run
from support.tree import ROOT

from usnet_framework.config import Config

UNITS = ROOT / "deploy/systemd"
SERVICE, SOCKET, OPTIONS = UNITS / "usnet.service", UNITS / "usnet.socket", UNITS / "usnet.toml"
ECHO = "examples.echo:Echo"
EXPOSURE_MAX = 3.0

needs_systemd_analyze = needs_program("systemd-analyze")


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), flags=re.M)


def value(unit: Path, key: str) -> str:
    (only,) = values(unit, key)
    return only


@needs_systemd_analyze
def test_the_service_is_not_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={round(EXPOSURE_MAX * 10)}", SERVICE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    exposure = re.search(r"Overall exposure level for usnet.service: ([0-9.]+)", done.stdout)
    assert exposure, done.stdout
    assert float(exposure[1]) <= EXPOSURE_MAX
    assert not done.stderr, "a setting that it does not know"


@needs_systemd_analyze
def test_the_units_are_well_formed() -> None:
    done = subprocess.run(["systemd-analyze", "verify", SERVICE, SOCKET], capture_output=True, text=True, check=False)
    missing = re.compile(r"Command /srv/usnet/venv/bin/usnet-(serve|ctl) is not executable: No such file or directory")
    lines = [line for line in done.stderr.splitlines() if "usnet" in line and not missing.search(line)]
    assert not lines


def test_the_options_are_some_and_go_with_the_units(tmp_path: Path) -> None:
    config = Config.from_command_line(["--config", str(OPTIONS)], {})
    runtime, state = f"/run/{value(SERVICE, 'RuntimeDirectory')}", f"/var/lib/{value(SERVICE, 'StateDirectory')}"
    assert Path(config.control).parent == Path(runtime)
    assert Path(config.quarantine).parent == Path(state)
    assert list(config.bind) == [f"fd:{3 + at}" for at, _ in enumerate(values(SOCKET, "ListenStream"))]
    _, *start = shlex.split(value(SERVICE, "ExecStart"))
    assert start == ["--config", "/etc/usnet/usnet.toml"]
    _, *reload = shlex.split(value(SERVICE, "ExecReload"))
    assert reload == ["reload", "--control", config.control]
    assert value(SERVICE, "Type") == "notify"
    assert value(SERVICE, "KillMode") == "mixed", "else workers are killed while they drain"
    assert value(SERVICE, "RestartPreventExitStatus") == "2"
    reload_s = config.reload_overlap + 2 * config.start_timeout
    assert float(value(SERVICE, "TimeoutStartSec")) > reload_s, "else a reload is given up that is not refused"


@needs_systemd_analyze
@pytest.mark.parametrize("layout", ["split", "inline"])
def test_a_server_lives_with_the_system_calls_that_the_service_allows(layout: str, tmp_path: Path) -> None:
    allowed = allowed_by(SERVICE)
    assert {"read", "pidfd_open", "seccomp"} <= allowed
    assert not allowed & {"mount", "ptrace", "init_module", "bpf", "setuid", "swapon"}
    options = tomllib.loads(OPTIONS.read_text())
    arguments = ["--bind", options["bind"][0], "--layout", layout, "--queues", "1"]
    with socket.create_server(("127.0.0.1", 0)) as listener, Manager(str(tmp_path / "notify")) as manager:
        prefix = [*sandboxed(allowed), *activated(listener)]
        environment = manager.environment | {"WATCHDOG_USEC": "1000000"}
        serves = Server(ECHO, *arguments, prefix=prefix, pass_fds=[listener.fileno()], env=environment)
        with serves as server:
            manager.wait("it is ready", lambda said: "READY=1" in said and "WATCHDOG=1" in said)
            with socket.create_connection(listener.getsockname(), 10) as client:
                client.sendall(b"x" * 1000)
                assert client.recv(1000, socket.MSG_WAITALL) == b"x" * 1000
                reloaded = run("usnet-ctl", "reload", "--control", str(server.control))
                assert reloaded.returncode == 0, reloaded.stderr
                if layout == "split":
                    for pid in (*(worker.pid for worker in server.workers()), *server.network_pids()):
                        os.kill(pid, signal.SIGKILL)
                    client.sendall(b"hello")
                    assert client.recv(5, socket.MSG_WAITALL) == b"hello"
            assert server.get("/metrics")[0] == 200
            assert "Operation not permitted" not in server.log
            assert "Traceback" not in server.log
