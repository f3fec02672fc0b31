"""`usnet-ctl doctor`, and what killed servers have left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from usnet_framework.cli import ctl
from usnet_framework.errors import ControlError
from usnet_framework.shards import control, undo
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.findings import Finding


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Journals lie with the test."""

    def refuse(path: str, command: str, **arguments: Any) -> Any:
        raise ControlError(f"{path}: no server")

    monkeypatch.setattr(control, "request", refuse)
    monkeypatch.setattr(undo, "default_folder", lambda: tmp_path / "undo")


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert ctl.main(argv) == 0
    return capsys.readouterr().out


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that a killed server has changed."""
    changed = tmp_path / "setting"
    changed.write_text("before\n")
    with Ethtool("lo") as card:
        journal = undo.Journal(card)
        journal.change("file", str(changed), "after")
        journal._file.close()  # as when its process is killed
    return changed


def test_doctor_shows_what_killed_servers_have_left_without_a_server(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output(capsys, "doctor").splitlines() == [
        "LESS  left over on lo: asked nothing, in force 1 setting of a server that was killed",
        f"      reason: {left} was before",
        "      fix: usnet-ctl doctor --fix, or start a server on it again",
    ]
    assert left.read_text() == "after\n"


@pytest.mark.parametrize("serves", [True, False])
def test_doctor_shows_what_is_left_in_other_network_namespaces(
    serves: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    less = Finding("left over on eth1", "nothing", "1 setting", ok=False)
    monkeypatch.setattr(undo, "leftovers_elsewhere", lambda: [less])
    if serves:
        monkeypatch.setattr(control, "request", lambda *args, **named: [Finding("shards", "auto", "1").as_dict()])
    told = ["ok    shards: asked auto, in force 1"] if serves else []
    assert output(capsys, "doctor").splitlines() == [*told, f"LESS  {less.what}: asked nothing, in force 1 setting"]


def test_doctor_fix_puts_it_back(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "doctor", "--fix") == f"{left}: after -> before\n"
    assert left.read_text() == "before\n"
    assert output(capsys, "doctor", "--fix") == "nothing is left over\n"
    assert ctl.main(["doctor"]) == 3


def test_doctor_fix_says_what_it_could_not_put_back(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left.unlink()
    left.mkdir()
    assert ctl.main(["doctor", "--fix"]) == 3
    assert "cannot be put back: Is a directory; run it as root" in capsys.readouterr().err


def test_fix_is_of_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["status", "--fix"]) == 2
    assert capsys.readouterr().err == "usnet-ctl: --fix: is no option of status; it is of doctor\n"
