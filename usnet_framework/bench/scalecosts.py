"""What a request costs: the difference between two looks at a server and its load, over the requests between them.

A look reads what is counted anyway and disturbs nobody: the shards' counters in the memory that their processes share
with the supervisor, the scheduler's account of every thread (proc(5): schedstat, status), and the account of every core
(/proc/stat). All of it is read twice within the same traffic. So starting, connecting and ending count nowhere.

A core's account says what its time went into: user code, the kernel on behalf of a process, and softirqs, in which the
kernel receives packets, whoever happens to run. It is an account of other programs on that core, too. The threads'
accounts say whose work it was. Softirqs are in there as the work of the thread that they interrupted, unless the kernel
accounts for them apart."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from mmap import MAP_SHARED, PROT_READ, mmap
from pathlib import Path
from typing import TypeVar

import psutil

from usnet_framework._native import SegmentReader
from usnet_framework.bench.machine import parse_core_times
from usnet_framework.bench.memory import role
from usnet_framework.bench.rounds import NOTHING
from usnet_framework.bench.scalepoints import Point, Sides
from usnet_framework.errors import StartupError
from usnet_framework.shards.segment import PORTS

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOAD, REST = "load", "rest"
ROLES = ("network", "worker", REST, LOAD)

Counted = TypeVar("Counted", "CoreWork", "ThreadWork", "ShardWork")

_MEMFD = re.compile(r"/memfd:usnet-(?:public-(\d+)|port-(\d+)\.(\d+)) ")


@dataclass(frozen=True)
class CoreWork:
    """Seconds of some cores since boot, by what they went into."""

    user: float = 0.0
    system: float = 0.0
    softirq: float = 0.0
    stolen: float = 0.0
    total: float = 0.0

    @property
    def busy(self) -> float:
        """A share; stolen time is nobody's idleness."""
        return (self.user + self.system + self.softirq + self.stolen) / self.total if self.total else NOTHING


@dataclass(frozen=True)
class ThreadWork:
    """Of a process with all its threads: seconds on a core, and how often it left one."""

    seconds: float = 0.0
    switches: int = 0


@dataclass(frozen=True)
class ShardWork:
    """`wakes` are those of its network process and of its workers, in either direction."""

    bytes_in: int = 0
    wakes: int = 0
    packets: int = 0
    crossed: int = 0


@dataclass(frozen=True)
class Look:
    at_s: float
    cores: Mapping[int, CoreWork]
    processes: Mapping[int, tuple[str, ThreadWork]]  # with the role of each
    shards: Sequence[ShardWork]


@dataclass(frozen=True)
class Costs:
    """Of one run; times in microseconds per request. NOTHING where a figure cannot be told."""

    throughput: float  # requests per second
    p50_us: float
    p99_us: float
    server_user: float  # of the cores of the server's side
    server_system: float
    server_softirq: float
    load_user: float  # of the cores of the load's side
    load_system: float
    load_softirq: float
    network: float  # of the server's processes
    worker: float
    rest: float
    generator: float  # of the load's processes
    switches: float  # of the server's processes, per request
    wakes: float  # between network processes and workers, per request
    crossed: float  # packets that another shard took over, per million of those that came
    spread: float  # requests of the busiest shard, over the mean
    server_busy: float  # shares of the cores' time, 0 to 1
    load_busy: float
    steal: float  # of the core that lost most, 0 to 1
    others: float  # of all cores' time what neither side's processes had, softirqs apart

    @property
    def processes(self) -> float:
        """Of all processes of the server."""
        return self.network + self.worker + self.rest

    @property
    def server(self) -> float:
        """All that was done on the server's cores."""
        return self.server_user + self.server_system + self.server_softirq

    @property
    def load(self) -> float:
        return self.load_user + self.load_system + self.load_softirq


def core_work(text: str) -> dict[int, CoreWork]:
    """Of /proc/stat. Time of guests is in user time already."""
    return {
        core: CoreWork(
            user=ticks.user / TICKS_PER_S,
            system=ticks.system / TICKS_PER_S,
            softirq=ticks.softirq / TICKS_PER_S,
            stolen=ticks.steal / TICKS_PER_S,
            total=ticks.total / TICKS_PER_S,
        )
        for core, ticks in parse_core_times(text).items()
    }


def thread_work(process: int, root: Path = Path("/proc")) -> ThreadWork:
    """Zeros when it is gone."""
    seconds, switches = 0.0, 0
    with suppress(FileNotFoundError, ProcessLookupError):
        for folder in sorted((root / str(process) / "task").iterdir()):
            with suppress(FileNotFoundError, ProcessLookupError):
                seconds += int((folder / "schedstat").read_text().split()[0]) / 1e9
                switches += sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", (folder / "status").read_text())))
    return ThreadWork(seconds, switches)


class Shards:
    """The segments of a server, open for reading: found among the descriptors of its supervisor."""

    def __init__(self, readers: Sequence[tuple[SegmentReader, int]]) -> None:
        self._readers = readers  # and how many seats each one has

    def connections(self) -> int:
        return sum(reader.engine_status().active for reader, _ in self._readers)

    def look(self) -> list[ShardWork]:
        return [_shard_work(reader, seats) for reader, seats in self._readers]


def _shard_work(reader: SegmentReader, seats: int) -> ShardWork:
    engine, stack = reader.engine_counters(), reader.stack_counters()
    to_engine = sum(reader.seat_counters(seat)["engine_wakes"] for seat in range(seats))
    return ShardWork(engine["bytes_in"], engine["wakes"] + to_engine, stack["ip_rx_packets"], stack["ip_handed_over"])


