"""`usnet-bench reload`: its companions notice what goes wrong, and its figures are those of the windows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from usnet_framework.bench.companions import ASK, LARGE, Companions, patterned
from usnet_framework.bench.load import Load
from usnet_framework.bench.reload import QUIET, RELOADING, Reloads, Seen, Window


def answered_by(answer: Callable[[bytes], bytes]) -> Companions:
    """Companions of a server that answers one request so, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.sendall(answer(connection.recv(100)))

    threading.Thread(target=serve).start()
    return Companions(listener.getsockname(), 0.1)


def test_a_pattern_goes_on_where_it_stopped() -> None:
    whole = patterned(0, 1_000_000)
    assert len(whole) == 1_000_000
    assert patterned(600_123, 1000) == whole[600_123:601_123]
    assert patterned(1, 1000) != whole[:1000]


@pytest.mark.parametrize(
    ("kind", "answer", "incident"),
    [
        ("wait", lambda asked: asked[len(ASK) :].replace(b"wait", b"wart"), "wait: wrong answer"),
        ("compute", lambda asked: b"", "compute: ended instead of an answer"),
        ("read_slowly", lambda asked: patterned(0, 1000) + patterned(1001, 50), "read_slowly: wrong bytes at"),
        ("read_slowly", lambda asked: patterned(0, 1000), f"read_slowly: ended after 1000 of {LARGE} bytes"),
    ],
)
def test_a_companion_notices(kind: str, answer: Callable[[bytes], bytes], incident: str) -> None:
    companions = answered_by(answer)
    companions._repeat(getattr(companions, kind))
    (found,) = companions.incidents
    assert found.startswith(incident)


def window(name: str, worst_ms: float, steal: float) -> Window:
    return Window(name, 0.1, worst_ms / 2, worst_ms, 100, 0, steal)


def test_windows_with_much_steal_are_left_out_and_counted() -> None:
    windows = (window(QUIET, 2, 0), window(QUIET, 900, 0.2), window(RELOADING, 8, 0.1), window(RELOADING, 6, 0))
    companions: dict[str, Any] = {"answers": {"wait": 3}, "incidents": []}
    seen = Seen(reloads=4, looks=20)
    rows = Reloads({"processor": "x"}, "loopback", "kernel", 2.0, Load(8), seen, companions, windows).to_text()
    quiet, reloading = (line.split() for line in rows.splitlines()[-2:])
    assert quiet == [QUIET, "1", "1", "100", "0.100", "1.000", "2.0"]
    assert reloading == [RELOADING, "2", "0", "200", "0.100", "3.500", "8.0"]
