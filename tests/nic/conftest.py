"""A card for the tests of what is set on one."""

from __future__ import annotations

import pytest
from support.fake_card import FakeCard

from usnet_framework.shards import nic, undo


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """Whatever asks for a card gets this one."""
    card = FakeCard()
    for module in (nic, undo):
        monkeypatch.setattr(module, "Ethtool", lambda _: card)
    monkeypatch.setattr(FakeCard, "__enter__", lambda card: card, raising=False)
    monkeypatch.setattr(FakeCard, "__exit__", lambda *_: None, raising=False)
    return card
