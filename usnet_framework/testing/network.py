"""A simulated network: stacks on a switch, in virtual time.

Each `Node` is a stack on a cable to one switch; `up` and `down` say how the cable's directions treat packets. What runs
on a connection is an `Application`; `applications` has some to begin with. Equal seeds give equal runs, to the byte.

    with Network(seed=1) as network:
        server = network.node("10.0.0.1/24")
        client = network.node("10.0.0.2/24", up=Profile(delay_s=0.01, loss=0.02), down=Profile(delay_s=0.01))
        server.listen(80, Echo)
        sender = client.connect(("10.0.0.1", 80), Sender(100_000, echoed=True))
        network.run(until=lambda: sender.is_over)
        assert sender.received == 100_000
        print(network.now_s, client.stack.counters("tcp")["retransmitted"])
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Self, TypeVar

from usnet_framework._native_stack import Endpoint, Link, Stack, StackEvent, TcpInfo
from usnet_framework.handler import Handler
from usnet_framework.testing.capture import Capture
from usnet_framework.testing.links import Clock, Profile
from usnet_framework.testing.offload import Frame
from usnet_framework.testing.server import Server
from usnet_framework.testing.stations import OFFLOADS, Offload, SimulationFailed, Station
from usnet_framework.values import own_address


class Application:
    """What runs on a connection: override what matters. `socket` is there from `on_open` on, or from `connect`."""

    socket: Socket

    def on_open(self) -> None:
        """The connection is established."""

    def on_readable(self) -> None:
        """Something came since the last time."""

    def on_eof(self) -> None:
        """The peer has ended its output; what came before can still be read."""

    def on_writable(self) -> None:
        """There is room again, after a write that was not taken whole."""

    def on_close(self, reason: str) -> None:
        """It is over, without `close` or `abort` having been called."""


LATER_OR_OVER = {errno.EAGAIN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ETIMEDOUT,
                 errno.EHOSTUNREACH}  # fmt: skip
"""What is no mistake of the application: an event follows."""

Result = TypeVar("Result")
AnyApplication = TypeVar("AnyApplication", bound=Application)


def _ignored(error: OSError, result: Result) -> Result:
    if error.errno not in LATER_OR_OVER:
        raise error
    return result


class Socket:
    """One end of a connection. Once it is over or given up, calls raise OSError (EBADF)."""

    def __init__(self, node: Node, conn: int, application: Application) -> None:
        self.node = node
        self.conn = conn
        self.application = application
        info = node.stack.info(conn)
        self.local, self.remote = info.local, info.remote
        self.is_told = False  # that it is connected; a stack that goes on elsewhere says so again

    @property
    def is_open(self) -> bool:
        return self.conn in self.node.sockets

    def write(self, data: bytes) -> int:
        """How much was taken; if not all, `on_writable` or `on_close` follows."""
        self.node.touch()
        try:
            return self.node.stack.write(self.conn, data)
        except OSError as error:
            return _ignored(error, 0)

    def read(self, most: int = 2**16) -> bytes | None:
        """None: nothing is there; b"": the peer has ended its output."""
        self.node.touch()
        try:
            return self.node.stack.read(self.conn, most)
        except OSError as error:
            return _ignored(error, None)

    def shutdown(self) -> None:
        """End of output."""
        self.node.touch()
        try:
            self.node.stack.shutdown(self.conn)
        except OSError as error:
            _ignored(error, None)

    def close(self) -> None:
        """Give it up, in order."""
        self.node.touch()
        del self.node.sockets[self.conn]
        self.node.stack.close_connection(self.conn)

    def abort(self) -> None:
        """Give it up, with a reset."""
        self.node.touch()
        del self.node.sockets[self.conn]
        self.node.stack.abort(self.conn)

    def set_option(self, option: str, value: int) -> None:
        """`option`: as of `Stack.set_option`."""
        self.node.stack.set_option(self.conn, option, value)

    def info(self) -> TcpInfo:
        return self.node.stack.info(self.conn)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it then, if the connection is still there."""
        self.node.network.clock.later(seconds, lambda: call() if self.is_open else None)


