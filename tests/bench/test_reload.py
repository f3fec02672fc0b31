"""`usnet-bench reload`: its companions notice what goes wrong, and its figures are those of the windows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from usnet_framework.bench import reload
from usnet_framework.bench.companions import ASK, LARGE, Companions, patterned
from usnet_framework.bench.load import Load
from usnet_framework.bench.network import Loopback
from usnet_framework.bench.reload import QUIET, RELOADING, Reloads, Seen, Watch, Window
from usnet_framework.cli import bench
from usnet_framework.errors import StartupError


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
        ("tick", lambda asked: b"", "tick: ended instead of an answer"),
        ("read_slowly", lambda asked: patterned(0, 1000) + patterned(1001, 50), "read_slowly: wrong bytes at"),
        ("read_slowly", lambda asked: patterned(0, 1000), f"read_slowly: ended after 1000 of {LARGE} bytes"),
    ],
)
def test_a_companion_notices(kind: str, answer: Callable[[bytes], bytes], incident: str) -> None:
    companions = answered_by(answer)
    companions._repeat(getattr(companions, kind))
    (found,) = companions.incidents
    assert found.startswith(incident)


def test_companions_that_fail_are_no_result() -> None:
    with (
        pytest.raises(StartupError, match="the companions ended with "),
        reload._accompanied(Loopback(), "127.0.0.1:no-port", 0.1, {}),
    ):
        pass


def test_a_window_without_reloads_waits_for_workers_that_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving: list[Any] = [{"pid": 7}, {"pid": 7}, None]

    def status(path: str, command: str) -> Any:
        return {"shards": [{"workers": [{"leaving": None}, {"leaving": leaving.pop(0)}]}]}

    def run_load(*_: Any) -> Any:
        assert not leaving
        return {"latency_ns": {"p50": 1e6, "p99.9": 2e6, "max": 3e6}, "messages": {"answered": 5}}

    monkeypatch.setattr(reload.control, "request", status)
    monkeypatch.setattr(reload, "run_load", run_load)
    monkeypatch.setattr(reload, "LOOK_S", 0.0)
    seen = reload._measure(Loopback(), "here", QUIET, Load(8), Watch("socket"))
    assert (seen.name, seen.messages, seen.max_ms) == (QUIET, 5, 3.0)


@pytest.mark.parametrize(
    ("options", "pace"),
    [
        ([], "8 connections, 60 bytes, 2,000 messages/s; "),
        (["--rate", "50"], "8 connections, 60 bytes, 50 messages/s; "),
        (["--connect"], "8 connections, 60 bytes, a connection for each message; "),
    ],
)
def test_the_pace_is_that_of_the_load(options: list[str], pace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(backend: str, load: Load, *_: Any) -> Reloads:
        return Reloads({"processor": "x"}, "loopback", backend, 2.0, load, Seen(), {"answers": {}, "incidents": []}, ())

    monkeypatch.setattr(reload, "run", run)
    asked = bench._parser().parse_args(["reload", "--connections", "8", *options])
    assert asked.run(asked).to_text().startswith(f"kernel, {pace}")


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
