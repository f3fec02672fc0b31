"""The interrupts of a network card's queues, and the cores that they go to (/proc/irq).

The kernel says which interrupts a device has. What they are for is in the names that drivers give them: eth1-TxRx-0,
eth1-rx-0, virtio1-input.0, mlx5_comp0@pci:0000:03:00.0. The number in such a name is the queue's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from usnet_framework.shards.cgroup import parse_list, read_text
from usnet_framework.shards.sysfs import folder_of

_OF_A_QUEUE = re.compile(r"[-_](?:TxRx|Tx-Rx|RxTx|Rx|Tx|input|output|comp)[-.]?(\d+)(?:@|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Interrupt:
    """`cores`: as the kernel lists them (0-3,8), in `file`. `queue`: None when it is for something else, or not known;
    those that send have one, too."""

    name: str
    file: str
    cores: str
    queue: int | None

    def goes_to(self, core: int) -> bool:
        """And to no other."""
        return parse_list(self.cores) == {core}


def are_put_off(interface: str, root: Path = Path("/")) -> bool:
    """Whether packets wait for somebody who polls the driver, for a while at least; False as well where there is no
    such interface, or /sys does not show it."""
    with suppress(OSError):
        folder, names = folder_of(interface, root), ("napi_defer_hard_irqs", "gro_flush_timeout")
        return folder is not None and all(read_text(folder / name) not in ("", "0") for name in names)
    return False


def interrupts(interface: str, root: Path = Path("/")) -> tuple[Interrupt, ...]:
    """Of the interface's device, by number. One without a name has its number for it. OSError: there is no such
    interface."""
    folder = folder_of(interface, root)
    if folder is None:
        return ()
    device = folder / "device"
    own = device if (device / "msi_irqs").exists() else device.resolve().parent  # virtio has one on top of another
    numbers = sorted((path.name for path in (own / "msi_irqs").glob("*")), key=int)
    names = dict(re.findall(r"^ *(\d+):.* (\S+)$", read_text(root / "proc/interrupts"), flags=re.M))
    return tuple(_interrupt(names.get(number, number), root / f"proc/irq/{number}") for number in numbers)


def share_one_core(found: Collection[Interrupt]) -> bool:
    """Those of several queues do, and nothing spreads them."""
    queues, cores = {one.queue for one in found}, {one.cores for one in found}
    return len(queues) > 1 and len(cores) == 1 and cores.pop().isdigit()


def is_balanced(root: Path = Path("/")) -> bool:
    """Whether irqbalance(1) runs, which moves interrupts as it sees fit. Its socket is named after its process."""
    sockets = (path.stem.removeprefix("irqbalance") for path in (root / "run/irqbalance").glob("irqbalance*.sock"))
    return any(read_text(root / "proc" / process / "comm") == "irqbalance" for process in sockets)


def _interrupt(name: str, folder: Path) -> Interrupt:
    file = folder / "smp_affinity_list"
    queue = _OF_A_QUEUE.search(name)
    return Interrupt(name, str(file), read_text(file), int(queue[1]) if queue else None)
