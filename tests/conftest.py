"""Rules for the whole suite: where CI=true, a test that was skipped for lack of a privilege has failed."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from support.privilege import PREFIX


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
