"""What `usnet-bench report` measures: a part for each run of another command of usnet-bench. The command is printed
below what came of it, so that anybody can repeat it.

The quick one is for looking at the report, not for its figures. The seconds of a part are what it took on a machine
with two cores; they tell how much of the whole is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from usnet_framework.bench.servers import DEFAULT_NAMES

PEERS = ("epoll-c", "uvloop")
KERNEL = ("usnet-inline", "usnet-split")
TAP = ("usnet-tap-inline", "usnet-tap-split")
AFXDP = ("usnet-afxdp-inline", "usnet-afxdp-split")
BULK = ("--connections", "4", "--size", "1048576")
STARTED_S = 2.0  # of a server: it is started, warmed up and stopped


@dataclass(frozen=True)
class Part:
    """`name`: in the JSON."""

    name: str
    arguments: tuple[str, ...]
    seconds: float

    @property
    def command(self) -> str:
        return " ".join(("usnet-bench", *self.arguments))


@dataclass(frozen=True)
class Extent:
    """How much of each."""

    connections: tuple[int, ...]
    rounds: int
    duration_s: float
    warmup_s: float
    queues: tuple[int, ...]
    kills: int
    is_quick: bool = False

    @property
    def each(self) -> tuple[str, ...]:
        """Of a comparison."""
        rounds = ("--rounds", str(self.rounds))
        return (*rounds, "--duration", f"{self.duration_s:g}", "--warmup", f"{self.warmup_s:g}")

    def seconds(self, servers: Sequence[str]) -> float:
        return len(servers) * self.rounds * (self.duration_s + self.warmup_s + STARTED_S)


FULL = Extent((1, 16, 128, 512), 3, 0.8, 0.3, (1, 2, 4, 8), 200)
QUICK = Extent((1, 128), 1, 0.2, 0.1, (1, 2), 10, is_quick=True)


def plan(extent: Extent, root: bool, lwip: bool) -> list[Part]:
    """In the order in which they are measured. Without `root` there are kernel sockets over loopback alone. `lwip`: the
    server on that stack was built."""
    ours = KERNEL + (TAP + AFXDP if root else ())
    if extent.is_quick:
        ours = tuple(name for name in ours if not name.endswith("-split"))
    servers = PEERS + ours
    parts = [_modes(ours), *_over_connections(extent, servers), _latency(extent, servers), *_deaths(extent)]
    if root:
        parts.append(_scale(extent))
    if not extent.is_quick:
        parts += [_on_sockets(extent), *(_with_root(extent, lwip) if root else ()), *_the_rest(root)]
    return parts


def _modes(names: Sequence[str]) -> Part:
    return Part("modes", ("modes", "--servers", ",".join(names)), len(names) * STARTED_S)


def _comparison(name: str, extent: Extent, servers: Sequence[str], base: str, *options: str) -> Part:
    arguments = ("compare", "--servers", ",".join(servers), "--base", base, *extent.each, *options)
    times = 2 if "--fixed" in options else 1
    return Part(name, arguments, times * extent.seconds(servers))


def _aims(*aims: str) -> tuple[str, ...]:
    return tuple(word for aim in aims for word in ("--aim", aim))


def _over_connections(extent: Extent, servers: Sequence[str]) -> Iterator[Part]:
    for count in extent.connections:
        yield _comparison(f"connections-{count}", extent, servers, "uvloop", "--connections", str(count))


def _on_sockets(extent: Extent) -> Part:
    """The servers on kernel sockets, all of them."""
    return _comparison("servers", extent, DEFAULT_NAMES, "uvloop")


def _with_root(extent: Extent, lwip: bool) -> Iterator[Part]:
    """Our stack beside the C server on kernel sockets, and beside what does not do more than the device asks for."""
    over_tap, over_afxdp = ("epoll-c", *TAP), ("epoll-c", *AFXDP)
    at_ceiling = (*over_tap, *(("lwip-tap",) if lwip else ()), "mirror-tap")
    at_home = (*over_afxdp, "mirror-afxdp", "usnet-tap-inline", "uvloop")
    for name, servers, options in (
        ("tap", at_ceiling, _aims("usnet-tap-inline:ratio:1.4", "usnet-tap-split:ratio:1.1")),
        ("tap-1", over_tap, ("--connections", "1", *_aims("usnet-tap-inline:p50:0.8"))),
        ("tap-connect", over_tap, ("--connect", *_aims("usnet-tap-inline:rate:20000"))),
        ("tap-up", over_tap, ("--way", "up", *BULK, *_aims("usnet-tap-inline:gbit:20"))),
        ("tap-down", over_tap, ("--way", "down", *BULK, *_aims("usnet-tap-inline:gbit:20"))),
        ("tap-both", over_tap, BULK),
        ("afxdp", (*over_afxdp, "mirror-afxdp"), ("--fixed", *_aims(*AFXDP_AIMS))),
        ("afxdp-rps", at_home, ("--rps", "--fixed", *_aims(*AFXDP_AIMS))),
        ("afxdp-1", over_afxdp, ("--connections", "1", *_aims("usnet-afxdp-inline:p50:0.8"))),
        ("afxdp-connect", over_afxdp, ("--connect", *_aims("usnet-afxdp-inline:rate:20000"))),
        ("afxdp-up", over_afxdp, ("--no-segmentation", "--way", "up", *BULK, *_aims(AS_GOOD))),
        ("afxdp-down", over_afxdp, ("--no-segmentation", "--way", "down", *BULK, *_aims(AS_GOOD))),
    ):
        yield _comparison(name, extent, servers, "epoll-c", *options)


AS_GOOD = "usnet-afxdp-inline:ratio:0.9"
AFXDP_AIMS = (
    "usnet-afxdp-inline:ratio/mirror-afxdp:0.9",
    "usnet-afxdp-inline:ratio:1.2",
    "usnet-afxdp-split:ratio/mirror-afxdp:0.8",
    "usnet-afxdp-inline:cpu:0.8",
    "usnet-afxdp-split:cpu:1",
)


def _scale(extent: Extent) -> Part:
    backends, layouts = ("kernel", "tap", "afxdp"), ("inline",) if extent.is_quick else ("inline", "split")
    rounds = min(extent.rounds, 2)
    duration, warmup = f"{extent.duration_s:g}", f"{extent.warmup_s:g}"
    arguments = (
        "scale", "--queues", ",".join(map(str, extent.queues)), "--backends", ",".join(backends), "--layouts",
        ",".join(layouts), "--rounds", str(rounds), "--duration", duration, "--warmup", warmup,
    )  # fmt: skip
    runs = len(extent.queues) * len(backends) * len(layouts) * rounds
    return Part("scale", arguments, runs * (STARTED_S + 0.8 + extent.duration_s + extent.warmup_s))


def _latency(extent: Extent, servers: Sequence[str]) -> Part:
    extent = replace(extent, rounds=min(extent.rounds, 2))  # whose buckets are added up
    rate = ("--connections", "32", "--rate", "20000")
    return Part("latency", ("latency", "--servers", ",".join(servers), *extent.each, *rate), extent.seconds(servers))


def _deaths(extent: Extent) -> Iterator[Part]:
    duration_s, combinations = 1.5 if extent.is_quick else 3.0, 5
    options = ("--rounds", str(extent.rounds), "--duration", f"{duration_s:g}")
    yield Part("timeline", ("timeline", *options), combinations * extent.rounds * (duration_s + 0.5 + STARTED_S))
    for name, process, kills in (("kill", "worker", extent.kills), ("kill-network", "network", extent.kills // 2)):
        arguments = ("kill", "--process", process, "--kills", str(kills), "--pause", "0.1")
        yield Part(name, arguments, STARTED_S + kills * 0.11)


def _the_rest(root: bool) -> Iterator[Part]:
    reloads = ("reload", "--rounds", "3", "--duration", "6", "--connections", "32")
    yield Part("reload", reloads, 60.0)
    if root:
        yield Part("flood", ("flood", "--rounds", "3", "--duration", "5"), 55.0)
        yield Part("sharing", ("sharing",), 10.0)
        yield Part("memory", ("memory",), 75.0)
    yield Part("scrape", ("scrape", "--rounds", "3", "--duration", "1"), 12.0)
