"""What `usnet-serve --check` tries beyond reading: whether this process may open what starting would open.

Nothing that serves is touched. Sockets are bound for a moment and never listened on; an interface that is not there is
made and removed; no file or folder is made. Of what other processes have, all is told: it may be the server that runs
already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from usnet_framework import metrics
from usnet_framework.config import Config
from usnet_framework.errors import InUse
from usnet_framework.shards import limits
from usnet_framework.shards.control import try_path
from usnet_framework.shards.listeners import try_listener
from usnet_framework.shards.packetdevice import KINDS
from usnet_framework.shards.preparation import Intent, demand_of
from usnet_framework.shards.stackplan import StackPlan


def attempt(config: Config, intent: Intent) -> list[str]:
    """A line for each thing that is in use; StartupError for what this process may not have, as starting raises it."""
    limits.connections_per_shard(demand_of(config, intent), limits.raise_descriptor_limit())
    trials: list[Callable[[], None]] = []
    if intent.stack is None:
        trials += [partial(try_listener, bind) for bind in intent.binds]
    else:
        trials.append(partial(_try_device, config.transport(), intent.stack, len(intent.plan.shards)))
    if config.metrics != "off":
        trials.append(partial(metrics.try_address, config.metrics))
    if config.control != "off":
        trials.append(partial(try_path, config.control))
    notes = []
    for trial in trials:
        try:
            trial()
        except InUse as used:
            notes.append(str(used))
    return notes


def _try_device(transport: str, stack: StackPlan, queues: int) -> None:
    KINDS[transport].open(stack, queues).close()
