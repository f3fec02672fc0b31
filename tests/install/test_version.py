"""The version of the package is that which runs, whatever is installed meanwhile: usnet_framework/installed.py."""

from __future__ import annotations

import re

from support.tree import ROOT


def test_nobody_asks_what_is_installed() -> None:
    asks = re.compile(r"importlib\.metadata|importlib import metadata")
    sources = (ROOT / "usnet_framework").rglob("*.py")
    assert not [path.name for path in sources if asks.search(path.read_text())]
