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
    server.kill_worker(during="on_data", times=2)  the next one dies of it as well: poison
    server.reload(Better)                         new code: started first, then the old worker finishes and leaves
    server.stop()                                 what is open gets its time, then `on_stop`

A killed worker does nothing more: no `finally` of it runs (see `death`). An event in whose callback two workers in a
row died is put aside as poison, and its connection is reset, as `usnet-serve` does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from usnet_framework._native_stack import Link, owner
from usnet_framework.handler import Handler, ShutdownReason
from usnet_framework.shards.quiet import Quiet
from usnet_framework.shards.segment import ConnectionInfo, EngineOptions, Segment, SegmentConfig, StackAddresses
from usnet_framework.testing.packets import flow
from usnet_framework.testing.place import Place, Surroundings
from usnet_framework.testing.stations import Offload, SimulationFailed, Station, Switch
from usnet_framework.testing.virtualloop import SECOND_NS

LINGER_NS = 10**10
BACKLOG = 128
DRAIN_POLL_S = 0.1
GRACEFUL_S = 10.0
"""`--graceful-timeout`."""


class Server(Station):
    """`Network.serve` makes them."""

    def __init__(
        self,
        network: Switch,
        link: Link,
        offload: Offload,
        handler_class: Callable[[], Handler],
        addresses: tuple[str, ...],
        port: int,
        *,
        queues: int = 1,
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
                config = SegmentConfig.for_kernel(shard, 1, 2 * max_connections, state_bytes)
                place = Place(shard, around, config, EngineOptions(numbers=numbers, addresses=own), handler_class)
                opened.callback(place.close)
                self._places.append(place)
            self._opened = opened.pop_all()

    # What the test calls.

    @property
    def handler(self) -> Handler:
        """The instance that serves now; of shard 0."""
        return self._places[0].handler

    @property
    def handlers(self) -> list[Handler]:
        """Those that serve now, by shard."""
        return [place.handler for place in self._places]

    @property
    def segment(self) -> Segment:
        """For what `usnet-ctl` would say: counters, connections, histograms; of shard 0."""
        return self._places[0].segment

    @property
    def deaths(self) -> int:
        """How many workers were killed."""
        return sum(place.deaths for place in self._places)

    def connections(self) -> Iterator[ConnectionInfo]:
        """Those that are open now."""
        return (connection for place in self._places for connection in place.segment.connections())

    def statistics(self) -> dict[str, int]:
        """Counters of the engine, the worker and the stack by name, summed over shards."""
        sums: dict[str, int] = {}
        for segment in (place.segment for place in self._places):
            read = {**segment.engine_counters(), **segment.seat_counters(0), **segment.stack_counters()}
            for name, count in read.items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def kill_worker(
        self, *, shard: int = 0, during: str | None = None, line: int | None = None, times: int = 1
    ) -> None:
        """The worker dies and the next one takes its place: at once, not from within a callback; or `during` the next
        call of a callback, when it ends or when so many of its lines have run. A coroutine ends for this when it waits
        for the first time. That comes with time, so run the network: `until=lambda: server.deaths == 1`. `times`: the
        next one dies of it, too. ValueError: nobody can die there."""
        place = self._places[shard]
        if during is not None:
            place.doom(during, line, times)
            return
        for _ in range(times):
            place.kill()
        self.touch()

    def reload(self, handler_class: Callable[[], Handler] | None = None, *, timeout: float = GRACEFUL_S) -> None:
        """Go on with new code, as after `usnet-ctl reload`; with the same class anew by default.

        Shard by shard the new handler is made and started first; when that raises, so does this, and the old one stays.
        Then the old worker is told (`on_shutdown`) and finishes what it has begun, in `timeout` seconds at most: what
        is still open by then is reset. Time passes meanwhile."""
        self._check_it_runs()
        make = handler_class or self._make
        for place in self._places:
            handler, loop = place.prepare(make, self._network.step)
            self._make = make
            self._tell_shutdown([place], "reload", timeout)
            self._retire([place], timeout)
            place.succeed(make, handler, loop)
        self.touch()

    def stop(self, *, timeout: float = GRACEFUL_S) -> None:
        """Accept no more, tell the handlers (`on_shutdown`), give connections `timeout` seconds to finish, less when
        nothing is left to do for them, then `on_stop`; what is open then is ended, and the packets of that are on their
        way."""
        self._check_it_runs()
        end_s = self._network.clock.now_s + timeout
        for place in self._places:
            place.accept_no_more()
        self._tell_shutdown(self._places, "stop", timeout)
        self._drain(end_s)
        self._retire(self._places, end_s - self._network.clock.now_s)
        for place in self._places:
            place.shut_down()
        self._is_stopped = True

    def _check_it_runs(self) -> None:
        if self._is_stopped:
            raise SimulationFailed("the server has stopped")

    def _tell_shutdown(self, places: list[Place], why: ShutdownReason, timeout: float) -> None:
        for place in places:
            place.tell_shutdown(why, timeout)

    def _drain(self, end_s: float) -> None:
        """Until no connection is open, or nothing has been left to do for those that are for a moment (quiet.py)."""
        clock, quiet = self._network.clock, Quiet()
        while clock.now_s < end_s and any(place.connections for place in self._places):
            if quiet.silent([place.segment for place in self._places], clock.now_s) and self._is_idle():
                return
            step_s = min(DRAIN_POLL_S, end_s - clock.now_s)
            self._network.run(step_s, until=lambda: not any(place.connections for place in self._places))

    def _is_idle(self) -> bool:
        if any(place.is_busy for place in self._places):
            return False
        return all(connection.bytes_queued <= connection.bytes_out for connection in self.connections())

    def _retire(self, places: list[Place], seconds: float) -> None:
        for place in places:
            place.retire()
        self._network.run(max(0.0, seconds), until=lambda: not any(place.is_busy for place in places))
        for place in places:
            place.leave(self._network.step)

    # Turns.

    def _input(self, data: bytes, *, checksum_partial: bool = False, segment_bytes: int = 0) -> None:
        """As a network card does: a flow is a queue's."""
        place = self._places[0]
        if len(self._places) > 1 and (ends := flow(data)) is not None:
            place = self._places[owner(*ends, len(self._places))]
        place.input(data, checksum_partial=checksum_partial, segment_bytes=segment_bytes)

    def _work(self, now_ns: int) -> int:
        return sum(place.turn(now_ns, self._transmit) for place in self._places)

    def _deadline_ns(self) -> int | None:
        return min((when for place in self._places if (when := place.deadline_ns()) is not None), default=None)

    def check(self) -> None:
        """Its memory is the business of other tests."""

    def close(self) -> None:
        """`on_stop`, as when a server stops; connections are reset."""
        self._opened.close()
