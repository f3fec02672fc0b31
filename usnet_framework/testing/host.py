"""A host under test: a stack on a scripted link, in virtual time.

`Host` owns the clock. Every call that gives the stack something to do is followed by a turn: the stack is polled until
it is at rest, and what it sent is taken apart by the oracle of `packets`. A frame that is not as a well-behaved host
sends them fails the test at once; one that nobody expects fails it at the next step, and at the end at the latest.

Everything around the stack is played by the test. Only neighbours answer by themselves, so that a scenario about TCP
has no ARP in it; `Host(neighbours=False)` leaves that to the test as well.
"""

from __future__ import annotations

import ipaddress
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from operator import methodcaller
from pathlib import Path
from typing import BinaryIO, NoReturn, Self, TypeVar

from usnet_framework._native_stack import Link, OutputFrame, Stack, StackEvent, owner
from usnet_framework.testing import packets
from usnet_framework.testing.capture import Capture
from usnet_framework.testing.packets import Arp, Ethernet, Icmp, Ip, Ipv4, Ipv6, Malformed, Udp
from usnet_framework.testing.segments import Tcp

SECOND_NS = 1_000_000_000
BEGIN_S = 1000
"""What the clock shows when a host is made."""

LOCAL = {4: "10.0.0.1", 6: "fd00::1"}
"""Addresses of the host under test, by family; their prefixes are /24 and /64."""
PEER = {4: "10.0.0.2", 6: "fd00::2"}
"""Addresses of the peer that the test plays; all others in their prefixes have its MAC address as well."""
GATEWAY = {4: "10.0.0.254", 6: "fd00::fe"}
PEER_MAC = bytes.fromhex("020000000002")

TURNS_MAX = 64
LOG_LINES = 60
PACKAGE = str(Path(__file__).parent)

SMALL = {"conn_max": 16, "frames": 512, "frame_bytes": 2048, "sents": 512, "neighbours": 16}
"""Sizes of the stack unless the test says others: what checks all of its memory after each turn has little to do."""


class ScenarioFailed(AssertionError):
    """The stack did not do what the scenario expects, or did something else besides."""


__tracebackhide__ = methodcaller("errisinstance", ScenarioFailed)  # a failure points at the line of the test

