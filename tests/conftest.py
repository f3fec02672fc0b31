"""Rules for the whole suite: where CI=true, a test that was skipped for lack of a privilege has failed. Besides, the
backends that a test may run on."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings
from support.backends import Backend, backend_named
from support.everywhere import BACKENDS
from support.privilege import PREFIX
from support.server import Serve, Server

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell's background jobs begin; tests interrupt programs
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("busy", deadline=None)  # an example takes as long as the machine has others to serve
settings.load_profile("busy")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend in turn; with tap and afxdp, the test runs in a network namespace of its own."""
    with backend_named(request.param) as backend:
        yield backend


@pytest.fixture
def serve(backend: Backend) -> Serve:
    """A server on each backend in turn: `with serve("examples.echo:Echo", …) as server:`."""
    return functools.partial(Server, backend=backend)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if PREFIX in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason}: under CI this test has to run"
    return report
