"""Huge pages for the frames of a stack: a card, and a processor, find a packet's place in memory by fewer steps.

They are pages that the administrator has set apart (vm.nr_hugepages) and nobody has taken. All that a memory needs are
taken when it is made: who finds none there later is killed."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from usnet_framework.shards.cgroup import read_text

_MEMINFO = re.compile(r"^(\w+): +(\d+)", flags=re.M)


@dataclass(frozen=True)
class HugePages:
    """Of the usual size. `free`: neither taken nor promised."""

    bytes: int
    total: int
    free: int

    def needed(self, size: int) -> int:
        return -(-size // self.bytes)


def huge_pages(root: Path = Path("/")) -> HugePages | None:
    """None: the kernel has none."""
    found = {name: int(number) for name, number in _MEMINFO.findall(read_text(root / "proc/meminfo"))}
    if "Hugepagesize" not in found:
        return None
    free = found["HugePages_Free"] - found["HugePages_Rsvd"]
    return HugePages(found["Hugepagesize"] << 10, found["HugePages_Total"], free)


def lack(size: int, memories: int = 1, root: Path = Path("/")) -> str | None:
    """Why so many memories of this size do not find their pages, with the fix; None: they do."""
    pages = huge_pages(root)
    if pages is None:
        return "this kernel has no huge pages; use another one"
    lacking = memories * pages.needed(size) - pages.free
    if lacking <= 0:
        return None
    return (
        f"{pages.free + lacking} huge pages of {pages.bytes >> 20} MiB are needed, {pages.free} are free; "
        f"sysctl -w vm.nr_hugepages={pages.total + lacking}"
    )


def huge_memory_file(name: str, size: int) -> int | None:
    """A descriptor of a memory of at least this size; None: there are not enough pages for it."""
    pages = huge_pages()
    if pages is None or pages.needed(size) > pages.free:
        return None
    try:
        with ExitStack() as opened:
            fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_HUGETLB)
            opened.callback(os.close, fd)
            os.posix_fallocate(fd, 0, pages.needed(size) * pages.bytes)
            opened.pop_all()
    except OSError:  # somebody else was quicker, or a control group has no more
        return None
    return fd
