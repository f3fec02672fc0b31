"""The project's own files: what the tests of the house rules read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("native", "usnet_framework", "examples", "tests", "tools")


@cache
def files(*suffixes: str) -> tuple[str, ...]:
    """Paths relative to the root, by suffix."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts))


@cache
def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def module_name(path: str) -> str:
    """usnet_framework/shards/segment.py as shards.segment; the package itself is ""."""
    return ".".join(Path(path).with_suffix("").parts[1:]).removesuffix("__init__").removesuffix(".")


def imported_modules(path: str) -> Iterator[tuple[int, str]]:
    """(line, module) of what a file of the package imports from the package; modules named as by module_name."""
    modules = {module_name(file) for file in files(".py", ".pyi") if file.startswith("usnet_framework/")}
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "usnet_framework":
                inner = name.partition(".")[2]
                yield node.lineno, inner if inner in modules else inner.rpartition(".")[0]


def functions(path: str) -> Iterator[tuple[str, int]]:
    """(name, lines of its body) of every function of a file; a docstring does not count."""
    return _python_functions(path) if path.endswith(".py") else _c_functions(path)


def _c_functions(path: str) -> Iterator[tuple[str, int]]:
    """A brace in the first column opens and closes one."""
    lines = text(path).splitlines()
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            head = " ".join(lines[max(0, start - 4) : start])
            yield (re.findall(r"(\w+)\s*\(", head) or ["?"])[-1], number - start + 1
            start = 0


def _python_functions(path: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, last = node.body[0], node.body[-1]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            code = node.body[1] if has_docstring and len(node.body) > 1 else first
            yield node.name, (last.end_lineno or 0) - code.lineno + 1
