"""A fake engine per test; at its end every receive frame was given back, unless the test says that it keeps some."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from support.fake_engine import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine
        gc.collect()
