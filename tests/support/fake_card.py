"""A network card that is a script: it has what the test says, refuses what it says, and does the rest as drivers do."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import cast

from usnet_framework.shards.cardsettings import own_table
from usnet_framework.shards.ethtool import FIELDS, Channels, Driver, Ethtool, Feature, Rings, Rss

OTHER_KEY = bytes(range(1, 41))
TWO_OF_EIGHT = Channels(0, 0, 1, 2, 0, 0, 1, 8)
HASH = Rss("toeplitz", OTHER_KEY, own_table(128, 2))
RINGS = Rings(256, 256, 4096, 4096)


@dataclass
class FakeCard:
    """By default: two queues of eight, another key, a table of its own, TCP hashed by addresses alone. `refuses` are
    names of methods, `lacks` of what the driver has none of."""

    interface: str = "lo"  # one that there is: a journal asks the kernel for its index
    now: Channels = TWO_OF_EIGHT
    hash: Rss = HASH
    is_table_set: bool = False
    """By somebody, so that the driver keeps it."""
    hashed: dict[str, frozenset[str]] = field(
        default_factory=lambda: dict.fromkeys(("tcp4", "tcp6"), frozenset({"source address", "destination address"}))
    )
    offloads: dict[str, Feature] = field(default_factory=lambda: {"rx-lro": Feature(True, True, True)})
    length: int = 1500
    held: Rings = RINGS
    refuses: set[str] = field(default_factory=set)
    lacks: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    """What was set, in order."""

    @property
    def card(self) -> Ethtool:
        return cast(Ethtool, self)

    def driver(self) -> Driver:
        return Driver("fake", "1.0", "", "0000:00:03.0")

    def mtu(self) -> int:
        return self.length

    def channels(self) -> Channels:
        self._has("channels")
        return self.now

    def rx_queues(self) -> int:
        return self.now.rx + self.now.combined

    def rings(self) -> Rings:
        self._has("rings")
        return self.held

    def set_rings(self, rings: Rings) -> None:
        self._set("set_rings", "rings")
        self.held = rings

    def rss(self) -> Rss:
        self._has("rss")
        return self.hash

    def flow_fields(self, flow: str) -> frozenset[str]:
        if flow not in self.hashed:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self.hashed[flow]

    def features(self) -> dict[str, Feature]:
        return dict(self.offloads)

    def set_channels(self, channels: Channels) -> None:
        self._set("set_channels", f"{channels.rx + channels.combined} queues")
        entries, queues = len(self.hash.table), channels.rx + channels.combined
        if self.is_table_set and max(self.hash.table) >= queues:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.now = channels
        if not self.is_table_set:
            self.hash = replace(self.hash, table=own_table(entries, queues))

    def set_rss(self, rss: Rss) -> None:
        self._set("set_rss", "hash")
        if any(queue >= self.rx_queues() for queue in rss.table):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.hash = replace(self.hash, key=rss.key or self.hash.key, table=rss.table or self.hash.table)
        self.is_table_set |= bool(rss.table)

    def reset_table(self) -> None:
        self._set("reset_table", "own table")
        self.is_table_set = False
        self.hash = replace(self.hash, table=own_table(len(self.hash.table), self.rx_queues()))

    def set_flow_fields(self, flow: str, fields: Collection[str]) -> None:
        self._set("set_flow_fields", flow)
        assert set(fields) <= set(FIELDS)
        self.hashed[flow] = frozenset(fields)

    def set_feature(self, name: str, on: bool) -> None:
        self._set("set_feature", name)
        self.offloads[name] = replace(self.offloads[name], active=on)

    def close(self) -> None:
        pass

    def _has(self, what: str) -> None:
        if what in self.lacks:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def _set(self, method: str, what: str) -> None:
        if method in self.refuses:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.said.append(what)
