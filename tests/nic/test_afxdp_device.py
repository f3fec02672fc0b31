"""The AF_XDP device as its supervisor has it, step by step; servers over it: tests/sockets."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.backends import Afxdp as Pair
from support.backends import network_namespace
from support.privilege import needs_xdp

from usnet_framework.errors import StartupError
from usnet_framework.shards import afxdp
from usnet_framework.shards.afxdp import FRAME_BYTES, Afxdp
from usnet_framework.shards.listeners import parse_binds
from usnet_framework.shards.stackplan import plan_stack

pytestmark = needs_xdp

FRAMES = 8192


def test_a_station_that_could_not_join_its_groups_does_so_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its neighbours would not find it by IPv6, and nothing would say why."""

    async def join() -> None:
        frames = os.memfd_create("frames")
        os.ftruncate(frames, FRAMES * FRAME_BYTES)
        device = Afxdp(plan_stack(Pair.interface, ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "afxdp"), 1)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(afxdp, "PACKET_ADD_MEMBERSHIP", 99)
                with pytest.raises(StartupError, match="does not take a second MAC address"):
                    device.hand_down(0, frames)
            device.hand_down(0, frames)
            assert f"3333ff{device._mac[3:].hex()}" in Path("/proc/thread-self/net/dev_mcast").read_text()
            assert device.trouble() is None
        finally:
            device.close()
            os.close(frames)

    with network_namespace():
        Pair().connect("1")
        asyncio.run(join())
