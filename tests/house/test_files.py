"""Every file says what it is, is of a size that can be read, belongs to the build, and leaves nothing to be done."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from support.tree import ROOT, files, functions, text

FILE_LINES = 600
FUNCTION_LINES = 70

# What is longer than that, with its length. It may only shrink: when it does, lower the number here.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[tuple[str, str], int] = {}

C_FILES = files(".c", ".h")
SOURCES = C_FILES + files(".py")


def opens_with_its_contract(path: str) -> bool:
    """A comment or docstring that says what the file is; a C file may leave that to the header of its name."""
    if not path.endswith(".py"):
        return bool(re.match(rf"/\* \w.{{20,}}|/\* See {Path(path).stem}\.h\.", text(path)))
    docstring = ast.get_docstring(ast.parse(text(path))) or ""
    return len(docstring.partition("\n")[0]) > 20 or not text(path).strip()


def test_every_file_opens_with_its_contract() -> None:
    assert not [path for path in SOURCES if not opens_with_its_contract(path)]


def test_a_file_can_be_read_in_one_sitting() -> None:
    lengths = {path: len(text(path).splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > FILE_LINES} == LONG_FILES


def test_a_function_fits_on_a_screen() -> None:
    lengths = {(path, name): length for path in SOURCES for name, length in functions(path)}
    assert {where: length for where, length in lengths.items() if length > FUNCTION_LINES} == LONG_FUNCTIONS


def test_nothing_is_left_to_be_done() -> None:
    mark = re.compile(r"\b({})\b".format("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))))
    assert not [path for path in SOURCES if mark.search(text(path))]


def is_built(path: str) -> bool:
    """A build file above it names it; a list of tests may leave out "_test.c", one of fuzz targets "fuzz_"."""
    builds = "".join((folder / "meson.build").read_text() for folder in (ROOT / path).parents
                     if folder.is_relative_to(ROOT) and (folder / "meson.build").exists())  # fmt: skip
    stem = Path(path).stem.removesuffix("_test").removeprefix("fuzz_")
    return Path(path).name in builds or f"'{stem}'" in builds


def test_every_c_file_is_built() -> None:
    assert not [path for path in files(".c") if not is_built(path)]


def test_every_header_is_used() -> None:
    included = {Path(name).name for path in C_FILES for name in re.findall(r'#\s*include\s*[<"]([^">]+)', text(path))}
    read_by_cffi = {"usnet.h"}
    assert not [path for path in files(".h") if Path(path).name not in included | read_by_cffi]


def test_the_version_is_the_same_everywhere() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert f"version: '{version}'" in (ROOT / "meson.build").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert f'VERSION = "{version}"' in text("usnet_framework/installed.py")


@pytest.mark.parametrize("text", ["void f(void)\n{\n    g();\n}\n", "static int\nf(int a,\n  int b)\n{\n    g();\n}\n"])
def test_functions_of_c_are_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(text)
    assert list(functions(str(tmp_path / "x.c"))) == [("f", 3)]
