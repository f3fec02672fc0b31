"""What was asked for and what is in force, beyond what placement and descriptors say of themselves (P8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from usnet_framework.config import Config
from usnet_framework.shards import quarantine
from usnet_framework.shards.cgroup import read_text
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.listeners import Listeners
from usnet_framework.shards.placement import Plan
from usnet_framework.shards.seat import Seat


def backend_findings(config: Config, plan: Plan) -> list[Finding]:
    transport = config.transport()
    found = [Finding("backend", config.backend, transport), Finding("layout", config.layout, plan.layout)]
    if transport == "kernel":
        found.append(Finding("huge pages", "no", "no", "the frames of the kernel backend lie in ordinary pages"))
    return found


def survival_finding(layout: str, resumes: bool) -> Finding:
    """Whether connections outlive the worker that serves them, a reload included (P2)."""
    what, kept, lost = "connections outlive workers", "yes", "no"
    if layout == "inline":
        return Finding(what, lost, lost, "inline, a worker owns its connections", "use --layout split")
    if not resumes:
        return Finding(what, lost, lost, "the handler class does not define on_resume", "define it")
    return Finding(what, kept, kept)


def service_findings(seats: Iterable[Seat]) -> list[Finding]:
    """Seats whose workers die before they do anything."""
    return [
        Finding(
            what=f"seat {seat.name}",
            asked="in service",
            in_force="out of service",
            reason=seat.start_error or "its workers die before they have done anything",
            fix="look at the log, then reload or roll back the application",
            ok=False,
        )
        for seat in seats
        if seat.out_of_service
    ]


def quarantine_finding(config: Config) -> Finding:
    """Whether events that kill workers can be kept (P3)."""
    folder = Path(config.quarantine).absolute()
    why = quarantine.trouble(folder)
    if why is None:
        return Finding("quarantine", config.quarantine, str(folder))
    return Finding("quarantine", config.quarantine, "none", why, "use --quarantine with another folder", ok=False)


def listener_findings(backlog: int, listeners: Listeners, shards: int, root: Path = Path("/")) -> list[Finding]:
    return [*_accepting(listeners, shards), *_left_out(listeners), *_backlog(backlog, listeners, root)]


def _accepting(listeners: Listeners, shards: int) -> list[Finding]:
    """How connections are spread over the shards."""
    own = f"a socket for each of {shards} shards (SO_REUSEPORT)" if shards > 1 else "a socket of the only shard"
    shared = f"one socket, shared by {shards} shards" if shards > 1 else "a socket of the only shard"
    stack = "the stack of each shard"
    return [
        Finding(
            "listener",
            f"{one.address}, by usnet-ctl bind" if one.added else one.address,
            stack if one.endpoint is not None else own if one.bind.kind == "tcp" else shared,
            "until the server is restarted" if one.added else "",
        )
        for one in listeners.open
    ]


def _left_out(listeners: Listeners) -> list[Finding]:
    """Addresses of names that this machine lacks."""
    return [
        Finding(
            what=f"addresses of {absent.bind.host}",
            asked=f"{', '.join([*absent.here, *absent.addresses])} (--bind {absent.bind.text})",
            in_force=", ".join(absent.here),
            reason=f"this machine has no address for {', '.join(absent.addresses)}",
            fix="name the address that is meant in --bind, or correct what the name resolves to (/etc/hosts)",
            ok=False,
        )
        for absent in listeners.absent
    ]


def _backlog(backlog: int, listeners: Listeners, root: Path) -> list[Finding]:
    text = read_text(root / "proc/sys/net/core/somaxconn")
    most = int(text) if text.isdigit() else backlog
    if backlog <= most or not _opens(listeners.addresses):
        return [Finding("backlog", str(backlog), str(backlog))]
    reason = f"net.core.somaxconn is {most}"
    return [Finding("backlog", str(backlog), str(most), reason, f"sysctl -w net.core.somaxconn={backlog}", ok=False)]


def _opens(addresses: Sequence[str]) -> bool:
    """Whether any socket was opened by us: those of others keep the backlog they came with."""
    return any(not address.startswith("fd:") for address in addresses)
