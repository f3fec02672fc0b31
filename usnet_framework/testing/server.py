"""A handler class under test: a whole server on a simulated network, in virtual time, in this process.

    def test_upper_case_through_loss() -> None:
        lossy = Profile(delay_s=0.02, loss=0.05)
        with Network(seed=7) as network:
            server = network.serve(Shout, "10.0.0.1/24", port=7000, up=lossy, down=lossy)
            client = network.node("10.0.0.2/24").connect(("10.0.0.1", 7000), Client(b"hello" * 1000))
            network.run(until=lambda: len(client.received) == 5000)
            assert client.received == b"HELLO" * 1000

Nothing of it is played: the handler is called by the dispatcher of a worker, its connections are in a segment, and the
engine carries them over the stack. Only time and the wire are simulated. So what `usnet-serve --backend tap` does is
what happens here, in the same order for the same seed, without privileges and without waiting.

Callbacks that are `async def` run in a loop whose time is the network's: `asyncio.sleep(3600)` takes no time at all.
What goes to a thread (`asyncio.to_thread`) is called at once. Input and output outside of the simulation take real
time, which the network does not wait for. A test that is a coroutine itself cannot run a network: it is in a loop.

What happens to a server happens here, too:

    server.kill_worker()                          SIGKILL: what was committed stands, the next one goes on (`on_resume`)
    server.kill_worker(during="on_data")          the same when that callback ends: none of it was committed
    server.kill_worker(during="on_data", line=2)  when two lines of it have run, be it within a `try`
    server.kill_worker(during="on_data", times=2) the next one dies of it as well: poison
    server.reload(Better)                         new code: started first, then the old worker finishes and leaves
    server.stop()                                 what is open gets its time, then `on_stop`

A killed worker does nothing more: no `finally` of it runs (see `death`). An event in whose callback two workers in a
row died is put aside as poison, and its connection is reset, as `usnet-serve` does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from usnet_framework._dispatch import Engine, Port
from usnet_framework._native_device import Device
from usnet_framework._native_stack import NEVER_NS, Link
from usnet_framework.handler import CloseReason, Handler, Result, Shard
from usnet_framework.shards.loop import PRESSED_S
from usnet_framework.shards.segment import ConnectionInfo, EngineOptions, Segment, SegmentConfig, StackAddresses
from usnet_framework.testing.death import Doomed, bury
from usnet_framework.testing.stations import Offload, SimulationFailed, Station, Switch
from usnet_framework.testing.virtualloop import SECOND_NS, VirtualLoop

LINGER_NS = 10**10
BACKLOG = 128
GRACEFUL_S = 10.0
"""`--graceful-timeout`."""


class Server(Station):
    """`Network.serve` makes them. `handler` is the instance that serves now."""

    def __init__(
        self,
        network: Switch,
        link: Link,
        offload: Offload,
        handler_class: Callable[[], Handler],
        addresses: tuple[str, ...],
        port: int,
        *,
        max_connections: int = 64,
        idle_timeout: float = 0.0,
        state_bytes: int = 64,
    ) -> None:
        super().__init__(network, link, offload)
        self._clock = network.clock
        self._make = handler_class
        self.addresses = [address.partition("/")[0] for address in addresses]
        options = EngineOptions(
            numbers={
                "connection_limit": max_connections,
                "idle_timeout_ns": round(idle_timeout * SECOND_NS),
                "linger_ns": LINGER_NS,
                "queues": 1,
                "backlog": BACKLOG,
                "accept_partial_checksum": 1,
                "seed": (2 * network.seed + 1) % 2**64,
            },
            addresses=StackAddresses(
                addresses=[(own, int(prefix)) for own, _, prefix in (address.partition("/") for address in addresses)],
                listeners=[(own, port) for own in self.addresses],
            ),
        )
        self.segment = Segment.create(SegmentConfig.for_kernel(0, 1, 2 * max_connections, state_bytes), options)
        """For what `usnet-ctl` would say: counters, connections, histograms."""
        self._device = Device.hand(link)
        self._exchange = os.memfd_create("usnet-exchange", os.MFD_CLOEXEC)
        os.write(self._exchange, network.seed.to_bytes(16, "big", signed=True))
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._serial = 1
        self._doomed: Doomed | None = None
        self._doom: tuple[str, int | None, int] = ("", None, 0)  # of the next ones
        self._moved = 0
        self._is_stopped = False
        self.deaths = 0
        """Of workers."""
        self.handler = handler_class()
        self._engine = Engine(
            self.segment.public_fd, self.segment.port_fds[0], [], resumes(self.handler), self._serial,
            ("", (), -1, -1, self._exchange, (self._wake_fd,)), device=self._device.give_away(),
            time_ns=self._clock.now_ns,
        )  # fmt: skip
        try:
            self._sit_down(self.handler, self._started(self.handler, self._let_time_pass))
        except BaseException:
            self._close_engine()
            raise

    # What the test calls.

    def connections(self) -> Iterator[ConnectionInfo]:
        """Those that are open now."""
        return self.segment.connections()

    def statistics(self) -> dict[str, int]:
        """Counters of the engine, the worker and the stack, by name."""
        return {**self.segment.engine_counters(), **self.segment.seat_counters(0), **self.segment.stack_counters()}

    def kill_worker(self, *, during: str | None = None, line: int | None = None, times: int = 1) -> None:
        """The worker dies and the next one takes its place: at once, not from within a callback; or `during` the next
        call of a callback, when it ends or when so many of its lines have run. A coroutine ends for this when it waits
        for the first time. That comes with time, so run the network: `until=lambda: server.deaths == 1`. `times`: the
        next one dies of it, too."""
        if during is None:
            self._end_doom()
            for _ in range(times):
                self._replace_dead()
        else:
            doomed = Doomed(self.handler, during, line)
            self._end_doom()
            self._doomed = doomed
            self._doom = (during, line, times - 1)
        self.touch()

    def reload(self, handler_class: Callable[[], Handler] | None = None, *, timeout: float = GRACEFUL_S) -> None:
        """Go on with new code, as after `usnet-ctl reload`; with the same class anew by default.

        The new handler is made and started first; when that raises, so does this, and the old one stays. Then the old
        worker finishes what it has begun, in `timeout` seconds at most: what is still open by then is reset. Time
        passes meanwhile."""
        self._check_it_runs()
        make = handler_class or self._make
        handler = make()
        self._serial += 1
        loop = self._started(handler, self._let_network_run)
        self._make = make
        self._leave("reload", timeout)
        self._lose(handler)
        self._sit_down(handler, loop)
        self.touch()

    def stop(self, *, timeout: float = GRACEFUL_S) -> None:
        """Accept no more, give connections `timeout` seconds to finish, then `on_stop`; what is open then is reset, and
        the packets of that are on their way."""
        self._check_it_runs()
        self._engine.stop_accepting()
        end_ns = self._clock.now_ns + round(timeout * SECOND_NS)
        self._tell_shutdown("stop", timeout)
        self._network.run(timeout, until=lambda: self.segment.engine_status().active == 0)
        self._leave("stop", (end_ns - self._clock.now_ns) / SECOND_NS)
        self._engine.reset_all(CloseReason.SHUTDOWN)
        self._is_stopped = True
        self.touch()

    def _check_it_runs(self) -> None:
        if self._is_stopped:
            raise SimulationFailed("the server has stopped")

    # The worker.

    def _started(self, handler: Handler, wait: Callable[[], None]) -> VirtualLoop:
        """A loop in which the handler was started. `wait`: lets time pass while it is a coroutine that sleeps."""
        loop = VirtualLoop(self._clock, self.touch)
        try:
            for callback, arguments in (
                (getattr(handler, "on_warm", _nothing), ()),
                (handler.on_start, (Shard(0, 0, self._serial, "split"),)),
            ):
                self._complete(loop, wait, callback, *arguments)
        except BaseException:
            loop.leave()
            raise
        return loop

    def _sit_down(self, handler: Handler, loop: VirtualLoop) -> None:
        self.handler = handler
        self._loop = loop
        self._port = Port(engine=self._engine, handler=handler, resumes=resumes(handler))
        loop.serve(self._look)

    def _complete(
        self, loop: VirtualLoop, wait: Callable[[], None], callback: Callable[..., Result], *arguments: Any
    ) -> None:
        async def call() -> None:
            result = callback(*arguments)
            if result is not None:
                await result

        task = loop.create_task(call())
        while not task.done():
            if not loop.turn() and not task.done():
                if self._clock.next_ns() is None:
                    name = getattr(callback, "__qualname__", callback)
                    raise SimulationFailed(f"{name} waits for what never happens")
                wait()
        task.result()

    def _let_time_pass(self) -> None:
        """Until the next timer of anybody, while the network waits: it may be within a turn of this station."""
        self._clock.step()
        self._engine.time_ns = self._clock.now_ns

    def _let_network_run(self) -> None:
        self._network.step()

    def _look(self) -> None:
        """What the selector of a worker's loop does."""
        self._moved += self._engine.turn(0) + self._port.run()

    def _leave(self, why: str, timeout: float) -> None:
        """The worker finishes and leaves in good order."""
        self._end_doom()
        if why == "reload":
            self._tell_shutdown(why, timeout)
        self._port.stop()
        self.touch()
        self._network.run(max(0.0, timeout), until=lambda: not self._port.pending_work)
        self._port.commit()
        self._complete(self._loop, self._let_network_run, self.handler.on_stop)
        self._port.commit()
        self._engine.turn(0)  # what on_stop sent
        self._port.close()
        self._loop.leave()

    def _tell_shutdown(self, why: str, timeout: float) -> None:
        callback = getattr(self.handler, "on_shutdown", _nothing_more)
        self._complete(self._loop, self._let_network_run, callback, why, self._loop.time() + timeout)

    def _lose(self, successor: Handler) -> None:
        self._engine.time_ns = self._clock.now_ns
        self._engine.lose_worker()
        self._engine.attach_worker(self._serial, resumes(successor))

    def _replace_dead(self) -> None:
        """The worker is no more: nothing of it runs, and nothing is cleaned up. As soon as it starts, the next one sits
        down."""
        self.deaths += 1
        bury(self.handler, self._port, self._loop)
        self._loop.die()
        if self._doomed is None:
            self._port.close()  # else it is in the midst of something
        self._doomed = None
        self._serial += 1
        handler = self._make()
        self._lose(handler)
        self._sit_down(handler, self._started(handler, self._let_time_pass))

    def _end_doom(self) -> None:
        if self._doomed is not None:
            self._doomed.end()
            self._doomed = None

    # Turns.

    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        self._device.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def _work(self, now_ns: int) -> int:
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
                    self.kill_worker(during=during, line=line, times=times)
                moved = 1
        while output := self._device.output():
            moved += 1
            self._transmit(output)
        return moved + self._moved

    def _turn_worker(self) -> int:
        moved = self._loop.turn()
        self._port.commit()
        moved += not self._port.sleep()  # something became ready, for instance by a timer
        self._port.awake()
        return moved

    def _deadline_ns(self) -> int | None:
        deadline_ns = self._engine.deadline_ns()
        if not self._is_stopped and self._port.pressed:  # for space, whose return nobody announces
            deadline_ns = min(deadline_ns, self._clock.now_ns + round(PRESSED_S * SECOND_NS))
        return None if deadline_ns == NEVER_NS else deadline_ns

    def check(self) -> None:
        """Its memory is the business of other tests."""

    def close(self) -> None:
        """`on_stop`, as when a server stops; connections are reset."""
        if self._is_stopped:
            self._close_engine()
            return
        try:
            self._end_doom()
            self._port.stop()
            self._complete(self._loop, self._let_time_pass, self.handler.on_stop)
        finally:
            self._port.close()
            self._loop.leave()
            self._close_engine()

    def _close_engine(self) -> None:
        self._engine.close()
        self.segment.close()
        os.close(self._exchange)
        os.close(self._wake_fd)


def resumes(handler: Handler) -> bool:
    """Whether connections may outlive a worker with this handler (P2)."""
    return type(handler).on_resume is not Handler.on_resume


def _nothing() -> None:
    """For handlers without on_warm."""


def _nothing_more(why: str, deadline: float) -> None:
    """For handlers without on_shutdown."""
