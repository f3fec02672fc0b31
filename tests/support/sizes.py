"""How much some tests do, most of them against the kernel: seconds every day, the whole in `make soak`, which sets

    USNET_BULK_MIB        bytes that each transfer with losses carries (8); a slow reader gets 32 times that, or 1 GiB
    USNET_CHURN_SECONDS   how long there are 1,000 short connections per second (1)

Tests that heed one of them are marked with `sized`, and have as much more time.
"""

from __future__ import annotations

import os

import pytest

MEBIBYTE = 1 << 20
BULK_BYTES = int(os.environ.get("USNET_BULK_MIB", "8")) * MEBIBYTE
CHURN_SECONDS = float(os.environ.get("USNET_CHURN_SECONDS", "1"))

_SECONDS = 120 + 4 * BULK_BYTES / MEBIBYTE + 4 * CHURN_SECONDS


def sized(test: object) -> object:
    return pytest.mark.sized(pytest.mark.timeout(_SECONDS)(test))