Body = Arp | Tcp | Udp | Icmp | bytes
AnyBody = TypeVar("AnyBody", Arp, Tcp, Udp, Icmp, bytes)


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame that the stack sent, taken apart. ip is None for ARP; the body of a fragment is bytes."""

    time_s: float
    output: OutputFrame
    ethernet: Ethernet
    ip: Ip | None
    body: Body


class Host:
    """A stack with a clock, addresses of both families, a link, and a log.

    `family` is that of the scenarios that say nothing else. `options` are those of `Stack`. With `shards` there are as
    many stacks, and every frame comes to one that does not own its connection. `capture`, a file, gets all frames, for
    Wireshark. Use it in a `with` block: the end checks that nothing unexpected was sent and that the stack's memory is
    in order.
    """

    def __init__(
        self,
        *,
        family: int = 4,
        link: Link | None = None,
        neighbours: bool = True,
        shards: int = 1,
        capture: BinaryIO | None = None,
        **options: int | bool | bytes,
    ) -> None:
        self.family = family
        self.capture = Capture(capture) if capture else None
        self.neighbours = neighbours
        chosen = {**SMALL, "seed": 1, "secret": bytes(range(16)), **options}
        self.stacks = [Stack(**chosen, link=link) for _ in range(shards)]  # type: ignore[arg-type]
        if shards > 1:
            Stack.join(self.stacks)
        self.now_ns = BEGIN_S * SECOND_NS
        self.sent: deque[Sent] = deque()
        self.events: deque[tuple[Stack, StackEvent]] = deque()
        self.conversations: dict[tuple[str, int, int], Callable[[Sent, Tcp], str]] = {}  # by peer, its port, and ours
        self.listeners: list[int] = []
        self.waiting: list[tuple[Stack, int]] = []  # connections that were announced and are to be accepted
        self.ports = count(40000)
        """Of peers that say nothing else, one after the other."""
        self.log: list[str] = []
        self.failed = False
        self.give_addresses()
        self.turn()

    def give_addresses(self) -> None:
        """LOCAL is the host's."""
        for stack in self.stacks:
            for address, prefix in ((LOCAL[4], 24), (LOCAL[6], 64)):
                stack.add_address(f"{address}/{prefix}")

    @property
    def stack(self) -> Stack:
        """The only one, or the first."""
        return self.stacks[0]

    def shard_of(self, remote: tuple[str, int], local: tuple[str, int]) -> int:
        """The number of the stack that owns a connection."""
        return owner(remote, local, len(self.stacks))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not self.failed:
                self.no_surprise()
        finally:
            for stack in self.stacks:
                stack.close()

    # Time.

    @property
    def now_s(self) -> float:
        """Seconds since the host was made."""
        return self.now_ns / SECOND_NS - BEGIN_S

    def advance(self, seconds: float) -> None:
        """Let time pass. What the stack sends meanwhile waits to be expected."""
        self.no_surprise()
        self.run_until(self.now_ns + round(seconds * SECOND_NS), lambda: False)

    def run_until(self, end_ns: int, stop: Callable[[], bool]) -> None:
        """Go from deadline to deadline, to `end_ns` at the latest, until `stop` says so."""
        idle = 0
        while self.now_ns < end_ns and not stop():
            deadlines_ns = [deadline for stack in self.stacks if (deadline := stack.deadline_ns()) is not None]
            before_ns = self.now_ns
            self.now_ns = min(end_ns, max(self.now_ns, min(deadlines_ns, default=end_ns)))
            done = self.turn()
            idle = 0 if done or self.now_ns > before_ns else idle + 1
            if idle > TURNS_MAX:
                self.fail("the stack wants to be polled again and again, and does nothing")

    # Packets.

    def turn(self) -> bool:
        """Poll the stack until it is at rest; whether it did anything."""
        turns = 0
        while sum(stack.poll(self.now_ns) for stack in self.stacks) + self._collect():
            turns += 1
            if turns > TURNS_MAX:
                self.fail("the stack does not come to rest")
        for stack in self.stacks:
            if wrong := stack.check():
                self.fail(f"the stack's memory is not in order: {wrong}")
        return turns > 0

    def send_frame(self, frame: bytes, text: str = "", **flags: bool | int) -> None:
        """A frame comes in; flags as of `Stack.input`."""
        self.no_surprise()
        self.note("in", text or f"frame of {len(frame)} bytes")
        self._input(self.stacks[self._wrong_shard(frame)], frame, **flags)
        self.turn()

    def _input(self, stack: Stack, frame: bytes, **flags: bool | int) -> None:
        if self.capture:
            self.capture.write(self.now_ns, frame)
        stack.input(frame, **flags)  # type: ignore[arg-type]

    def _wrong_shard(self, frame: bytes) -> int:
        """The one behind the owner of the connection; the last one for all that belongs to none."""
        if len(self.stacks) == 1:
            return 0
        try:
            ip = packets.parse_ip(Ethernet.parse(frame).payload)
            tcp = Tcp.parse(ip.payload, ip.source, ip.destination)
        except Malformed:
            return len(self.stacks) - 1
        ends = (ip.source, tcp.source_port), (ip.destination, tcp.destination_port)
        return (self.shard_of(*ends) + 1) % len(self.stacks)

    def send_ip(self, ip: Ip, text: str = "", **flags: bool | int) -> None:
        """An IP packet comes in from the peer's MAC address."""
        destination = packets.multicast_mac(ip.destination) if ip.destination.startswith("ff") else self.stack.link.mac
        frame = Ethernet(destination, PEER_MAC, ip.ETHER_TYPE, ip.build()).build()
        self.send_frame(frame, text or f"{ip.source} > {ip.destination} protocol {ip.protocol}", **flags)

    def send_body(self, body: Tcp | Udp | Icmp, source: str | None = None, destination: str | None = None) -> None:
        """A transport packet comes in, from the peer's address unless said otherwise."""
        source, destination = source or PEER[self.family], destination or LOCAL[self.family]
        protocol = self._protocol(body, source)
        self.send_ip(packets.ip_packet(source, destination, protocol, body.build(source, destination)), repr(body))

    def send_arp(self, arp: Arp, destination: bytes = packets.BROADCAST_MAC) -> None:
        self.send_frame(Ethernet(destination, PEER_MAC, packets.ETHER_ARP, arp.build()).build(), repr(arp))

    @staticmethod
    def _protocol(body: Tcp | Udp | Icmp, source: str) -> int:
        if isinstance(body, Icmp):
            return packets.PROTOCOL_ICMPV6 if ":" in source else packets.PROTOCOL_ICMP
        return body.PROTOCOL

    def expect_body(self, kind: type[AnyBody], after: float = 0.0) -> tuple[AnyBody, Sent]:
        """The oldest frame that was sent holds this kind of body; it, and the whole frame. Waits `after` at most."""
        self.run_until(self.now_ns + round(after * SECOND_NS), lambda: bool(self.sent))
        if not self.sent:
            self.fail(f"expected {kind.__name__}, and nothing was sent")
        sent = self.sent.popleft()
        if not isinstance(sent.body, kind):
            self.fail(f"expected {kind.__name__}, got {self.describe(sent)}")
        return sent.body, sent

    def expect_nothing(self, seconds: float = 0.0) -> None:
        """Nothing is sent, now and for so many seconds."""
        self.no_surprise()
        self.advance(seconds)
        self.no_surprise()

    def no_surprise(self) -> None:
        """Fail if something was sent that nobody has expected."""
        if self.sent:
            self.fail("not expected:\n" + "\n".join(f"    {self.describe(sent)}" for sent in self.sent))

    # Counters and events.

    def counter(self, name: str) -> int:
        """A counter of the stack, of whichever kind; of all shards together."""
        for kind in ("tcp", "ip", "drops"):
            if name in self.stack.counters(kind):
                return sum(stack.counters(kind)[name] for stack in self.stacks)
        raise KeyError(name)

    def take_events(self, conn: int, *, shard: int = 0, is_udp: bool = False) -> list[StackEvent]:
        """Events of a connection or UDP endpoint since the last time."""
        own = [(stack, event) for stack, event in self.events
               if (stack, event.conn, event.is_udp) == (self.stacks[shard], conn, is_udp)]  # fmt: skip
        self.events = deque(pair for pair in self.events if pair not in own)
        return [event for _, event in own]

    def listen(self, port: int = 80, address: str = "", backlog: int = 128) -> int:
        """Returns the listener's number."""
        for stack in self.stacks:
            listener = stack.listen((address, port), backlog)
        self.listeners.append(listener)
        self.note("app", f"listen on port {port}")
        return listener

    # What the stack sent.

    def _collect(self) -> int:
        moved = 0
        for stack in self.stacks:
            while output := stack.output():
                moved += 1
                self._take_output(stack, output)
            for event in stack.events():
                moved += 1
                self._take_event(stack, event)
        return moved

    def _take_output(self, stack: Stack, output: OutputFrame) -> None:
        if self.capture:
            self.capture.write(self.now_ns, output.data)
        sent = self._take_apart(output)
        if self.neighbours and self._is_neighbour_business(sent):
            self._answer_neighbour(stack.link.mac, sent)
        else:
            self.note("out", self._hand_on(sent))
            self.sent.append(sent)

    def _take_event(self, stack: Stack, event: StackEvent) -> None:
        names = ", ".join(sorted(event.events)) + (f" ({event.reason})" if "closed" in event.events else "")
        self.note("event", names)
        if "accepted" in event.events:
            self.waiting.append((stack, event.conn))
        self.events.append((stack, event))

    def _hand_on(self, sent: Sent) -> str:
        """To the conversation that it belongs to, if any; what is to be told of it."""
        if sent.ip and isinstance(sent.body, Tcp):
            key = (sent.ip.destination, sent.body.destination_port, sent.body.source_port)
            if conversation := self.conversations.get(key):
                return conversation(sent, sent.body)
        return self.describe(sent)

    def _take_apart(self, output: OutputFrame) -> Sent:
        try:
            ethernet = Ethernet.parse(output.data)
            packets.need(ethernet.source == self.stack.link.mac, "source MAC address")
            if ethernet.ether_type == packets.ETHER_ARP:
                return Sent(self.now_s, output, ethernet, None, Arp.parse(ethernet.payload))
            ip = self._take_ip_apart(ethernet, output)
            return Sent(self.now_s, output, ethernet, ip, self._take_body_apart(ip, output))
        except Malformed as malformed:
            self.fail(f"the stack sent a malformed packet: {malformed}: {output.data.hex()}")

    def _take_ip_apart(self, ethernet: Ethernet, output: OutputFrame) -> Ip:
        ip = packets.parse_ip(ethernet.payload)
        packets.need(ethernet.ether_type == ip.ETHER_TYPE, "Ethernet type")
        packets.need(len(ip.build()) == len(ethernet.payload), "bytes behind the IP packet")
        packets.need(output.segment_bytes or len(ethernet.payload) <= self.stack.link.mtu, "larger than the MTU")
        packets.need(ip.hop_limit > 0, "hop limit 0")
        return ip

    def _take_body_apart(self, ip: Ip, output: OutputFrame) -> Body:
        partial = output.needs_checksum
        if is_fragment(ip):
            return ip.payload
        if ip.protocol == packets.PROTOCOL_TCP:
            return Tcp.parse(ip.payload, ip.source, ip.destination, partial=partial)
        if ip.protocol == packets.PROTOCOL_UDP:
            return Udp.parse(ip.payload, ip.source, ip.destination, partial=partial)
        if ip.protocol in (packets.PROTOCOL_ICMP, packets.PROTOCOL_ICMPV6):
            return Icmp.parse(ip.payload, ip.source, ip.destination)
        raise Malformed(f"protocol {ip.protocol}")

    @staticmethod
    def _is_neighbour_business(sent: Sent) -> bool:
        if isinstance(sent.ip, Ipv6) and isinstance(sent.body, Icmp):
            return sent.body.type in packets.LINK_BUSINESS
        return isinstance(sent.body, Arp)

    def _answer_neighbour(self, mac: bytes, sent: Sent) -> None:
        if isinstance(sent.body, Arp):
            if sent.body.operation != Arp.REQUEST or sent.body.sender in ("0.0.0.0", sent.body.target):
                return  # a probe or an announcement
            reply = Arp(Arp.REPLY, PEER_MAC, sent.body.target, mac, sent.body.sender)
            self._input(self.stacks[-1], Ethernet(mac, PEER_MAC, packets.ETHER_ARP, reply.build()).build())
        elif isinstance(sent.body, Icmp) and sent.ip and sent.body.type == packets.NEIGHBOUR_SOLICITATION:
            target = packets.text(sent.body.payload[:16])
            if target in LOCAL.values() or sent.ip.source == "::":
                return
            advertisement = packets.neighbour_advertisement(target, PEER_MAC).build(target, sent.ip.source)
            ip = Ipv6(target, sent.ip.source, packets.PROTOCOL_ICMPV6, advertisement, hop_limit=255)
            self._input(self.stacks[-1], Ethernet(mac, PEER_MAC, packets.ETHER_IPV6, ip.build()).build())

    # What is told of it.

    def describe(self, sent: Sent) -> str:
        """One line about a frame."""
        if sent.ip is None:
            return repr(sent.body)
        body = f"{len(sent.body)} bytes" if isinstance(sent.body, bytes) else repr(sent.body)
        return f"{sent.ip.source} > {sent.ip.destination}: {body}"

    def note(self, what: str, text: str) -> None:
        """A line of the log."""
        self.log.append(f"{self.now_s:10.4f}  {what:<5}  {text}")

    def fail(self, text: str) -> NoReturn:
        """ScenarioFailed with the line of the test and the log."""
        self.failed = True
        skipped = len(self.log) - LOG_LINES
        log = ([f"    … {skipped} lines before"] if skipped > 0 else []) + [
            f"    {line}" for line in self.log[-LOG_LINES:]
        ]
        raise ScenarioFailed("\n".join([f"{_place()}: {text}", "conversation:", *log]))


def is_fragment(ip: Ip) -> bool:
    """Whether the packet is a part of a larger one."""
    if isinstance(ip, Ipv4):
        return ip.more_fragments or ip.fragment_offset > 0
    return any(kind == packets.FRAGMENT for kind, _ in ip.extensions)


def family_of(address: str) -> int:
    """4 or 6."""
    return ipaddress.ip_address(address).version


def _place() -> str:
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
