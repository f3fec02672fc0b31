"""A device that somebody else wrote passes the suite: examples/c/device.c."""

from __future__ import annotations

import ctypes

import pytest
from support.own_device import SOURCE, bench, compiled

from usnet_framework.testing.conformance import Bench, DeviceConformance


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled(SOURCE, tmp_path_factory.mktemp("own"))


class TestOwn(DeviceConformance):
    @pytest.fixture(autouse=True)
    def _library(self, library: ctypes.CDLL) -> None:
        self.library = library

    def open(self) -> Bench:
        return bench(self.library)
