"""What is installed is hardened: programs and extensions read what strangers send. Their ELF headers tell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from usnet_framework import _dispatch, _usnet
from usnet_framework.bench.load import program
from usnet_framework.installed import installed

PROGRAMS = [str(installed("bin/usnet-network")), program("usnet-load"), program("usnet-echo-epoll"),
            program("usnet-echo-mirror-tap"),
            program("usnet-echo-mirror-afxdp"), program("usnet-flood")]  # fmt: skip
EXTENSIONS = [_dispatch.__file__, _usnet.__file__]
EVERYTHING = pytest.mark.parametrize("path", PROGRAMS + EXTENSIONS, ids=lambda path: Path(path).name)


def readelf(path: str, *what: str) -> str:
    return subprocess.run(["readelf", "-W", *what, path], capture_output=True, text=True, check=True).stdout


@EVERYTHING
def test_what_the_linker_wrote_is_read_only_before_anything_runs(path: str) -> None:
    assert re.search(r"FLAGS_1.*\bNOW\b", readelf(path, "--dynamic"))
    assert "GNU_RELRO" in readelf(path, "--segments")


@EVERYTHING
def test_no_stack_can_be_run(path: str) -> None:
    (flags,) = re.findall(r"GNU_STACK(?:\s+0x\w+){5}\s+(\w+)", readelf(path, "--segments"))
    assert flags == "RW"


@EVERYTHING
def test_arrays_on_the_stack_are_guarded(path: str) -> None:
    assert "__stack_chk_fail" in readelf(path, "--dyn-syms")


@EVERYTHING
def test_functions_that_write_to_buffers_know_their_size(path: str) -> None:
    checked = set(re.findall(r"\b(__\w+_chk)@", readelf(path, "--dyn-syms")))
    assert checked


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: Path(path).name)
def test_programs_lie_where_nobody_knows(path: str) -> None:
    assert re.search(r"FLAGS_1.*\bPIE\b", readelf(path, "--dynamic"))
