"""A handler class under test: a whole server on a simulated network, in virtual time, in this process.

    def test_upper_case_through_loss() -> None:
        lossy = Profile(delay_s=0.02, loss=0.05)
        with Network(seed=7) as network:
            server = network.serve(Shout, "10.0.0.1/24", port=7000, up=lossy, down=lossy)
            client = network.node("10.0.0.2/24").connect(("10.0.0.1", 7000), Client(b"hello" * 1000))
            network.run(until=lambda: len(client.received) == 5000)
            assert client.received == b"HELLO" * 1000

Nothing of it is played: the handler is called by the dispatcher of a worker, its connections are in a segment, and the
engine carries them over the stack. It is the engine of the split layout: workers sit at ports of their own, and
connections move between them as they do in `usnet-serve --backend tap`. Only time and the wire are simulated, and all
take turns in one thread: in the same order for the same seed, without privileges and without waiting.

Callbacks that are `async def` run in a loop whose time is the network's: `asyncio.sleep(3600)` takes no time at all,
and a deadline is a time of `loop.time()`, not of `time.monotonic()`. What goes to a thread (`asyncio.to_thread`) is
called at once. Input and output outside of the simulation take real time, which the network does not wait for. A test
that is a coroutine itself cannot run a network: it is in a loop.

What happens to a server happens here, too:

    server.kill_worker()                          SIGKILL: what was committed stands, the next one goes on (`on_resume`)
    server.kill_worker(during="on_data")          the same when that callback ends: none of it was committed
    server.kill_worker(during="on_data", line=2)  when two lines of it have run, be it within a `try`
    server.kill_worker(during="on_data", times=2)  the next one dies of it as well: poison
    server.reload(Better)                         new code, started first, beside the old, whose connections follow
    server.stop()                                 what is open gets its time, then `on_stop`

A killed worker does nothing more: no `finally` of it runs (see `death`). An event in whose callback two workers in a
row died is put aside as poison, and its connection is reset, as `usnet-serve` does it.

What differs from `usnet-serve`: code is not imported anew, and all workers share the modules and classes of the test.
No spare waits: a replacement runs on_warm and on_start when it is needed. What it raises there comes out of the call
that lets time pass, and so does what on_stop raises. Nobody watches for callbacks that hang. A reload is never taken
back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from usnet_framework._native_stack import Link, owner
from usnet_framework.handler import Handler
from usnet_framework.shards.quiet import Quiet
from usnet_framework.shards.segment import ConnectionInfo, EngineOptions, Segment, SegmentConfig, StackAddresses
from usnet_framework.testing.links import SECOND_NS
from usnet_framework.testing.packets import flow
from usnet_framework.testing.place import Place, Surroundings
from usnet_framework.testing.seat import Seat
from usnet_framework.testing.stations import Offload, SimulationFailed, Station, Switch
from usnet_framework.testing.worker import Curse, Make, Worker

LINGER_NS = 10**10
BACKLOG = 128
DRAIN_POLL_S = 0.1
GRACEFUL_S = 10.0
"""`--graceful-timeout`."""
OVERLAP_S = 60.0
"""`--reload-overlap`."""


class Server(Station):
    """`Network.serve` makes them. Whatever the handler raises when it is made and started."""

    def __init__(
        self,
        network: Switch,
        link: Link,
        offload: Offload,
        handler_class: Make,
        addresses: Sequence[str],
        port: int,
        *,
        queues: int = 1,
        workers: int = 1,
        max_connections: int = 64,
        idle_timeout: float = 0.0,
        state_bytes: int = 64,
    ) -> None:
        super().__init__(network, link, offload)
        self._make = handler_class
        self._is_stopped = False
        self.addresses = [address.partition("/")[0] for address in addresses]
        own = StackAddresses(
            addresses=[(host, int(prefix)) for host, _, prefix in (address.partition("/") for address in addresses)],
            listeners=[(host, port) for host in self.addresses],
        )
        self._places: list[Place] = []
        with ExitStack() as opened:
            exchange = os.memfd_create("usnet-exchange", os.MFD_CLOEXEC)
            opened.callback(os.close, exchange)
            os.write(exchange, network.seed.to_bytes(16, "big", signed=True))
            wakes = tuple(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(queues))
            for wake in wakes:
                opened.callback(os.close, wake)
            around = Surroundings(network.clock, link, self.touch, exchange, wakes)
            for shard in range(queues):
                numbers = {
                    "connection_limit": max_connections,
                    "idle_timeout_ns": round(idle_timeout * SECOND_NS),
                    "linger_ns": LINGER_NS,
                    "queue": shard,
                    "queues": queues,
                    "backlog": BACKLOG,
                    "accept_partial_checksum": 1,
                    "seed": (2 * network.seed + 1 + 2 * shard) % 2**64,
                }
                config = SegmentConfig.for_kernel(shard, workers, 2 * max_connections, state_bytes)
                place = Place(around, config, EngineOptions(numbers=numbers, addresses=own), handler_class)
                opened.callback(place.close)
                self._places.append(place)
            self._start()
            self._opened = opened.pop_all()

    # What the test calls.

    @property
    def handler(self) -> Handler:
        """The instance that came last to serve; of the first worker of shard 0."""
        return self._places[0].seats[0].handler

    @property
    def handlers(self) -> list[Handler]:
        """Those that came last to serve: by shard, and within a shard by worker."""
        return [seat.handler for seat in self._seats]

    @property
    def segment(self) -> Segment:
        """For what `usnet-ctl` would say: counters, connections, histograms; of shard 0."""
        return self._places[0].segment

    @property
    def deaths(self) -> int:
        """How many workers were killed."""
        return sum(seat.deaths for seat in self._seats)

    @property
    def is_handing_over(self) -> bool:
        """Since a reload there are workers of the old code, which have not finished yet."""
        return any(seat.leaving is not None for seat in self._seats)

    def connections(self) -> Iterator[ConnectionInfo]:
        """Those that are open now."""
        return (connection for place in self._places for connection in place.segment.connections())

    def statistics(self) -> dict[str, int]:
        """Counters of the engine, the workers and the stack by name, summed over shards."""
        sums: dict[str, int] = {}
        for segment in (place.segment for place in self._places):
            seats = [segment.seat_counters(seat) for seat in range(segment.config.seats)]
            for read in (segment.engine_counters(), segment.stack_counters(), *seats):
                for name, count in read.items():
                    sums[name] = sums.get(name, 0) + count
        return sums

    def kill_worker(
        self, *, shard: int = 0, worker: int = 0, during: str | None = None, line: int | None = None, times: int = 1
    ) -> None:
        """A worker dies and the next one takes its place: at once, not from within a callback; or `during` the next
        call of a callback, or of another method of the handler, when it ends or when so many of its lines have run. A
        coroutine ends for this when it waits for the first time. That comes with time, so run the network:
        `until=lambda: server.deaths == 1`. `times`: so many in a row die of it. While an old worker leaves after a
        reload, the one that follows it is meant. ValueError: nobody can die there. Whatever the next one raises as it
        starts, which may take time."""
        self._check_it_runs()
        place = self._places[shard]
        seat = place.seats[worker]
        self._wait(lambda: seat.current is not None)  # one that died before may not be replaced yet
        if during is not None:
            seat.doom(Curse(during, line, times))
            return
        for _ in range(times):
            place.kill(worker)
            self._wait(lambda: seat.current is not None)

    def reload(
        self, handler_class: Make | None = None, *, overlap: float = OVERLAP_S, timeout: float = GRACEFUL_S
    ) -> None:
        """Go on with new code, as after `usnet-ctl reload`; with the same class anew by default. Time passes until the
        new code gets all new connections; the old workers leave later, while the network runs (`is_handing_over`).

        First old workers that still leave do so. Then, for every worker, a new one is made and started: should one fail
        or take too long, this raises what it raised, and the old ones were never touched. Then, one after the other,
        they take over, and the old ones are told (`on_shutdown`). Connections follow as soon as nothing of them is
        unfinished; where `on_resume` is missing they stay in the old worker. When all have gone, or after `overlap`
        seconds, an old worker finishes what it has begun, in `timeout` seconds at most (tasks that it has spawned
        included): what is unfinished then is reset, and so is what cannot be resumed."""
        self._check_it_runs()
        self._wait(lambda: not self.is_handing_over)
        make = handler_class or self._make
        try:
            for seat in self._seats:
                seat.prepare(make)
            self._wait(self._have_started)
        except BaseException:
            for seat in self._seats:
                seat.forgo()
            raise
        self._make = make
        for seat in self._seats:
            seat.hand_over(make, overlap, timeout)
            self._wait(lambda: seat.successor is None)  # noqa: B023

    def stop(self, *, timeout: float = GRACEFUL_S) -> None:
        """Accept no more, tell the handlers (`on_shutdown`), give connections `timeout` seconds to finish, less when
        nothing is left to do for them, then `on_stop`; what is open then is ended, and the packets of that are on their
        way."""
        self._check_it_runs()
        end_s = self._network.clock.now_s + timeout
        for place in self._places:
            place.accept_no_more()
        for worker in self._workers:
            worker.tell_shutdown("stop", timeout)
        self._drain(end_s)
        for seat in self._seats:
            seat.close(max(0.0, end_s - self._network.clock.now_s))
        self._wait(lambda: not self._workers)
        for place in self._places:
            place.shut_down()
        self._is_stopped = True

    def _check_it_runs(self) -> None:
        if self._is_stopped:
            raise SimulationFailed("the server has stopped")

    @property
    def _seats(self) -> list[Seat]:
        return [seat for place in self._places for seat in place.seats]

    @property
    def _workers(self) -> list[Worker]:
        return [worker for place in self._places for worker in place.workers]

    def _start(self) -> None:
        """While the network waits: it may be within a turn of another station."""
        while any(seat.current is None for seat in self._seats):
            if not sum(place.turn_workers() for place in self._places):
                self._network.clock.step()

    def _have_started(self) -> bool:
        """The successors. Whatever ended one of them."""
        successors = [seat.successor for seat in self._seats if seat.successor is not None]
        for successor in successors:
            if successor.failure is not None:
                raise successor.failure
        return all(successor.is_started for successor in successors)

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if not self._network.step():
                raise SimulationFailed("what the server waits for never happens")

    def _drain(self, end_s: float) -> None:
        """Until no connection is open, or nothing has been left to do for those that are for a moment (quiet.py)."""
        clock, quiet = self._network.clock, Quiet()
        while clock.now_s < end_s and any(place.connections for place in self._places):
            if quiet.silent([place.segment for place in self._places], clock.now_s) and self._is_idle():
                return
            step_s = min(DRAIN_POLL_S, end_s - clock.now_s)
            self._network.run(step_s, until=lambda: not any(place.connections for place in self._places))

    def _is_idle(self) -> bool:
        if any(worker.is_busy for worker in self._workers):
            return False
        return all(connection.bytes_queued <= connection.bytes_out for connection in self.connections())

    # Turns.

    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        """As a network card does: a flow is a queue's."""
        place = self._places[0]
        if len(self._places) > 1 and (ends := flow(data)) is not None:
            place = self._places[owner(*ends, len(self._places))]
        place.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def _work(self, now_ns: int) -> int:
        return sum(place.turn(self._transmit) for place in self._places)

    def _deadline_ns(self) -> int | None:
        return min((when for place in self._places if (when := place.deadline_ns()) is not None), default=None)

    def check(self) -> None:
        """Its memory is the business of other tests."""

    def close(self) -> None:
        """`on_stop`, as when a server stops; connections are ended."""
        self._opened.close()
