"""A packet device is known to its own files and two tables, one in C and one in Python. The next one finds a seam."""

from __future__ import annotations

import re

import pytest
from support.tree import files, text

OWN = {  # the device, and what it asks of the kernel
    "tap": {
        "native/src/device/tap.c",
        "native/src/device/tap_queue.c",
        "native/src/device/tap_steer.c",
        "native/src/device/tap_steer.h",
        "usnet_framework/_native_tap.py",
        "usnet_framework/shards/tap.py",
    },
    "netmap": {
        "native/src/device/netmap.c",
        "native/src/device/netmap_abi.h",
        "native/src/device/netmap_exchange.c",
        "native/src/device/netmap_exchange.h",
        "native/src/device/netmap_host.c",
        "native/src/device/netmap_host.h",
        "native/src/device/netmap_port.c",
        "native/src/device/netmap_rings.c",
        "native/src/device/netmap_rings.h",
        "usnet_framework/_native_netmap.py",
        "usnet_framework/shards/netmap.py",
    },
    "a?f?xdp": {
        "native/src/device/afxdp.c",
        "native/src/device/afxdp_memory.h",
        "native/src/device/afxdp_rings.c",
        "native/src/device/afxdp_rings.h",
        "native/src/device/afxdp_socket.c",
        "usnet_framework/_native_bpf.py",
        "usnet_framework/_native_xdp.py",
        "usnet_framework/shards/afxdp.py",
        "usnet_framework/shards/netdev.py",
        "usnet_framework/shards/rtnetlink.py",
    },
}
TABLES = {"native/src/device/kinds.c", "usnet_framework/shards/packetdevice.py", "usnet_framework/config.py"}
CONSTRUCTORS = {"native/src/device/device.h", "usnet_framework/_native_device.py"}
ASIDE = ("usnet_framework/bench/", "usnet_framework/testing/", "usnet_framework/cli/bench.py", "native/src/api/")


@pytest.mark.parametrize("name", OWN)
def test_nothing_else_names_the_device(name: str) -> None:
    pattern = re.compile(rf"(?<![a-z]){name}(?![a-z])", re.IGNORECASE)
    naming = {
        path
        for path in files(".c", ".h", ".py")
        if path.startswith(("native/src/", "native/dispatch/", "usnet_framework/"))
        and not path.startswith(ASIDE)
        and pattern.search(text(path))
    }
    assert naming == OWN[name] | TABLES | CONSTRUCTORS
