"""Random networks: what a seed means, and what has to hold in every one of them.

`World(seed)` draws hosts, cables, sizes and options of the stacks, conversations, and what goes wrong: cables that are
cut for a while or for good, stacks whose memory is continued elsewhere. `run` lets it happen and raises
SimulationFailed when something does not hold:

- What an application reads is what its peer sent, in order, exactly once (`applications` compares each byte).
- A conversation whose ends behave, over cables that come back, delivers all and ends. One that an end gave up, or whose
  cable was cut for good, ends too, and delivered a part of it from the beginning.
- Memory of the stacks is in order all the time; at the end, when TIME-WAIT is over, nothing is left in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from usnet_framework._native_stack import CONGESTIONS, Endpoint
from usnet_framework.testing.applications import Answerer, Asker, Echo, Peer, Quitter, Reader, Resetter, Sender
from usnet_framework.testing.links import Profile
from usnet_framework.testing.network import Network, Node
from usnet_framework.testing.stations import SimulationFailed

PORT = 1000
"""Of the first conversation's listener; each has one of its own."""
DEADLINE_S = 4 * 3600.0
"""Virtual time after which a conversation that goes on has come to a halt."""
REST_S = 1000.0
"""After the last conversation: TIME-WAIT, FIN-WAIT-2, keepalive and user timeouts of what has no owner any more."""

KEEPALIVE = {"keepalive": 1, "keep_idle_s": 30, "keep_interval_s": 10, "keep_count": 8}
"""An end whose peer vanished without a word has to find out."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Makers of a client's and of a server's application; None: nobody listens. Rude: an end may give up early."""

    client: Callable[[], Peer]
    server: Callable[[], Peer] | None
    is_rude: bool = False


def describe(end: Peer) -> str:
    """One line about an end."""
    seen = f"sent {end.sent}, received {end.received}{' and the end' if end.has_eof else ''}"
    return f"{type(end).__name__} {end.socket.local} > {end.socket.remote}: {seen} ({end.reason or 'open'})"


@dataclass(eq=False)
class Conversation:
    """Two ends that talk: the client's application, and the server's, if one accepted."""

    client_node: Node
    server_node: Node
    client: Peer
    server: Peer | None = None
    is_excused: bool = False
    """It need not deliver everything."""

    @property
    def was_harmed(self) -> bool:
        """Cables lost something, so that a neighbour may not have answered."""
        return any(node.up.lost or node.down.lost for node in (self.client_node, self.server_node))

    def verify(self) -> None:
        """What has to hold when both ends are over."""
        if self.server is None:
            is_excused = self.is_excused or (self.client.reason == "unreachable" and self.was_harmed)
            if not is_excused or self.client.received:
                raise SimulationFailed(f"it never came to be: {describe(self.client)}")
            return
        for one, other in ((self.client, self.server), (self.server, self.client)):
            if one.received > other.sent:
                raise SimulationFailed(f"more was read than sent: {describe(one)}; {describe(other)}")
            is_whole = one.received == other.sent and one.has_eof and one.is_ended
            if not is_whole and not self.is_excused:
                raise SimulationFailed(f"something is missing: {describe(one)}; {describe(other)}")


