"""What the link says of the server's own addresses: whether another station claims one.

Engines tell it as it happens (native/src/stack/address.c). The log has each piece of news, `usnet-ctl doctor` how
things stand. An address that was taken is told to be free again. One that we defend is disputed until nobody has
claimed it for a while: the stack tells of claims every ten seconds at most, for as long as they come."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from usnet_framework.addresses import unmapped
from usnet_framework.shards.findings import Finding

log = logging.getLogger("usnet.supervisor")

DISPUTED_S = 60.0
"""How long an address is disputed after the last claim."""


class News(IntEnum):
    """enum un_address_news"""

    TAKEN = 1
    FREE = 2
    DEFENDED = 3


TEXTS = {
    News.TAKEN: "is in use by another station; it is not served until that has ended",
    News.FREE: "is no longer in use by another station; it is served from now on",
    News.DEFENDED: "is claimed by another station as well; clients may reach that instead of us",
}


@dataclass(frozen=True)
class Claim:
    news: News
    mac: str
    heard_s: float


def plain(address: bytes) -> str:
    """As users write it; IPv4 comes in its mapped form."""
    return str(ipaddress.ip_address(unmapped(address)))


class AddressBook:
    """`clock` is in seconds, and only goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claims: dict[str, Claim] = {}

    def tell(self, address: str, news: News, mac: str) -> None:
        """Of an address of ours, without its prefix."""
        if news is News.FREE:
            self._claims.pop(address, None)
        else:
            self._claims[address] = Claim(news, mac, self._clock())
        level = logging.INFO if news is News.FREE else logging.WARNING
        log.log(level, "address %s %s (%s)", address, TEXTS[news], mac, extra={"address": address, "station": mac})

    def forget(self) -> None:
        """The stacks begin anew: they ask again whose the addresses are."""
        self._claims.clear()

    def taken(self, address: str) -> str | None:
        """Why an address, with its prefix, is not served; None when it is."""
        claim = self._claims.get(address.partition("/")[0])
        if claim is None or claim.news is not News.TAKEN:
            return None
        return f"address {address} is in use by another station ({claim.mac})"

    def finding(self, address: str) -> Finding:
        """Of an address with its prefix."""
        claim = self._claims.get(address.partition("/")[0])
        if claim is None or (claim.news is News.DEFENDED and self._clock() - claim.heard_s > DISPUTED_S):
            return Finding("address", address, "answered by the server")
        found = "not served" if claim.news is News.TAKEN else "answered by the server and by another station"
        reason = f"the station {claim.mac} claims it"
        return Finding("address", address, found, reason, "give one of the two another address", ok=False)
