"""The declarations that cffi reads are those of the headers: what is bound, what is declared and what is used agree."""

import re
from pathlib import Path

import pytest

from usnet_framework._usnet import ffi, lib

ROOT = Path(__file__).parents[2]

WRAPPERS = {
    "usnet.h": ("_native_stack.py", "_native_device.py"),
    "usnet_device.h": ("_native_device.py",),
    "usnet_segment.h": ("_native.py",),
    "usnet_tap.h": ("_native_tap.py", "_native_device.py"),
}
"""Each header and the modules over it."""

FOR_C_CALLERS = re.compile(
    r"usnet_segment_check$"  # opening checks as well
    r"|usnet_stack_of$"  # a context's stack
    r"|usnet_(?!stack_|tcp_|congestion_|segment_|counter_|engine_|seat_|reason_|connection_|quarantine_|die_|tap_"
    r"|device_|pool_)"
)
"""Functions that Python does not need; the last line: all of the socket level, which is named like the kernel's."""


def code(header: str) -> str:
    """A header without its comments."""
    return re.sub(r"/\*.*?\*/", "", (ROOT / "native/include" / header).read_text(encoding="utf-8"), flags=re.S)


def functions(header: str) -> set[str]:
    return set(re.findall(r"\b(usnet_\w+)\(", code(header)))


STRUCTS = {
    name: list(re.findall(r"(\w+)(?:\[\d+\]|\)\([^)]*\))?;", body))  # a number, an array, a pointer to a function
    for header in WRAPPERS
    for name, body in re.findall(r"^struct (usnet_\w+) \{(.*?)\n\};", code(header), flags=re.S | re.M)
}


def test_every_function_of_the_headers_is_bound() -> None:
    bound = {name for name in dir(lib) if name.startswith("usnet_")}
    assert len(bound) > 50
    assert bound == set().union(*map(functions, WRAPPERS))


@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_is_bound_with_its_fields(name: str) -> None:
    assert [field for field, _ in ffi.typeof(f"struct {name}").fields] == STRUCTS[name]


@pytest.mark.parametrize("header", WRAPPERS)
def test_the_wrappers_use_every_function(header: str) -> None:
    wrappers = "".join((ROOT / "usnet_framework" / name).read_text(encoding="utf-8") for name in WRAPPERS[header])
    needed = {name for name in functions(header) if not FOR_C_CALLERS.match(name)}
    assert set(re.findall(r"lib\.(usnet_\w+)", wrappers)) >= needed


def test_only_the_wrappers_import_the_module() -> None:
    importing = re.compile(r"^\s*(?:from|import) .*\b_usnet\b", flags=re.M)
    modules = (ROOT / "usnet_framework").rglob("*.py")
    importers = {path.name for path in modules if importing.search(path.read_text("utf-8"))}
    assert importers == set().union(*WRAPPERS.values())
