"""`usnet-bench report`: everything that is to be shown, measured one after the other, in one folder.

    report.html   figures, what they were made with, and the tables of all commands; needs nothing else
    report.json   all of it, and each figure by its name
    NAME.csv, NAME.png, NAME-dark.png    each figure's rows, and the figure as a picture

Each part is another command of usnet-bench, as a program of its own. One that cannot be measured on this machine, or
does not come to an end, is left out, and the report says why. With `--from FILE` nothing is measured: the report of a
report.json is written anew.
"""

from __future__ import annotations

import csv
import io
import json
import os
import select
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from usnet_framework.bench import machine, report, reportdraw, reportfigures, reportpage, reportrows
from usnet_framework.bench.load import program
from usnet_framework.bench.network import why_no_namespaces
from usnet_framework.bench.reportplan import FULL, QUICK, Part, plan
from usnet_framework.bench.reportrows import Row
from usnet_framework.errors import StartupError, UsageError

STOP_DEADLINE_S = 60.0  # of a part that is told to end: its server, its namespaces
LATE_S, LATE_TIMES = 600.0, 10.0  # of a part beyond what it is to take: the machine may be slow, or busy
READ_BYTES = 65536
PAGE, DATA = "report.html", "report.json"


@dataclass(frozen=True)
class Report:
    data: dict[str, Any]
    folder: str

    def to_json(self) -> dict[str, Any]:
        return self.data

    def to_text(self) -> str:
        parts = self.data["parts"]
        missing = [f"{name}: left out: {part['missing']}" for name, part in parts.items() if "missing" in part]
        bars = reportrows.bars(results(parts))
        missed = [f"missed: {row['server']}: {row['figure']}" for row in bars if not row["is_reached"]]
        return "\n".join([*missing, *missed, str(Path(self.folder, PAGE))])


def results(parts: reportpage.Parts) -> dict[str, Any]:
    return {name: part["result"] for name, part in parts.items() if "result" in part}


def run(folder: str, quick: bool, added: Sequence[str]) -> Report:
    """StartupError, UsageError; a part that fails is only left out, unless all do."""
    reportdraw.check()
    others = dict(_added(path) for path in added)
    _prepare(folder)
    began_s, made = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    missing = why_no_namespaces()
    if missing:
        report.progress(f"kernel sockets over loopback alone: {missing}")
    planned = plan(QUICK if quick else FULL, root=not missing, lwip=_has_lwip())
    parts = {**_measure_all(planned), **others}
    if not results(parts):
        raise StartupError(f"report: nothing could be measured: {next(iter(parts.values()))['missing']}")
    data = {
        "made": made, "quick": quick, "seconds": time.monotonic() - began_s, "machine": machine.describe(),
        "figures": reportfigures.figures(parts), "parts": parts,
    }  # fmt: skip
    return write(Report(data, folder))


def _has_lwip() -> bool:
    try:
        program("usnet-echo-lwip")
    except StartupError:
        return False
    return True


def again(path: str, folder: str) -> Report:
    """From a report.json."""
    reportdraw.check()
    data = _read(path)
    if not {"made", "quick", "seconds", "machine", "figures", "parts"} <= data.keys():
        raise UsageError(f"--from {path}: it is no {DATA} of this command")
    _prepare(folder)
    try:
        return write(Report(data, folder))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"--from {path}: it is not of this version: {error!r}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise StartupError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: it is no JSON object")
    return found


def _added(path: str) -> tuple[str, dict[str, Any]]:
    """A part that another program has measured: its name, command, figures, how they read, and aims if it has some."""
    found = _read(path)
    if not {"name", "command", "figures", "text"} <= found.keys():
        raise UsageError(f"--add {path}: it needs name, command, figures and text")
    result = {"figures": found["figures"], "aims": found.get("aims", [])}
    return found["name"], {"kind": "figures", "command": found["command"], "result": result, "text": found["text"]}


