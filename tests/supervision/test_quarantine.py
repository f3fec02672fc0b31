"""What is kept of a poisoned event."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from usnet_framework.config import Config
from usnet_framework.shards import quarantine
from usnet_framework.shards.doctor import quarantine_finding
from usnet_framework.shards.segment import QuarantineRecord

RECORD = QuarantineRecord(conn=0x1_0000_0007, event_type=2, peer=("192.0.2.7", 4711), data=b"\0poison\n")
NOW = datetime(2026, 3, 1, 12, 0, 0, 123, UTC)


def test_bytes_and_facts_are_kept_for_the_owner_alone(tmp_path: Path) -> None:
    path = quarantine.keep(tmp_path / "quarantine", "0.1", RECORD, NOW)
    assert path.name == "20260301T120000.000123Z-0000000100000007.bin"
    assert path.read_bytes() == RECORD.data
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "time": "2026-03-01T12:00:00.000123+00:00",
        "worker": "0.1",
        "conn": 0x1_0000_0007,
        "peer": ["192.0.2.7", 4711],
        "event": "data",
        "bytes": 8,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_umask_does_not_matter(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        path = quarantine.keep(tmp_path / "quarantine", "0.1", RECORD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_trouble_is_told_before_there_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert quarantine.trouble(tmp_path) is None
    assert quarantine.trouble(tmp_path / "a" / "b") is None
    assert not (tmp_path / "a").exists()
    assert quarantine.trouble(tmp_path / "file") == f"{tmp_path}/file is no folder"
    assert quarantine.trouble(tmp_path / "file" / "b") == "not a directory"
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    assert quarantine.trouble(tmp_path / "a") == f"no permission to write in {tmp_path}"


def test_doctor_says_when_the_default_folder_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quarantine").write_text("")
    finding = quarantine_finding(Config(app="a:A"))
    assert (finding.ok, finding.in_force, finding.reason) == (False, "none", f"{tmp_path}/quarantine is no folder")


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "EVENTS_MAX", 1)
    quarantine.keep(tmp_path, "0.1", RECORD)
    with pytest.raises(quarantine.QuarantineFull, match="holds 1 events"):
        quarantine.keep(tmp_path, "0.1", RECORD)
    assert len(list(tmp_path.iterdir())) == 2


@contextmanager
def room_in_a_file(size: int) -> Iterator[None]:
    """Of so many bytes, as on a disk that is full behind them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bytes_that_find_no_room_leave_no_file(tmp_path: Path) -> None:
    with room_in_a_file(len(RECORD.data) - 1), pytest.raises(OSError, match="too large"):
        quarantine.keep(tmp_path, "0.1", RECORD)
    assert not list(tmp_path.iterdir())


def test_bytes_are_kept_when_the_facts_find_no_room(tmp_path: Path) -> None:
    with room_in_a_file(len(RECORD.data)):
        path = quarantine.keep(tmp_path, "0.1", RECORD)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == RECORD.data


@pytest.mark.parametrize("left", [".json", ".bin"])
def test_half_an_event_counts(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "EVENTS_MAX", 1)
    quarantine.keep(tmp_path, "0.1", RECORD).with_suffix(left).unlink()
    with pytest.raises(quarantine.QuarantineFull, match="holds 1 events"):
        quarantine.keep(tmp_path, "0.1", RECORD)
