"""One seat of a shard: which worker sits at which of its ports, and who comes next.

Connections belong to the seat and outlive its workers (P2). A worker's life at the seat is a Sitting (sitting.py, with
the table of its states); this file decides what the seat needs. A seat has two ports, so that a worker and its
successor can serve side by side; inline it has one. The *current* port is the one attached last: it gets new
connections.

    there is                           then
    nobody at the current port         an *heir* is asked of the pool, runs on_start, and is attached right there, where
                                       events wait; after quick deaths only after a growing delay
    a successor that has started, and  it is attached to the free port, which becomes the current one; inline the worker
    the word to hand over              there retires first. If both ports are taken (an overlap, or a dead worker of
                                       which the engine has not confirmed), it waits: each ends in time
    a port that is refused             it is free when the engine says VACANT: events of who sat there are being copied
    two who serve                      the one that is not at the current port is told to give way
    a successor that is gone before    nothing: the old worker was never touched
    a successor that died at its port  an heir of the same code, at that port

Nothing is taken from a worker before its successor has run on_warm and on_start. Nothing on the way from a death to the
next "attach" waits for anything slow: every step runs in the callback that brings the answer.

A worker that dies before it did anything, again and again, is replaced with growing delays. Having committed counts as
having done something, and so does having lived for a while: a server without traffic commits nothing; and dying of what
a peer sent, which P3 ends after two deaths. When that happens more than QUICK_DEATHS_MOST times within
QUICK_DEATHS_WITHIN_S, the seat is out of service until a worker holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from usnet_framework.shards.backoff import Backoff, Intensity
from usnet_framework.shards.messages import Message
from usnet_framework.shards.sitting import Death, Engine, Means, Sitting, SittingState
from usnet_framework.shards.spare import Taker
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

QUICK_DEATHS_FREE = 3  # in a row; poison takes two
QUICK_DEATHS_MOST = 10  # with the delays between them some 13 s
QUICK_DEATHS_WITHIN_S = 60.0
LONG_LIFE_S = 1.0


class Pool(Protocol):
    """Where workers of one generation come from."""

    @property
    def number(self) -> int: ...
    def request(self, taker: Taker) -> None: ...
    def withdraw(self, taker: Taker) -> None: ...


class Shard(Engine, Protocol):
    """The seat's shard. A seat has `sides` ports: port `sides * seat + side`."""

    number: int
    sides: int

    def start_message(self, seat: int, serial: int) -> Message: ...
    def attachment(self, port: int) -> tuple[Message, list[int]]: ...
    def commits(self, port: int) -> int: ...
    def handled(self, port: int) -> Mapping[str, object]: ...
    def quarantine(self, port: int) -> None: ...
    def worker_died(self, generation: int, commits: int) -> None: ...
    def seat_changed(self, seat: Seat) -> None: ...


