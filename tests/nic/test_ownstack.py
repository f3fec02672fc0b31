"""What a server tells of a packet device that refuses a shard its queue: the device is played."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from usnet_framework.errors import StartupError
from usnet_framework.shards import hugepages, ownstack
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.listeners import parse_binds
from usnet_framework.shards.ownstack import OwnStack
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.stackplan import plan_stack

SEGMENT = cast(Segment, SimpleNamespace(stack_sizes=lambda: SimpleNamespace(arena_bytes=4096, frames_bytes=4096)))


class Device:
    sharing = None

    def __init__(self) -> None:
        self.refuses: Exception | None = None

    def hand_down(self, shard: int, frames_fd: int) -> Sequence[int]:
        if self.refuses is not None:
            raise self.refuses
        return (7,)

    def findings(self) -> list[Finding]:
        return []

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("refusal", "reason", "fix"),
    [
        (StartupError("--queues 2: eth1 has 1 ring; use --queues 1"), "--queues 2: eth1 has 1 ring", "use --queues 1"),
        (OSError(errno.ENODEV, "No such device"), "[Errno 19] No such device", "the server tries again"),
    ],
)
def test_why_a_shard_has_no_queue_is_found_until_it_has_one(
    refusal: Exception, reason: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interface that is back, and not as it was, would only be found to be removed."""
    device = Device()
    kind: Any = SimpleNamespace(open=lambda plan, shards: device)
    monkeypatch.setitem(ownstack.KINDS, "played", kind)
    monkeypatch.setattr(hugepages, "huge_memory_file", lambda name, size: None)
    stack = OwnStack("played", plan_stack("eth1", ["10.77.0.1/24"], [], parse_binds(["tcp://*:7000"]), "netmap"), 1)
    try:
        device.refuses = refusal
        with pytest.raises(StartupError):
            stack.setup(0, SEGMENT)
        expected = Finding("queue of shard 0", "joined", "not joined", reason, fix, ok=False)
        assert [finding for finding in stack.findings() if not finding.ok] == [expected]
        device.refuses = None
        assert stack.setup(0, SEGMENT).device_fds == (7,)
        assert all(finding.ok for finding in stack.findings())
    finally:
        stack.close()
