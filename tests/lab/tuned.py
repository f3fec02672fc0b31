"""In the emulated machine: tune a network card for its queues, and put it back: `tuned.py INTERFACE QUEUES`.

Shard i is on core i. Printed as JSON: what --check would say, what is found meanwhile, and interrupts and rings before,
meanwhile and afterwards."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.interrupts import interrupts
from usnet_framework.shards.nic import Nic, Wanted, planned
from usnet_framework.shards.tune import Tuning


def settings(interface: str) -> dict[str, Any]:
    with Ethtool(interface) as card:
        rings = card.rings()
    cores = {one.name: one.cores for one in interrupts(interface) if one.queue is not None}
    return {"rings": [rings.rx, rings.tx], "cores": cores}


def main() -> None:
    interface, queues = sys.argv[1], int(sys.argv[2])
    wanted = Wanted(interface, queues, tuning=Tuning(True, tuple(range(queues)), tuple(range(queues))))
    state: dict[str, Any] = {"before": settings(interface), "planned": planned(wanted)}
    nic = Nic(wanted)
    nic.tune()
    state |= {"during": settings(interface), "findings": [asdict(finding) for finding in nic.findings()]}
    nic.close()
    print(json.dumps(state | {"after": settings(interface), "left": os.listdir("/run/usnet/undo")}))


main()
