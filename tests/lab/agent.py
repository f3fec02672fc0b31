"""What does things in the emulated machine, for tests/support/machine.py: it is started by the initramfs, with the
host's root read-only below it, and asked over a virtual serial port, one JSON object a line.

A process takes seconds to start in there if it is Python, so what a function can answer is called here."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "PATH": f"{os.path.dirname(sys.executable)}:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
HOW: dict[str, Any] = {"cwd": ROOT, "env": ENVIRONMENT}

started: dict[int, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if "call" in request:
        return _call(request["call"], request["with"])
    if "run" in request:
        return _run(request["run"])
    if "start" in request:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when the process was
        process = subprocess.Popen(request["start"], **HOW, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        started[process.pid] = (process, output)
        return {"pid": process.pid}
    process, output = started.pop(request["kill"])
    process.send_signal(request["signal"])
    status = process.wait()
    with output:
        output.seek(0)
        return {"status": status, "stdout": _text(output.read()), "stderr": ""}


def _call(function: str, arguments: list[Any]) -> dict[str, Any]:
    module, _, name = function.partition(":")
    try:
        return {"returned": getattr(importlib.import_module(module), name)(*arguments)}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def _run(command: list[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, **HOW, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:  # no such program
        return {"status": 127, "stdout": "", "stderr": str(error)}
    return {"status": done.returncode, "stdout": _text(done.stdout), "stderr": _text(done.stderr)}


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def main() -> None:
    sys.path.append(str(ROOT / "tests"))
    (port,) = Path("/sys/class/virtio-ports").iterdir()
    with open(f"/dev/{port.name}", "r+b", buffering=0) as wire:
        pending = b""
        while True:
            pending += os.read(wire.fileno(), 65536)
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                reply = memoryview(json.dumps(answer(json.loads(line))).encode() + b"\n")
                while reply:
                    reply = reply[os.write(wire.fileno(), reply) :]


main()