@contextmanager
def open_shards(supervisor: int) -> Iterator[Shards]:
    """Of a server whose shards all serve. StartupError: no permission."""
    with ExitStack() as opened:
        try:
            public, ports = _memories(supervisor, opened)
        except PermissionError:
            raise StartupError("scale: the server's memory is closed to others of its user; run it as root") from None
        readers = []
        for shard in sorted(public):
            reader = SegmentReader(public[shard], [ports[shard][port] for port in sorted(ports[shard])])
            opened.callback(reader.close)
            readers.append((reader, len(ports[shard]) // PORTS))
        yield Shards(readers)


def _memories(supervisor: int, opened: ExitStack) -> tuple[dict[int, mmap], dict[int, dict[int, mmap]]]:
    """The public memory of each shard, and those of its ports."""
    public: dict[int, mmap] = {}
    ports: dict[int, dict[int, mmap]] = {}
    for entry in os.scandir(f"/proc/{supervisor}/fd"):
        with suppress(FileNotFoundError):
            found = _MEMFD.match(os.readlink(entry.path))
            if found and found[1]:
                public[int(found[1])] = _mapped(entry.path, opened)
            elif found:
                ports.setdefault(int(found[2]), {})[int(found[3])] = _mapped(entry.path, opened)
    return public, ports


def _mapped(path: str, opened: ExitStack) -> mmap:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return opened.enter_context(mmap(fd, os.fstat(fd).st_size, MAP_SHARED, PROT_READ))
    finally:
        os.close(fd)


class Watch:
    """Looks at a server and its load. Whose a process is, is found once: none comes or goes while it is measured."""

    def __init__(self, shards: Shards, supervisor: int, generators: Sequence[int]) -> None:
        self._shards = shards
        self._roles = dict.fromkeys(generators, LOAD)
        server = psutil.Process(supervisor)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                self._roles[process.pid] = role(process)

    def look(self) -> Look:
        return Look(
            time.monotonic(),
            core_work(Path("/proc/stat").read_text()),
            {process: (name, thread_work(process)) for process, name in self._roles.items()},
            self._shards.look(),
        )


def costs(before: Look, after: Look, point: Point, sides: Sides, percentiles_us: tuple[float, float]) -> Costs:
    """StartupError: nothing was answered."""
    seconds = after.at_s - before.at_s
    shards = [_difference(now, then) for now, then in zip(after.shards, before.shards, strict=True)]
    requests = [shard.bytes_in / point.size for shard in shards]
    total, packets = sum(requests), sum(shard.packets for shard in shards)
    if total < 1:
        raise StartupError(f"{point.name}: no request was answered in {seconds:.1f} s")
    server, load = (_cores_between(before, after, cores) for cores in (sides.server, sides.load))
    by_role = _roles_between(before, after)
    us = 1e6 / total
    us_of_cores = us if sides.are_apart else NOTHING
    return Costs(
        throughput=total / seconds,
        p50_us=percentiles_us[0],
        p99_us=percentiles_us[1],
        server_user=server.user * us_of_cores,
        server_system=server.system * us_of_cores,
        server_softirq=server.softirq * us_of_cores,
        load_user=load.user * us_of_cores,
        load_system=load.system * us_of_cores,
        load_softirq=load.softirq * us_of_cores,
        network=by_role["network"].seconds * us,
        worker=by_role["worker"].seconds * us,
        rest=by_role[REST].seconds * us,
        generator=by_role[LOAD].seconds * us,
        switches=sum(by_role[name].switches for name in ROLES if name != LOAD) / total,
        wakes=sum(shard.wakes for shard in shards) / total,
        crossed=1e6 * sum(shard.crossed for shard in shards) / packets if packets else NOTHING,
        spread=max(requests) * len(requests) / total,
        server_busy=server.busy,
        load_busy=load.busy,
        steal=_steal(before, after, sides),
        others=_others(before, after, sides, sum(work.seconds for work in by_role.values())),
    )


def _difference(now: Counted, then: Counted) -> Counted:
    return type(now)(*(new - old for new, old in zip(astuple(now), astuple(then), strict=True)))


def _cores_between(before: Look, after: Look, cores: Iterable[int]) -> CoreWork:
    parts = [astuple(_difference(after.cores[core], before.cores[core])) for core in cores]
    return CoreWork(*map(sum, zip(*parts, strict=True)))


def _roles_between(before: Look, after: Look) -> dict[str, ThreadWork]:
    """Nothing of a process that has gone, or of what a thread did that has: its account went with it."""
    found = dict.fromkeys(ROLES, ThreadWork())
    for process, (name, now) in after.processes.items():
        work, known = _difference(now, before.processes[process][1]), name if name in ROLES else REST
        so_far = found[known]
        found[known] = ThreadWork(so_far.seconds + max(0.0, work.seconds), so_far.switches + max(0, work.switches))
    return found


def _steal(before: Look, after: Look, sides: Sides) -> float:
    works = [_difference(after.cores[core], before.cores[core]) for core in {*sides.server, *sides.load}]
    return max(work.stolen / work.total if work.total else 0.0 for work in works)


def _others(before: Look, after: Look, sides: Sides, ours_s: float) -> float:
    """Threads have softirqs in their accounts too, so this is rather too little than too much."""
    both = _cores_between(before, after, {*sides.server, *sides.load})
    return max(0.0, both.user + both.system - ours_s) / both.total if both.total else 0.0
