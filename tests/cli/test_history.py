"""What `usnet-ctl stack` remembers: of all who look at once, and nothing half."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from usnet_framework.cli import history


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(history, "default_control_path", lambda: str(tmp_path / "own/control.sock"))
    return tmp_path / "own"


def test_those_who_look_at_once_do_not_forget_for_each_other() -> None:
    def look(server: int) -> list[Any]:
        return [history.exchange(f"/{server}", number)[0] for number in range(25)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(look, range(4)))
    assert found == [[None, *range(24)]] * 4


def test_a_write_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(history.json, "dump", refuse)
    assert history.exchange("/0", 1) == (None, f"{folder}: No space left on device")
    assert not list(folder.iterdir())


def test_one_that_is_stopped_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    history.exchange("/0", 1)
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setattr(history, "PATIENCE_S", 0.0)
    last, why = history.exchange("/0", 2)
    assert last is None
    assert why == f"{folder}: another usnet-ctl has had it locked for 0 s (lslocks)"
    monkeypatch.setattr(history, "PATIENCE_S", 60.0)
    monkeypatch.setattr(history.time, "sleep", lambda _: os.close(other))  # it goes on
    assert history.exchange("/0", 3) == (1, "")
    assert history.exchange("/0", 4) == (3, "")
