"""Reading the machine: an invented one is a folder."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from usnet_framework.shards.cgroup import parse_list
from usnet_framework.shards.topology import Core, interface_node, read_topology

CGROUP2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.fsencode(text + "\n"))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two nodes of two physical cores with two threads each: the sibling of core n is n + 4."""
    for core in range(8):
        folder = f"sys/devices/system/cpu/cpu{core}"
        first = core % 4
        write(tmp_path, f"{folder}/topology/core_cpus_list", f"{first},{first + 4}")
        write(tmp_path, f"{folder}/cache/index0/level", "1")
        write(tmp_path, f"{folder}/cache/index3/level", "3")
        write(tmp_path, f"{folder}/cache/index3/shared_cpu_list", "0-1,4-5" if first < 2 else "2-3,6-7")
    write(tmp_path, "sys/devices/system/cpu/online", "0-7")
    write(tmp_path, "sys/devices/system/node/node0/cpulist", "0-1,4-5")
    write(tmp_path, "sys/devices/system/node/node1/cpulist", "2-3,6-7")
    return tmp_path


def cgroup2(root: Path, group: str) -> None:
    write(root, "proc/self/cgroup", f"0::{group}")
    write(root, "proc/self/mountinfo", CGROUP2)


def test_cores_caches_siblings_and_nodes(machine: Path) -> None:
    found = read_topology(machine, affinity=range(8))
    assert found.cores[3] == Core(3, physical=3, l3=2, node=1)
    assert found.cores[5] == Core(5, physical=1, l3=0, node=0)
    assert found.quota is None
    assert found.usable == 8


def test_affinity_and_offline_cores_are_left_out(machine: Path) -> None:
    write(machine, "sys/devices/system/cpu/online", "0-2,4-7")
    found = read_topology(machine, affinity=[2, 3, 6])
    assert [core.number for core in found.cores] == [2, 6]


def test_a_machine_that_tells_nothing_still_has_cores(tmp_path: Path) -> None:
    found = read_topology(tmp_path, affinity=[0, 1])
    assert found.cores == (Core(0, physical=0, l3=0), Core(1, physical=1, l3=0))


def test_the_tightest_quota_of_all_ancestors_counts(machine: Path) -> None:
    cgroup2(machine, "/system.slice/usnet.service")
    write(machine, "sys/fs/cgroup/system.slice/cpu.max", "150000 100000")
    write(machine, "sys/fs/cgroup/system.slice/usnet.service/cpu.max", "max 100000")
    found = read_topology(machine, affinity=range(8))
    assert found.quota == 1.5
    assert found.usable == 1


def test_limits_count_where_a_name_is_no_text(machine: Path) -> None:
    group = os.fsdecode(b"/caf\xe9\x85")
    cgroup2(machine, group)
    with open(machine / "proc/self/mountinfo", "ab") as file:
        file.write(b"31 24 0:27 / /mnt/caf\xe9\x0b rw - ext4 /dev/sda1 rw\n")
    write(machine, f"sys/fs/cgroup{group}/cpu.max", "150000 100000")
    assert read_topology(machine, affinity=range(8)).quota == 1.5


def test_the_cpuset_of_version_2(machine: Path) -> None:
    cgroup2(machine, "/box")
    write(machine, "sys/fs/cgroup/box/cpuset.cpus.effective", "1,3-4")
    assert [core.number for core in read_topology(machine, affinity=range(8)).cores] == [1, 3, 4]


def test_quota_and_cpuset_of_version_1(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "4:cpu,cpuacct:/box\n3:cpuset:/box\n0::/")
    write(
        machine,
        "proc/self/mountinfo",
        "31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 24 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
    )
    write(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "250000")
    write(machine, "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000")
    write(machine, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    write(machine, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    write(machine, "sys/fs/cgroup/cpuset/box/cpuset.cpus", "0-5")
    found = read_topology(machine, affinity=range(8))
    assert found.quota == 2.5
    assert [core.number for core in found.cores] == [0, 1, 2, 3, 4, 5]


def test_a_container_that_names_the_hosts_path(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/docker/4711")
    write(machine, "proc/self/mountinfo", "30 24 0:26 /docker/4711 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n")
    write(machine, "sys/fs/cgroup/cpu.max", "50000 100000")
    assert read_topology(machine, affinity=range(8)).usable == 1


def test_the_node_of_an_interface(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/net/eth0/device/numa_node", "1")
    write(tmp_path, "sys/class/net/eth1/device/numa_node", "-1")
    assert interface_node("eth0", tmp_path) == 1
    assert interface_node("eth1", tmp_path) is None
    assert interface_node("veth0", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("0", [0]), ("0-2,7\n", [0, 1, 2, 7]), (" 3 , 5-5", [3, 5]), ("max", [])]
)
def test_lists_as_the_kernel_writes_them(text: str, numbers: list[int]) -> None:
    assert parse_list(text) == frozenset(numbers)


def test_this_machine_has_the_cores_that_the_scheduler_says() -> None:
    found = read_topology()
    assert found.numbers == frozenset(psutil.Process().cpu_affinity())
    assert found.usable >= 1
