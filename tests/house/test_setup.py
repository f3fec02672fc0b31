"""tools/setup.sh on machines that lack something, played by a folder of programs that is all of PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

PRESENT = ("sh", "id", "env", "echo")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """PATH: Python and a few basics; no compiler, no apt-get, no sudo."""
    for name in PRESENT:
        (tmp_path / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    (tmp_path / "python3").symlink_to(sys.executable)
    return tmp_path


def program(machine: Path, name: str, script: str) -> None:
    (machine / name).unlink(missing_ok=True)
    (machine / name).write_text(f"#!/bin/sh\n{script}\n")
    (machine / name).chmod(0o755)


def set_up(machine: Path, what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "tools/setup.sh", what],
        cwd=machine,
        env={"PATH": str(machine), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_where_apt_is_unknown_one_line_says_what_is_missing(machine: Path) -> None:
    done = set_up(machine, "build")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "gcc libc6-dev" in line
    assert "curl" not in line


def test_tests_need_more(machine: Path) -> None:
    said = set_up(machine, "test").stderr
    for name in ("iproute2", "curl", "wrk", "tshark", "valgrind", "pkgconf", "systemd", "prometheus (promtool)"):
        assert name in said


def test_without_root_and_sudo_one_line_says_what_to_run(machine: Path) -> None:
    program(machine, "apt-get", "exit 99")
    program(machine, "id", "echo 1000")
    done = set_up(machine, "build")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "as root" in line
    assert "apt-get install --no-install-recommends" in line
    assert line.endswith("gcc libc6-dev clang libbpf-dev")


@pytest.mark.parametrize("user", ["root", "sudo"])
def test_what_is_missing_is_installed(user: str, machine: Path) -> None:
    program(machine, "apt-get", f'echo "$@" >> {machine}/apt')
    if user == "sudo":
        program(machine, "id", "echo 1000")
        program(machine, "sudo", 'shift; "$@"')
        program(machine, "true", "exit 0")
    else:
        program(machine, "id", "echo 0")
    done = set_up(machine, "build")
    assert (done.returncode, done.stderr) == (0, "")
    update, install = (machine / "apt").read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("gcc libc6-dev clang libbpf-dev")


@pytest.mark.parametrize(("user", "package"), [(0, "prometheus"), (1000, "prometheus"), (0, "promtool")])
def test_of_a_package_that_would_start_a_server_one_program_is_taken(user: int, package: str, machine: Path) -> None:
    for name in ("mkdir", "mktemp", "tar", "chmod", "mv", "rm"):
        (machine / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    for name in ("cc", "clang", "ip", "curl", "wrk", "tshark", "valgrind", "pkg-config", "systemd-analyze"):
        program(machine, name, "exit 0")
    program(machine, "id", f"echo {user}")
    download = f"""for last; do :; done
