"""`usnet-ctl status` and `usnet-ctl doctor`: what runs, and what is in force."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from usnet_framework.cli.subcommand import Subcommand, asking, columns, duration, shown
from usnet_framework.errors import ControlError, UsageError
from usnet_framework.shards import control, undo


def status_text(status: dict[str, Any]) -> str:
    """A headline, what is listened on, what is not as it was asked for, and one row per process."""
    what = (f"up {duration(status['uptime'])}", f"usnet {status['version']}", status["backend"], status["layout"])
    head = f"{status['app']}: {', '.join((status['state'], *what))}"
    listening = [f"listening on {address}" for address in status["listeners"]] or ["listening nowhere"]
    rows: list[tuple[str, ...]] = [("PROCESS", "PID", "STATE", "SERIAL", "RESTARTS", "VERSION")]
    rows.append(("supervisor", str(status["pid"]), "running", "", "", status["version"]))
    for shard in status["shards"]:
        rows += _shard_rows(shard)
    rows += [("zygote", str(pid), "running", "", "", "") for pid in status["zygotes"]]
    rows += [("spare", str(pid), "ready", "", "", "") for pid in status["spares"]]
    notes = [f"note: {warning}" for warning in status["warnings"]]
    return "\n".join([head, *listening, *notes, "", *columns(rows)])


def _shard_rows(shard: dict[str, Any]) -> list[tuple[str, ...]]:
    number = shard["shard"]
    rows: list[tuple[str, ...]] = []
    if shard["network_pid"]:
        restarts = str(shard["network_restarts"])
        version = str(shard["network_version"])
        rows.append((f"network {number}", str(shard["network_pid"]), shard["state"], "", restarts, version))
        rows.append((f"keeper {number}", str(shard["keeper_pid"]), "running", "", str(shard["rebuilds"]), ""))
    for worker in shard["workers"]:
        name = f"worker {number}.{worker['seat']}"
        pid = str(worker["pid"] or "-")
        state = "out of service" if worker["out_of_service"] else worker["state"]
        if worker["hangs"] is not None:
            state = f"hangs {duration(worker['hangs'])}"
        rows.append((name, pid, state, str(worker["serial"]), str(worker["restarts"]), ""))
        if (leaving := worker["leaving"]) is not None:
            rows.append((name, str(leaving["pid"]), leaving["state"], str(leaving["serial"]), "", ""))
    return rows


def doctor_text(findings: Iterable[dict[str, Any]]) -> str:
    """One line per finding, with the reason and the fix under those that are less than what was asked for."""
    lines = []
    for finding in findings:
        mark = "ok" if finding["ok"] else "LESS"
        lines.append(f"{mark:<5} {finding['what']}: asked {finding['asked']}, in force {finding['in_force']}")
        lines += [f"      {name}: {finding[name]}" for name in ("reason", "fix") if finding[name]]
    return "\n".join(lines)


def _doctor(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.fix and arguments.watch is not None:
        raise UsageError("--watch: --fix is done once; leave one of them out")
    if arguments.fix:
        yield shown("doctor", _fix(), lambda lines: "\n".join(lines) or "nothing is left over", arguments.json)
        return
    elsewhere = undo.leftovers_elsewhere()  # not asked of the server: it takes a look at all processes
    try:
        findings = control.request(arguments.control, "doctor")
    except ControlError:
        if not (left := [*undo.leftovers(), *elsewhere]):
            raise
        findings, elsewhere = [finding.as_dict() for finding in left], []
    findings = [*findings, *(finding.as_dict() for finding in elsewhere)]
    yield shown("doctor", findings, doctor_text, arguments.json)


def _fix() -> list[str]:
    """What was put back, a line each. ControlError: something could not be."""
    lines = undo.undo_leftovers()
    if undo.leftovers():
        raise ControlError(f"doctor --fix: {'; '.join(lines)}; run it as root, or look why the driver refuses")
    return lines


def _add_options_of_doctor(parser: argparse.ArgumentParser) -> None:
    what = "put back what killed servers have changed on this machine"
    parser.add_argument("--fix", action="store_true", help=what)


STATUS = Subcommand("what runs, as a table", asking("status", status_text), watch=True)
DOCTOR = Subcommand("what is in force, and why", _doctor, _add_options_of_doctor, watch=True)
