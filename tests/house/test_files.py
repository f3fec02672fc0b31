"""Every file says what it is, is of a size that can be read, belongs to the build, and leaves nothing to be done."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from support.tree import ROOT, c_functions, files, python_functions, text

FILE_LINES = 600
FUNCTION_LINES = 70

# What is longer than that, with its length. It may only shrink: when it does, lower the number here.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[tuple[str, str], int] = {}

C_FILES = files(".c", ".h")
PYTHON_FILES = files(".py")
SOURCES = C_FILES + PYTHON_FILES


@pytest.mark.parametrize("path", C_FILES)
def test_a_c_file_opens_with_its_contract(path: str) -> None:
    own_header = rf"/\* See {Path(path).stem}\.h\. \*/"
    assert re.match(rf"/\* \w.{{20,}}|{own_header}", text(path)), f"{path}: open with a comment that says what it is"


@pytest.mark.parametrize("path", [path for path in PYTHON_FILES if text(path).strip()])
def test_a_python_file_opens_with_its_contract(path: str) -> None:
    docstring = ast.get_docstring(ast.parse(text(path)))
    assert docstring, f"{path}: open with a docstring that says what it is"
    assert len(docstring.splitlines()[0]) > 20


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_can_be_read_in_one_sitting(path: str) -> None:
    lines = len(text(path).splitlines())
    limit = LONG_FILES.get(path, FILE_LINES)
    assert lines <= limit, f"{path} has {lines} lines, more than {limit}"
    assert path not in LONG_FILES or lines == limit, f"{path} shrank to {lines} lines: say so in LONG_FILES"


@pytest.mark.parametrize("path", SOURCES)
def test_a_function_fits_on_a_screen(path: str) -> None:
    functions = python_functions(path) if path.endswith(".py") else c_functions(path)
    for name, line, length in functions:
        limit = LONG_FUNCTIONS.get((path, name), FUNCTION_LINES)
        assert length <= limit, f"{path}:{line}: {name} has {length} lines, more than {limit}"


def test_the_recorded_exceptions_are_needed() -> None:
    assert all(length > FILE_LINES for length in LONG_FILES.values())
    assert set(LONG_FILES) <= set(SOURCES)
    for (path, name), recorded in LONG_FUNCTIONS.items():
        functions = python_functions(path) if path.endswith(".py") else c_functions(path)
        longest = max(length for found, _, length in functions if found == name)
        assert FUNCTION_LINES < longest == recorded, f"{path}: {name} has {longest} lines: say so in LONG_FUNCTIONS"


@pytest.mark.parametrize("path", SOURCES)
def test_nothing_is_left_to_be_done(path: str) -> None:
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
    assert not re.search(rf"\b({marks})\b", text(path))


def test_every_c_file_is_built() -> None:
    builds = "\n".join((ROOT / path).read_text() for path in ("meson.build", *files_named("meson.build")))
    for path in files(".c"):
        assert path.rpartition("/")[2] in builds, f"{path} is in no meson.build"


def test_every_header_is_included() -> None:
    includes = {
        name.rpartition("/")[2] for path in C_FILES for name in re.findall(r'#\s*include\s*[<"]([^">]+)', text(path))
    }
    for path in files(".h"):
        name = path.rpartition("/")[2]
        assert name in includes or name == "usnet.h", f"nobody includes {path}"


def test_the_version_is_the_same_everywhere() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def files_named(name: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in (ROOT / "native").rglob(name)]
