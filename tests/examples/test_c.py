"""The examples in C, compiled as a user of the installed package does it: with the flags of its pkg-config file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

import usnet_framework

FOLDER = Path(usnet_framework.__path__[0]) / "lib/pkgconfig"


def flags(field: str) -> list[str]:
    """As pkg-config says them; it need not be installed."""
    text = (FOLDER / "usnet.pc").read_text("utf-8")
    variables = {"pcfiledir": str(FOLDER)}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, flags=re.M):
        variables[name] = re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], value)
    (found,) = re.findall(rf"^{field}: (.*)$", text, flags=re.M)
    return shlex.split(re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], found))


def test_the_readme_finds_them() -> None:
    """From a checkout, as its commands are; there the sources of the package lie in the way of the installed one."""
    (line,) = re.findall(r"^export PKG_CONFIG_PATH=.*$", (ROOT / "README.md").read_text("utf-8"), flags=re.M)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", f'{line}; echo "$PKG_CONFIG_PATH"'], env={"PATH": path}, cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert Path(done.stdout.strip()) == FOLDER


def test_only_the_package_that_is_there_is_named() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("examples/c/*.c"))]
    assert set(re.findall(r"pkg-config (?:--\w+ )+([\w-]+)", " ".join(texts))) == {"usnet"}


def compiled(name: str, folder: Path) -> Path:
    program = folder / name
    source = ROOT / f"examples/c/{name}.c"
    subprocess.run(["cc", *flags("Cflags"), source, *flags("Libs"), "-o", program], check=True)
    return program


def test_packets_and_time_by_hand(tmp_path: Path) -> None:
    done = subprocess.run([compiled("packets", tmp_path)], capture_output=True, text=True, check=True, timeout=10)
    times, sizes = zip(*((line.split()[0], line.split()[-2]) for line in done.stdout.splitlines()), strict=True)
    assert sizes == ("0", "5", "5", "5", "5")
    assert [round(float(time), -1) for time in times] == [0, 0, 200, 600, 1400]


def test_a_server(tmp_path: Path) -> None:
    done = subprocess.run([compiled("echo", tmp_path), "a/b", "10.0.0.1/24", "7000"], capture_output=True, text=True,
                          check=False, timeout=10)  # fmt: skip
    assert done.returncode == 1
    assert "cannot be the name of an interface" in done.stderr


@pytest.mark.parametrize("header", ["usnet.h", "usnet_device.h", "usnet_tap.h"])
def test_headers_stand_alone(header: str) -> None:
    command = ["cc", "-x", "c", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", *flags("Cflags"), "-"]
    subprocess.run(command, input=f"#include <{header}>\n", text=True, check=True)
