"""A shard whose connections belong to a network process.

When a worker dies, its connections wait in the network process for the next one; when the engine dies, its keeper
starts another that goes on with them. Only when the keeper itself dies is everything gone: then the shard is rebuilt,
on a fresh segment and with fresh workers, and other shards do not notice."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from usnet_framework.errors import StartupError
from usnet_framework.shards.backoff import Backoff
from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.listeners import Listener
from usnet_framework.shards.messages import Message
from usnet_framework.shards.network import NetworkProcess, NetworkSetup
from usnet_framework.shards.seat import Seat
from usnet_framework.shards.segment import PORTS, Segment
from usnet_framework.shards.shard import Shard, ShardSetup
from usnet_framework.shards.upgrade import EngineFile, EngineName, Upgrade, UpgradeRefused
from usnet_framework.shards.wakes import Wakes

log = logging.getLogger("usnet.supervisor")

REBUILDS_FREE = 1  # a keeper that dies once may have been killed
LONG_LIFE_S = 60.0  # of a keeper: what died before it has nothing to do with its death
STEADY_S = 1.0  # of an engine: it will go on
SHORT_LIVES_MOST = 1  # in a row, of engines that crashed: a single one hardly anybody notices


class SplitShard(Shard):
    """Connections belong to a network process (network.NetworkOwner)."""

    layout = "split"
    sides = PORTS

    def __init__(self, setup: ShardSetup) -> None:
        super().__init__(setup)
        self._engine_deaths = 0
        self._engine_began_s = 0.0
        self._short_lives = 0
        self._rebuilds = 0
        self._network: NetworkProcess | None = None
        self._was_ready = False
        self._last_words = ""  # of the network process
        self._draining = False
        self._backoff = Backoff(REBUILDS_FREE)
        self._began_s = 0.0  # the keeper that there is
        self._wakes: Wakes | None = None
        self._engine_file: EngineFile | None = None  # that engines come out of
        self._engine_name: EngineName | None = None
        self._upgrade: Upgrade | None = None
        self._diverted: set[int] = set()  # ports of workers that make no progress
        self._hung: set[tuple[int, int]] = set()  # port and serial of workers that were killed for it

    def status(self) -> dict[str, Any]:
        network = self._network
        return super().status() | {
            "network_pid": network.engine_pid if network is not None else None,
            "keeper_pid": network.pid if network is not None and network.running else None,
            "network_restarts": self._engine_deaths,
            "network_version": self.segment.engine_status().version if self.segment is not None else None,
            "rebuilds": self._rebuilds,
        }

    def unready(self) -> str | None:
        if self._short_lives > SHORT_LIVES_MOST:
            return f"network processes of shard {self.number} crash again and again"
        return super().unready()

    def pids(self) -> dict[str, Any]:
        return {"network": self._network.engine_pid if self._network is not None else None} | super().pids()

    def start(self) -> None:
        listeners = self.handover.begin()
        self._began_s = time.monotonic()
        self.segment = self._new_segment(listeners)
        try:
            self._engine_file = self._engine_file or EngineFile()
            self._engine_name = self._engine_name or EngineName()
            self._engine_name.say(self._engine_file)
            self._wakes = Wakes(len(self.seats) * self.sides)
            self._network = NetworkProcess(self._network_setup(self.segment, self._wakes, listeners), self)
            self._wakes.handed_down()
        except OSError as error:
            raise StartupError(f"shard {self.number}: cannot start its network process: {error.strerror}") from None

    def _network_setup(self, segment: Segment, wakes: Wakes, listeners: Sequence[Listener]) -> NetworkSetup:
        assert self._engine_file is not None, "it was opened"
        assert self._engine_name is not None, "it was made"
        return NetworkSetup(
            shard=self.number,
            public_fd=segment.public_fd,
            port_fds=segment.port_fds,
            port_wake_fds=wakes.to_workers,
            wake_fds=wakes.from_workers,
            listener_fds=[one.sockets[self.number].fileno() for one in listeners if one.sockets],
            engine_fd=self._engine_file.fileno(),
            engine_name_fd=self._engine_name.fileno(),
            stack=self._stack_setup(segment),
            core=self.setup.plan.network_core,
            cleanup=self.setup.cleanup(),
            privileges=self.setup.privileges,
        )

    def drain(self, timeout_s: float) -> None:
        super().drain(timeout_s)
        self._draining = True
        if self._network is not None:
            self._network.drain()

    def close_seats(self, timeout_s: float) -> None:
        super().close_seats(timeout_s)
        if self._network is None:  # nobody is there who would confirm anything
            self._end_seats()

    async def stop(self) -> None:
        self._stopping = True
        if self._network is not None:
            self._network.quit()
            await self._network.wait()
        self._release()
        if self._engine_file is not None:
            self._engine_file.close()
        if self._engine_name is not None:
            self._engine_name.close()

    def kill(self) -> None:
        super().kill()
        if self._network is not None:
            self._network.kill()

    async def upgrade(self) -> str:
        """Go on with an engine out of the file that is installed now, all connections open; its version.
        UpgradeRefused."""
        if self._upgrade is not None:
            raise UpgradeRefused(f"shard {self.number}: an upgrade is under way")
        if self._network is None or self._network.engine_pid is None:
            raise UpgradeRefused(f"shard {self.number} has no network process now; try again when it serves")
        with EngineFile() as file:
            self._upgrade = Upgrade(self.number, lambda: self._ask_upgrade(file))
            try:
                await self._upgrade.done()
            except UpgradeRefused:
                if self._engine_name is not None and self._engine_file is not None:
                    self._engine_name.say(self._engine_file)
                raise
            finally:
                self._upgrade = None
            if self._engine_file is not None:
                self._engine_file.close()
            self._engine_file = file.keep()
        return self.segment.engine_status().version if self.segment is not None else ""

    def _ask_upgrade(self, file: EngineFile) -> None:
        if self._network is not None and self._engine_name is not None:
            self._engine_name.say(file)
            self._network.upgrade(file.fileno())

    # What seats ask.

    def attach(self, port: int, serial: int, resumes: bool) -> None:
        self._diverted.discard(port)
        if self._network is not None:
            self._network.attach(port, serial, resumes)

    def lost(self, port: int, serial: int, left: bool) -> None:
        if self._network is not None:
            self._network.lost(port, serial, hung=(port, serial) in self._hung, left=left)

    def attachment(self, port: int) -> tuple[Message, list[int]]:
        assert self.segment is not None, "an engine has confirmed"
        assert self._wakes is not None, "they came with the segment"
        return {"port": port}, [self.segment.public_fd, self.segment.port_fds[port], *self._wakes.worker(port)]

    # What the watchdog asks and tells (watchdog.Shard).

    @property
    def network(self) -> NetworkProcess | None:
        return self._network

    def divert(self, port: int, away: bool) -> None:
        (self._diverted.add if away else self._diverted.discard)(port)
        if self._network is not None:
            self._network.divert(port, away)

    def hangs(self, port: int, serial: int) -> None:
        self._hung = {(other, its) for other, its in self._hung if other != port} | {(port, serial)}

    # What the network process tells.

    def engine_ready(self, pid: int, epoch: int, refused: bool) -> None:
        extra = {"shard": self.number, "pid": pid, "epoch": epoch}
        if self._upgrade is not None:
            self._upgrade.engine_ready(self._last_words if refused else "")
        elif self._was_ready:
            log.warning("network process is back", extra=extra)
        elif self._rebuilds:
            log.warning("shard is rebuilt", extra=extra)
        self._was_ready = True
        self._engine_began_s = time.monotonic()
        if self._short_lives:
            self.setup.means.later(STEADY_S, partial(self._engine_lives, pid))
        if self._draining and self._network is not None:
            self._network.drain()
        self.handover.follow(again=True)
        self.looker.again()
        self.capture.again()
        for seat in self.seats:
            seat.start()
        for port in range(len(self.seats) * self.sides):  # the last engine may have missed either
            self.divert(port, port in self._diverted)

    def engine_died(self, pid: int, wait_status: int) -> None:
        self._engine_deaths += 1
        status = os.waitstatus_to_exitcode(wait_status)
        text = "network process %s; its keeper starts another"
        log.error(text, describe_exit(status), extra={"shard": self.number, "pid": pid})
        if status not in (-signal.SIGKILL, -signal.SIGTERM):
            lived_s = time.monotonic() - self._engine_began_s
            self._short_lives = self._short_lives + 1 if lived_s < STEADY_S else 0
            self.setup.changed()

    def _engine_lives(self, pid: int) -> None:
        """It has for a while, unless it is another one by now."""
        if self._network is not None and self._network.engine_pid == pid:
            self._short_lives = 0
            self.setup.changed()

    def upgrade_confirmed(self, error: int) -> None:
        if self._upgrade is not None:
            self._upgrade.confirmed(error)

    def seat_of(self, port: int) -> Seat | None:
        """An engine may name ports that are none."""
        number = port // self.sides
        return self.seats[number] if number < len(self.seats) else None

    def engine_says(self, text: str) -> None:
        """As it starts, one line has it all: see network_exited."""
        self._last_words = text
        if self._was_ready and self._upgrade is None:
            super().engine_says(text)

    def network_exited(self, status: int) -> None:
        """The keeper is gone, and with it every connection of the shard."""
        if self._upgrade is not None:
            self._upgrade.refuse(f"its keeper {describe_exit(status)}")
        if self._stopping:
            self._end_seats()
            return
        if not self._was_ready:
            how = f"{describe_exit(status)} as it started"
            self.setup.means.failed(f"the network process of shard {self.number} {how}{self._reason()}")
            if not self._rebuilds:
                return  # that was the start of the server, which is given up; there is nothing to lose
        if time.monotonic() - self._began_s >= LONG_LIFE_S:
            self._backoff.succeeded()
        delay_s = self._backoff.failed()
        text = "keeper %s: the connections of the shard are lost, it is rebuilt in %.1f s"
        log.error(text, describe_exit(status), delay_s, extra={"shard": self.number})
        for seat in self.seats:
            seat.reset()
        self._release()
        self.setup.means.later(delay_s, self._rebuild)

    def _reason(self) -> str:
        return f": {self._last_words}" if self._last_words else ""

    def _rebuild(self) -> None:
        if self._stopping:
            return
        self._rebuilds += 1
        self._was_ready = False
        if self._engine_file is not None:  # the keeper is the one that is installed now: so is its engine
            self._engine_file.close()
            self._engine_file = None
        try:
            self.start()
        except StartupError as error:
            self._release()
            self.setup.means.later(self._put_off(error, self._backoff), self._rebuild)

    def _ask(self, packet: bytes, fds: Sequence[int]) -> bool:
        return self._network is not None and self._network.ask(packet, fds)

    def _release(self) -> None:
        """The file of engines stays, for those of the next keeper."""
        self._network = None
        self.handover.end()
        self._close_segment()
        if self._wakes is not None:
            self._wakes.close()
            self._wakes = None
