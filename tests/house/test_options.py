"""An option of the engine is written once: as a field of Config and a line of native/src/shard/options.h. Nothing but
the segment carries it to where it is used."""

from __future__ import annotations

import dataclasses
import re

from support.tree import files, text

from usnet_framework import _native
from usnet_framework.config import Config

NAMED = {
    field.metadata["engine"]: field.name for field in dataclasses.fields(Config) if field.metadata["engine"]
}

CARRIED = {  # by the command line of usnet-network: descriptors, and what concerns the process
    "shard", "parent", "core", "keeper-core", "cleanup", "guard", "control", "user", "group",
    "public", "ports", "port-wakes", "wakes", "listeners", "exchange", "exchange-wakes",
    "device", "device-fds", "arena", "frames", "engine", "engine-name",
}  # fmt: skip

ALSO_OF_SOCKETS = {"backlog"}  # listen(2) takes it, too
ADVISES = "usnet_framework/shards/crowds.py"  # says when one that is off would help


def test_the_engine_has_what_the_configuration_names() -> None:
    assert NAMED["idle_timeout_ns"] == "idle_timeout"
    assert NAMED.keys() <= set(_native.OPTIONS)


def test_a_command_line_carries_descriptors() -> None:
    keeper = text("native/src/engine/keeper.c")
    assert set(re.findall(r'^    \{"([\w-]+)", \w+_argument,', keeper, flags=re.M)) == CARRIED


def test_no_file_hands_an_option_on() -> None:
    between = [
        path
        for path in files(".c", ".h", ".py", ".pyi")
        if path.startswith(("native/src", "native/dispatch", "usnet_framework"))
        and not path.startswith(("native/src/engine/", "usnet_framework/testing/", ADVISES))
    ]
    for name, field in NAMED.items():
        if name not in ALSO_OF_SOCKETS:
            named = {path for path in between if re.search(rf"\b{field}", text(path))}
            assert named == {"usnet_framework/config.py", "native/src/shard/options.h"}, f"{field} is handed on"
