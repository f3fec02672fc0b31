"""The version of the package is that which runs, whatever is installed meanwhile."""

from __future__ import annotations

import re

from support.tree import ROOT


def test_it_is_read_in_one_place() -> None:
    """When that is imported; see usnet_framework/installed.py."""
    asks = re.compile(r"importlib\.metadata|importlib import metadata")
    sources = (ROOT / "usnet_framework").rglob("*.py")
    assert [path.name for path in sources if asks.search(path.read_text())] == ["installed.py"]
