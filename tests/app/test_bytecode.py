"""Bytecode is used when it is of the source as it is now, and else not."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usnet_framework import bytecode

Load = Callable[[], str]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports the module `stale` in tmp_path as a fresh process would; its `word`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path, hooks = list(sys.path), list(sys.path_hooks)
    sys.path.insert(0, str(tmp_path))
    bytecode.load_below(str(tmp_path))

    def load_module() -> str:
        sys.modules.pop("stale", None)
        sys.path_importer_cache.pop(str(tmp_path), None)
        return str(importlib.import_module("stale").word)

    yield load_module
    sys.modules.pop("stale", None)
    sys.path[:], sys.path_hooks[:] = path, hooks


def write(folder: Path, word: str, age_s: float = 0.0) -> Path:
    """A module that was last changed so long ago, as far as its own time says."""
    file = folder / "stale.py"
    file.write_text(f"word = {word!r}\n")
    os.utime(file, (time.time() - age_s,) * 2)
    return file


def test_two_edits_of_equal_size_within_a_second(tmp_path: Path, load: Load) -> None:
    write(tmp_path, "one")
    assert load() == "one"
    write(tmp_path, "two")
    assert load() == "two"


def test_a_file_that_comes_with_an_old_time(tmp_path: Path, load: Load) -> None:
    """rsync -t, cp -p: time and size are those of the file before."""
    before = write(tmp_path, "one", age_s=3600).stat().st_mtime_ns
    py_compile.compile(str(tmp_path / "stale.py"))
    write(tmp_path, "two")
    os.utime(tmp_path / "stale.py", ns=(before, before))
    assert load() == "two"


def compiled(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").glob("*.pyc"))


def test_bytecode_that_was_written_later_is_used(tmp_path: Path, load: Load) -> None:
    file = write(tmp_path, "one", age_s=3600)
    time.sleep(0.02)  # more than the clock of files takes for a step
    py_compile.compile(str(file))
    (pyc,) = compiled(tmp_path)
    pyc.write_bytes(pyc.read_bytes().replace(b"one", b"pyc"))
    assert load() == "pyc"


def test_bytecode_is_written_for_a_source_that_has_settled(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "one")
    assert load() == "one"
    assert compiled(tmp_path) == []
    monkeypatch.setattr(bytecode, "SETTLED_S", 0.0)
    time.sleep(0.02)
    assert load() == "one"
    assert len(compiled(tmp_path)) == 1


def test_libraries_within_the_folder_are_loaded_as_everywhere(tmp_path: Path, load: Load) -> None:
    library = tmp_path / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    write(library, "one")
    sys.path.insert(0, str(library))
    assert load() == "one"
    assert len(compiled(library)) == 1
