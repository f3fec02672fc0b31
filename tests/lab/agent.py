"""What runs commands in the emulated machine, for tests/support/machine.py: it is started by the initramfs, with the
host's root read-only below it, and asked over a virtual serial port, one JSON object a line."""

from __future__ import annotations

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
    if "run" in request:
        done = subprocess.run(request["run"], **HOW, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return {"status": done.returncode, "stdout": _text(done.stdout), "stderr": _text(done.stderr)}
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


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def main() -> None:
    (port,) = Path("/sys/class/virtio-ports").iterdir()
    with open(f"/dev/{port.name}", "r+b", buffering=0) as wire:
        pending = b""
        while True:
            pending += os.read(wire.fileno(), 65536)
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                try:
                    found = answer(json.loads(line))
                except OSError as error:  # no such program
                    found = {"status": 127, "stdout": "", "stderr": str(error)}
                reply = memoryview(json.dumps(found).encode() + b"\n")
                while reply:
                    reply = reply[os.write(wire.fileno(), reply) :]


main()
