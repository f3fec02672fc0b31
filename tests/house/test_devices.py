"""A packet device is known to its own files and two tables, one in C and one in Python. The next one finds a seam."""

from __future__ import annotations

import re

from support.tree import files, text

NAME = re.compile(r"(?<![a-z])tap(?![a-z])", re.IGNORECASE)

OWN = {  # the device, and what it asks of the kernel
    "native/src/device/tap.c",
    "native/src/device/tap_queue.c",
    "native/src/device/tap_steer.c",
    "native/src/device/tap_steer.h",
    "usnet_framework/_native_tap.py",
    "usnet_framework/shards/tap.py",
    "usnet_framework/shards/rtnetlink.py",
}
TABLES = {"native/src/device/kinds.c", "usnet_framework/shards/packetdevice.py", "usnet_framework/config.py"}
CONSTRUCTORS = {"native/src/device/device.h", "native/src/shard/options.h", "usnet_framework/_native_device.py"}
ASIDE = ("usnet_framework/bench/", "usnet_framework/testing/", "usnet_framework/cli/bench.py", "native/src/api/")


def test_nothing_else_names_the_device() -> None:
    naming = {
        path
        for path in files(".c", ".h", ".py")
        if path.startswith(("native/src/", "native/dispatch/", "usnet_framework/"))
        and not path.startswith(ASIDE)
        and NAME.search(text(path))
    }
    assert naming == OWN | TABLES | CONSTRUCTORS
