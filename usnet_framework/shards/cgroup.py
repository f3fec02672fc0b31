"""What control groups allow this process: how much CPU time, and on which cores.

Version 2 and version 1 hierarchies are read, from the process's own group up to the root of what is mounted, because
every ancestor limits too. Nothing here fails: a file that is missing or unreadable limits nothing.
(Linux: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpusets.rst, scheduler/sched-bwc.rst)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """`quota`: cores' worth of CPU time per second, None when unlimited; `cores`: None when all are allowed."""

    quota: float | None = None
    cores: frozenset[int] | None = None


@dataclass(frozen=True)
class _Mount:
    kind: str  # cgroup or cgroup2
    controllers: frozenset[str]
    group: str  # the group that the mount shows as its root
    folder: Path


def read_limits(root: Path) -> Limits:
    """Limits of the calling process as the file system under `root` tells them."""
    groups = _groups(root)
    mounts = _mounts(root)
    quotas = [quota for folder in _folders("cpu", mounts, groups) if (quota := _quota(folder)) is not None]
    cpusets = [cores for folder in _folders("cpuset", mounts, groups) if (cores := _cpuset(folder))]
    return Limits(quota=min(quotas, default=None), cores=frozenset.intersection(*cpusets) if cpusets else None)


def parse_list(text: str) -> frozenset[int]:
    """A list of numbers as the kernel writes it: `0-3,8`. Empty text is an empty set."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def listed(numbers: Iterable[int]) -> str:
    """Numbers as `parse_list` reads them, the kernel too: `0-3,8`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def read_text(path: Path) -> str:
    """The file's text without its last newline, empty when it cannot be read."""
    try:
        return os.fsdecode(path.read_bytes()).strip()  # names of groups and mounts may be no text
    except OSError:
        return ""


def _groups(root: Path) -> dict[str, str]:
    """Controller to path of the process's group; the key "" is the version 2 hierarchy."""
    groups = {}
    for line in read_text(root / "proc/self/cgroup").split("\n"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _mounts(root: Path) -> list[_Mount]:
    mounts = []
    for line in read_text(root / "proc/self/mountinfo").split("\n"):
        fields, _, source = line.partition(" - ")
        columns, kinds = fields.split(" "), source.split(" ")
        if len(columns) >= 5 and len(kinds) >= 3 and kinds[0] in ("cgroup", "cgroup2"):
            controllers = frozenset(kinds[2].split(",")) if kinds[0] == "cgroup" else frozenset({""})
            mounts.append(_Mount(kinds[0], controllers, columns[3], root / columns[4].lstrip("/")))
    return mounts


def _folders(controller: str, mounts: list[_Mount], groups: dict[str, str]) -> Iterator[Path]:
    """The folders of the process's group and its ancestors, in the hierarchies that may hold this controller."""
    for mount in mounts:
        key = controller if mount.kind == "cgroup" else ""
        if key not in mount.controllers or key not in groups:
            continue
        below = Path("/", groups[key])
        if mount.group != "/":
            # A container sees its own group as the root of the mount, but maybe the host's path as its group.
            below = Path("/") / below.relative_to(mount.group) if below.is_relative_to(mount.group) else Path("/")
        folder = mount.folder / str(below).lstrip("/")
        yield from (f for f in (folder, *folder.parents) if f.is_relative_to(mount.folder))


def _quota(folder: Path) -> float | None:
    if (both := read_text(folder / "cpu.max").split()) and both[0].isdigit():
        return _cores_worth(both[0], both[1] if len(both) > 1 else "100000")
    return _cores_worth(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))


def _cores_worth(quota_us: str, period_us: str) -> float | None:
    if not quota_us.isdigit() or not period_us.isdigit() or int(period_us) == 0:
        return None  # "max", -1, or no such file
    return int(quota_us) / int(period_us)


def _cpuset(folder: Path) -> frozenset[int]:
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        if cores := parse_list(read_text(folder / name)):
            return cores
    return frozenset()
