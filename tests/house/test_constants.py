"""Numbers that stand in Python and in C are the same."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from support.tree import text

from usnet_framework.shards.network import MESSAGE, Kind

MIRRORED = [  # module, name in it; header, name in it
    ("config", "WORKERS_MAX", "shard/segment.h", "UN_SEATS_MAX"),
    ("config", "SHARDS_MAX", "shard/segment.h", "UN_SHARD_MAX"),
    ("config", "STATE_BYTES_MAX", "shard/segment.h", "UN_STATE_BYTES_MAX"),
    ("config", "CONNECTIONS_MAX", "shard/segment.h", "UN_CONN_MAX"),
    ("shards.segment", "CONN_MAX", "shard/segment.h", "UN_CONN_MAX"),
    ("shards.segment", "TX_FRAMES_MAX", "shard/segment.h", "UN_TX_FRAMES_MAX"),
    ("shards.listeners", "LISTENERS_MAX", "shard/options.h", "UN_LISTENERS_MAX"),
    ("shards.stackplan", "ADDRESSES_MAX", "shard/options.h", "UN_OWN_ADDRESSES_MAX"),
    ("shards.packetdevice", "QUEUES_MAX", "shard/options.h", "UN_QUEUES_MAX"),
    ("shards.steering", "ENTRIES", "stack/steering.h", "UN_STEERING_ENTRIES"),
    ("shards.ownstack", "SECRET_BYTES", "engine/exchange.h", "UN_EXCHANGE_SECRET_BYTES"),
    ("shards.tune", "RECEIVED", "device/afxdp_socket.c", "FILL_SLOTS"),
    ("shards.tune", "SENT", "device/afxdp_socket.c", "TX_SLOTS"),
    ("shards.network", "RESUMES", "engine/control.h", "UN_CONTROL_RESUMES"),
    ("shards.network", "POISONED", "engine/control.h", "UN_CONTROL_POISONED"),
    ("shards.network", "HUNG", "engine/control.h", "UN_CONTROL_HUNG"),
    ("shards.network", "LEFT", "engine/control.h", "UN_CONTROL_LEFT"),
]


def value(expression: str) -> int:
    """Of a constant: a number, or one shifted."""
    number, shift = re.fullmatch(r"\(?(\d+)u?(?: << (\d+))?\)?", expression.strip()).groups()  # type: ignore[union-attr]
    return int(number) << int(shift or 0)


def defined(header: str, name: str) -> int:
    line = re.search(rf"#define {name} ([^/\n]*)", text(f"native/src/{header}"))
    assert line, f"{header} has no {name}"
    return value(line[1])


@pytest.mark.parametrize(("module", "name", "header", "constant"), MIRRORED)
def test_a_constant_is_that_of_c(module: str, name: str, header: str, constant: str) -> None:
    assert getattr(import_module(f"usnet_framework.{module}"), name) == defined(header, constant)


def test_messages_of_the_network_process_are_those_of_c() -> None:
    named = re.findall(r"^    UN_CONTROL_([A-Z]+) = (\d+),", text("native/src/engine/control.h"), flags=re.M)
    assert {name: int(number) for name, number in named} == {kind.name: kind.value for kind in Kind}
    assert MESSAGE.size == 32  # struct un_control; C asserts it, too
