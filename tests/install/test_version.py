"""The version of the package is that which runs, whatever is installed meanwhile."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

from usnet_framework.installed import version


def test_it_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = version()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    assert version() == runs


def test_it_is_read_in_one_place() -> None:
    asks = re.compile(r"importlib\.metadata|importlib import metadata")
    sources = (ROOT / "usnet_framework").rglob("*.py")
    assert [path.name for path in sources if asks.search(path.read_text())] == ["installed.py"]
