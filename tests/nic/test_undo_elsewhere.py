"""What killed servers have left changed in other network namespaces."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nic.test_undo import RESERVED, files, killed
from support.backends import current_namespace, network_namespace
from support.fake_card import FakeCard
from support.privilege import may_look_into_processes, needs_network_namespaces

from usnet_framework.shards import namespaces, rtnetlink, undo
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.rtnetlink import IFF_LOOPBACK, IFF_UP, outlives_namespace
from usnet_framework.shards.undo import Journal, leftovers, leftovers_elsewhere, undo_leftovers


@needs_network_namespaces
def test_a_journal_belongs_to_one_network_namespace(tmp_path: Path) -> None:
    """Each of them has an interface of that name and index, and many of them have had the same inode."""
    for _ in range(20):
        with network_namespace(), Ethtool("lo") as card:
            assert leftovers(tmp_path) == []
            journal = Journal(card, tmp_path)
            journal.change("file", str(RESERVED), "40000")
            killed(journal)
    assert len(files(tmp_path)) == 20


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """There are no other processes: the number of a namespace that is gone may be that of another test's."""
    processes = [Path("/proc", str(os.getpid()))]
    monkeypatch.setattr(namespaces, "_processes", lambda: processes)
    monkeypatch.setattr(namespaces, "FIRST_PIDS", os.readlink("/proc/self/ns/pid"))
    return processes


@needs_network_namespaces
@may_look_into_processes
@pytest.mark.usefixtures("seen")
def test_the_way_to_what_is_left_in_another_network_namespace_is_said(tmp_path: Path) -> None:
    """Until that is gone: then nothing is left, and the journal goes."""
    with network_namespace(), Ethtool("lo") as card:
        there = current_namespace()
        journal = Journal(card, tmp_path)
        journal.change("file", str(RESERVED), "40000")
        killed(journal)
        inode = os.fstat(there).st_ino
    (finding,) = leftovers_elsewhere(tmp_path)
    assert finding.what == "left over on lo"
    assert finding.in_force == "1 setting of a server that was killed, in another network namespace"
    assert finding.reason.startswith(f"{RESERVED} was ")
    (line,) = undo_leftovers(tmp_path)
    what, _, command = line.partition("; ")
    assert finding.fix == command
    assert what == "lo: 1 setting left over in another network namespace"
    nsenter, option, *rest = command.split()
    assert (nsenter, rest) == ("nsenter", ["usnet-ctl", "doctor", "--fix"])
    assert os.stat(option.removeprefix("--net=")).st_ino == inode
    assert leftovers(tmp_path) == []
    assert len(files(tmp_path)) == 1
    os.close(there)
    assert leftovers_elsewhere(tmp_path) == []
    assert len(files(tmp_path)) == 1, "who looks changes nothing"
    assert undo_leftovers(tmp_path) == []
    assert files(tmp_path) == []


def left_in_a_namespace(folder: Path) -> int:
    """Something is; what keeps the namespace."""
    with network_namespace(), Ethtool("lo") as card:
        there = current_namespace()
        journal = Journal(card, folder)
        journal.change("file", str(RESERVED), "40000")
        killed(journal)
    return there


@needs_network_namespaces
@may_look_into_processes
@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("lacks", ["the capability", "a process", "other processes"])
def test_who_does_not_see_all_processes_takes_no_namespace_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """Such as root in a container."""
    os.close(left_in_a_namespace(tmp_path))
    if lacks == "the capability":
        monkeypatch.setattr(namespaces, "capabilities", lambda: 0)
    elif lacks == "a process":
        monkeypatch.setattr(namespaces, "_files_of", refuse_to_show)
    else:
        monkeypatch.setattr(namespaces, "FIRST_PIDS", "pid:[1]")
    assert undo_leftovers(tmp_path) == [
        "lo: 1 setting left over in another network namespace; usnet-ctl doctor --fix there, or on the host as root"
    ]
    assert len(files(tmp_path)) == 1


def refuse_to_show(process: Path) -> Iterator[Path]:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


HOLD = 'touch "$1" && mount --bind /proc/self/fd/0 "$1" && exec < /dev/null && echo mounted && exec tail -f /dev/null'


@needs_network_namespaces
@may_look_into_processes
def test_a_namespace_that_another_namespace_of_mounts_keeps_is_not_gone(tmp_path: Path, seen: list[Path]) -> None:
    there, folder = left_in_a_namespace(tmp_path / "undo"), tmp_path / "undo"
    command = ["unshare", "--mount", "sh", "-c", HOLD, "sh", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdin=there, stdout=subprocess.PIPE) as holding:
        seen.append(Path("/proc", str(holding.pid)))
        assert holding.stdout is not None
        assert holding.stdout.readline() == b"mounted\n"
        os.close(there)
        (line,) = undo_leftovers(folder)
        assert f"nsenter --net=/proc/{holding.pid}/root{tmp_path}/kept usnet-ctl" in line
        holding.kill()
    assert undo_leftovers(folder) == files(folder) == []


@needs_network_namespaces
@may_look_into_processes
@pytest.mark.usefixtures("seen")
def test_what_is_left_on_a_card_outlives_its_namespace(
    card: FakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel moves the card, as it is set, into the first one. That is said until somebody has seen to it."""
    monkeypatch.setattr(undo, "outlives_namespace", lambda _: True)
    with network_namespace():
        journal = Journal(card.card, tmp_path)
        journal.change("feature", "rx-lro", False)
        killed(journal)
    (path,) = tmp_path.iterdir()
    where = "on a card whose network namespace is gone, and which is in the first one now, as it was set"
    lines = [f"lo: 1 setting left over {where}: rx-lro was on; set that by hand, then rm {path}"]
    assert undo_leftovers(tmp_path) == undo_leftovers(tmp_path) == lines
    (finding,) = leftovers_elsewhere(tmp_path)
    assert (finding.in_force, finding.reason) == (f"1 setting of a server that was killed, {where}", "rx-lro was on")
    assert finding.fix == f"set that by hand, then rm {path}"
    path.write_text(path.read_text().replace(undo._boot(), "another"))
    assert undo_leftovers(tmp_path) == files(tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "flags", "outlives"),
    [("", IFF_UP, True), ("veth", IFF_UP, False), ("", IFF_UP | IFF_LOOPBACK, False)],
    ids=["hardware", "made by a program", "the loopback"],
)
def test_hardware_alone_outlives_its_namespace(
    monkeypatch: pytest.MonkeyPatch, kind: str, flags: int, outlives: bool
) -> None:
    found = replace(rtnetlink.link("lo"), kind=kind, flags=flags)
    monkeypatch.setattr(rtnetlink, "link", lambda _: found)
    assert outlives_namespace("any0") == outlives


def test_the_loopback_of_the_kernel_ends_with_its_namespace() -> None:
    assert not outlives_namespace("lo")
