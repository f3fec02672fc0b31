"""Where the socket suite runs: one server per backend and layout, with a handler that can be told what to do.

The tests only use a client socket, so they are the same for every transport: over the kernel's sockets and over TAP,
AF_XDP and netmap it is the kernel's, and over a wire in memory one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.backends import Afxdp, backend_named, network_namespace
from support.inmemory import MemoryServer
from support.obedient import Obedient
from support.privilege import needs_tap, needs_xdp
from support.server import Server

MARKS = {"kernel": [], "tap": [needs_tap], "afxdp": [needs_xdp], "netmap": [needs_tap]}
PLACES = [
    pytest.param((name, layout), id=f"{name}-{layout}", marks=marks)
    for name, marks in MARKS.items()
    for layout in ("split", "inline")
]


@pytest.fixture(scope="module", params=[*PLACES, pytest.param(("memory", "inline"), id="memory-inline")])
def server(request: pytest.FixtureRequest) -> Iterator[Server | MemoryServer]:
    name, layout = request.param
    if name == "memory":
        with MemoryServer(Obedient) as server:
            yield server
        return
    options = ["--app-dir", "tests", "--layout", layout, "--queues", "1"]
    with backend_named(name) as backend, Server("support.obedient:Obedient", *options, backend=backend) as server:
        yield server


@pytest.fixture
def interface() -> Iterator[Afxdp]:
    """For a server on AF_XDP, in a network namespace of the test's own."""
    with network_namespace():
        yield Afxdp()
