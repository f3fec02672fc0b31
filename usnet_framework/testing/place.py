"""A shard of a server under test: its segment, its engine, and its seats.

The engine is the one that a network process runs, with workers at ports of their own; here they take turns.
`server.Server` has a place for each shard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from usnet_framework._dispatch import Engine
from usnet_framework._native_device import Device
from usnet_framework._native_stack import NEVER_NS, Link, OutputFrame
from usnet_framework.handler import CloseReason
from usnet_framework.shards.loop import PRESSED_S
from usnet_framework.shards.segment import EngineOptions, Segment, SegmentConfig
from usnet_framework.testing.links import SECOND_NS, Clock
from usnet_framework.testing.seat import Seat
from usnet_framework.testing.worker import Make, Worker

CLOSE_S = 10.0
"""What on_stop gets at the end of a test."""


@dataclass(frozen=True)
class Surroundings:
    """What a place knows of the server: the clock; a cable's end; `wake`, called when there is something to do; and the
    memory of the server's shards with a wake-up of each."""

    clock: Clock
    link: Link
    wake: Callable[[], None]
    exchange_fd: int
    wake_fds: tuple[int, ...]


class Place:
    """Its workers begin to start at once. Whatever making their handlers raises."""

    def __init__(self, around: Surroundings, config: SegmentConfig, options: EngineOptions, make: Make) -> None:
        self._clock = around.clock
        self._wake = around.wake
        self.segment = Segment.create(config, options)
        self._device = Device.hand(around.link)
        public_fd, (port_fd, *more_port_fds) = self.segment.public_fd, self.segment.port_fds
        self._engine = Engine(
            public_fd, port_fd, [], True, 0, ("", (), -1, -1, around.exchange_fd, around.wake_fds),
            device=self._device.give_away(), time_ns=self._clock.now_ns, more_port_fds=more_port_fds,
        )  # fmt: skip
        try:
            self._engine.lose_worker(0)  # nobody sits there yet
            self.seats = [
                Seat(self.segment, self._engine, number, make, self._clock, self._wake)
                for number in range(config.seats)
            ]
        except BaseException:
            self._release()
            raise

    @property
    def connections(self) -> int:
        """How many are open."""
        return self.segment.engine_status().active

    @property
    def workers(self) -> list[Worker]:
        """At ports."""
        return [worker for seat in self.seats for worker in seat.workers]

    def kill(self, seat: int) -> None:
        self._engine.time_ns = self._clock.now_ns
        self.seats[seat].kill()

    def accept_no_more(self) -> None:
        self._engine.stop_accepting()

    def shut_down(self) -> None:
        """The workers have left: what is open is ended."""
        self._engine.end_all(CloseReason.SHUTDOWN)
        self._wake()

    def close(self) -> None:
        """Everything ends now, workers by `on_stop`; of the peers nobody hears of it."""
        try:
            for seat in self.seats:
                seat.close(0.0, margin_s=CLOSE_S)
            while self.workers:
                if not self.turn_workers():
                    self._clock.step()
        finally:
            for worker in self.workers:  # beside one that failed
                worker.die()
            self._release()

    def _release(self) -> None:
        self._engine.close()
        self.segment.close()

    # Turns.

    def input(self, data: bytes, *, checksum_partial: bool, segment_bytes: int) -> None:
        """A frame, for the next turn. OSError: there is no room for it."""
        self._device.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def turn_workers(self) -> int:
        """Do what they have to do now: how much that was. Nothing is received or sent."""
        self._engine.time_ns = self._clock.now_ns
        return sum(seat.turn() for seat in self.seats)

    def turn(self, transmit: Callable[[OutputFrame], None]) -> int:
        """Do what is to be done now: how much that was."""
        done = self.turn_workers() + self._engine.turn(0)
        while output := self._device.output():
            done += 1
            transmit(output)
        return done

    def deadline_ns(self) -> int | None:
        """When there is something to do even if nothing comes; None: never."""
        deadline_ns = self._engine.deadline_ns()
        if any(worker.is_pressed for worker in self.workers):  # for space, whose return nobody announces
            deadline_ns = min(deadline_ns, self._clock.now_ns + round(PRESSED_S * SECOND_NS))
        return None if deadline_ns == NEVER_NS else deadline_ns
