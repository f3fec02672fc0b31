"""Marks for tests that need more than an ordinary user may do.

Without the privilege such a test is skipped, counted and named; where CI=true the skip is a failure
(tests/conftest.py), so that a machine that should be able to run it does.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

import pytest
from support.credentials import credentials

PREFIX = "privilege: "
CAP_SYS_PTRACE = 19


@functools.cache
def _can_make_namespaces() -> bool:
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@functools.cache
def _can_make_tap_interfaces() -> bool:
    if not _can_make_namespaces():
        return False
    probe = ["unshare", "--net", "ip", "tuntap", "add", "dev", "usnet0", "mode", "tap", "multi_queue"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@functools.cache
def _can_load_xdp_programs() -> bool:
    if not _can_make_namespaces():
        return False
    probe = "from usnet_framework._native_bpf import XdpProgram; XdpProgram().attach('lo', native=False)"
    command = ["unshare", "--net", sys.executable, "-P", "-c", probe]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def needs_program(name: str, *folders: str) -> pytest.MarkDecorator:
    """That tools/setup.sh installs for tests; `folders`: where it may be besides PATH."""
    found = any(shutil.which(name, path=folder) for folder in (None, *folders))
    return pytest.mark.skipif(not found, reason=f"{PREFIX}there is no {name}: tools/setup.sh test")


@functools.cache
def _can_make_pid_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_tap = pytest.mark.skipif(not _can_make_tap_interfaces(), reason=PREFIX + "may not create TAP interfaces")

needs_xdp = pytest.mark.skipif(not _can_load_xdp_programs(), reason=PREFIX + "may not load XDP programs")

needs_network_namespaces = pytest.mark.skipif(
    not _can_make_namespaces(), reason=PREFIX + "may not create network namespaces"
)

needs_pid_namespaces = pytest.mark.skipif(not _can_make_pid_namespaces(), reason=PREFIX + "may not make PID namespaces")

needs_other_users = pytest.mark.skipif(os.geteuid() != 0, reason=PREFIX + "may not become another user")

may_look_into_processes = pytest.mark.skipif(
    not credentials(os.getpid()).capabilities >> CAP_SYS_PTRACE & 1,
    reason=PREFIX + "may not look into processes that are closed to others of their user",
)