class Seat:
    """`means.failed` is called when a worker could not start to serve: on_start raised, or ended it."""

    def __init__(self, shard: Shard, number: int, pool: Pool, means: Means) -> None:
        self.number = number
        self.name = f"{shard.number}.{number}"
        self.serial = 0  # of the last worker that came to run on_start
        self.start_error: str | None = None  # why the last one could not serve
        self.out_of_service = False  # its workers die too often
        self._shard = shard
        self._pool = pool
        self._means = means
        self._ports: list[Sitting | None] = [None] * shard.sides
        self._side = 0  # of the current port
        self._refused: set[int] = set()  # sides, until they are vacant
        self._heir: Sitting | None = None
        self._successor: Sitting | None = None
        self._hands_over = False  # as soon as the successor and a port are there
        self._asked = False  # an heir: of the pool, or by a delay
        self._open = False  # there is an engine to attach to
        self._closing = False
        self._drain_until_s: float | None = None
        self._backoff = Backoff(QUICK_DEATHS_FREE)
        self._intensity = Intensity(QUICK_DEATHS_MOST, QUICK_DEATHS_WITHIN_S)
        self._death: Death | None = None  # since then nobody served
        self._restarts = self._poisoned = self._bad = 0
        self._replaced_ms: float | None = None

    # What there is.

    @property
    def current(self) -> Sitting | None:
        """Who gets new connections."""
        return self._ports[self._side]

    @property
    def leaving(self) -> Sitting | None:
        """Who still has connections at the other port, or is about to be told of a successor."""
        return self._ports[1 - self._side] if len(self._ports) == 2 else None

    @property
    def sittings(self) -> list[Sitting]:
        """At ports."""
        return [sitting for sitting in self._ports if sitting is not None]

    @property
    def serves(self) -> bool:
        """Whether a handler runs, and new connections reach it. A successor that is about to take its port counts as
        long as the one before it serves: that takes milliseconds, or fails."""
        current, other = self.current, self.leaving
        if current is None or self.out_of_service:
            return False
        beside = other is not None and other.state is SittingState.SERVING
        return current.state is SittingState.SERVING or (beside and current.state in SittingState.ARRIVING)

    @property
    def closed(self) -> bool:
        return self._closing and not self.sittings

    @property
    def generation(self) -> int | None:
        """Of the code that new connections meet."""
        return self.current.generation if self.current is not None else None

    def serves_generation(self, number: int) -> bool:
        """Whether new connections meet this code already."""
        current = self.current
        return current is not None and current.state is SittingState.SERVING and current.generation == number

    def status(self) -> dict[str, Any]:
        """`restarts`: workers that died; `replaced_ms`: how long the seat had none after the last of these deaths;
        `leaving`: the worker before, while it still has connections."""
        current, other = self.current, self.leaving
        return {
            "seat": self.number,
            "pid": current.worker.pid if current is not None else None,
            "serial": current.serial if current is not None else self.serial,
            "generation": self.generation,
            "state": self._state(),
            "leaving": _brief(other) if other is not None else None,
            "restarts": self._restarts,
            "poisoned": self._poisoned,
            "bad": self._bad,
            "replaced_ms": self._replaced_ms,
            "out_of_service": self.out_of_service,
        }

    def _state(self) -> str:
        if self.current is not None:
            return (self.current.state.name or "").lower()
        if self._closing:
            return "closed"
        return "empty" if self._heir is None else (self._heir.state.name or "").lower()

    # What the shard asks for.

    def start(self) -> None:
        """An engine serves: have a worker sit here. What the engine before it did not confirm is told again."""
        self._open = True
        for sitting in (self.leaving, self.current):  # the port attached last is the current one
            if sitting is not None:
                sitting.repeat()
        self._settle()

    def close(self, timeout_s: float) -> None:
        """Let the workers finish and leave; nobody follows."""
        self._closing = True
        self._forget_comers()
        for sitting in self.sittings:
            sitting.retire(timeout_s)
        self._shard.seat_changed(self)

    def end(self) -> None:
        """Nobody sits here any more, whatever it takes."""
        self._closing = True
        self._forget_comers()
        self.reset()

    def reset(self) -> None:
        """The engine and all connections are gone for good: begin again, once start is called. Workers that have no
        port yet stay."""
        self._open = False
        gone, self._ports = self.sittings, [None] * len(self._ports)
        self._side = 0
        self._refused.clear()
        for sitting in gone:
            sitting.discard()
        self._shard.seat_changed(self)

    def drain(self, timeout_s: float) -> None:
        """The server stops: every worker is told, also one that comes meanwhile."""
        self._drain_until_s = time.monotonic() + timeout_s
        for sitting in self.sittings:
            sitting.drain(timeout_s)

    def bad(self, port: int, serial: int) -> None:
        """The engine refuses what this worker writes."""
        sitting = self._at(port, serial)
        if sitting is not None and sitting.worker.running:
            self._bad += 1
            log.error("worker wrote nonsense into shared memory; it is killed", extra=self._extra(sitting.worker.pid))
            sitting.bad()

    # What a reload asks for.

    def prepare(self, worker: WorkerProcess) -> Sitting:
        """A ready worker that may follow: it runs on_start, and nobody else notices."""
        assert self._successor is None, "one at a time"
        self._successor = self._new(worker)
        return self._successor

    def hand_over(self, pool: Pool) -> None:
        """The successor, if there is one, takes over as soon as it can; from now on heirs come from this pool."""
        self.follow(pool)
        if self.serves_generation(pool.number):
            self.forgo()  # an heir was faster
        self._hands_over = self._successor is not None
        self._settle()

    def follow(self, pool: Pool) -> None:
        """Heirs come from this pool from now on; one that is on its way is let go if it is of another generation."""
        if pool is self._pool:
            return
        self._pool.withdraw(self)
        self._pool = pool
        if self._heir is not None and self._heir.generation != pool.number:
            heir, self._heir = self._heir, None
            heir.discard()
        self._asked = False
        self._settle()

    def lacks_successor(self, number: int) -> bool:
        """The one that was to hand the seat over to this generation has died meanwhile."""
        current = self.current
        if self._successor is not None or current is None or current.generation == number:
            return False
        return current.state is SittingState.SERVING

    def forgo(self) -> None:
        """No successor after all."""
        self._hands_over = False
        if self._successor is not None:
            successor, self._successor = self._successor, None
            successor.discard()

    def end_overlap(self) -> None:
        """Have the worker that leaves finish now."""
        if self.leaving is not None and self.leaving.state is SittingState.LEAVING:
            self.leaving.retire(self._means.patience.graceful_s)

    # Answers of the pool and of the engine.

    def take(self, worker: WorkerProcess) -> None:
        self._asked = False
        self._heir = self._new(worker)
        self._shard.seat_changed(self)

    def confirm_attach(self, port: int, serial: int) -> None:
        if (sitting := self._at(port, serial)) is not None:
            sitting.confirm_attach()

    def refuse_attach(self, port: int, serial: int) -> None:
        """Not yet: as soon as the port is vacant, or at the other one."""
        sitting = self._at(port, serial)
        if sitting is None or sitting.state is not SittingState.ATTACHING:
            return
        side = port % len(self._ports)
        self._refused.add(side)
        self._ports[side] = None
        self._side = len(self._ports) - 1 - side
        if self.current is not None:
            self._successor, self._hands_over = sitting, True
        else:
            self._heir, self._asked = sitting, False
        sitting.refuse_attach()

    def confirm_lost(self, port: int, serial: int, poisoned: bool) -> None:
        if (sitting := self._at(port, serial)) is not None:
            sitting.confirm_lost(poisoned)

    def vacant(self, port: int, serial: int) -> None:
        self._refused.discard(port % len(self._ports))
        if (sitting := self._at(port, serial)) is not None:
            sitting.vacant()
        else:
            self._settle()

    # What sittings ask and tell (sitting.Place).

    def start_message(self, serial: int) -> Message:
        return self._shard.start_message(self.number, serial)

    def attachment(self, port: int) -> tuple[Message, list[int]]:
        return self._shard.attachment(port)

    def commits(self, port: int) -> int:
        return self._shard.commits(port)

    def handled(self, port: int) -> Mapping[str, object]:
        return self._shard.handled(port)

    def sitting_changed(self, sitting: Sitting) -> None:
        if sitting.state is SittingState.SEATING:
            self._report_replacement(sitting)
        elif sitting.state is SittingState.SERVING:
            self._serves(sitting)
        elif sitting.state is SittingState.GONE:
            self._gone(sitting)
        self._settle()
        self._shard.seat_changed(self)

    # Steps.

    def _settle(self) -> None:
        """What the seat needs now, by the table above."""
        if self._closing or not self._open:
            return
        if self._successor_comes():
            self._seat_successor()
        if self.current is None:
            if self._heir is None:
                self._ask()
            elif self._heir.state is SittingState.STARTED and (free := self._free_sides()):
                heir, self._heir = self._heir, None
                self._attach(heir, free[0])

    def _successor_comes(self) -> bool:
        started = self._successor is not None and self._successor.state is SittingState.STARTED
        return self._hands_over and started

    def _seat_successor(self) -> None:
        if free := self._free_sides():
            successor, self._successor = self._successor, None
            assert successor is not None, "it comes"
            self._hands_over = False
            self._forget_heir()
            if (dead := self.current) is not None and dead.state is SittingState.LOST and dead.death is not None:
                self._count(dead)  # at the other port from now on, where who leaves is not counted
            self._attach(successor, free[0])
        elif len(self._ports) == 1 and self.current is not None:
            self.current.retire(self._means.patience.graceful_s)

    def _free_sides(self) -> list[int]:
        """The current one first, as events wait there."""
        sides = (self._side, len(self._ports) - 1 - self._side)
        return [side for side in sides if self._ports[side] is None and side not in self._refused]

    def _attach(self, sitting: Sitting, side: int) -> None:
        self._ports[side] = sitting
        self._side = side
        sitting.attach(self.number * len(self._ports) + side)

    def _serves(self, sitting: Sitting) -> None:
        log.debug("worker serves", extra=self._extra(sitting.worker.pid, serial=sitting.serial))
        self.start_error = None
        if self._drain_until_s is not None:
            sitting.drain(max(0.0, self._drain_until_s - time.monotonic()))
        if self.out_of_service:
            self._means.later(LONG_LIFE_S, lambda: self._back_in_service(sitting))
        serving = [one for one in self.sittings if one.state is SittingState.SERVING]
        if len(serving) == 2 and self.leaving is not None:
            self.leaving.give_way()

    def _gone(self, sitting: Sitting) -> None:
        if sitting is self._successor:
            self._successor, self._hands_over = None, False
        elif sitting is self._heir:
            self._heir = None
            self._mourn(sitting)
        elif sitting in self._ports:
            current = sitting is self.current
            self._ports[self._ports.index(sitting)] = None
            if sitting.poisoned and sitting.port is not None:
                self._poisoned += 1
                self._shard.quarantine(sitting.port)
            if current:
                self._mourn(sitting)
            elif sitting.death is not None:
                self._report_leaver(sitting.death)

    def _mourn(self, sitting: Sitting) -> None:
        """Of the current worker, or of who was to become that: the next one comes at once, or later when they die
        before they do anything."""
        death = sitting.death
        if self._closing:
            if death is not None:
                log.warning("worker %s", death.how, extra=self._extra(death.pid) | dict(death.handled))
            return
        if sitting.error is not None:
            self.start_error = sitting.error
            self._means.failed(sitting.error)
        if death is None and sitting.error is None:
            return  # it left: a successor follows
        self._count(sitting)
        self._death = self._death or death
        quick = death is None or (death.lived_s < LONG_LIFE_S and death.commits == 0 and not death.handled)
        delay_s = self._count_quick() if quick else self._count_long()
        if not self._successor_comes():
            self._ask(delay_s)
        reported = sitting.error is not None and delay_s == 0.0
        if self._heir is None and death is not None and not reported:
            why = "no spare is ready" if delay_s == 0.0 else f"it had done nothing, the next one waits {delay_s:.1f} s"
            log.warning("worker %s; %s", death.how, why, extra=self._extra(death.pid) | dict(death.handled))

    def _count(self, sitting: Sitting) -> None:
        self._restarts += 1
        self._shard.worker_died(sitting.generation, sitting.death.commits if sitting.death is not None else 0)

    def _count_quick(self) -> float:
        """The delay before the next worker."""
        if self._intensity.failed(time.monotonic()) and not self.out_of_service:
            self.out_of_service = True
            text = "seat is out of service: more than %d of its workers died within %g s before they had done anything"
            log.error(text, QUICK_DEATHS_MOST, QUICK_DEATHS_WITHIN_S, extra={"worker": self.name})
        return self._backoff.failed()

    def _count_long(self) -> float:
        self._backoff.succeeded()
        self._intensity.succeeded()
        self.out_of_service = False
        return 0.0

    def _back_in_service(self, sitting: Sitting) -> None:
        if self.out_of_service and sitting is self.current and sitting.state is SittingState.SERVING:
            self._count_long()
            log.warning("seat is in service again", extra=self._extra(sitting.worker.pid))
            self._shard.seat_changed(self)

    def _ask(self, delay_s: float = 0.0) -> None:
        """Have an heir come, unless one does already."""
        if self._asked:
            return
        self._asked = True
        if delay_s == 0.0:
            self._pool.request(self)
        else:
            self._means.later(delay_s, self._request_if_empty(self._pool))

    def _request_if_empty(self, pool: Pool) -> Callable[[], None]:
        def request() -> None:
            if self._asked and self._heir is None and pool is self._pool:
                pool.request(self)

        return request

    def _new(self, worker: WorkerProcess) -> Sitting:
        self.serial += 1
        return Sitting(worker, self.serial, self, self._shard, self._means)

    def _at(self, port: int, serial: int) -> Sitting | None:
        """Who is meant: what is said of workers before is ignored."""
        for sitting in self.sittings:
            if sitting.port == port and sitting.serial == serial:
                return sitting
        return None

    def _forget_heir(self) -> None:
        self._pool.withdraw(self)
        self._asked = False
        if self._heir is not None:
            heir, self._heir = self._heir, None
            heir.discard()

    def _forget_comers(self) -> None:
        self._forget_heir()
        self.forgo()

    def _report_leaver(self, death: Death) -> None:
        text = "worker %s before it had left; its connections go on at its successor"
        log.warning(text, death.how, extra=self._extra(death.pid) | dict(death.handled))

    def _report_replacement(self, sitting: Sitting) -> None:
        if self._death is None or sitting is not self.current:
            return
        death, self._death = self._death, None
        self._replaced_ms = round((time.monotonic_ns() - death.at_ns) / 1e6, 3)
        if self.start_error is None:  # else its end was reported as an error
            extra = self._extra(death.pid, new_pid=sitting.worker.pid) | dict(death.handled)
            log.warning("worker %s; replaced in %.1f ms", death.how, self._replaced_ms, extra=extra)

    def _extra(self, pid: int, **more: object) -> dict[str, object]:
        return {"worker": self.name, "pid": pid, **more}


def _brief(sitting: Sitting) -> dict[str, Any]:
    return {"pid": sitting.worker.pid, "serial": sitting.serial, "state": (sitting.state.name or "").lower()}
