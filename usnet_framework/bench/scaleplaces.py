"""Where a server with several queues and its load meet: the namespaces of netns.py, with as many queues as asked for.

    kernel    a veth pair; what comes is spread over the cores of its side (RPS)
    tap       a TAP interface with several queues beside that pair, the load at the kernel's end
    afxdp     the pair; the server has a station of its own at one end of it, and its sockets take what comes there

Each kernel receives on the cores of its own side (netns.py says why). An XDP program runs before that can be: what
comes for an afxdp server is taken off the pair in the context of its sender, so the load's cores pay for it.

On a pair, the queue of a packet follows from a random number of the sender's socket, which the sender may draw anew
when it sends something again. The load keeps its numbers (txrehash). So flows stay where they are, and what crosses
between shards tells how the pair chooses queues, not what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from usnet_framework.bench.netns import (
    PAIR_NETWORK,
    TAP_INTERFACE,
    TAP_NETWORK,
    NamespaceError,
    Side,
    TapLink,
    VethPair,
    on_network,
    receive_on,
    run,
)
from usnet_framework.bench.network import Loopback, Network, why_no_namespaces
from usnet_framework.bench.scalepoints import Sides
from usnet_framework.errors import StartupError, UsageError

CHOICES = ("veth", "loopback")


@dataclass(frozen=True)
class Place:
    """`options` are those of usnet-serve there; `receivers` the interfaces, and the cores of whoever is behind them."""

    network: Network
    options: tuple[str, ...] = ()
    receivers: tuple[tuple[Side, tuple[int, ...]], ...] = ()

    def receive_at_home(self) -> None:
        """Once the server serves: a TAP interface has its queues only then."""
        for side, cores in self.receivers:
            receive_on(side, *cores)


def check(choice: str, backends: tuple[str, ...]) -> None:
    """UsageError, StartupError: there is no such place."""
    if choice == "loopback":
        for backend in backends:
            if backend != "kernel":
                raise UsageError(f"--network loopback: {backend} needs an interface; use --backends kernel")
    elif missing := why_no_namespaces():
        raise StartupError(f"--network veth: {missing}; use --network loopback --backends kernel")


@contextmanager
def open_place(choice: str, backend: str, queues: int, sides: Sides) -> Iterator[Place]:
    """It is removed with the block."""
    if choice == "loopback":
        yield Place(Loopback())
        return
    pair = VethPair(queues)
    try:
        yield _made(pair, backend, queues, sides)
    finally:
        pair.remove()


def _made(pair: VethPair, backend: str, queues: int, sides: Sides) -> Place:
    try:
        pair.create()
        _keep_queues(pair)
        if backend == "tap":
            return _on_tap(pair, queues, sides)
        return _on_pair(pair, sides) if backend == "kernel" else _beside_pair(pair, sides)
    except NamespaceError as error:
        raise StartupError(f"--network veth: {error}") from None


def _keep_queues(pair: VethPair) -> None:
    run(*pair.on_client(["sh", "-c", "echo 0 > /proc/sys/net/core/txrehash"]))


def _on_pair(pair: VethPair, sides: Sides) -> Place:
    return Place(pair, (), ((pair.server, sides.server), (pair.client, sides.load)))


def _on_tap(pair: VethPair, queues: int, sides: Sides) -> Place:
    tap = TapLink(pair, queues)
    tap.create()
    return Place(tap, _options("tap", TAP_INTERFACE, tap, TAP_NETWORK), ((tap.client, sides.load),))


def _beside_pair(pair: VethPair, sides: Sides) -> Place:
    """The address is the server's, not the kernel's."""
    run("ip", "-n", pair.server.namespace, "address", "flush", "dev", pair.server.device)
    return Place(pair, _options("afxdp", pair.server.device, pair, PAIR_NETWORK), ((pair.client, sides.load),))


def _options(backend: str, interface: str, place: Network, network: str) -> tuple[str, ...]:
    host, _ = place.new_address()
    return ("--backend", backend, "--interface", interface, "--address", on_network(host, network))
