"""`usnet-bench modes`: what figures of this machine must be read with. What the machine is, and what is in force for
the servers that are measured, as each of them says to `usnet-ctl doctor` (P8)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from usnet_framework.bench import compare, machine, report
from usnet_framework.bench.machine import Cores
from usnet_framework.bench.network import Network, open_network
from usnet_framework.bench.servers import KINDS, Command, meeting_places, running
from usnet_framework.errors import UsageError
from usnet_framework.shards import control

DEFAULT_NAMES = ("usnet-inline", "usnet-split")

_FILES = {
    "clock source": "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "frequency governor": "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "SMT": "sys/devices/system/cpu/smt/control",
    "transparent huge pages": "sys/kernel/mm/transparent_hugepage/enabled",
    "huge pages of 2 MiB": "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
}


@dataclass(frozen=True)
class Modes:
    machine: dict[str, str | int]
    network: str
    facts: dict[str, str]
    servers: dict[str, list[dict[str, Any]]]  # findings of shards/findings.py

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        facts = [(name, str(value)) for name, value in {**self.machine, **self.facts}.items()]
        rows = [
            (f"{server}: {one['what']}", one["asked"], one["in_force"], one["reason"])
            for server, findings in self.servers.items()
            for one in findings
        ]
        tables = (report.table(("machine", ""), facts), report.table(("server", "asked", "in force", "because"), rows))
        return "\n\n".join(tables)


def facts(root: Path = Path("/")) -> dict[str, str]:
    """What this kernel tells of itself; what it does not is left out."""
    found = {"memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB"}
    with suppress(OSError):
        words = (root / "proc/cpuinfo").read_text().split()
        found["virtual machine"] = "yes" if "hypervisor" in words else "no"
    for name, path in _FILES.items():
        with suppress(OSError):
            found[name] = (root / path).read_text().strip()
    return found


def run(names: Sequence[str], network_choice: str, cores: Cores) -> Modes:
    """UsageError, StartupError."""
    kinds = compare.choose(names, names[0])
    for kind in kinds:
        if not kind.at_rest:
            raise UsageError(f"--servers: {kind.name} is not ours: it does not say what is in force")
    with open_network(network_choice) as network:
        places = meeting_places(kinds, network)
        servers = {name: _ask(places[name], name, cores) for name in names}
        return Modes(machine.describe(), network.description, facts(), servers)


def _ask(network: Network, name: str, cores: Cores) -> list[dict[str, Any]]:
    kind = KINDS[name]
    with tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder:
        path = str(Path(folder, "control.sock"))
        with running(network, _with(kind.echo, "--control", path), kind.cores(cores)):
            found: list[dict[str, Any]] = control.request(path, "doctor")
            return found


def _with(command: Command, *options: str) -> Command:
    return lambda host, port: [*command(host, port), *options]