class World:
    """A network drawn from a seed. `capture` gets its packets, as of Network."""

    def __init__(self, seed: int, capture: BinaryIO | None = None) -> None:
        self.seed = seed
        self.random = random.Random(f"world {seed}")
        self.family = self.random.choice((4, 6))
        self.network = Network(seed, check_every=self.random.choice((1, 7, 64)), capture=capture)
        self.conversations: list[Conversation] = []
        self.accepted: list[Peer] = []
        self.pending = 0  # conversations still to come
        self.dead: set[Node] = set()  # whose cable was cut for good
        self.moves = 0
        self.nodes = [self._node(index) for index in range(self.random.choice((2, 2, 2, 3, 4)))]
        self.usages = [node.stack.usage() for node in self.nodes]
        for number in range(self.random.randint(1, 8)):
            self._plan(number)
        self._plan_troubles()

    # Drawing.

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _around(self, least: float, most: float) -> float:
        """Between the two, all orders of magnitude alike."""
        return float(least * (most / least) ** self.random.random())

    def _address(self, index: int) -> str:
        return f"10.0.0.{index + 1}" if self.family == 4 else f"fd00::{index + 1}"

    def _node(self, index: int) -> Node:
        address = self._address(index) + ("/24" if self.family == 4 else "/64")
        return self.network.node(
            address,
            up=self._profile(),
            down=self._profile() if self._chance(0.3) else None,
            mtu=self.random.choice((1500, 1500, 1500, 1280, 9000)),
            offload=self.random.choice(("none", "none", "card", "virtual")),
            slots=self.random.choice((16, 64, 256)),
            **self._options(),
        )

    def _profile(self) -> Profile:
        chance, around = self._chance, self._around
        return Profile(
            delay_s=around(0.0001, 0.15) if chance(0.9) else 0.0,
            loss=around(0.001, 0.08) if chance(0.5) else 0.0,
            duplicate=around(0.001, 0.05) if chance(0.3) else 0.0,
            corrupt=around(0.001, 0.05) if chance(0.3) else 0.0,
            reorder=around(0.001, 0.1) if chance(0.3) else 0.0,
            reorder_s=around(0.001, 0.3),
            mark=around(0.001, 0.05) if chance(0.2) else 0.0,
            rate_bps=around(200e3, 1e9) if chance(0.5) else 0.0,
            queue_bytes=round(around(6_000, 500_000)),
            mtu=self.random.randrange(1280, 1500) if chance(0.15) else 0,
            announce_mtu=chance(0.7),
        )

    def _options(self) -> dict[str, Any]:
        draw = self.random
        return {
            "conn_max": draw.choice((16, 64)),
            "frames": draw.choice((128, 256, 1024)),
            "frame_bytes": draw.choice((512, 2048, 2048, 4096)),
            "sents": draw.choice((64, 512, 2048)),
            "neighbours": 16,
            "time_wait_max": draw.choice((2, 8)),
            "rcv_limit": round(self._around(4096, 500_000)),
            "snd_limit": round(self._around(4096, 500_000)),
            "user_timeout_ms": 600_000,
            "msl_ms": draw.choice((1000, 30_000)),
            "initial_window": draw.choice((2, 10, 10)),
            "congestion": draw.randrange(len(CONGESTIONS)),
            "ecn": self._chance(0.5),
            "timestamps": self._chance(0.7),
            "sack": self._chance(0.7),
            "window_scaling": self._chance(0.7),
            "path_mtu_probing": True,
            "syn_retries": 12,
            "syn_ack_retries": 12,
            "port_low": 50_000,
            "port_high": 50_000 + draw.choice((40, 10_000)),
        }

    def _plan(self, number: int) -> None:
        """A conversation, or several of a kind one after the other."""
        client, server = self.random.sample(self.nodes, 2)
        pair = self._refused() if self._chance(0.06) else self.random.choice(self.KINDS)(self)
        options = KEEPALIVE | {"nodelay": self.random.randrange(2), "quickack": int(self._chance(0.1))}
        port = PORT + number
        if pair.server:
            make = pair.server
            server.listen(port, lambda: self._accepted(make(), options), backlog=self.random.choice((1, 4, 128)))
        times = self.random.randint(5, 25) if self._chance(0.15) else 1
        begin_s = self.random.choice((0.0, self._around(0.001, 3.0)))
        self.network.clock.later(begin_s, self._begin, times, client, server, port, pair, options)
        self.pending += times

    def _begin(self, times: int, client: Node, server: Node, port: int, pair: Pair, options: dict[str, int]) -> None:
        self.pending -= 1
        application = pair.client()
        application.options = options
        if times > 1:
            again = (self._begin, times - 1, client, server, port, pair, options)
            application.on_over = lambda: self.network.clock.later(0.01, *again)
        is_excused = pair.is_rude or bool({client, server} & self.dead)
        self.conversations.append(Conversation(client, server, application, is_excused=is_excused))
        client.connect((self._address(self.nodes.index(server)), port), application)

    def _accepted(self, application: Peer, options: dict[str, int]) -> Peer:
        application.options = options
        self.accepted.append(application)
        return application

    # Kinds of conversations.

    def _size(self) -> int:
        return round(self._around(1, 1_500_000))

    def _sender(self, *, echoed: bool = False) -> Callable[[], Peer]:
        total, piece = self._size(), 65536
        if self._chance(0.3):
            piece = round(self._around(1, 3000))
            total = min(total, piece * 300)
        return lambda: Sender(total, piece=piece, echoed=echoed)

    def _turned(self, one: Callable[[], Peer], other: Callable[[], Peer], *, is_rude: bool = False) -> Pair:
        """Either end may be the client."""
        return Pair(one, other, is_rude) if self._chance(0.5) else Pair(other, one, is_rude)

    def _bulk(self) -> Pair:
        return self._turned(self._sender(), Reader)

    def _both_ways(self) -> Pair:
        return Pair(self._sender(), self._sender())

    def _echo(self) -> Pair:
        return Pair(self._sender(echoed=True), Echo)

    def _requests(self) -> Pair:
        rounds, think_s = self.random.randint(1, 30), self._around(0.001, 5.0) if self._chance(0.3) else 0.0
        request, response = (round(self._around(1, 20_000)) for _ in range(2))
        return Pair(lambda: Asker(rounds, request, response, think_s), lambda: Answerer(request, response))

    def _half_close(self) -> Pair:
        answer = self._size()
        return self._turned(self._sender(), lambda: Reader(answer=answer))

    def _slow(self) -> Pair:
        chunk, pause_s = round(self._around(2000, 60_000)), self._around(0.001, 2.0)
        hold_s = self._around(0.1, 100.0) if self._chance(0.5) else 0.0
        return self._turned(self._sender(), lambda: Reader(chunk=chunk, pause_s=pause_s, hold_s=hold_s))

    def _rude(self) -> Pair:
        after, kind = self.random.choice((0, self._size())), self.random.choice((Quitter, Resetter))
        return self._turned(self._sender(), lambda: kind(after), is_rude=True)

    def _refused(self) -> Pair:
        return Pair(lambda: Sender(1), None, is_rude=True)

    KINDS = (_bulk, _bulk, _both_ways, _echo, _requests, _half_close, _slow, _rude)

    # Troubles.

    def _plan_troubles(self) -> None:
        later = self.network.clock.later
        if self._chance(0.5):
            self._move(self._around(0.005, 5.0))
        for _ in range(self.random.choice((0, 0, 0, 1, 3))):
            node, begin_s = self.random.choice(self.nodes), self._around(0.01, 10.0)
            later(begin_s, self._cut, node, True)
            if self._chance(0.9):
                later(begin_s + self._around(0.01, 20.0), self._cut, node, False)
            else:
                later(begin_s, self._kill, node)

    def _cut(self, node: Node, is_cut: bool) -> None:
        node.up.is_cut = node.down.is_cut = is_cut or node in self.dead

    def _kill(self, node: Node) -> None:
        self.dead.add(node)
        self._cut(node, True)
        for conversation in self.conversations:
            conversation.is_excused |= node in (conversation.client_node, conversation.server_node)

    def _move(self, mean_s: float) -> None:
        """At random moments from now on, less and less often, a stack goes on elsewhere."""

        def move() -> None:
            if not self.is_over:
                self.random.choice(self.nodes).move()
                self.moves += 1
                self._move(mean_s * 1.05)

        self.network.clock.later(self.random.expovariate(1 / mean_s), move)

    # Running.

    @property
    def is_over(self) -> bool:
        """No conversation goes on, and none will begin."""
        return not self.pending and all(end.is_over for end in self._ends())

    def _ends(self) -> list[Peer]:
        return [conversation.client for conversation in self.conversations] + self.accepted

    def run(self) -> None:
        """SimulationFailed when something does not hold."""
        with self.network as network:
            if not network.run(DEADLINE_S, until=lambda: self.is_over):
                raise SimulationFailed(f"what does not end: {self._open_ends()}")
            self._match()
            for conversation in self.conversations:
                conversation.verify()
            network.run(REST_S)
            for node, usage in zip(self.nodes, self.usages, strict=True):
                node.check()
                if (left := node.stack.usage()) != usage:
                    open_states = [info.state for _, info in node.stack.connections()]
                    raise SimulationFailed(f"{node.stack.link.mac.hex()} keeps {left} of {usage}; open: {open_states}")

    def _open_ends(self) -> str:
        return "; ".join(
            f"{describe(end)} {end.socket.info() if end.socket.is_open else ''}"
            for end in self._ends()
            if not end.is_over
        )

    def _match(self) -> None:
        """Ends of one connection find each other by their addresses, in the order of time."""
        clients: dict[tuple[Endpoint, Endpoint], list[Conversation]] = {}
        for conversation in self.conversations:
            socket = conversation.client.socket
            clients.setdefault((socket.local, socket.remote), []).append(conversation)
        for server in self.accepted:
            candidates = clients.get((server.socket.remote, server.socket.local))
            if not candidates:
                raise SimulationFailed(f"nobody opened this connection: {describe(server)}")
            candidates.pop(0).server = server
