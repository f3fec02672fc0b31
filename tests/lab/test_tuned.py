"""--tune on network cards with real drivers: each queue's interrupts go to the core of its shard, rings grow, and all
is put back."""

from __future__ import annotations

import json
import sys

import pytest
from support.machine import IGB, VIRTIO, Cable, Machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

QUEUES = 4


@pytest.mark.parametrize("cable", [IGB, VIRTIO])
def test_a_card_is_tuned_and_put_back(guest: Machine, cable: Cable) -> None:
    state = json.loads(guest.run(sys.executable, "-P", "tests/lab/tuned.py", cable.guest, str(QUEUES)))
    cores = state["during"]["cores"]
    served = {name: core for name, core in cores.items() if int(name.rpartition("-")[2].rpartition(".")[2]) < QUEUES}
    assert len(served) >= QUEUES
    assert all(name.endswith(core) for name, core in served.items()), served
    is_moved = any(state["before"]["cores"][name] != core for name, core in served.items())
    assert is_moved == any("smp_affinity_list: " in line for line in state["planned"])
    assert is_moved == (cable is IGB)  # virtio does so by itself
    found = {finding["what"]: finding for finding in state["findings"]}
    assert found["card interrupts"]["ok"]
    assert found["card rings"]["ok"]
    assert state["after"] == state["before"]
    assert state["left"] == []
