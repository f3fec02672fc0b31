"""What `usnet-serve --check` says: of what the server would be made on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from usnet_framework.config import Config
from usnet_framework.shards.placement import Plan, ShardPlan
from usnet_framework.shards.preparation import changes, memory_findings, understand
from usnet_framework.shards.privileges import finding as user_finding


def plan_text(config: Config, warnings: Sequence[str]) -> tuple[str, list[str]]:
    """One line for each part; and what another process has, a line each, with which starting would be refused. Raises
    as starting the server would, as far as that needs no start."""
    from usnet_framework.shards.attempt import attempt  # which takes what serving without metrics does not

    intent = understand(config)
    placed, stack = intent.plan, intent.stack
    in_use = attempt(config, intent)
    findings = [*placed.findings, *memory_findings(config, intent)]
    rows = [
        ("application", config.app),
        ("listening", ", ".join(bind.text for bind in intent.binds)),
        ("backend", config.transport()),
        *([("interface", stack.interface), ("addresses", ", ".join(stack.addresses))] if stack is not None else []),
        ("layout", placed.layout),
        ("user", user_finding(intent.privileges).in_force),
        *((f"shard {shard.shard}", _processes(placed, shard)) for shard in placed.shards),
        ("metrics", config.metrics),
        ("control", config.control),
        *(("change", change) for change in changes(config, intent)),
        *(("in use", used) for used in in_use),
        *(("in force" if finding.ok else "note", str(finding)) for finding in findings),
        *(("note", warning) for warning in warnings),
    ]
    return "\n".join(_row(name, value) for name, value in rows), in_use


def _row(name: str, value: str) -> str:
    return f"{name:<12} {value}"


def _processes(placed: Plan, shard: ShardPlan) -> str:
    network = [] if placed.layout == "inline" else [("network process", shard.network_core)]
    workers = [(f"worker {shard.shard}.{seat}", core) for seat, core in enumerate(shard.worker_cores)]
    return ", ".join(name if core is None else f"{name} on core {core}" for name, core in [*network, *workers])