def _prepare(folder: str) -> None:
    """Before anything is measured."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"--output {folder}: cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartupError(f"--output {folder}: cannot be written; use a folder of your own")


def _measure_all(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    began_s, whole_s, done_s = time.monotonic(), sum(part.seconds for part in parts), 0.0
    for number, part in enumerate(parts, start=1):
        pace = (time.monotonic() - began_s) / done_s if done_s else 1.0
        minutes, seconds = divmod(round((whole_s - done_s) * pace), 60)
        report.progress(f"[{number}/{len(parts)}, {minutes}:{seconds:02} left] {part.command}")
        found[part.name] = _measure(part)
        done_s += part.seconds
    return found


def _measure(part: Part) -> dict[str, Any]:
    """Its progress goes where ours does, but for the reason of a failure, which is its last line."""
    whole = {"kind": part.arguments[0], "command": part.command}
    bench, began_s = str(Path(sysconfig.get_path("scripts")) / "usnet-bench"), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder:
        saved, said_to = Path(folder, "result.json"), Path(folder, "text")
        line = [bench, *part.arguments, "--save", str(saved)]
        with (
            said_to.open("w") as output,
            subprocess.Popen(line, stdout=output, stderr=subprocess.PIPE) as process,
        ):
            try:
                why = _followed(process, LATE_S + LATE_TIMES * part.seconds)
            except BaseException:
                _end(process)
                raise
        if why:
            report.progress(why)
            return whole | {"missing": why}
        result, text = json.loads(saved.read_text()), said_to.read_text()
    return whole | {"seconds": time.monotonic() - began_s, "result": result, "text": text}


def _followed(process: subprocess.Popen[bytes], most_s: float) -> str:
    """To its end. Empty, or why it has no result."""
    try:
        said = _pass_on(process, time.monotonic() + most_s)
        process.wait(STOP_DEADLINE_S)
    except (TimeoutError, subprocess.TimeoutExpired):
        _end(process)
        return f"it was not over after {most_s / 60:.0f} minutes"
    if process.returncode == 0:
        return ""
    return said.removeprefix("usnet-bench: ") or f"it ended with {process.returncode}"


def _pass_on(process: subprocess.Popen[bytes], deadline_s: float) -> str:
    """Lines of its progress, as they come; the last one. TimeoutError: it is not over."""
    last, rest = "", b""
    assert process.stderr is not None
    fd = process.stderr.fileno()
    while True:
        if not select.select([fd], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(fd, READ_BYTES)
        *lines, rest = (rest + (piece or b"\n")).split(b"\n")
        for line in filter(None, lines):
            last = line.decode(errors="replace").rstrip()
            report.progress(f"    {last}")
        if not piece:
            return last


def _end(process: subprocess.Popen[bytes]) -> None:
    """It removes what it has made."""
    process.terminate()
    try:
        process.communicate(timeout=STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def write(made: Report) -> Report:
    """StartupError."""
    parts, svgs = made.data["parts"], {}
    found = results(parts)
    try:
        for picture in reportdraw.PICTURES:
            if rows := picture.rows(found):
                svgs[picture.name] = reportdraw.svg(picture, rows)
                _write(made.folder, f"{picture.name}.csv", _csv(rows).encode())
                _write(made.folder, f"{picture.name}.png", reportdraw.png(picture, rows, reportdraw.LIGHT))
                _write(made.folder, f"{picture.name}-dark.png", reportdraw.png(picture, rows, reportdraw.DARK))
        _write(made.folder, DATA, report.as_json(made.data).encode())
        _write(made.folder, PAGE, reportpage.page(made.data, svgs, reportrows.bars(found)).encode())
    except OSError as error:
        raise StartupError(f"--output {made.folder}: cannot be written: {error.strerror}") from None
    return made


def _write(folder: str, name: str, content: bytes) -> None:
    Path(folder, name).write_bytes(content)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
