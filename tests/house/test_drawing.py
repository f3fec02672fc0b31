"""The drawing of a shard's memory in ARCHITECTURE.md is the one that the layout makes."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location

from support.tree import ROOT


def test_the_drawing_is_current() -> None:
    spec = spec_from_file_location("architecture", ROOT / "tools/architecture.py")
    assert spec is not None
    assert spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.drawing() in (ROOT / "ARCHITECTURE.md").read_text(), "run: make docs"
