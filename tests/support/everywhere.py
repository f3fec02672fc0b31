"""Backends that a test of a whole server may run on: of the fixture `serve`, and as marks of tests that want others.

    pytestmark = EVERYWHERE         # on each of them every day; without it, AF_XDP has its turn in `make soak`

netmap has its turn there in any case.
"""

from __future__ import annotations

import pytest
from support.privilege import needs_tap, needs_xdp

TAP = pytest.param("tap", marks=needs_tap)
AFXDP = pytest.param("afxdp", marks=needs_xdp)
AFXDP_SLOWLY = pytest.param("afxdp", marks=[needs_xdp, pytest.mark.slow])
NETMAP_SLOWLY = pytest.param("netmap", marks=[needs_tap, pytest.mark.slow])

BACKENDS = ["kernel", TAP, AFXDP_SLOWLY, NETMAP_SLOWLY]
EVERYWHERE = pytest.mark.parametrize("backend", ["kernel", TAP, AFXDP, NETMAP_SLOWLY], indirect=True, scope="module")
