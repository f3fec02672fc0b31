"""An application that imports much: functions as modules have them, until HEAVY_MIB more are resident. For
`usnet-bench sharing`."""

from __future__ import annotations

import marshal
from pathlib import Path
from resource import getpagesize
from typing import Any

from usnet_framework.bench.handlers import HEAVY_MIB, Signed

_SOURCE = "\n".join(
    f'def function_{number}(first, second={number}):\n    "What it does, {number}."\n    return first + second\n'
    for number in range(100)
)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def _import_much() -> list[dict[str, Any]]:
    compiled = marshal.dumps(compile(_SOURCE, "<heavy>", "exec"))
    began, modules = _resident(), []
    while _resident() - began < HEAVY_MIB << 20:
        module: dict[str, Any] = {}
        exec(marshal.loads(compiled), module)
        modules.append(module)
    return modules


MODULES = _import_much()


class Heavy(Signed):
    """Answers as Signed, and calls what was imported."""

    def on_start(self, shard: Any) -> None:
        super().on_start(shard)
        self._called = 0

    def on_data(self, conn: Any, data: Any) -> None:
        self._called += 1
        MODULES[self._called % len(MODULES)]["function_7"](1)
        super().on_data(conn, data)
