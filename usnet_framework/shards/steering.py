"""Which queue a network card puts a flow into, when it hashes as the stacks do (native/src/stack/steering.h).

The card is given the key that makes the hash symmetric, and a table in which entry i is the queue (i mod 128) mod
shards. Then queue and owner are the same shard (P6), and `queue_of` predicts both. How evenly a set of flows is spread
follows from it. When a card hashes otherwise, frames cross to their owner, and are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from usnet_framework._native import ConnectionInfo
from usnet_framework._native_stack import Endpoint, owner
from usnet_framework.shards.findings import Finding

ENTRIES = 128  # UN_STEERING_ENTRIES
KEY = bytes.fromhex("6d5a")  # UN_STEERING_KEY: two bytes, repeated for as long as a card's key is
CROSSED_MAX = 0.01
CROSSED_FRAMES_MAX = 64
"""More than so many, and more than that part of all, say that a card or a link does not hash as it was told. Fragments
cross on any card, and so do answers of neighbours, which all shards hear."""


def steering_key(length: int) -> bytes:
    """The card's key, of as many bytes as it takes."""
    return (KEY * (length // len(KEY) + 1))[:length]


def steering_table(entries: int, queues: int) -> tuple[int, ...]:
    """The card's table over its first queues; whether that is enough, `agrees` says."""
    return tuple(entry % ENTRIES % queues for entry in range(entries))


def agrees(entries: int, queues: int) -> bool:
    """Whether a table of this length can give each flow the queue of its owner: it has all 128 entries, once or several
    times, or they repeat within it."""
    return entries > 0 and (entries % ENTRIES == 0 or (ENTRIES % entries == 0 and entries % queues == 0))


def queue_of(remote: Endpoint, local: Endpoint, queues: int) -> int:
    """Of the flow between two endpoints, (address, port) each: its queue, and its shard."""
    return owner(remote, local, queues)


@dataclass(frozen=True)
class Spread:
    """How many flows are on each queue."""

    flows: tuple[int, ...]

    @property
    def imbalance(self) -> float:
        """The fullest queue against the mean, from 1.0; 1.0 when there are no flows."""
        total = sum(self.flows)
        return max(self.flows) * len(self.flows) / total if total else 1.0

    def __str__(self) -> str:
        return f"{'/'.join(map(str, self.flows))} (max/mean {self.imbalance:.2f})"


def spread(flows: Iterable[tuple[Endpoint, Endpoint]], queues: int) -> Spread:
    """Of (remote, local) each, as it is predicted."""
    counts = Counter(queue_of(remote, local, queues) for remote, local in flows)
    return Spread(tuple(counts[queue] for queue in range(queues)))


def flow_findings(connections: Iterable[ConnectionInfo], counters: Sequence[Mapping[str, int]]) -> list[Finding]:
    """What is predicted of the open connections, and what came: `counters` are those of each shard's stack."""
    if len(counters) < 2:
        return []
    frames = Spread(tuple(found["ip_rx_packets"] for found in counters))
    crossed, total = sum(found["ip_handed_over"] for found in counters), sum(frames.flows)
    flows = (
        ((one.peer[0], one.peer[1]), (one.local[0], one.local[1]))
        for one in connections
        if isinstance(one.peer, tuple) and isinstance(one.local, tuple)
    )
    asked = f"each to the queue of its shard; those that are open {spread(flows, len(counters))}"
    found = f"{crossed} of {total} packets crossed to their owner; packets {frames}"
    if crossed <= max(CROSSED_FRAMES_MAX, CROSSED_MAX * total):
        return [Finding("flows", asked, found)]
    reason = "the card or the link chooses queues in another way than by the hash that it was told"
    fix = "use a card whose driver obeys its RSS key, or one queue; every connection is served all the same"
    return [Finding("flows", asked, found, reason, fix, ok=False)]
