"""Whoever is on a simulated network: a cable to the switch, and turns in virtual time.

A station is polled until it is at rest whenever something happened to it: a frame came, its owner called it, or its
deadline is there. `network.Node` is a stack with sockets on it, `server.Server` a whole server that runs a handler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

from usnet_framework._native_stack import Link, OutputFrame
from usnet_framework.testing import offload
from usnet_framework.testing.capture import Capture
from usnet_framework.testing.links import Clock, Wire
from usnet_framework.testing.offload import Frame

TURNS_MAX = 1000
"""Polls of a station at one moment; more, and it does not come to rest."""

SUPER_SEGMENT_BYTES = 65000

Offload = Literal["none", "card", "virtual"]
"""What the cable's end does for the stack: nothing; complete checksums and cut super-segments, as a network card does;
hand super-segments on as they are, as a virtual link does."""

OFFLOADS: dict[Offload, dict[str, int | bool]] = {
    "none": {},
    "card": {"tx_checksum": True, "tx_segment_bytes": SUPER_SEGMENT_BYTES},
    "virtual": {"tx_checksum": True, "tx_segment_bytes": SUPER_SEGMENT_BYTES, "rx_coalesce": True},
}


class SimulationFailed(AssertionError):
    """The simulation found something that must not be; the text says what."""


class Switch(Protocol):
    """What a station knows of its network."""

    seed: int
    clock: Clock
    check_every: int
    capture: Capture | None
    touched: list[Station]

    def switch(self, frame: Frame) -> None: ...
    def step(self) -> bool: ...
    def run(self, seconds: float | None = None, *, until: Callable[[], bool] = ...) -> bool: ...


class Station(ABC):
    """A cable to the switch, and what is at its end."""

    def __init__(self, network: Switch, link: Link, offload: Offload) -> None:
        self._network = network
        self.link = link
        self.offload = offload
        self.addresses: list[str] = []
        name = link.mac.hex()
        self.up = Wire(network.clock, f"{network.seed} up {name}", network.switch, self.receive)
        self.down = Wire(network.clock, f"{network.seed} down {name}", self.receive, network.switch)
        self.overruns = 0
        self.turns = 0
        self.is_touched = False
        self._wake_ns: int | None = None

    @abstractmethod
    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        """A frame, for the next turn. OSError: there is no room for it."""

    @abstractmethod
    def _work(self, now_ns: int) -> int:
        """Do what is to be done now, send included (`_transmit`): how much that was."""

    @abstractmethod
    def _deadline_ns(self) -> int | None:
        """When there is something to do even if nothing comes; None: never."""

    @abstractmethod
    def check(self) -> None:
        """SimulationFailed unless its memory is in order."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; nobody is told."""

    def touch(self) -> None:
        """There is something to do at this moment."""
        if not self.is_touched:
            self.is_touched = True
            self._network.touched.append(self)

    def receive(self, frame: Frame) -> None:
        """A frame comes out of the cable."""
        self.touch()
        if isinstance(frame, OutputFrame) and self.offload == "virtual":
            self._take(frame.data, partial=frame.needs_checksum, segment_bytes=frame.segment_bytes)
        else:
            for piece in offload.complete(frame):
                self._take(piece)

    def _take(self, data: bytes, *, partial: bool = False, segment_bytes: int = 0) -> None:
        if self._network.capture:
            self._network.capture.write(self._network.clock.now_ns, data)
        try:
            self._input(data, checksum_partial=partial, segment_bytes=segment_bytes)
        except OSError:
            self.overruns += 1

    def _transmit(self, output: OutputFrame) -> None:
        if self.offload == "none":
            self.up.send(output.data)
        elif self.offload == "card":
            for piece in offload.complete(output):
                self.up.send(piece)
        else:
            self.up.send(output)

    def turn(self) -> None:
        """Until it is at rest."""
        self.is_touched = False
        for _ in range(TURNS_MAX):
            if not self._work(self._network.clock.now_ns):
                break
        else:
            raise SimulationFailed(f"the station {self.link.mac.hex()} does not come to rest")
        self.turns += 1
        if self.turns % self._network.check_every == 0:
            self.check()
        self._sleep()

    def _sleep(self) -> None:
        """Wake up at the deadline, or before it: an earlier call that is under way will do."""
        deadline_ns = self._deadline_ns()
        if deadline_ns is not None and (self._wake_ns is None or deadline_ns < self._wake_ns):
            self._wake_ns = deadline_ns
            self._network.clock.at(deadline_ns, self._wake, deadline_ns)

    def _wake(self, deadline_ns: int) -> None:
        if deadline_ns == self._wake_ns:
            self._wake_ns = None
            self.touch()
