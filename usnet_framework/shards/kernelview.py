"""What the kernel knows of one of its interfaces: its addresses, the routes that leave by it, its neighbours.

Pure: messages of rtnetlink(7) in, lists out. The kernel tells of a change by a message, and of all that there is by a
dump, whose messages carry its number.

    addresses, routes   news say that something has changed, and all of the kind is dumped again: when an address or the
                        interface goes, the kernel takes routes away without a word
    neighbours          news are taken as they are, since there are many

While a kind is dumped, what was known before is shown."""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from usnet_framework._native_kernel import Route
from usnet_framework.addresses import IpAddress, IpInterface, IpNetwork, mapped, unmapped
from usnet_framework.shards.rtnetlink import (
    MAC_BYTES,
    MESSAGE,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    attribute,
    attributes,
    error_in,
    number_in,
)

RTM_NEWLINK, RTM_DELLINK = 16, 17
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

AF_INET, AF_INET6 = 2, 10  # others have neighbours, too: bridges
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x04, 0x08, 0x40
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 9, 15, 18
RT_TABLE_MAIN, RTN_UNICAST, RTM_F_CLONED, RTNH_F_DEAD = 254, 1, 0x200, 0x1
NDA_DST, NDA_LLADDR, NDA_IFINDEX, NTF_USE = 1, 2, 8, 1
TRY_AGAIN = (errno.ENOBUFS, errno.EBUSY, errno.EAGAIN, errno.ENOMEM, errno.EINTR)
"""What the kernel answers a request with that it has no room for, or while another dump goes on."""

NUD_KNOWN = 0x9E
"""States of neighbours that the kernel itself would send to: reachable, stale, delay, probe, permanent. Those without
ARP are groups."""

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop
_NUMBER = struct.Struct("=I")


class Dump(IntEnum):
    """In the order in which they are asked for."""

    ADDRESSES = 0
    NEIGHBOURS = 1
    IPV4_ROUTES = 2
    IPV6_ROUTES = 3


ROUTES = {Dump.IPV4_ROUTES, Dump.IPV6_ROUTES}


@dataclass(frozen=True)
class Address:
    """One that is not usable yet, the kernel does not answer for either: it asks the link first whose it is."""

    own: IpInterface
    usable: bool = True


