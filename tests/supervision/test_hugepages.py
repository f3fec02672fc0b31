"""Huge pages: how many there are, and what is said where there are too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from usnet_framework.shards.hugepages import HugePages, huge_memory_file, huge_pages, lack

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path


def machine(root: Path, total: int, free: int, promised: int = 0) -> Path:
    (root / "proc/meminfo").write_text(
        f"MemTotal:       24689172 kB\nHugePages_Total:{total:8}\nHugePages_Free: {free:8}\nHugePages_Rsvd: "
        f"{promised:8}\nHugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n"
    )
    return root


def test_those_that_are_promised_are_not_free(root: Path) -> None:
    assert huge_pages(machine(root, 64, 40, 8)) == HugePages(2 * MIB, 64, 32)


def test_enough(root: Path) -> None:
    assert lack(32 * MIB, 4, machine(root, 64, 64)) is None


def test_a_page_is_not_shared_by_two_memories(root: Path) -> None:
    assert lack(31 * MIB, 4, machine(root, 70, 63)) == (
        "64 huge pages of 2 MiB are needed, 63 are free; sysctl -w vm.nr_hugepages=71"
    )


def test_a_kernel_without_them(root: Path) -> None:
    (root / "proc/meminfo").write_text("MemTotal:       24689172 kB\n")
    assert lack(1, 1, root) == "this kernel has no huge pages; use another one"


def test_a_memory_for_which_there_are_too_few_is_none() -> None:
    assert huge_memory_file("test", 1 << 50) is None
