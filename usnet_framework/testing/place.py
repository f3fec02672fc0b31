"""A shard of a server under test: its segment, its engine, and its worker, who may die and be replaced.

`server.Server` has one for each shard. Here is what happens to a worker; when it does is the server's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usnet_framework._dispatch import Engine, Port
from usnet_framework._native_device import Device
from usnet_framework._native_stack import NEVER_NS, Link, OutputFrame
from usnet_framework.handler import CloseReason, Handler, Result, Shard, ShutdownReason, spawned_tasks
from usnet_framework.shards.loop import PRESSED_S
from usnet_framework.shards.segment import EngineOptions, Segment, SegmentConfig
from usnet_framework.testing.death import Doomed, bury
from usnet_framework.testing.links import Clock
from usnet_framework.testing.stations import SimulationFailed
from usnet_framework.testing.virtualloop import SECOND_NS, VirtualLoop

Wait = Callable[[], object]
"""Lets time pass, for a coroutine that sleeps."""
Make = Callable[[], Handler]


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
    """`handler` is the instance that serves now."""

    def __init__(
        self, number: int, around: Surroundings, config: SegmentConfig, options: EngineOptions, make: Make
    ) -> None:
        self.number = number
        self.deaths = 0
        self._around = around
        self._clock = around.clock
        self._make = make
        self._serial = 1
        self._doomed: Doomed | None = None
        self._doom: tuple[str, int | None, int] = ("", None, 0)  # of the next ones
        self._moved = 0
        self._is_stopped = False
        self.segment = Segment.create(config, options)
        self._device = Device.hand(around.link)
        self.handler = make()
        self._engine = Engine(
            self.segment.public_fd, self.segment.port_fds[0], [], resumes(self.handler), self._serial,
            ("", (), -1, -1, around.exchange_fd, around.wake_fds), device=self._device.give_away(),
            time_ns=self._clock.now_ns,
        )  # fmt: skip
        try:
            self._sit_down(self.handler, self.start(self.handler, self._let_time_pass))
        except BaseException:
            self.close_engine()
            raise

    @property
    def connections(self) -> int:
        """How many are open."""
        return self.segment.engine_status().active

    @property
    def is_busy(self) -> bool:
        """The worker has begun what is not done, or not in a commit yet."""
        return self._port.pending_work or bool(spawned_tasks(self.handler))

    # What happens to a worker.

    def kill(self) -> None:
        self.end_doom()
        self._replace_dead()

    def doom(self, during: str, line: int | None, times: int) -> None:
        """ValueError: nobody can die there."""
        doomed = Doomed(self.handler, during, line)
        self.end_doom()
        self._doomed = doomed
        self._doom = (during, line, times - 1)
        self._around.wake()

    def end_doom(self) -> None:
        if self._doomed is not None:
            self._doomed.end()
            self._doomed = None

    def start(self, handler: Handler, wait: Wait) -> VirtualLoop:
        """A loop in which the handler was started, for `succeed`. Whatever on_warm and on_start raise."""
        loop = VirtualLoop(self._clock, self._around.wake)
        shard = Shard(self.number, 0, self._serial, "split")
        try:
            self._complete(loop, wait, handler.on_warm)
            self._complete(loop, wait, handler.on_start, shard)
        except BaseException:
            loop.leave()
            raise
        return loop

    def prepare(self, make: Make, wait: Wait) -> tuple[Handler, VirtualLoop]:
        """A successor that has started."""
        handler = make()
        self._serial += 1
        return handler, self.start(handler, wait)

    def succeed(self, make: Make, handler: Handler, loop: VirtualLoop) -> None:
        """It takes the place of a worker that has left; its replacements are of its kind."""
        self._make = make
        self._lose(handler)
        self._sit_down(handler, loop)

    def tell_shutdown(self, why: ShutdownReason, seconds: float) -> None:
        """What the handler does then is waited for (`is_busy`), as if it had spawned it."""
        handler, deadline = self.handler, self._loop.time() + seconds

        async def tell() -> None:
            handler.spawn(call(handler.on_shutdown, why, deadline))

        self._loop.run_until_complete(tell())
        self._around.wake()

    def retire(self) -> None:
        """The worker takes no more events; it finishes what it has begun."""
        self.end_doom()
        self._port.stop()
        self._around.wake()

    def leave(self, wait: Wait) -> None:
        """The worker is gone, in good order."""
        self._port.commit()
        try:
            self._complete(self._loop, wait, self.handler.on_stop)
            self._port.commit()
            self._engine.turn(0)  # what on_stop sent
        finally:
            self._port.close()
            self._loop.leave()

    def accept_no_more(self) -> None:
        self._engine.stop_accepting()

    def shut_down(self) -> None:
        """The worker has left: what is open is ended."""
        self._engine.end_all(CloseReason.SHUTDOWN)
        self._is_stopped = True
        self._around.wake()

    def close(self) -> None:
        """Everything ends now; of the peers nobody hears of it."""
        try:
            if not self._is_stopped:
                self.retire()
                self.leave(self._let_time_pass)
        finally:
            self.close_engine()

    def close_engine(self) -> None:
        self._engine.close()
        self.segment.close()

    # Turns.

    def input(self, data: bytes, *, checksum_partial: bool, segment_bytes: int) -> None:
        """A frame, for the next turn. OSError: there is no room for it."""
        self._device.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def turn(self, now_ns: int, transmit: Callable[[OutputFrame], None]) -> int:
        """Do what is to be done now: how much that was."""
        self._engine.time_ns = now_ns
        self._moved = 0
        if self._is_stopped:
            moved = self._engine.turn(0)
        elif self._doomed is None:
            moved = self._turn_worker()
        else:
            moved = self._doomed.run(self._turn_worker) or 0
            if self._doomed.is_dead:
                self._replace_dead()
                during, line, times = self._doom
                if times > 0:
                    self.doom(during, line, times)
                moved = 1
        while output := self._device.output():
            moved += 1
            transmit(output)
        return moved + self._moved

    def deadline_ns(self) -> int | None:
        """When there is something to do even if nothing comes; None: never."""
        deadline_ns = self._engine.deadline_ns()
        if not self._is_stopped and self._port.pressed:  # for space, whose return nobody announces
            deadline_ns = min(deadline_ns, self._clock.now_ns + round(PRESSED_S * SECOND_NS))
        return None if deadline_ns == NEVER_NS else deadline_ns

    def _turn_worker(self) -> int:
        moved = self._loop.turn()
        self._port.commit()
        moved += not self._port.sleep()  # something became ready, for instance by a timer
        self._port.awake()
        return moved

    def _look(self) -> None:
        """What the selector of a worker's loop does."""
        self._moved += self._engine.turn(0) + self._port.run()

    # Small things.

    def _sit_down(self, handler: Handler, loop: VirtualLoop) -> None:
        self.handler = handler
        self._loop = loop
        self._port = Port(engine=self._engine, handler=handler, resumes=resumes(handler))
        loop.serve(self._look)

    def _lose(self, successor: Handler) -> None:
        self._engine.time_ns = self._clock.now_ns
        self._engine.lose_worker()
        self._engine.attach_worker(self._serial, resumes(successor))

    def _replace_dead(self) -> None:
        """The worker is no more: nothing of it runs, and nothing is cleaned up. As soon as it has started, the next one
        sits down."""
        self.deaths += 1
        bury(self.handler, self._port, self._loop)
        self._loop.die()
        if self._doomed is None:
            self._port.close()  # else it is in the midst of something
        self._doomed = None
        self.succeed(self._make, *self.prepare(self._make, self._let_time_pass))

    def _let_time_pass(self) -> None:
        """Until the next timer of anybody, while the network waits: it may be within a turn of this station."""
        self._clock.step()
        self._engine.time_ns = self._clock.now_ns

    def _complete(self, loop: VirtualLoop, wait: Wait, callback: Callable[..., Result], *arguments: Any) -> None:
        task = loop.create_task(call(callback, *arguments))
        while not task.done():
            if not loop.turn() and not task.done():
                if self._clock.next_ns() is None:
                    name = getattr(callback, "__qualname__", callback)
                    raise SimulationFailed(f"{name} waits for what never happens")
                wait()
        task.result()


async def call(callback: Callable[..., Result], *arguments: Any) -> None:
    """Within a loop, also of a callback that is no coroutine: it may start tasks and timers."""
    result = callback(*arguments)
    if result is not None:
        await result


def resumes(handler: Handler) -> bool:
    """Whether connections may outlive a worker with this handler (P2)."""
    return type(handler).on_resume is not Handler.on_resume