class Node(Station):
    """A stack, its cable, its listeners and the sockets on it. `Network.node` makes them."""

    def __init__(self, network: Network, stack: Stack, offload: Offload) -> None:
        super().__init__(network, stack.link, offload)
        self.network = network
        self.stack = stack
        self.sockets: dict[int, Socket] = {}
        self.listeners: dict[int, Callable[[], Application]] = {}

    # What the user calls.

    def listen(self, port: int, make: Callable[[], Application], backlog: int = 128) -> int:
        """An application for each connection that comes; returns the listener's number."""
        listener = self.stack.listen(("", port), backlog)
        self.listeners[listener] = make
        return listener

    def connect(self, to: Endpoint, application: AnyApplication) -> AnyApplication:
        """Returns the application, which has its socket then. OSError: as of `Stack.connect`."""
        conn = self.stack.connect(to)
        self._adopt_socket(conn, application)
        self.touch()
        return application

    def move(self) -> None:
        """Go on with a copy of the stack's memory elsewhere, as after the death of its process: nobody is to notice."""
        self.turn()
        old, link = self.stack, self.stack.link
        self.stack = Stack.adopt(old.image(), link)
        old.close()
        self.turn()

    # Turns.

    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        self.stack.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def _work(self, now_ns: int) -> int:
        moved = self.stack.poll(now_ns)
        while output := self.stack.output():
            moved += 1
            self._transmit(output)
        for event in self.stack.events():
            moved += 1
            self._on_event(event)
        return moved

    def _deadline_ns(self) -> int | None:
        return self.stack.deadline_ns()

    def check(self) -> None:
        if wrong := self.stack.check():
            raise SimulationFailed(f"the memory of the stack {self.link.mac.hex()} is not in order: {wrong}")

    def close(self) -> None:
        self.stack.close()

    # Events.

    def _adopt_socket(self, conn: int, application: Application) -> Socket:
        application.socket = self.sockets[conn] = Socket(self, conn, application)
        return application.socket

    def _on_event(self, event: StackEvent) -> None:
        conn, events = event.conn, event.events
        if "accepted" in events:
            self.stack.accept(conn)
            self._adopt_socket(conn, self.listeners[event.listener]())
        socket = self.sockets.get(conn)
        if socket is None or event.is_udp:
            return
        application = socket.application
        calls = [application.on_open] if not socket.is_told and events & {"accepted", "connected"} else []
        socket.is_told |= bool(calls)
        calls += [getattr(application, f"on_{name}") for name in ("readable", "eof", "writable") if name in events]
        for call in calls:
            if conn in self.sockets:
                call()
        if "closed" in events and conn in self.sockets:
            socket.close()
            application.on_close(event.reason)


