"""Where the socket suite runs: one server per backend and layout, with a handler that can be told what to do.

The tests only use a client socket, so they are the same for every transport.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.backends import Backend
from support.server import Server


@pytest.fixture(scope="module", params=["split", "inline"])
def server(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Server]:
    options = ["--app-dir", "tests", "--layout", request.param, "--queues", "1"]
    with Server("support.obedient:Obedient", *options, backend=backend) as server:
        yield server