class KernelView:
    """Of the interface with this index. `dirty`: what has to be dumped, all of it at first; `changed`: since somebody
    has set it to False."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.dirty = set(Dump)
        self.changed = False
        self.addresses: list[Address] = []
        self.neighbours: dict[bytes, bytes] = {}
        """MAC by IP address (addresses.mapped), of those that the kernel would send to."""
        self._routes: dict[Dump, list[tuple[int, Route]]] = {dump: [] for dump in ROUTES}  # with their metrics
        self._dump: Dump | None = None
        self._number = 0
        self._listed: list[tuple[int, bytes]] = []  # of the dump that goes on
        self._met: dict[bytes, bytes] = {}
        self._interrupted = False

    @property
    def routes(self) -> list[Route]:
        """The best first: the more exact one, then that of the smaller metric. Those that leave elsewhere matter where
        something less exact leaves by the interface."""
        found = [one for dump in sorted(ROUTES) for one in self._routes[dump]]
        found.sort(key=lambda one: (-one[1].network.prefixlen, one[0]))
        ours = _Networks(route.network for _, route in found if not route.elsewhere)
        return [route for _, route in found if not route.elsewhere or ours.hold(route.network)]

    @property
    def is_dumping(self) -> bool:
        return self._dump is not None

    def begin(self) -> bytes:
        """The request for the next dump."""
        self._dump = min(self.dirty)
        self.dirty.discard(self._dump)
        self._number += 1
        self._listed, self._met, self._interrupted = [], {}, False
        return dump_request(self._dump, self.index, self._number)

    @property
    def waits(self) -> bool:
        """There is something to be passed on, or to begin."""
        return self.changed or bool(self.dirty and self._dump is None)

    def take(self, message: Message) -> None:
        kind, flags, number, rest = message
        if self._dump is None or number != self._number:
            self._news(kind, rest)
            return
        self._interrupted |= flags & NLM_F_DUMP_INTR != 0
        if kind == NLMSG_ERROR and error_in(rest) in TRY_AGAIN:
            self.put_off()
        elif kind in (NLMSG_DONE, NLMSG_ERROR):  # the latter: the kernel has nothing of the kind
            self._end(self._dump)
        elif kind == RTM_NEWNEIGH:
            self._meet(kind, rest, self._met)
        else:
            self._listed.append((kind, rest))

    def put_off(self) -> None:
        """The kernel did not take the request: it has to be made again."""
        if self._dump is not None:
            self.dirty.add(self._dump)
            self._dump = None

    def missed(self) -> None:
        """There was no room for news."""
        self.dirty = set(Dump)

    def _end(self, dump: Dump) -> None:
        self._dump = None
        if self._interrupted:
            self.dirty.add(dump)  # it may be neither what was nor what is
        if dump is Dump.NEIGHBOURS:
            self.changed |= self._met != self.neighbours
            self.neighbours = self._met
        elif dump is Dump.ADDRESSES:
            found = [address_in(rest, self.index) for kind, rest in self._listed if kind == RTM_NEWADDR]
            addresses = [address for address in found if address is not None]
            self.changed |= addresses != self.addresses
            self.addresses = addresses
        else:
            listed = (routes_in(rest, self.index) for kind, rest in self._listed if kind == RTM_NEWROUTE)
            routes = [route for some in listed for route in some]
            self.changed |= routes != self._routes[dump]
            self._routes[dump] = routes

    def _news(self, kind: int, rest: bytes) -> None:
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            is_dumped = self._dump is Dump.NEIGHBOURS
            is_news = self._meet(kind, rest, self._met if is_dumped else self.neighbours)
            self.changed |= is_news and not is_dumped
        elif kind in (RTM_NEWROUTE, RTM_DELROUTE):
            self.dirty |= ROUTES
        elif kind in (RTM_NEWADDR, RTM_DELADDR) and _ADDRESS.unpack_from(rest)[4] == self.index:
            self.dirty |= {Dump.ADDRESSES, *ROUTES}
        elif kind in (RTM_NEWLINK, RTM_DELLINK) and _LINK.unpack_from(rest)[2] == self.index:
            self.dirty |= set(Dump)

    def _meet(self, kind: int, rest: bytes, neighbours: dict[bytes, bytes]) -> bool:
        """Whether it makes a difference."""
        family, _, _, index, state, _, _ = _NEIGHBOUR.unpack_from(rest)
        if index != self.index or family not in (AF_INET, AF_INET6):
            return False
        found = dict(attributes(rest[_NEIGHBOUR.size :]))
        ip, mac = mapped(found.get(NDA_DST, b"")), found.get(NDA_LLADDR, b"")
        before = neighbours.get(ip)
        if kind == RTM_NEWNEIGH and state & NUD_KNOWN and len(mac) == MAC_BYTES and any(mac):
            neighbours[ip] = mac
        else:
            neighbours.pop(ip, None)
        return neighbours.get(ip) != before


# Requests.


def dump_request(dump: Dump, index: int, number: int) -> bytes:
    """The kernel leaves out what does not belong to the interface, or the table (NETLINK_GET_STRICT_CHK)."""
    if dump is Dump.ADDRESSES:
        kind, rest = RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, index)
    elif dump is Dump.NEIGHBOURS:
        kind, rest = RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0, 0, 0) + attribute(NDA_IFINDEX, _NUMBER.pack(index))
    else:
        family = AF_INET if dump is Dump.IPV4_ROUTES else AF_INET6
        kind, rest = RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0)
    return MESSAGE.pack(MESSAGE.size + len(rest), kind, NLM_F_REQUEST | NLM_F_DUMP, number, 0) + rest


def use_request(ip: bytes, index: int) -> bytes:
    """Has the kernel ask the link for a neighbour (addresses.mapped), as if it had something to send to it."""
    plain = unmapped(ip)
    family = AF_INET if len(plain) == 4 else AF_INET6
    rest = _NEIGHBOUR.pack(family, 0, 0, index, 0, NTF_USE, 0) + attribute(NDA_DST, plain)
    return MESSAGE.pack(MESSAGE.size + len(rest), RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE, 0, 0) + rest


# Messages.


def address_in(rest: bytes, index: int) -> Address | None:
    family, prefix, flags, _, its_index = _ADDRESS.unpack_from(rest)
    if its_index != index or family not in (AF_INET, AF_INET6):
        return None
    found = dict(attributes(rest[_ADDRESS.size :]))
    flags |= number_in(found.get(IFA_FLAGS, b""))
    is_unsure = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    ip = found.get(IFA_LOCAL) or found[IFA_ADDRESS]  # at both ends of a wire the second is the peer's
    return Address(ipaddress.ip_interface((ip, prefix)), not is_unsure and not flags & IFA_F_DADFAILED)


def routes_in(rest: bytes, index: int) -> list[tuple[int, Route]]:
    """Of the main table, with their metrics; one has several next hops, or one."""
    family, bits, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(rest)
    found = dict(attributes(rest[_ROUTE.size :]))
    is_main = (number_in(found.get(RTA_TABLE, b"")) or table) == RT_TABLE_MAIN
    if family not in (AF_INET, AF_INET6) or not is_main or flags & RTM_F_CLONED:
        return []
    network = ipaddress.ip_network((found.get(RTA_DST, bytes(4 if family == AF_INET else 16)), bits))
    metric = number_in(found.get(RTA_PRIORITY, b""))
    hops = list(_hops(found.get(RTA_MULTIPATH, b""))) or [(flags, number_in(found.get(RTA_OIF, b"")), found)]
    return [
        (metric, _route(network, _gateway(of_hop), kind == RTN_UNICAST and its_index == index))
        for state, its_index, of_hop in hops
        if not state & RTNH_F_DEAD
    ]


def _route(network: IpNetwork, gateway: IpAddress | None, is_ours: bool) -> Route:
    """A gateway of the other family is none for our stack."""
    is_usable = is_ours and (gateway is None or gateway.version == network.version)
    return Route(network, gateway) if is_usable else Route(network, elsewhere=True)


class _Networks:
    """Whether another network lies in one of these: a look-up for each of their lengths, as a kernel may have a million
    routes."""

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        self._known: dict[tuple[int, int], set[int]] = {}  # by family and length of the prefix
        for network in networks:
            known = self._known.setdefault((network.version, network.prefixlen), set())
            known.add(int(network.network_address))

    def hold(self, network: IpNetwork) -> bool:
        address, bits = int(network.network_address), network.max_prefixlen
        return any(
            version == network.version
            and length <= network.prefixlen
            and address >> bits - length << bits - length in known
            for (version, length), known in self._known.items()
        )


def _hops(data: bytes) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    while len(data) >= _NEXT_HOP.size:
        length, flags, _, index = _NEXT_HOP.unpack_from(data)
        yield flags, index, dict(attributes(data[_NEXT_HOP.size : length]))
        data = data[max(length + 3 & ~3, _NEXT_HOP.size) :]


def _gateway(found: dict[int, bytes]) -> IpAddress | None:
    packed = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]  # behind the number of its family
    return ipaddress.ip_address(packed) if packed else None
