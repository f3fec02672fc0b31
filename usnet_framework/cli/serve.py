"""usnet-serve: read the options, then serve; `--check` only says what would be done.

Exit codes: 0 stopped cleanly, 2 wrong usage, 3 could not start. A failure is one line on stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from usnet_framework import inherited, logs, serving
from usnet_framework.cli.output import show
from usnet_framework.config import Config, unknown_variables
from usnet_framework.errors import UsnetError
from usnet_framework.shards.placement import Plan, ShardPlan
from usnet_framework.shards.preparation import understand
from usnet_framework.shards.privileges import finding as user_finding

log = logging.getLogger("usnet.serve")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    try:
        inherited.reset()
        config = Config.from_command_line(sys.argv[1:] if argv is None else argv, os.environ)
        if config.check:
            show("\n".join([check(config), *(_row("note", warning) for warning in unknown_variables(os.environ))]))
            return 0
        logs.configure(config.log_level, config.log_format, "supervisor")
        for warning in unknown_variables(os.environ):
            log.warning(warning)
        return serving.run(config)
    except UsnetError as error:
        print(f"usnet-serve: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code


def check(config: Config) -> str:
    """What the server would be made of on this machine. Raises as starting it would, as far as that needs no start;
    what another process has is a note."""
    from usnet_framework.shards.attempt import attempt  # which takes what serving without metrics does not

    intent = understand(config)
    placed, stack = intent.plan, intent.stack
    in_use = attempt(config, intent)
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
        *(("note", used) for used in in_use),
        *(("in force" if finding.ok else "note", str(finding)) for finding in placed.findings),
    ]
    return "\n".join(_row(name, value) for name, value in rows)


def _row(name: str, value: str) -> str:
    return f"{name:<12} {value}"


def _processes(placed: Plan, shard: ShardPlan) -> str:
    network = [] if placed.layout == "inline" else [("network process", shard.network_core)]
    workers = [(f"worker {shard.shard}.{seat}", core) for seat, core in enumerate(shard.worker_cores)]
    return ", ".join(name if core is None else f"{name} on core {core}" for name, core in [*network, *workers])
