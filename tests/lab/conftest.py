"""The emulated machine, one for all tests of this folder: `make vm-test`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.backends import network_namespace
from support.machine import Machine, machine


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """With the host's ends of its cables in the network namespace of this thread."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with network_namespace(), machine() as one:
        with capture.global_and_fixture_disabled():
            print(f"(emulated by {one.accelerator})", end=" ", flush=True)
        yield one
