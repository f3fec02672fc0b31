"""The examples in C, compiled as a user of the installed package does it: with the flags of its pkg-config file."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.cflags import build_as_the_readme_says, compiled, flags, pkgconfig_folder
from support.tree import ROOT


def test_the_readme_builds_one(tmp_path: Path) -> None:
    done = subprocess.run([build_as_the_readme_says(tmp_path)], capture_output=True, text=True, check=False, timeout=10)
    assert "usage" in done.stderr


def test_only_the_package_that_is_there_is_named() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("examples/c/*.c"))]
    assert set(re.findall(r"pkg-config (?:--\w+ )+([\w-]+)", " ".join(texts))) == {"usnet"}


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


def links(compiler: str, options: list[str], folder: Path) -> bool:
    """Whether it makes anything with these options; clang needs a plugin for -flto."""
    (folder / "anything.c").write_text("int main(void) { return 0; }\n")
    command = [compiler, *options, folder / "anything.c", "-o", folder / "anything"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("options", ["", "-flto", "-shared -fPIC", "-shared -fPIC -flto"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_library_links_without_a_warning(compiler: str, options: str, tmp_path: Path) -> None:
    """All of it, whichever functions a program calls."""
    words = options.split()
    if not shutil.which(compiler) or not links(compiler, words, tmp_path):
        pytest.skip(f"no {compiler} that links with {options or 'no options'}")
    warnings = ["-O2", "-Wall", "-Wextra", "-Werror"]
    sources = [*flags("--cflags"), ROOT / "examples/c/echo.c"]
    whole = ["-Wl,--whole-archive", *flags("--libs"), "-Wl,--no-whole-archive"]
    for libraries in (flags("--libs"), whole):
        subprocess.run([compiler, *warnings, *words, *sources, *libraries, "-o", tmp_path / "made"], check=True)


def test_the_library_is_machine_code_alone() -> None:
    """Bytecode of one compiler's version stops every other version that links with it."""
    archive = pkgconfig_folder().parent / "libusnet.a"
    sections = subprocess.run(["readelf", "-SW", archive], check=True, capture_output=True, text=True).stdout
    assert ".text" in sections
    assert not re.findall(r"\.gnu\.(?:debug)?lto_\S*", sections)


@pytest.mark.parametrize("header", ["usnet.h", "usnet_device.h", "usnet_netmap.h", "usnet_tap.h"])
def test_headers_stand_alone(header: str) -> None:
    command = ["cc", "-x", "c", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", *flags("--cflags"), "-"]
    subprocess.run(command, input=f"#include <{header}>\n", text=True, check=True)


@pytest.mark.parametrize("port", ["0", "99999", "http"])
def test_the_echo_server_takes_no_port_that_there_is_not(port: str, tmp_path: Path) -> None:
    echo = compiled("echo", tmp_path)
    done = subprocess.run([echo, "lo", "10.0.0.1/24", port], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"usage: {echo} TAP|netmap:PORT ADDRESS/PREFIX PORT\n")
