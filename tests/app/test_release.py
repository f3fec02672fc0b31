"""Which folders a generation is made of: links are followed when it is made, and not again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from usnet_framework.errors import StartupError
from usnet_framework.shards.release import ReleaseFinder


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The link current -> releases/1, beside releases/2; the current folder is current, by that name."""
    for number in "12":
        (tmp_path / "releases" / number / "src").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("releases/1")
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "releases" / "1"), str(tmp_path / "library")])
    return link


def switch(link: Path) -> None:
    link.unlink()
    link.symlink_to("releases/2")


def second(link: Path) -> str:
    return str(link.parent / "releases" / "2")


@pytest.mark.parametrize("app_dir", [".", "src", None])
def test_the_folder_is_resolved_for_each_generation(current: Path, app_dir: str | None) -> None:
    given = app_dir if app_dir is not None else f"{current}/src"
    below = "" if app_dir == "." else "/src"
    finder = ReleaseFinder(os.environ)
    first = finder.find("app:App", given)
    assert first.app_dir == f"{current.parent}/releases/1{below}"
    switch(current)
    assert finder.find("app:App", given).app_dir == f"{second(current)}{below}"
    assert first.app_dir == f"{current.parent}/releases/1{below}"


def test_a_file_moves_along(current: Path) -> None:
    """Also one that was named by its resolved path, as Python names scripts."""
    finder = ReleaseFinder(os.environ)
    for file in ("./app.py", f"{current}/app.py", f"{current.resolve()}/app.py"):
        assert finder.find(f"{file}:App", ".").app == f"{current.parent}/releases/1/app.py:App"
    resolved = str(current.resolve())
    switch(current)
    assert finder.find(f"{resolved}/app.py:App", ".").app == f"{second(current)}/app.py:App"


def test_processes_run_in_the_release_and_import_from_it(current: Path) -> None:
    finder = ReleaseFinder(os.environ)
    switch(current)
    release = finder.find("app:App", ".")
    assert release.folder == second(current)
    assert release.path == (second(current), str(current.parent / "library"))


def test_a_name_of_another_folder_is_not_believed(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", str(current.parent))
    assert ReleaseFinder(os.environ).find("app:App", ".").app_dir == f"{current.parent}/releases/1"


def test_a_current_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.delenv("PWD", raising=False)
    gone.rmdir()
    with pytest.raises(StartupError, match="the current folder was removed"):
        ReleaseFinder(os.environ)


def test_our_own_programs_folder_is_not_imported_from(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/opt/env/bin", "/opt/library"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/opt/env/bin/usnet-serve", raising=False)
    assert ReleaseFinder(os.environ).find("app:App", ".").path == ("/opt/library",)