class Network:
    """Nodes on a switch, and the clock. `check_every`: turns of a node between two checks of all its memory.

    capture: a file that gets all frames that arrive, in the format of pcap, readable by Wireshark.
    """

    def __init__(self, seed: int = 0, *, check_every: int = 64, capture: BinaryIO | None = None) -> None:
        self.seed = seed
        self.clock = Clock()
        self.check_every = check_every
        self.capture = Capture(capture) if capture else None
        self.nodes: list[Node] = []
        self.touched: list[Station] = []
        self._by_mac: dict[bytes, Station] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for station in self._by_mac.values():
            station.close()

    @property
    def now_s(self) -> float:
        """Seconds since the network was made."""
        return self.clock.now_s

    def node(self, *addresses: str, up: Profile | None = None, down: Profile | None = None, mtu: int = 1500,
             offload: Offload = "none", slots: int = 1024, **options: Any) -> Node:  # fmt: skip
        """A stack with these addresses ("10.0.0.1/24") on a cable of its own; options are those of `Stack`.
        ValueError: no such address."""
        own = _own(addresses)
        number = len(self._by_mac) + 1
        link = self._link(mtu, offload, slots)
        chosen = {"seed": self.seed * 1000 + number, "secret": bytes([number]) * 16, **options}
        chosen.setdefault("accept_partial_checksum", offload == "virtual")
        node = Node(self, Stack(link=link, **chosen), offload)
        for address in own:
            node.stack.add_address(address)
            node.addresses.append(address.partition("/")[0])
        self.nodes.append(node)
        self._plug_in(node, up, down)
        return node

    def serve(self, handler_class: Callable[[], Handler], *addresses: str, port: int = 7000, up: Profile | None = None,
              down: Profile | None = None, mtu: int = 1500, offload: Offload = "none", slots: int = 1024,
              queues: int = 1, workers: int = 1, max_connections: int = 64, idle_timeout: float = 0.0,
              state_bytes: int = 64) -> Server:  # fmt: skip
        """A server that runs a handler, listening on this port of its addresses ("10.0.0.1/24"), on a cable of its own.
        As of `usnet-serve`: `queues`, which is the number of shards; `workers` and `max_connections` of each;
        `idle_timeout` in seconds, 0: none; `state_bytes`. Whatever the handler raises when it is made and started.
        ValueError: no such address."""
        server = Server(
            self, self._link(mtu, offload, slots), offload, handler_class, _own(addresses), port, queues=queues,
            workers=workers, max_connections=max_connections, idle_timeout=idle_timeout, state_bytes=state_bytes,
        )  # fmt: skip
        self._plug_in(server, up, down)
        return server

    def _link(self, mtu: int, offload: Offload, slots: int) -> Link:
        mac = bytes.fromhex("02000000") + (len(self._by_mac) + 1).to_bytes(2, "big")
        return replace(Link(mac=mac, mtu=mtu, slots=slots), **OFFLOADS[offload])  # type: ignore[arg-type]

    def _plug_in(self, station: Station, up: Profile | None, down: Profile | None) -> None:
        station.up.profile = up or Profile()
        station.down.profile = down or Profile()
        self._by_mac[station.link.mac] = station
        station.touch()

    def switch(self, frame: Frame) -> None:
        """A frame comes out of a cable at the switch."""
        data = frame if isinstance(frame, bytes) else frame.data
        if data[0] & 1:
            source = data[6:12]
            for mac, other in self._by_mac.items():
                if mac != source:
                    other.down.send(frame)
        elif station := self._by_mac.get(data[:6]):
            station.down.send(frame)

    def step(self) -> bool:
        """All that happens at one moment, the next one; False: nothing will ever happen."""
        if not self.touched:
            if self.clock.next_ns() is None:
                return False
            self.clock.step()
        while self.touched:
            stations, self.touched = self.touched, []
            for station in stations:
                station.turn()
        return True

    def run(
        self, seconds: float | None = None, *, until: Callable[[], bool] = lambda: False, limit: float | None = None
    ) -> bool:
        """Let time pass: so many seconds, or until that holds, or until nothing happens any more. Whether it holds.

        `limit`, instead of `seconds`: SimulationFailed when it does not hold after so many, so that a test need not
        look."""
        if limit is not None:
            if not self.run(limit, until=until):
                raise SimulationFailed(f"what was waited for is not there after {limit:g} seconds of virtual time")
            return True
        end_ns = None if seconds is None else self.clock.now_ns + round(seconds * 1e9)
        while not until():
            next_ns = self.clock.next_ns()
            if not self.touched and end_ns is not None and (next_ns is None or next_ns > end_ns):
                self.clock.now_ns = end_ns
                return until()
            if not self.step():
                return until()
        return True


def _own(addresses: Sequence[str]) -> list[str]:
    """ValueError: without a prefix, say, with which nobody would be a neighbour."""
    try:
        return [own_address(address) for address in addresses]
    except ValueError as expected:
        raise ValueError(f"{', '.join(addresses)}: what is needed is {expected}") from None
