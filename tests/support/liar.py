"""A zygote that does what a test tells it, in the place of usnet_framework.shards.zygote: its message `load` has a
`script`, which runs with `control`, `say`, `asked` (waits until a worker is wanted) and `clone` at hand."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from usnet_framework._dispatch import clone_sibling
from usnet_framework.shards.messages import receive, send


def main(arguments: list[str]) -> int:
    control = socket.socket(fileno=int(arguments[0]))
    loaded = receive(control)
    if loaded is None:
        return 0

    def say(kind: str, fds: tuple[int, ...] = (), **more: Any) -> None:
        send(control, {"type": kind, **more}, fds)

    def asked() -> int:
        """The descriptor of the worker's control socket."""
        received = receive(control)
        assert received is not None
        return received[1][0]

    def clone() -> int:
        """A descriptor of a process that sleeps."""
        pid, pidfd = clone_sibling()
        if pid == 0:
            signal.pause()
        return pidfd

    verbs = {"control": control, "say": say, "asked": asked, "clone": clone}
    exec(loaded[0]["script"], {"os": os, "signal": signal, **verbs})
    receive(control)
    return 0
