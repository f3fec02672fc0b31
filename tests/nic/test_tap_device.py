"""The TAP device as its supervisor has it; servers over it: tests/sockets."""

from __future__ import annotations

import pytest
from support.backends import Tap as Link
from support.backends import network_namespace
from support.link import ip
from support.privilege import needs_tap

from usnet_framework.shards import rtnetlink
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.listeners import parse_binds
from usnet_framework.shards.stackplan import plan_stack
from usnet_framework.shards.tap import Tap

pytestmark = needs_tap


def test_what_the_kernels_end_says_is_asked_for_by_looks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers under its lock of network settings, which somebody may have for long."""

    def ask(*_: object) -> None:
        raise AssertionError("the loop asks the kernel")

    def found() -> dict[str, str]:
        return {finding.what: finding.in_force for finding in device.findings()}

    with network_namespace():
        device = Tap(plan_stack(Link.interface, ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "tap"), 1)
        try:
            before = found()
            assert (before["link"], before["driver"].split()[0], before["MTU"]) == ("up", "tun", "1500")
            ip("link", "set", Link.interface, "down", "mtu", "1400")
            with monkeypatch.context() as patched:
                patched.setattr(rtnetlink, "link", ask)
                patched.setattr(rtnetlink, "tun_queues", ask)
                patched.setattr(Ethtool, "_ask", ask)
                assert found() == before
            device.look()
            assert (found()["link"], found()["MTU"]) == ("down", "1400")
        finally:
            device.close()
