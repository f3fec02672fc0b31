"""Which queue a network card puts a flow into, when it hashes as the stacks do (native/src/stack/steering.h).

The card is given the key that makes the hash symmetric, and a table in which entry i is the queue (i mod 128) mod
shards. Then queue and owner are the same shard (P6), and `queue_of` predicts both. How evenly a set of flows is spread
follows from it. When a card hashes otherwise, frames cross to their owner, and are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from usnet_framework._native_stack import Endpoint, owner
from usnet_framework.shards.findings import Finding

ENTRIES = 128  # UN_STEERING_ENTRIES
KEY = bytes.fromhex("6d5a")  # UN_STEERING_KEY: two bytes, repeated for as long as a card's key is
CROSSED_MAX = 0.01
"""Of all frames, before the card is said not to hash as it was told: fragments, and what was under way while the table
was written, cross on any card."""


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


def entry_of(remote: Endpoint, local: Endpoint) -> int:
    """Of such a flow: the entry of a table of 128."""
    return owner(remote, local, ENTRIES)


def local_port(remote: Endpoint, address: str, ports: Iterable[int], queue: int, queues: int) -> int | None:
    """The first of `ports` from which a connection to `remote` comes back on the queue; None when none does."""
    return next((port for port in ports if queue_of(remote, (address, port), queues) == queue), None)


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


def reality_finding(frames: Sequence[int], crossed: int, predicted: Spread) -> Finding:
    """What the card does, as the engines saw it: `frames` came through each queue, and `crossed` of all of them had
    another owner."""
    total = sum(frames)
    share = crossed / total if total else 0.0
    came = Spread(tuple(frames))
    asked = f"each flow to the queue of its shard; open connections {predicted}"
    found = f"{crossed} of {total} frames crossed to their owner; frames {came}"
    if share <= CROSSED_MAX:
        return Finding("flows", asked, found)
    return Finding(
        "flows",
        asked,
        found,
        "the card does not hash as it was told, or whoever sends over a virtual link chooses the queue",
        "use a card whose driver obeys its RSS key, or one queue; every connection is served all the same",
        ok=False,
    )
