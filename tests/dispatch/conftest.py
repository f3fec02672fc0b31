"""A fake engine per test, and a handler with a port to it. At the end every receive frame was given back, unless the
test says that it keeps some."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from support.fake_engine import FakeEngine
from support.recorder import Recorder

from usnet_framework._dispatch import Port


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine
        gc.collect()


@pytest.fixture
def handler() -> Recorder:
    return Recorder()


@pytest.fixture
def port(engine: FakeEngine, handler: Recorder) -> Iterator[Port]:
    port = engine.port(handler)
    yield port
    port.close()
