"""The declarations that cffi reads are those of the header: what is bound, what is declared and what is used agree."""

import re
from pathlib import Path

from usnet_framework._usnet import ffi, lib

ROOT = Path(__file__).parents[2]
HEADER = (ROOT / "native/include/usnet.h").read_text(encoding="utf-8")
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
FUNCTIONS = set(re.findall(r"\b(usnet_\w+)\(", CODE))
STRUCTS = set(re.findall(r"^struct (usnet_\w+) \{", CODE, flags=re.M))


def test_every_function_of_the_header_is_bound() -> None:
    bound = {name for name in dir(lib) if name.startswith("usnet_")}
    assert len(FUNCTIONS) > 10
    assert bound == FUNCTIONS


def test_every_struct_of_the_header_is_bound_with_its_fields() -> None:
    for name in STRUCTS:
        body = re.search(rf"struct {name} \{{(.*?)\n\}};", CODE, flags=re.S)
        assert body is not None
        declared = re.findall(r"(\w+)(?:\[\d+\])?;", body[1])
        assert [field for field, _ in ffi.typeof(f"struct {name}").fields] == declared


def test_the_wrapper_uses_every_function() -> None:
    used = set(re.findall(r"lib\.(usnet_\w+)", (ROOT / "usnet_framework/_native.py").read_text(encoding="utf-8")))
    assert used == FUNCTIONS - {"usnet_segment_check"}  # which is for C callers; opening checks as well


def test_only_the_wrapper_imports_the_module() -> None:
    importing = re.compile(r"^\s*(?:from|import) .*\b_usnet\b", flags=re.M)
    users = [path for path in (ROOT / "usnet_framework").rglob("*.py") if importing.search(path.read_text("utf-8"))]
    assert [path.name for path in users] == ["_native.py"]