case $last in update) exit ;; promtool) test {package} = promtool || exit 100 ;; esac
: > ${{last}}_1.deb"""
    program(machine, "apt-get", f'echo "$@" >> {machine}/apt; {download}')
    (machine / "usr/bin").mkdir(parents=True)
    program(machine, "usr/bin/promtool", "echo it runs")
    content = f"case $2 in */{package}_*) echo ./usr/bin/promtool ;; *) echo ./usr/bin ;; esac"
    program(machine, "dpkg-deb", f"tar -C {machine} --no-recursion -c $({content})")
    done = set_up(machine, "test")
    assert (done.returncode, done.stderr) == (0, "")
    assert "install" not in (machine / "apt").read_text()
    tool = machine / "build/tools/promtool"
    assert subprocess.run([tool], capture_output=True, text=True, check=True).stdout == "it runs\n"
    (machine / "apt").unlink()
    assert set_up(machine, "test").returncode == 0
    assert not (machine / "apt").exists(), "nothing is done twice"


def test_nothing_is_installed_where_nothing_is_missing(machine: Path) -> None:
    program(machine, "apt-get", "exit 99")
    program(machine, "cc", "exit 0")
    program(machine, "clang", "exit 0")
    assert set_up(machine, "build").returncode == 0


def test_a_python_that_is_too_old_is_one_line(machine: Path) -> None:
    program(machine, "python3", 'test "$1" = -V && echo Python 3.9.2; exit $#')
    done = set_up(machine, "build")
    assert (done.returncode, done.stderr.splitlines()) == (
        1, ["setup: Python 3.9.2 is too old: Python 3.11 or newer is needed"])  # fmt: skip


def test_fuzzing_needs_the_libraries_of_the_sanitizers_as_well(machine: Path) -> None:
    assert set_up(machine, "fuzz").stderr.count("clang libbpf-dev libclang-rt-dev") == 1
    program(machine, "clang", "exit 1")
    assert set_up(machine, "fuzz").stderr.count("libc6-dev libbpf-dev libclang-rt-dev") == 1
    program(machine, "clang", "exit 0")
    assert "clang" not in set_up(machine, "fuzz").stderr


def test_benchmarks_need_what_they_compare_and_count_with(machine: Path) -> None:
    said = set_up(machine, "bench").stderr
    for name in ("iproute2", "valgrind", "liblwip-dev"):
        assert name in said


def test_a_clean_root_needs_what_makes_it(machine: Path) -> None:
    assert "debootstrap" in set_up(machine, "root").stderr
    assert "debootstrap" not in set_up(machine, "test").stderr


@pytest.mark.parametrize(("user", "arguments", "expected"), [
    ("root", ["trixie", "folder"], "usage: "),
    ("root", ["trixie", "folder", "true"], "debootstrap is missing: tools/setup.sh root"),
    ("user", ["trixie", "folder", "true"], "run this as root"),
])  # fmt: skip
def test_a_clean_root_that_cannot_be_made_is_one_line(
    user: str, arguments: list[str], expected: str, machine: Path
) -> None:
    program(machine, "id", "echo 0" if user == "root" else "echo 1000")
    command = ["/bin/sh", ROOT / "tools/clean_root.sh", *arguments]
    done = subprocess.run(command, env={"PATH": str(machine), "HOME": "/"}, cwd=machine, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert expected in line
    assert not (machine / "folder").exists()


MIRROR = """
for word; do case $word in Dir::Cache=*) cache=${word#*=} ;; esac; done
echo "$@" >> "$0.said"
case "$*" in
*indextargets*) case "$lists$*" in gone*lab/apt/configured*|there*) echo "Debian main http://mirror bookworm" ;; esac ;;
*update*) test "$is_up" = yes || { test "$is_up" = no && exit 100; exec sleep 600; } ;;
*install*) : > "$cache/archives/qemu-system-x86_1_amd64.deb" ;;
*download*busybox*) : > busybox.deb ;;
*download*) : > linux.deb; test -e "$0.changed" || { : > "$0.changed"; exit 100; } ;;
esac
"""


def fetch_lab(machine: Path, **mirror: str) -> subprocess.CompletedProcess[str]:
    for name in ("sed", "head", "mkdir", "rm", "ls", "cat", "grep", "sort", "tr", "date", "timeout", "sleep"):
        (machine / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    program(machine, "apt-get", MIRROR)
    madison = 'echo "qemu | 10.0 | http://mirror bookworm-backports/main amd64"'
    program(machine, "apt-cache", f'case "$*" in *madison*) {madison} ;; *) echo "  Depends: linux-image-7.3" ;; esac')
    program(machine, "dpkg", "echo amd64")
    extract = '/bin/mkdir -p "$3/usr/lib/modules/7.3"'
    program(machine, "dpkg-deb", f'case $1 in --extract) {extract} ;; --field) echo 10.0 ;; esac')
    command = ["/bin/sh", ROOT / "tools/lab_fetch.sh", "lab"]
    return subprocess.run(command, env={"PATH": str(machine), "HOME": "/", **mirror}, cwd=machine, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.parametrize("lists", ["there", "gone"])
def test_parts_of_the_emulated_machine_are_asked_for_again_when_the_mirror_changes_meanwhile(
    lists: str, machine: Path
) -> None:
    done = fetch_lab(machine, lists=lists, is_up="yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (machine / "lab/complete").read_text() == "QEMU 10.0 of bookworm-backports, kernel 7.3\n"
    said = (machine / "apt-get.said").read_text()
    assert said.count("install qemu-system-x86 ") == said.count(" download linux-image-7.3\n") == 2


@pytest.mark.parametrize("is_up", ["no", "for those who wait"])
def test_a_mirror_that_is_not_reached_in_time_is_one_line(is_up: str, machine: Path) -> None:
    done = fetch_lab(machine, lists="there", is_up=is_up, USNET_LAB_FETCH_SECONDS="1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("lab: its packages cannot be had: the mirror is not reached, or lacks one of bookworm ")
    assert not (machine / "lab/complete").exists()
