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

`kill_worker` is what SIGKILL does to a worker: what was committed stands, the next one goes on (`on_resume`).
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

from usnet_framework._dispatch import Engine, Port
from usnet_framework._native_device import Device
from usnet_framework._native_stack import NEVER_NS, Link
from usnet_framework.handler import Handler, Result, Shard
from usnet_framework.shards.loop import PRESSED_S
from usnet_framework.shards.segment import ConnectionInfo, EngineOptions, Segment, SegmentConfig, StackAddresses
from usnet_framework.testing.links import Clock
from usnet_framework.testing.stations import Offload, SimulationFailed, Station, Switch

LINGER_NS = 10**10
BACKLOG = 128
SECOND_NS = 10**9


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
        self.handler = handler_class()
        self._engine = Engine(
            self.segment.public_fd, self.segment.port_fds[0], [], self._resumes(), self._serial,
            ("", (), -1, -1, self._exchange, (self._wake_fd,)), device=self._device.give_away(),
            time_ns=self._clock.now_ns,
        )  # fmt: skip
        try:
            self._start_worker()
        except BaseException:
            self._end()
            raise

    def _resumes(self) -> bool:
        """Whether connections may outlive a worker with this handler (P2)."""
        return type(self.handler).on_resume is not Handler.on_resume

    # What the test calls.

    def connections(self) -> Iterator[ConnectionInfo]:
        """Those that are open now."""
        return self.segment.connections()

    def statistics(self) -> dict[str, int]:
        """Counters of the engine, the worker and the stack, by name."""
        return {**self.segment.engine_counters(), **self.segment.seat_counters(0), **self.segment.stack_counters()}

    def kill_worker(self) -> None:
        """The worker dies, whatever it is doing, and the next one takes its place. Not from within a callback."""
        self._end_worker()
        self._engine.time_ns = self._clock.now_ns
        self._engine.lose_worker()
        self._serial += 1
        self.handler = self._make()
        self._engine.attach_worker(self._serial, self._resumes())
        self._start_worker()
        self.touch()

    # The worker.

    def _start_worker(self) -> None:
        self._port = Port(engine=self._engine, handler=self.handler, resumes=self._resumes())
        self._loop = VirtualLoop(self._clock, self.touch, self._look)
        self._moved = 0
        self._port.stop()  # on_start may be a coroutine: no event comes before it is done
        self._complete(self.handler.on_start, Shard(0, 0, self._serial, "split"))
        self._port.start()

    def _complete(self, callback: Callable[..., Result], *arguments: Any) -> None:
        async def call() -> None:
            result = callback(*arguments)
            if result is not None:
                await result

        task = self._loop.create_task(call())
        while not task.done():
            if not self._loop.turn() and not task.done():
                self._let_time_pass()
        task.result()

    def _let_time_pass(self) -> None:
        """Until the next timer of anybody: a coroutine that starts or stops a server may sleep."""
        if self._clock.next_ns() is None:
            raise SimulationFailed(f"{type(self.handler).__name__}: on_start or on_stop waits for what never happens")
        self._clock.step()
        self._engine.time_ns = self._clock.now_ns

    def _look(self) -> None:
        """What the selector of a worker's loop does."""
        self._moved += self._engine.turn(0) + self._port.run()

    def _end_worker(self) -> None:
        """As if it had been killed: nothing that its tasks still do reaches anybody."""
        self._port.close()
        self._loop.abandon()

    # Turns.

    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        self._device.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def _work(self, now_ns: int) -> int:
        self._engine.time_ns = now_ns
        self._moved = 0
        moved = self._loop.turn()
        self._port.commit()
        moved += not self._port.sleep()  # something became ready, for instance by a timer
        self._port.awake()
        while output := self._device.output():
            moved += 1
            self._transmit(output)
        return moved + self._moved

    def _deadline_ns(self) -> int | None:
        deadline_ns = self._engine.deadline_ns()
        if self._port.pressed:  # for space, whose return nobody announces
            deadline_ns = min(deadline_ns, self._clock.now_ns + round(PRESSED_S * SECOND_NS))
        return None if deadline_ns == NEVER_NS else deadline_ns

    def check(self) -> None:
        """Its memory is the business of other tests."""

    def close(self) -> None:
        """`on_stop`, as when a server stops; connections are reset."""
        try:
            self._port.stop()
            self._complete(self.handler.on_stop)
        finally:
            self._end()

    def _end(self) -> None:
        self._end_worker()
        self._engine.close()
        self.segment.close()
        os.close(self._exchange)
        os.close(self._wake_fd)


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio in the time of a `Clock`. wake: called when there is something to do, now or later; look: once a turn."""

    def __init__(self, clock: Clock, wake: Callable[[], None], look: Callable[[], None]) -> None:
        self._virtual = clock
        self._tell = wake
        self._called = 0
        self._looking = _LookingSelector(look)
        super().__init__(self._looking)

    def turn(self) -> int:
        """One round of the loop: how many callbacks became ready since the last one."""
        super().call_soon(self.stop)
        self.run_forever()
        called, self._called = self._called, 0
        return called

    def abandon(self) -> None:
        """Cancel what runs, and close."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self._looking.look = lambda: None
        if tasks:
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.close()

    def time(self) -> float:
        return self._virtual.now_ns / SECOND_NS

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self._called += 1
        if not self.is_running():
            self._tell()
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._virtual.at(math.ceil(when * SECOND_NS), self._tell)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _LookingSelector(selectors.SelectSelector):
    """It never waits."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look = look

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.look()
        return super().select(0)
