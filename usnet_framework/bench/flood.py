"""`usnet-bench flood`: what clients notice of SYNs from spoofed addresses.

One server with a stack of ours runs all the time. Its clients go on without a flood, with one that goes past it, to an
address that nobody has, and with one at the port that it serves, in turn. Flood and load share a core, and the
interface's queue. So the second row shows what a flood costs in any case, and the third what the server does because
of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

from usnet_framework.bench import aims, machine, report
from usnet_framework.bench.aims import Aim, Verdict
from usnet_framework.bench.load import Load, program, run_load
from usnet_framework.bench.machine import Cores, Usage
from usnet_framework.bench.netns import CLIENT_INTERFACE, NOBODYS_ADDRESS, PORT, TAP_INTERFACE
from usnet_framework.bench.network import Network, open_network
from usnet_framework.bench.rounds import Sample, Summary, interleave, summarise
from usnet_framework.bench.servers import KINDS, STATION, TAP, meeting_places, running
from usnet_framework.errors import StartupError, UsageError

SOURCES = 1000
NOBODYS_STATION = "02:00:00:00:00:fe"
QUIET, PAST, AT = "no flood", "flood past it", "flood at it"
AIM = Aim(AT, "ratio", 0.9, PAST)

SERVERS = tuple(name for name, kind in KINDS.items() if kind.place in (STATION, TAP) and kind.at_rest)
"""With our stack."""

_INTERFACES = {STATION: CLIENT_INTERFACE, TAP: TAP_INTERFACE}  # of the clients
_STOP_S = 10.0


@dataclass
class Sent:
    """SYNs, over all rounds."""

    sent: int = 0
    lost: int = 0  # the interface's queue was full
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.sent / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Flooding:
    machine: dict[str, str | int]
    server: str
    cores: Cores
    load: Load
    rounds: int
    rate: float  # SYNs per second that were wanted
    floods: dict[str, Sent]
    summaries: tuple[Summary, ...]
    samples: tuple[Sample, ...]

    @property
    def verdict(self) -> Verdict:
        return aims.verdict(AIM, self.summaries, (), PAST, self.load.size)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"aims": [asdict(self.verdict)]}

    def to_text(self) -> str:
        load = self.load
        floods = [f"{name}: {one.rate:,.0f}/s, {one.lost:,} lost" for name, one in self.floods.items()]
        return "\n".join(
            [
                f"{self.server}, {load.connections} connections, {load.size} bytes, {self.rounds} rounds of "
                f"{load.duration_s:g} s in turn; server on core {self.cores.server}, load and flood on core "
                f"{self.cores.load}",
                f"SYNs from {SOURCES:,} addresses, {self.rate:,.0f}/s wanted; {'; '.join(floods)}",
                "",
                report.summary_table(self.summaries, PAST, load),
                str(self.verdict),
            ]
        )


@dataclass
class Flooder:
    """Of one server."""

    place: Network
    interface: str
    rate: float
    core: int
    floods: dict[str, Sent] = field(default_factory=lambda: {PAST: Sent(), AT: Sent()})

    @contextmanager
    def flooding(self, name: str) -> Iterator[None]:
        station, address = (NOBODYS_STATION, NOBODYS_ADDRESS) if name == PAST else self._server
        command = [program("usnet-flood"), self.interface, station, address, str(PORT), str(SOURCES), str(self.rate)]
        flood = subprocess.Popen(
            self.place.on_client(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.core}),
        )
        try:
            yield
        finally:
            flood.terminate()
            try:
                said = flood.communicate(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                flood.kill()
                flood.communicate()
                raise StartupError(f"flood: it does not end within {_STOP_S:g} s of SIGTERM") from None
        self._count(name, *said)

    def find(self, address: str) -> None:
        """The station behind this address, as the clients' kernel knows it."""
        command = self.place.on_client(["ip", "-json", "neighbour", "show", address])
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self._server = (json.loads(found)[0]["lladdr"], address)

    def _count(self, name: str, output: str, errors: str) -> None:
        if not output:
            raise StartupError(f"flood: {errors.strip() or 'it ended early'}")
        one, sent = json.loads(output), self.floods[name]
        sent.sent += one["sent"]
        sent.lost += one["lost"]
        sent.seconds += one["seconds"]


def run(server: str, load: Load, rounds: int, rate: float, cores: Cores) -> Flooding:
    if server not in SERVERS:
        raise UsageError(f"--server: {server!r} has no stack of ours; there are {', '.join(SERVERS)}")
    kind = KINDS[server]
    samples = []
    with open_network("veth") as network:
        place = meeting_places([kind], network)[server]
        flooder = Flooder(place, _INTERFACES[kind.place], rate, cores.load)
        with running(place, kind.echo, kind.cores(cores)) as started:
            flooder.find(started.target.rpartition(":")[0])
            for number, name in interleave((QUIET, PAST, AT), rounds):
                with nullcontext() if name == QUIET else flooder.flooding(name):
                    samples.append(_measure(place, started.target, name, number, load, cores))
    return Flooding(
        machine.describe(),
        server,
        cores,
        load,
        rounds,
        rate,
        flooder.floods,
        tuple(summarise(samples, PAST)),
        tuple(samples),
    )


def _measure(place: Network, target: str, name: str, number: int, load: Load, cores: Cores) -> Sample:
    before = machine.core_times()
    result = run_load(place, load, target, cores.load)
    usage = Usage.between(before, machine.core_times(), {cores.server, cores.load})
    sample = Sample.of(name, number, result, cores, usage)
    report.progress(f"round {number + 1} {name:14} {sample.throughput:12,.0f}/s  steal {sample.steal:.0%}")
    return sample
