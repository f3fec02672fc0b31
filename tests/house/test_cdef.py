"""The declarations that cffi reads are those of the headers: what is bound, what is declared and what is used agree."""

import re
from pathlib import Path
from typing import Any

import pytest

from usnet_framework import _bpf, _usnet

ROOT = Path(__file__).parents[2]

WRAPPERS = {
    "usnet.h": ("_native_stack.py", "_native_device.py"),
    "usnet_device.h": ("_native_device.py",),
    "usnet_netmap.h": ("_native_netmap.py", "_native_device.py"),
    "usnet_segment.h": ("_native.py",),
    "usnet_tap.h": ("_native_tap.py", "_native_device.py"),
    "usnet_xdp.h": ("_native_xdp.py", "_native_device.py"),
    "usnet_kernel.h": ("_native_kernel.py", "_native_stack.py"),
    "usnet_capture.h": ("_native_capture.py",),
    "usnet_bpf.h": ("_native_bpf.py",),
}
"""Each header and the modules over it."""

OF_BPF = {"usnet_bpf.h"}
"""Headers of a module of their own."""

FOR_C_CALLERS = re.compile(
    r"usnet_segment_check$"  # opening checks as well
    r"|usnet_stack_of$"  # a context's stack
    r"|usnet_(?!stack_|tcp_|congestion_|segment_|counter_|engine_|seat_|reason_|connection_|quarantine_|die_|tap_"
    r"|device_|netmap_|pool_|xdp_|bpf_|kernel_|capture_)"
)
"""Functions that Python does not need; the last line: all of the socket level, which is named like the kernel's."""


def code(header: str) -> str:
    """A header without its comments."""
    return re.sub(r"/\*.*?\*/", "", (ROOT / "native/include" / header).read_text(encoding="utf-8"), flags=re.S)


def functions(header: str) -> set[str]:
    return set(re.findall(r"\b(usnet_\w+)\(", code(header)))


STRUCTS = {
    # a number, an array, a pointer to a function
    (header, name): list(re.findall(r"(\w+)(?:\[\d+\]|\)\([^)]*\))?;", body))
    for header in WRAPPERS
    for name, body in re.findall(r"^struct (usnet_\w+) \{(.*?)\n\};", code(header), flags=re.S | re.M)
}


@pytest.mark.parametrize("module", [_usnet, _bpf])
def test_every_function_of_the_headers_is_bound(module: Any) -> None:
    headers = OF_BPF if module is _bpf else WRAPPERS.keys() - OF_BPF
    bound = {name for name in dir(module.lib) if name.startswith("usnet_")}
    assert len(bound) > (5 if module is _bpf else 50)
    assert bound == set().union(*map(functions, headers))


@pytest.mark.parametrize(("header", "name"), STRUCTS)
def test_every_struct_is_bound_with_its_fields(header: str, name: str) -> None:
    ffi = _bpf.ffi if header in OF_BPF else _usnet.ffi
    assert [field for field, _ in ffi.typeof(f"struct {name}").fields] == STRUCTS[header, name]


@pytest.mark.parametrize("header", WRAPPERS)
def test_the_wrappers_use_every_function(header: str) -> None:
    wrappers = "".join((ROOT / "usnet_framework" / name).read_text(encoding="utf-8") for name in WRAPPERS[header])
    needed = {name for name in functions(header) if not FOR_C_CALLERS.match(name)}
    assert set(re.findall(r"lib\.(usnet_\w+)", wrappers)) >= needed


def test_only_the_wrappers_import_the_modules() -> None:
    importing = re.compile(r"^\s*(?:from|import) .*\b(?:_usnet|_bpf)\b", flags=re.M)
    modules = (ROOT / "usnet_framework").rglob("*.py")
    importers = {path.name for path in modules if importing.search(path.read_text("utf-8"))}
    assert importers == set().union(*WRAPPERS.values())
