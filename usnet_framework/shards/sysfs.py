"""Files of an interface in /sys/class/net, named by their place in its folder: queues/rx-0/rps_cpus.

/sys shows the network namespace in which it was mounted. Where this process is in another one, an interface of the same
name there is none of ours."""

from __future__ import annotations

import errno
from pathlib import Path

from usnet_framework.shards.cgroup import read_text
from usnet_framework.shards.rtnetlink import index_of


def folder_of(interface: str, root: Path = Path("/")) -> Path | None:
    """None: /sys does not show it. OSError: there is no such interface."""
    index = index_of(interface)
    folder = root / "sys/class/net" / interface
    return folder if read_text(folder / "ifindex") == str(index) else None


def texts(interface: str, pattern: str, root: Path = Path("/")) -> dict[str, str]:
    """Of all files that a pattern names, in the order of the numbers in their names; empty as well when /sys does not
    show the interface. OSError: there is no such interface."""
    folder = folder_of(interface, root)
    found = [] if folder is None else [path.relative_to(folder) for path in folder.glob(pattern)]
    found.sort(key=lambda path: [int(part) for part in str(path).replace("/", "-").split("-") if part.isdigit()])
    return {str(path): read_text(folder / path) for path in found if folder is not None}


def read(interface: str, name: str) -> str:
    """OSError."""
    return _file(interface, name).read_text(encoding="ascii").strip()


def write(interface: str, name: str, text: str) -> None:
    """OSError."""
    with _file(interface, name).open("w", encoding="ascii") as file:
        file.write(text)


def _file(interface: str, name: str) -> Path:
    folder = folder_of(interface)
    if folder is None:
        raise OSError(errno.ENXIO, "/sys shows another network namespace", interface)
    return folder / name
