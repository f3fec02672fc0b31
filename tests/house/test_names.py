"""One name for one thing: in the C core no name means two things, and what a comment says of a file is so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.tree import ROOT, files, text

COLUMNS = 120

C_FILES = files(".c", ".h")
CORE = tuple(path for path in C_FILES if path.startswith(("native/src/", "native/include/", "native/dispatch/")))
HEADERS = tuple(path for path in CORE if path.endswith(".h"))

# Defined where the macro is used, and undefined behind it.
LOCAL_MACROS = {"UN_FIELD"}
# What the names of libraries look like, or of files that a comment makes up.
NO_FILES_OF_OURS = {"b.c", "config.h"}

COMMENT = re.compile(r"/\*.*?\*/", flags=re.S)
HEADING = re.compile(r"/\* (?:-+ )?((?:\w+\.c(?:, | and )?)+)")
DECLARATION = re.compile(r"^(?!static|typedef|struct \w+ \{|#|extern|enum \w+ \{)[a-z_][\w \*]*?\b(un_\w+|usnet_\w+)\(")
DEFINITION = re.compile(r"^(?!static)[a-zA-Z_][\w \*]*?\b(\w+)\([^;{]*\)\n\{", flags=re.M)


def test_lines_fit_on_a_screen() -> None:
    long = [(path, number) for path in C_FILES for number, line in enumerate(text(path).splitlines(), 1)
            if len(line) > COLUMNS]  # fmt: skip
    assert not long


def defined_in(paths: tuple[str, ...], pattern: str) -> dict[str, set[str]]:
    places = defaultdict(set)
    for path in paths:
        for name in re.findall(pattern, text(path), flags=re.M):
            places[name].add(path)
    return places


def test_a_struct_or_enum_is_defined_once() -> None:
    places = defined_in(CORE, r"^(?:struct|enum|union) (\w+) \{")
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_a_macro_is_defined_once() -> None:
    places = defined_in(CORE, r"^\s*#\s*define (\w+)")
    assert not {name: paths for name, paths in places.items() if len(paths) > 1 and name not in LOCAL_MACROS}


def test_a_header_has_a_name_of_its_own() -> None:
    folders = defaultdict(list)
    for path in HEADERS:
        folders[Path(path).name].append(path)
    assert not {name: paths for name, paths in folders.items() if len(paths) > 1}


def test_files_named_in_comments_exist() -> None:
    paths = files(".c", ".h", ".py", ".txt", ".md")
    names = {Path(path).name for path in paths}
    for path in C_FILES:
        for comment in COMMENT.findall(text(path)):
            for named in re.findall(r"[\w/]+\.[ch]\b", comment):
                known = any(f"/{other}".endswith(f"/{named}") for other in paths) if "/" in named else named in names
                assert known or named in NO_FILES_OF_OURS, f"{path} names {named}, which is not there"


def declarations(header: str) -> Iterator[tuple[list[str], str]]:
    """(files that the heading above names, function) of each declaration under such a heading."""
    heading: list[str] = []
    for line in text(header).splitlines():
        if line.startswith("/* "):
            named = HEADING.match(line)
            if named:
                heading = re.findall(r"\w+\.c", named[1])
            elif line.startswith("/* -"):
                heading = []
        declared = DECLARATION.match(line)
        if heading and declared:
            yield heading, declared[1]


def test_a_function_stands_under_the_heading_of_its_file() -> None:
    defined = defaultdict(set)
    for path in CORE:
        if path.endswith(".c"):
            for name in DEFINITION.findall(text(path)):
                defined[name].add(Path(path).name)
    found = [(header, heading, name) for header in HEADERS for heading, name in declarations(header)]
    assert len(found) > 100
    assert not [(header, name) for header, heading, name in found if not defined[name] & set(heading)]


def test_what_comments_say_is_looked_at() -> None:
    """The patterns find what they are for."""
    assert HEADING.match("/* ---- handshake.c, ack.c: the beginning ---- */")
    assert HEADING.match("/* conns.c: life of a connection. */")
    assert DECLARATION.match("struct un_tcb *un_conn_begin(struct un_stack *stack);")
    assert DEFINITION.findall("int f(int a,\n      int b)\n{\n") == ["f"]
    assert (ROOT / "native/src/base/list.h").exists()
