"""A kernel that does not answer questions about interfaces, as while somebody has its lock of network settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from usnet_framework.shards import linklooks, rtnetlink


@contextmanager
def silent_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who asks within it gets the answer behind it. Looks are due at once from then on."""
    may_answer, link = threading.Event(), rtnetlink.link

    def hang(name: str) -> rtnetlink.Link:
        assert may_answer.wait(60)
        return link(name)

    monkeypatch.setattr(rtnetlink, "link", hang)
    monkeypatch.setattr(linklooks, "LOOK_AGAIN_S", 0.0)
    try:
        yield
    finally:
        may_answer.set()
