"""A seat of a shard under test: which worker sits at which of its two ports, and who comes next.

It decides as shards/seat.py and shards/sitting.py do, as far as a handler can notice:

    nobody at the current port     an heir starts, and sits down where events wait
    a successor that has started   sits down at the free port once it is told to. The one that served gives way: new
                                   connections go to the successor, and each old one as soon as nothing of it is
                                   unfinished, if both handlers can resume
    a worker that gives way        retires when nothing is left at its port, or when the overlap ends
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from usnet_framework.handler import Handler, Shard
from usnet_framework.shards.segment import PORTS, Segment, port_of
from usnet_framework.shards.sitting import RETIRE_MARGIN_S
from usnet_framework.testing.links import Clock
from usnet_framework.testing.stations import SimulationFailed
from usnet_framework.testing.worker import Curse, Make, Worker


class Engine(Protocol):
    """Of the seat's shard; it knows what time it is."""

    def attach_worker(self, serial: int, resumes: bool, port: int, /) -> bool: ...
    def lose_worker(self, port: int, /) -> bool: ...


class Seat:
    """`make` makes the handlers of heirs, the first one at once. `wake` is called when there is something to do.
    `handler` is the one that came last to serve."""

    handler: Handler

    def __init__(
        self, segment: Segment, engine: Engine, number: int, make: Make, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self.deaths = 0
        self.successor: Worker | None = None
        self._segment = segment
        self._engine = engine
        self._number = number
        self._make = make
        self._clock = clock
        self._wake = wake
        self._serial = 0  # of the last worker that came to run on_start
        self._ports: list[Worker | None] = [None] * PORTS
        self._side = 0  # of the current port
        self._hands_over = False  # as soon as the successor has started and a port is free
        self._is_closing = False
        self._overdue: Worker | None = None
        self._overlap_s = self._graceful_s = 0.0  # of the last reload
        self._curse: Curse | None = None  # of the next heir
        self._heir: Worker | None = self._new(make)

    # What there is.

    @property
    def current(self) -> Worker | None:
        """Who gets new connections."""
        return self._ports[self._side]

    @property
    def leaving(self) -> Worker | None:
        """Who served before, and still has connections."""
        return self._ports[1 - self._side]

    @property
    def workers(self) -> list[Worker]:
        """At ports."""
        return [worker for worker in self._ports if worker is not None]

    # What the server asks for.

    def kill(self) -> None:
        """The current worker, if there is one."""
        if (worker := self.current) is not None:
            worker.die()
            self._lose_dead(worker)

    def doom(self, curse: Curse) -> None:
        """The current worker, which there is. ValueError: nobody can die there."""
        assert self.current is not None, "it was waited for"
        self.current.doom(curse)
        self._wake()

    def prepare(self, make: Make) -> None:
        """A successor begins to start. Whatever making its handler raises."""
        self.successor = self._new(make)

    def forgo(self) -> None:
        """No successor after all."""
        if self.successor is not None:
            self.successor.die()
            self.successor = None

    def hand_over(self, make: Make, overlap_s: float, graceful_s: float) -> None:
        """The successor, which `make` has made, takes over; heirs are of its kind."""
        self._make, self._overlap_s, self._graceful_s = make, overlap_s, graceful_s
        self._hands_over = True
        self._forget_heir()
        self._wake()

    def close(self, seconds: float, *, margin_s: float = RETIRE_MARGIN_S) -> None:
        """Let the workers finish and leave; nobody follows. `margin_s`: what they get beyond their time."""
        self._is_closing = True
        self.forgo()
        self._forget_heir()
        for worker in self.workers:
            self._retire(worker, seconds, margin_s)

    # Turns.

    def turn(self) -> int:
        """Do what is to be done now: how much that was. Whatever on_warm, on_start or on_stop of a worker raised;
        not of a successor."""
        done = 0
        for worker in list(self._all()):
            done += worker.turn()
            if worker.is_dead:
                self._lose_dead(worker)
        return done + self._settle()

    def _all(self) -> Iterator[Worker]:
        for worker in (*self._ports, self._heir, self.successor):
            if worker is not None:
                yield worker

    def _settle(self) -> int:
        """What the seat needs now, by the table above: how many steps."""
        steps = 0
        for worker in self.workers:
            if worker is self._overdue:
                self._kill_overdue(worker)
            steps += self._see_off(worker)
        if self._is_closing:
            return steps
        if self._hands_over and self.successor is not None and self.successor.is_started:
            steps += self._seat_successor(self.successor)
        if self.current is None:
            steps += self._seat_heir()
        old = self.leaving
        if old is not None and not old.is_retired and self._is_vacant(1 - self._side):
            self._retire(old, self._graceful_s)
            steps += 1
        return steps

    def _kill_overdue(self, worker: Worker) -> None:
        worker.die()
        self._lose_dead(worker)
        name = type(worker.handler).__qualname__
        raise SimulationFailed(f"the worker of {name} did not leave in time and was killed; look at on_stop")

    def _see_off(self, worker: Worker) -> int:
        """If it has left."""
        if not worker.has_left:
            return 0
        side = self._ports.index(worker)
        self._ports[side] = None
        if not (self._is_closing and side == self._side):  # those of a server that stops are ended all together
            self._engine.lose_worker(port_of(self._number, side))
        worker.close()
        if worker.failure is not None:
            raise worker.failure
        return 1

    def _seat_successor(self, successor: Worker) -> int:
        before = self.current
        if not self._attach(successor):
            return 0
        self.successor, self._hands_over = None, False
        if before is not None:
            before.tell_shutdown("reload", self._overlap_s)
            self._clock.later(self._overlap_s, self._end_overlap, before)
        return 1

    def _seat_heir(self) -> int:
        if self._heir is None:
            self._heir = self._new(self._make)
            return 1
        if (failure := self._heir.failure) is not None:
            self._forget_heir()
            raise failure
        if not self._heir.is_started or not self._attach(self._heir):
            return 0
        self._heir = None
        return 1

    def _attach(self, worker: Worker) -> bool:
        """False: no port is free. The current one first, as events wait there."""
        for side in (self._side, 1 - self._side):
            port = port_of(self._number, side)
            if self._ports[side] is None and self._engine.attach_worker(worker.serial, worker.resumes, port):
                worker.sit_down(self._segment.public_fd, self._segment.port_fds[port], port)
                self._ports[side], self._side, self.handler = worker, side, worker.handler
                if self._curse is not None:
                    worker.doom(self._curse)
                self._curse = None
                return True
        return False

    def _is_vacant(self, side: int) -> bool:
        status = self._segment.port_status(port_of(self._number, side))
        return not (status.connections or status.events_waiting or status.commands_waiting)

    # Steps.

    def _new(self, make: Make) -> Worker:
        self._serial += 1
        shard = Shard(self._segment.config.shard, self._number, self._serial, "split")
        return Worker(make, shard, self._clock, self._wake)

    def _forget_heir(self) -> None:
        if self._heir is not None:
            self._heir.die()
            self._heir = None

    def _end_overlap(self, worker: Worker) -> None:
        if worker in self._ports:
            self._retire(worker, self._graceful_s)

    def _retire(self, worker: Worker, seconds: float, margin_s: float = RETIRE_MARGIN_S) -> None:
        if not worker.is_retired:
            worker.retire(seconds)
            self._clock.later(seconds + margin_s, self._retirement_overdue, worker)

    def _retirement_overdue(self, worker: Worker) -> None:
        self._overdue = worker
        self._wake()

    def _lose_dead(self, worker: Worker) -> None:
        self.deaths += 1
        side = self._ports.index(worker)
        self._ports[side] = None
        if side == self._side:
            self._curse = worker.curse
        self._engine.lose_worker(port_of(self._number, side))
        self._wake()
