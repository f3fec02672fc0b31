"""What the supervisor makes of what should not happen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from usnet_framework.config import Config
from usnet_framework.shards.reload import ReloadRefused
from usnet_framework.shards.supervisor import Supervisor


class Fails:
    """In the place of Releases."""

    async def reload(self) -> int:
        raise KeyError("seat")


def test_a_mistake_of_ours_in_a_reload_refuses_it(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(Config(app="app:App"))
    releases: Any = Fails()
    supervisor._releases = releases
    refusal = asyncio.run(supervisor._change("reload"))
    assert isinstance(refusal, ReloadRefused)
    assert str(refusal) == "internal error: KeyError: 'seat'"
    assert "unexpected: the reload failed" in caplog.text
