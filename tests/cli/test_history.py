"""What `usnet-ctl stack` remembers: of all who look at once, and nothing half."""

from __future__ import annotations

import errno
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
