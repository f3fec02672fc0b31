"""`usnet-bench memory`: what an idle connection costs, in each kind of process and in the shared segments.

A process' own memory is its anonymous memory (smaps in proc(5)): heap, stacks, what it changed of its files, and what
it touched of memory that it shares with its children without a name, as an engine does with its keeper. The segments
are the memfds, by the blocks that the system has given them, counted once however many processes map them. Programs and
libraries are left out: they do not grow, and their share moves whenever another process maps them. What the kernel
keeps per socket is not ours and not in here.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from usnet_framework.bench import machine, report
from usnet_framework.bench.load import program
from usnet_framework.bench.network import Loopback
from usnet_framework.bench.servers import running, usnet_command
from usnet_framework.errors import StartupError

PER_SHARD = 15_000  # connections are spread by a hash: leave room below a limit of 20,000 descriptors
PER_LOADER = 18_000
SETTLE_DEADLINE_S = 60.0
OPEN_DEADLINE_S = 120.0
ROLES = ("supervisor", "keeper", "network", "worker", "spare")
SEGMENTS = "segments"
NAMELESS_SHARED = "/dev/zero (deleted)"  # how the kernel calls a shared anonymous mapping

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")


@dataclass(frozen=True)
class Cost:
    part: str
    idle_bytes: int  # before there was any connection
    loaded_bytes: int
    per_connection: float


@dataclass(frozen=True)
class Memory:
    machine: dict[str, str | int]
    connections: int
    shards: int
    costs: tuple[Cost, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        rows = [
            (cost.part, report.number(cost.idle_bytes), report.number(cost.loaded_bytes), f"{cost.per_connection:,.1f}")
            for cost in self.costs
        ]
        header = ("part", "bytes before", "bytes with connections", "bytes per connection")
        title = f"{self.connections:,} idle connections over {self.shards} shards; processes of a kind added up"
        return f"{title}\n\n{report.table(header, rows)}"


def own_bytes(smaps: str) -> int:
    """The memory in the text of /proc/PID/smaps that belongs to no file."""
    total_kib = 0
    field = "Anonymous:"
    for line in smaps.splitlines():
        if _MAPPING.match(line):
            field = "Rss:" if NAMELESS_SHARED in line else "Anonymous:"
        elif line.startswith(field):
            total_kib += int(line.split()[1])
    return total_kib * 1024


def role(process: psutil.Process) -> str:
    """From the title, `usnet: worker 0.1`; a process that has not got one yet is a spare on its way."""
    title = " ".join(process.cmdline())
    found = re.match(r"usnet: (\w+)", title)
    return found.group(1) if found and found.group(1) in ROLES else "spare"


def _memfds(process: int) -> Iterator[tuple[int, int]]:
    """Identity and bytes of every memfd that the process has open."""
    for entry in os.scandir(f"/proc/{process}/fd"):
        with suppress(OSError):
            if os.readlink(entry.path).startswith("/memfd:"):
                status = os.stat(entry.path)
                yield status.st_ino, status.st_blocks * 512


def take(processes: Iterable[psutil.Process]) -> dict[str, int]:
    """Bytes by role, and of the segments. Processes that end meanwhile are left out."""
    by_part: defaultdict[str, int] = defaultdict(int)
    segments: dict[int, int] = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            by_part[role(process)] += own_bytes(Path(f"/proc/{process.pid}/smaps").read_text(errors="surrogateescape"))
            segments.update(_memfds(process.pid))
    by_part[SEGMENTS] = sum(segments.values())
    return dict(by_part)


def settled(server: psutil.Process) -> dict[str, int]:
    """Measures until two measurements, half a second apart, agree to 64 KiB in every part."""
    deadline = time.monotonic() + SETTLE_DEADLINE_S
    before = take([server, *server.children(recursive=True)])
    while time.monotonic() < deadline:
        time.sleep(0.5)
        after = take([server, *server.children(recursive=True)])
        if before.keys() == after.keys() and all(abs(after[part] - before[part]) <= 65536 for part in after):
            return after
        before = after
    raise StartupError(f"the server's memory did not come to rest within {SETTLE_DEADLINE_S:.0f} s")


def _descriptors(server: psutil.Process) -> int:
    """Of the network processes; their keepers share the same tables."""
    total = 0
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += child.num_fds() if role(child) == "network" else 0
    return total


@contextmanager
def idle_connections(target: str, count: int) -> Iterator[None]:
    """Holds so many connections open, from as many processes and source addresses as descriptors and ports ask for."""
    loaders: list[subprocess.Popen[str]] = []
    try:
        for index, first in enumerate(range(0, count, PER_LOADER)):
            share = min(PER_LOADER, count - first)
            command = [program("usnet-load"), "--idle", "--target", target, "--connections", str(share)]
            command += ["--source-ips", f"127.20.{index}.0/28"]
            loaders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        opened = sum(_opened(loader) for loader in loaders)
        if opened < count:
            raise StartupError(f"{target}: only {opened} of {count} connections could be opened")
        yield
    finally:
        for loader in loaders:
            loader.kill()  # its connections go with it
            loader.communicate()


def _opened(loader: subprocess.Popen[str]) -> int:
    assert loader.stdout is not None
    found = re.match(r"holding +(\d+) ", loader.stdout.readline())
    return int(found.group(1)) if found else 0


def _wait_accepted(server: psutil.Process, before: int, count: int) -> None:
    deadline = time.monotonic() + OPEN_DEADLINE_S
    while (accepted := _descriptors(server) - before) < count:
        if time.monotonic() > deadline:
            raise StartupError(f"the server accepted only {accepted} of {count} connections")
        time.sleep(0.1)


def run(connections: int, shards: int | None) -> Memory:
    """StartupError: not so many connections, or no permission."""
    try:
        return _run(connections, shards)
    except (PermissionError, psutil.AccessDenied):
        raise StartupError("memory: a server's processes are closed to others of their user; run it as root") from None


def _run(connections: int, shards: int | None) -> Memory:
    count = shards or -(-connections // PER_SHARD)

    def command(host: str, port: int) -> list[str]:
        return usnet_command("Echo", host, port, "--layout", "split", "--queues", str(count))

    report.progress(f"{connections} connections over {count} shards")
    with running(Loopback(), command) as started:
        server = psutil.Process(started.pid)
        before, descriptors = settled(server), _descriptors(server)
        with idle_connections(started.target, connections):
            _wait_accepted(server, descriptors, connections)
            after = settled(server)
    parts = [part for part in (*ROLES, SEGMENTS) if part in after]
    costs = tuple(_cost(part, before.get(part, 0), after[part], connections) for part in parts)
    return Memory(machine.describe(), connections, count, (*costs, _total(costs, connections)))


def _cost(part: str, before: int, after: int, connections: int) -> Cost:
    return Cost(part, before, after, (after - before) / connections)


def _total(costs: Iterable[Cost], connections: int) -> Cost:
    rows = list(costs)
    return _cost("all", sum(row.idle_bytes for row in rows), sum(row.loaded_bytes for row in rows), connections)
