"""Where a server and its load meet. A Network says at which address the server listens and how a command is run on
either side; making and removing what it needs is the business of its context manager."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from usnet_framework.bench.netns import NamespaceError, Station, TapLink, VethPair
from usnet_framework.errors import StartupError, UsageError, UsnetError

CHOICES = ("auto", "veth", "loopback")


class Network(Protocol):
    @property
    def description(self) -> str: ...

    def new_address(self) -> tuple[str, int]:
        """Host and port for a server that is about to start."""

    def on_server(self, command: Sequence[str]) -> list[str]: ...

    def on_client(self, command: Sequence[str]) -> list[str]: ...


class Loopback:
    def __init__(self, why: str = "") -> None:
        self.description = f"loopback ({why})" if why else "loopback"

    def new_address(self) -> tuple[str, int]:
        return "127.0.0.1", free_port()

    def on_server(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def on_client(self, command: Sequence[str]) -> list[str]:
        return list(command)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def why_no_namespaces() -> str:
    """Empty when this process may make network namespaces."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "ip and tc of iproute2 are not installed"
    return ""


def _create(made: VethPair | TapLink) -> str:
    """Empty, or why it could not be made."""
    try:
        made.create()
    except NamespaceError as error:
        return str(error)
    return ""


@contextmanager
def open_network(choice: str) -> Iterator[Network]:
    """`veth`: a pair between two namespaces; `loopback`; `auto`: the pair if it can be had, or loopback and why."""
    if choice == "loopback":
        yield Loopback()
        return
    pair = VethPair()
    try:
        missing = why_no_namespaces() or _create(pair)
        if missing and choice == "veth":
            raise StartupError(f"--network veth: {missing}; use --network loopback")
        yield Loopback(f"no veth pair: {missing}") if missing else pair
    finally:
        pair.remove()


def _no_namespaces(needs: str, network: Network) -> UsnetError:
    """Whose fault that is: the caller's who chose loopback, or the machine's."""
    kind = UsageError if network.description == Loopback().description else StartupError
    return kind(f"{needs} network namespaces, not {network.description}")


def receive_at_home(network: Network, server_core: int, load_core: int) -> None:
    """Each kernel receives on the core of the process that it receives for, not on that of the sender (netns.py)."""
    if not isinstance(network, VethPair | Station | TapLink):
        raise _no_namespaces("--rps needs", network)
    try:
        network.receive_at_home(server_core, load_core)
    except NamespaceError as error:
        raise StartupError(f"--rps: {error}") from error


def pair_of(needs: str, network: Network) -> VethPair:
    """UsageError, StartupError: it is none."""
    if not isinstance(network, VethPair):
        raise _no_namespaces(needs, network)
    return network


def stop_segmenting(network: Network) -> None:
    """Neither kernel leaves it to the veth pair to cut what TCP sends."""
    try:
        pair_of("--no-segmentation needs", network).stop_segmenting()
    except NamespaceError as error:
        raise StartupError(f"--no-segmentation: {error}") from error


def add_station(network: Network) -> Network:
    """A station beside the server's kernel, for servers with a stack of their own on a veth pair."""
    return Station(pair_of("servers over AF_XDP need", network))


def add_tap(network: Network) -> Network:
    """A TAP interface beside a veth pair, for servers with a stack of their own. It is removed with the pair."""
    link = TapLink(pair_of("servers over TAP need", network))
    missing = _create(link)
    if missing:
        raise StartupError(f"servers over TAP: {missing}")
    return link
