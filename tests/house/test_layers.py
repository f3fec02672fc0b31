"""Includes and imports go down only. The layers of C and of Python stand here, from the bottom up.

Between files of one layer nothing goes in a circle either, in C by what a file calls (tests/support/calls.py). What the
engine calls through its transport's table of functions does not count: that table is what keeps the two apart.
"""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from os.path import normpath

from support.calls import circles, needs
from support.tree import files, imported_modules, module_name, text

# What a folder under native/ may include, besides itself.
CORE = {"src/base", "src/wire", "src/device", "src/tcp", "src/stack", "src/shard", "src/engine"}
INCLUDES = {
    "src/base": set(),
    "src/wire": {"src/base"},
    "src/device": {"src/base"},
    "src/tcp": {"src/base", "src/wire"},
    "src/stack": {"src/base", "src/wire", "src/device", "src/tcp"},
    "src/shard": {"src/base"},
    "src/engine": CORE,
    "include": set(),
    "bpf": {"include", "src/base"},
    "src/api": CORE | {"include"},
    "dispatch": {"src/base", "src/shard", "src/engine"},  # engine.h, for the inline layout
    "bench": {"src/base"},
    "bench/tests": {"bench", "src/base"},
    "bench/stack": {"src/base", "src/wire", "src/device", "src/stack", "src/engine", "include", "bpf"},
    "tests": CORE | {"include", "fuzz"},
    "fuzz": CORE | {"include", "src/api", "tests", "tests/wire", "tests/stack"},
    "tests/sockets": CORE | {"include", "src/api", "tests", "tests/device"},
    "examples/c": {"include"},
    **{
        f"tests/{part}": CORE | {"tests"}
        for part in ("engine", "structures", "wire", "tcp", "recovery", "stack", "device")
    },
}

# Layers of the package, from the bottom up; a folder stands for all that is in it. A module imports from its own layer
# and from those before it, and never in a circle.
LAYERS = (
    {"addresses", "bytecode", "errors", "inherited", "installed", "values", "logs", "logwriter", "tracebacks",
     "_usnet", "_bpf"},
    {"config", "_native", "_native_stack", "_native_tap", "_native_xdp", "_native_bpf", "_native_device",
     "_native_kernel", "_native_netmap", "_native_capture", "_dispatch", "handler", "connection",
     "protocols"},
    {"app", "collector", "metrics", "shards"},
    {"serving"},
    {"", "bench", "testing"},  # "": the package itself, which is what users import
    {"cli"},
)

# C files that need each other, with the reason. A file that is in no circle any more is taken off its list.
CIRCLES = (
    # The life of one TCP connection: a single state machine over one struct, spread over files for size.
    ("src/tcp", "congestion cubic flight handshake hystart output path probe receive recovery reno sack segment state"
                " timers undo window"),
    # Delivery calls a handler, which sends, which commits, which delivers: one state machine, a worker's batch.
    ("dispatch", "commit connection crowd deliver handler inbox output overflow table tasks"),
)  # fmt: skip

GENERATED = {"state_layout.h", "usnet_xdp_object.h"}  # by the build

C_FILES = files(".c", ".h")
PYTHON_FILES = tuple(path for path in files(".py") if path.startswith("usnet_framework/"))


def folder_of(path: str) -> str:
    return path.removeprefix("native/").rpartition("/")[0]


def folder_included(path: str, name: str) -> str | None:
    """The folder under native/ of an include, None when it is the system's."""
    own = f"native/{folder_of(path)}/"
    roots = (own, own.removesuffix("tests/"), f"{own}../", "native/src/", "native/include/", "native/")
    for root in roots:
        included = normpath(root + name)
        if included in C_FILES:
            return folder_of(included)
    return None


def test_includes_go_down() -> None:
    for path in C_FILES:
        folder = folder_of(path)
        for name in set(re.findall(r'^\s*#\s*include\s*"([^"]+)"', text(path), flags=re.M)) - GENERATED:
            included = folder_included(path, name)
            assert included, f"{path} includes {name}, which is no file of ours: use <> for the system's"
            assert included in INCLUDES[folder] | {folder}, f"{path} includes {name}, which is not below it"


def test_c_files_make_no_circle_but_the_listed_ones() -> None:
    listed = [{f"native/{folder}/{name}.c" for name in names.split()} for folder, names in CIRCLES]
    found = list(circles(needs("native/src/", "native/dispatch/")))
    new = [sorted(circle) for circle in found if not any(circle <= known for known in listed)]
    assert not new, "these files need each other: move what they share into one below both"
    assert set().union(*found) == set().union(*listed), "a file is in no circle any more: take it off the list"


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d"]]


def test_calls_are_seen_through_inline_functions() -> None:
    assert "native/src/engine/clock.c" in needs("native/src/engine/")["native/src/engine/conns.c"]


def test_only_the_dispatcher_knows_python() -> None:
    users = {folder_of(path) for path in C_FILES if "<Python.h>" in text(path)}
    assert users <= {"dispatch"}


def layer_of(module: str) -> int:
    for number, layer in enumerate(LAYERS):
        if module.partition(".")[0] in layer:
            return number
    raise AssertionError(f"{module}: give it a place in LAYERS of {__file__}")


def test_imports_go_down() -> None:
    for path in PYTHON_FILES:
        for line, imported in imported_modules(path):
            below = layer_of(imported) <= layer_of(module_name(path))
            assert below or imported == "", f"{path}:{line} imports {imported}, which is above it"


def test_imports_make_no_circle() -> None:
    graph = {module_name(path): {name for _, name in imported_modules(path)} - {""} for path in PYTHON_FILES}
    del graph[""]
    list(TopologicalSorter(graph).static_order())
