"""Servers on a simulated network, for the tests of usnet_framework.testing: at 10.0.0.1 and fd00::1, port 7000."""

from __future__ import annotations

from typing import Any, TypeVar

from usnet_framework import Connection, Handler
from usnet_framework.testing import Network, Profile, Server
from usnet_framework.testing.network import Application

LOSSY = Profile(delay_s=0.02, loss=0.05, duplicate=0.01, reorder=0.02)

A = TypeVar("A", bound=Application)


class Noted(Handler):
    """Writes down what it does, for all instances of a class."""

    notes: list[str]

    def __init_subclass__(cls) -> None:
        cls.notes = []

    def on_resume(self, conn: Connection) -> None:
        self.notes.append("resumed")


class Count(Handler):
    """Answers each byte with how many came before it on this connection, whatever happens to workers."""

    def __init__(self) -> None:
        self.resumed: list[bytes] = []

    def on_data(self, conn: Connection, data: memoryview) -> None:
        count = int.from_bytes(conn.state)
        for _ in data:
            conn.send(b"%d " % count)
            count += 1
        conn.state = count.to_bytes(4)

    def on_resume(self, conn: Connection) -> None:
        self.resumed.append(conn.state)


def serve(network: Network, handler: type[Handler], profile: Profile | None = None, **options: Any) -> Server:
    return network.serve(handler, "10.0.0.1/24", "fd00::1/64", up=profile, down=profile, **options)


def connect(network: Network, application: A, address: str = "10.0.0.1") -> A:
    """From a node of its own."""
    number = len(network.nodes) + 100
    return network.node(f"10.0.0.{number}/24", f"fd00::{number}/64").connect((address, 7000), application)
