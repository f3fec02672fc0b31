"""The supervisor: startup, run, drain, shutdown.

It places and starts the processes of every shard, replaces those that die, and shows what there is. It never imports
the application, so nothing that the application does can hurt it; it never touches a connection either. Everything
happens in one asyncio loop, and signals only set flags.

    startup   limits, placement, sockets; then network processes and workers at the same time. Whatever is refused, also
              the import of the application, is StartupError: nothing is tried again
    run       children are replaced (seat.py, splitshard.py), SIGHUP reloads (reload.py)
    drain     accept no more and wait until connections are gone or have nothing left to do (quiet.py), at most
              graceful_timeout
    shutdown  workers finish and leave, network processes quit, sockets are removed; always, whatever happened before
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from usnet_framework._native import set_dumpable
from usnet_framework.config import Config
from usnet_framework.errors import ControlError, StartupError, UsnetError
from usnet_framework.installed import VERSION
from usnet_framework.shards.background import Background
from usnet_framework.shards.binder import Binder, BinderSetup
from usnet_framework.shards.capture import Captures
from usnet_framework.shards.cardlook import CardLook
from usnet_framework.shards.changes import Changes
from usnet_framework.shards.commands import Commands, workers
from usnet_framework.shards.control import ControlServer
from usnet_framework.shards.doctor import service_findings, survival_finding
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.forkedgeneration import ForkedGeneration
from usnet_framework.shards.generation import Generation, SpawnedGeneration
from usnet_framework.shards.inlineshard import InlineShard
from usnet_framework.shards.keepalive import Keepalive
from usnet_framework.shards.network import Guard
from usnet_framework.shards.notify import Notifier
from usnet_framework.shards.placement import ShardPlan
from usnet_framework.shards.preparation import Prepared, prepare, understand
from usnet_framework.shards.privileges import networks_finding, syscalls_finding
from usnet_framework.shards.quiet import Quiet, unfinished
from usnet_framework.shards.release import ReleaseFinder
from usnet_framework.shards.reload import Releases, ReloadRefused
from usnet_framework.shards.seat import Seat
from usnet_framework.shards.segment import Segment
from usnet_framework.shards.settings import Settings
from usnet_framework.shards.shard import Shard, ShardSetup
from usnet_framework.shards.sitting import RETIRE_MARGIN_S, Means, Patience
from usnet_framework.shards.spare import SparePool
from usnet_framework.shards.splitshard import SplitShard
from usnet_framework.shards.spread import Spread
from usnet_framework.shards.undo import LETTING_GO_S
from usnet_framework.shards.watchdog import Watch
from usnet_framework.shards.workerprocess import WorkerProcess

log = logging.getLogger("usnet.supervisor")

DRAIN_POLL_S = 0.02  # reads one word of shared memory per shard
QUIT_TIMEOUT_S = 2.0  # what processes that have nothing left to do get to leave
STOPPING = ReloadRefused("the server is stopping")
Change = Literal["reload", "rollback"]


class Supervisor:
    """One server. `run` serves until `stop`; everything else may be called at any time, in the thread of the loop."""

    def __init__(self, config: Config, read: Callable[[], Config] | None = None) -> None:
        """`read`: reads the configuration again, for a reload; UsageError. UsageError, StartupError: what the
        configuration asks for makes no sense on this machine."""
        self.config = config
        self._settings = Settings(config, read)
        self._notifier = Notifier()
        self._intent = understand(config)
        self._started_s = time.monotonic()
        self._finder = ReleaseFinder(os.environ)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._captures = Captures(lambda: self._shards)
        self._beginning = threading.Lock()  # of `run`, while another thread asks to stop
        self._changes = Changes()
        self._patience = Patience()
        self._patience.take(config)
        self._means = Means(self._later, self._patience, self._start_failed)
        self._prepared: Prepared | None = None
        self._card = CardLook(self._look)
        self._notes: list[Finding] = []
        self._releases: Releases | None = None
        self._generations: list[Generation] = []  # that may have processes
        self._shards: list[Shard] = []
        self._workers: list[WorkerProcess] = []
        self._control: ControlServer | None = None
        self._guard: Guard | None = None
        self._watch = Watch(lambda: self._shards, self._patience_with_callbacks, self._changes.notify)
        self._binder: Binder | None = None  # once all serve
        self._spread: Spread | None = None
        self._failure: str | None = None  # of the start
        self._served = False
        self._stopping = self._at_once = False
        self._deadline_s = 0.0
        self._asked: dict[Change, asyncio.Future[int | ReloadRefused]] = {}  # not begun
        self._reloads = self._reloads_refused = self._rollbacks = 0

    async def run(self) -> None:
        """Serve until told to stop. UsageError or StartupError when it cannot be."""
        with self._beginning:
            self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unexpected)
        affinity = os.sched_getaffinity(0)
        dumpable = set_dumpable(False)  # it holds the memory of all shards
        self._notifier.begin(self._described)
        try:
            await self._startup()
            await self._run()
            await self._drain()
        except UsnetError as error:
            self._notifier.failed(str(error))
            raise
        finally:
            await self._shutdown()
            self._notifier.close()
            os.sched_setaffinity(0, affinity)
            set_dumpable(dumpable)

    def stop(self) -> None:
        """Drain and stop; asked a second time, stop at once."""
        self._at_once = self._stopping
        self._stopping = True
        self._changes.notify()

    def stop_from_thread(self) -> None:
        """`stop`, called by another thread than the loop's, which may not have begun or have ended."""
        with self._beginning, suppress(RuntimeError):
            if self._loop is None:
                self._stopping = True
            else:
                self._loop.call_soon_threadsafe(self.stop)

    def reload(self) -> asyncio.Future[int | ReloadRefused]:
        """Replace every worker by one of the application's new code; the future says how many were, or why not. Asked
        again before it has begun, it is one reload."""
        return self._ask("reload")

    def settings_news(self) -> str:
        """What the last reload did with options that have changed, to be put behind its answer."""
        return self._settings.news

    def rollback(self) -> asyncio.Future[int | ReloadRefused]:
        """Go back to the code before the last reload, while that has not proven itself."""
        return self._ask("rollback")

    def _ask(self, what: Change) -> asyncio.Future[int | ReloadRefused]:
        future = self._asked.get(what)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if self._stopping:
                future.set_result(STOPPING)
            else:
                self._asked[what] = future
                self._changes.notify()
        return future

    # What there is.

    def unready(self) -> list[str]:
        """Why it cannot serve all that it is to serve, a line for each reason; none when it can."""
        if self._stopping:
            return ["the server is stopping"]
        if not self._served or self._prepared is None:
            return ["the server is starting"]
        shards = [why for shard in self._shards if (why := shard.unready()) is not None]
        return [*shards, *map(str, self._watch.hangs), *self._prepared.unreachable()]

    def is_ready(self) -> bool:
        """A handler can run on every seat, and goes on; clients reach it."""
        return not self.unready()

    @property
    def segments(self) -> dict[int, Segment]:
        """By shard. One that is closed while it is read raises ValueError."""
        return {shard.number: segment for shard in self._shards if (segment := shard.segment) is not None}

    @property
    def addresses(self) -> list[str]:
        """What is listened on, ports resolved."""
        return self._prepared.listeners.addresses if self._prepared is not None else []

    async def look(self) -> None:
        """Find out for `findings` what takes a while, if it does not take too long."""
        if self._prepared is not None and self._prepared.stack is not None:
            await self._card.look()

    def _look(self) -> None:
        if self._prepared is not None:
            self._prepared.look()

    def findings(self) -> list[Finding]:
        """What was asked and what is in force (P8), some of it as it was at the last look."""
        if self._prepared is None:
            return []
        serving = [*service_findings(self._seats()), *self._watch.findings()]
        asked = [*self._prepared.findings, *self._card.findings(), *self._settings.findings(), *self._notes]
        return [*asked, self._survival(), *serving, *self._preload()]

    def _preload(self) -> list[Finding]:
        return [self._releases.current.generation.finding()] if self._releases is not None else []

    def note(self, finding: Finding) -> None:
        """Something else that was asked for, and is in force: to be told when the server runs."""
        self._notes.append(finding)

    def _survival(self) -> Finding:
        current = [seat.current for seat in self._seats() if seat.current is not None]
        return survival_finding(self.config.layout, all(sitting.worker.resumes for sitting in current))

    def rights(self) -> list[Finding]:
        """What its processes may do."""
        networks = [pid for shard in self._shards if (pid := shard.status()["network_pid"]) is not None]
        refused = sum(segment.engine_counters()["syscalls_refused"] for segment in self.segments.values())
        return [networks_finding(networks), syscalls_finding(self.config, networks, refused)]

    def status(self) -> dict[str, Any]:
        """A snapshot that can be written as JSON."""
        return {
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started_s, 3),
            "version": VERSION,
            "app": self.config.app,
            "backend": self.config.transport(),
            "layout": self.config.layout,
            "state": self._state(),
            "listeners": self.addresses,
            "packets": self._prepared.modes() if self._prepared is not None else {},
            "shards": [self._watch.annotate(shard.status()) for shard in self._shards],
            "spares": self._releases.pids if self._releases is not None else [],
            "zygotes": self._releases.zygotes if self._releases is not None else [],
            "reloads": self._reloads,
            "reloads_refused": self._reloads_refused,
            "rollbacks": self._rollbacks,
            "generation": self._releases.current.number if self._releases is not None else 0,
            "can_roll_back": self._releases is not None and self._releases.previous is not None,
            "drops": self.drops(),
            "warnings": [str(finding) for finding in self.findings() if not finding.ok],
        }

    def drops(self) -> dict[str, int]:
        """Packets that no shard had, by reason."""
        stack = self._prepared.stack if self._prepared is not None else None
        return dict(stack.drops()) if stack is not None else {}

    def _state(self) -> str:
        if self._stopping:
            return "stopping"
        return "ready" if self.is_ready() else "degraded" if self._served else "starting"

    @property
    def shards(self) -> Sequence[Shard]:
        return self._shards

    def binder(self) -> Binder:
        """ControlError."""
        if self._binder is None:
            raise ControlError("the server is starting; try again when it is ready")
        return self._binder

    # Startup.

    async def _startup(self) -> None:
        self._prepared = prepare(self.config, self._intent)
        if self.config.cores is not None:
            os.sched_setaffinity(0, self._intent.plan.cores)  # of this thread; children inherit it
        await self._open_control(self._prepared)
        self._spread = Spread(self._prepared.listeners, lambda: self._shards)
        self._watch.start()  # before the first worker, which gets an end of its pipe
        self._releases = Releases(
            self._make_pool,
            lambda: list(self._seats()),
            self._changes,
            self._means,
            self.config.reload_probation,
        )
        self._shards = [self._make_shard(self._prepared, self._releases, plan) for plan in self._prepared.plan.shards]
        for shard in self._shards:
            shard.start()
        await self._changes.until(lambda: self._stopping or self._failure is not None or self._all_serve())
        if self._failure is not None:
            raise StartupError(self._failure)
        if not self._stopping:
            await self.look()  # engines have set up their queues since the last one
            self._served = True
            self._binder = self._make_binder(self._prepared)
            self._report(self._prepared)

    def _report(self, prepared: Prepared) -> None:
        """Only now: a start that fails says one line, why."""
        for finding in (*prepared.findings, *self._notes):
            if not finding.ok:
                log.warning("%s", finding)
        for shard in self._shards:
            log.info("shard %d serves", shard.number, extra=shard.pids())
        for address in prepared.listeners.addresses:
            log.info("listening on %s", address)
        log.info("ready in %.0f ms", (time.monotonic() - self._started_s) * 1e3)
        self._notifier.ready()

    async def _open_control(self, prepared: Prepared) -> None:
        if self._keepers_cannot_clean_up(prepared):
            await self._keep_guard(prepared.socket_files)
        if prepared.control is not None:
            self._control = ControlServer(prepared.control, Commands(self).by_name(), {"capture": self._captures.serve})
            await self._control.start()

    async def _keep_guard(self, paths: Sequence[Path]) -> None:
        """Have these files removed if we are killed, instead of those before. StartupError."""
        before, self._guard = self._guard, Guard(paths) if paths else None
        if before is not None:
            await before.close()

    async def _keep_guard_of_added(self, added: Sequence[Path]) -> None:
        """Of the files of listeners that were added; keepers have those of the start, where there are any."""
        assert self._prepared is not None, "the server runs"
        first = self._prepared.socket_files if self._keepers_cannot_clean_up(self._prepared) else []
        await self._keep_guard(list(dict.fromkeys([*first, *added])))

    def _make_binder(self, prepared: Prepared) -> Binder:
        return Binder(
            BinderSetup(
                listeners=prepared.listeners,
                shards=self._shards,
                changes=self._changes,
                stack=prepared.stack,
                backlog=self.config.backlog,
                keepalive=Keepalive.after(self.config.keepalive),
                guard=self._keep_guard_of_added,
            )
        )

    def _keepers_cannot_clean_up(self, prepared: Prepared) -> bool:
        return prepared.plan.layout == "inline" or self._intent.privileges.change_user

    def _make_shard(self, prepared: Prepared, releases: Releases, plan: ShardPlan) -> Shard:
        setup = ShardSetup(
            plan=plan,
            poll=prepared.plan.poll,
            listeners=prepared.listeners,
            stack=prepared.stack,
            options=prepared.options[plan.shard],
            state_bytes=self.config.state_bytes,
            buffer_mib=self.config.buffer_limit,
            quarantine=Path(self.config.quarantine).absolute(),
            cleanup=lambda: [] if self._keepers_cannot_clean_up(prepared) else prepared.socket_files,
            privileges=self._intent.privileges,
            pool=releases.current,
            means=self._means,
            worker_died=releases.worker_died,
            changed=self._shard_changed,
        )
        return InlineShard(setup) if prepared.plan.layout == "inline" else SplitShard(setup)

    def _make_pool(self, number: int, failed: Callable[[str], None]) -> SparePool:
        release = self._finder.find(self.config.app, self.config.app_dir)
        load = {
            **release.load(),
            "factory": self.config.factory,
            "log_level": self.config.log_level,
            "log_format": self.config.log_format,
            "privileges": self._intent.privileges.of_worker(),
            "stack_fd": self._watch.stack_fd,
        }
        generation: Generation = SpawnedGeneration(number, release, load, self._know)
        if self.config.preload == "auto":
            generation = ForkedGeneration(number, release, load, self.config.start_timeout, self._know)
        self._generations = [*(known for known in self._generations if not known.is_over), generation]
        return SparePool(generation, self.config.spares, self.config.start_timeout, self._later, failed)

    def _know(self, worker: WorkerProcess) -> None:
        self._workers = [*(known for known in self._workers if known.running), worker]

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake of ours in a callback. What would have followed does not come, so a start must not wait for it."""
        error = context.get("exception")
        log.error("unexpected: %s", context["message"], exc_info=error)
        if "handle" in context and not self._served:
            self._start_failed(f"internal error: {type(error).__name__}: {error}")

    def _shard_changed(self) -> None:
        if self._spread is not None and not self._stopping:
            self._spread.follow()
        self._changes.notify()

    def _start_failed(self, error: str) -> None:
        """The first start is given up; later on whatever failed is tried again."""
        if self._served:
            log.error("%s", error)
        elif self._failure is None:
            self._failure = error
            self._changes.notify()

    # Run.

    async def _run(self) -> None:
        assert self._releases is not None, "the server runs"
        releases = self._releases
        while not self._stopping:
            await self._changes.until(lambda: self._stopping or bool(self._asked) or releases.failing)
            if releases.failing and not self._stopping:
                log.error("workers of the new code died before they had done anything much: it is rolled back")
                await self._unless_stopped("rollback")
            for what in list(self._asked):
                asked = self._asked.pop(what)
                asked.set_result(await self._unless_stopped(what))

    async def _unless_stopped(self, what: Change) -> int | ReloadRefused:
        if self._stopping:
            return STOPPING
        task = asyncio.create_task(self._change(what))
        task.add_done_callback(lambda done: self._changes.notify())
        await self._changes.until(lambda: self._stopping or task.done())
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return STOPPING

    async def _change(self, what: Change) -> int | ReloadRefused:
        assert self._releases is not None, "the server runs"
        began_s, before, in_force = time.monotonic(), self._survival(), self.config
        self._notifier.reloading()
        try:
            if what == "reload":
                self.config = self._settings.read()
            changed = await (self._releases.reload() if what == "reload" else self._releases.rollback())
        except ReloadRefused as refusal:
            self.config = in_force
            self._reloads_refused += what == "reload"
            log.error("%s refused: %s", what, refusal)
            return refusal
        except Exception as error:  # a mistake of ours: what serves goes on
            self.config = in_force
            self._reloads_refused += what == "reload"
            log.exception("unexpected: the %s failed", what)
            return ReloadRefused(f"internal error: {type(error).__name__}: {error}")
        finally:
            self._notifier.ready()
        if what == "reload":
            self._reloads += 1
            log.info("reloaded %s in %.0f ms", workers(changed), (time.monotonic() - began_s) * 1e3)
            self._settings.take(self.config)
            self._patience.take(self.config)
        else:
            self._rollbacks += 1
            self.config = self._settings.back()
            self._patience.take(self.config)
            log.warning("rolled back %s in %.0f ms", workers(changed), (time.monotonic() - began_s) * 1e3)
        for survival in (before, self._survival()):  # it takes both: one that leaves them, one that takes them over
            if survival.in_force == "no":
                log.warning("connections do not outlive the %s: %s; %s", what, survival.reason, survival.fix)
                break
        return changed

    # Drain.

    async def _drain(self) -> None:
        if self._prepared is None or not self._served:
            return
        self._refuse_changes()
        timeout_s = self.config.graceful_timeout
        self._deadline_s = time.monotonic() + timeout_s
        self._notifier.stopping(timeout_s)
        if self._binder is not None:
            await self._binder.close()
        for shard in self._shards:
            shard.drain(timeout_s)
        self._prepared.listeners.refuse()
        log.info("stopping: accepting no more; %d connections get %g s", self._open(), timeout_s)
        quiet = Quiet()
        while self._open() and time.monotonic() < self._deadline_s and not self._at_once:
            if quiet.silent(self.segments.values(), time.monotonic()) and await self._nothing_is_left():
                log.info("stopping: the connections that are left are idle", extra={"connections": self._open()})
                return
            await asyncio.sleep(DRAIN_POLL_S)

    async def _nothing_is_left(self) -> bool:
        if any(unfinished(segment) for segment in self.segments.values()):
            return False
        return all(await asyncio.gather(*(shard.has_delivered() for shard in self._shards)))

    def _refuse_changes(self) -> None:
        for future in self._asked.values():
            future.set_result(STOPPING)
        self._asked.clear()

    def _open(self) -> int:
        return sum(shard.connections for shard in self._shards)

    # Shutdown.

    async def _shutdown(self) -> None:
        left = self._open()
        self._refuse_changes()
        if self._releases is not None:
            self._releases.close()
        if self._stopping and not self._at_once:
            await self._close_seats(max(0.0, self._deadline_s - time.monotonic()))
        else:
            for shard in self._shards:
                shard.kill()
        await self._end_processes()
        self._watch.close()
        if self._control is not None:
            self._control.close()
        if self._prepared is not None:
            self._prepared.close()
            await self._put_back(self._prepared)
        if self._guard is not None:
            await self._guard.close()
        if self._served:
            log.info("stopped", extra={"connections_left": left} if left else {})

    async def _put_back(self, prepared: Prepared) -> None:
        """Whatever becomes of it, the server ends; asked to stop at once, it waits for nothing that may pass."""
        if prepared.stack is None:
            return
        patience_s = 0.0 if self._at_once else LETTING_GO_S
        done = Background("usnet-put-back", partial(prepared.put_back, patience_s)).ask()
        done.add_done_callback(lambda _: self._changes.notify())
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s + QUIT_TIMEOUT_S):
                await self._changes.until(lambda: done.done() or (self._at_once and patience_s > 0))
        why = done.result() if done.done() else "it was not waited for"
        if why is not None:
            log.error("some settings may not be put back: %s; usnet-ctl doctor --fix", why)

    async def _close_seats(self, timeout_s: float) -> None:
        for shard in self._shards:
            shard.close_seats(timeout_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + RETIRE_MARGIN_S + QUIT_TIMEOUT_S):
                await self._changes.until(lambda: self._at_once or all(shard.closed for shard in self._shards))

    async def _end_processes(self) -> None:
        """Nothing outlives this, whatever it takes."""
        stops = [asyncio.create_task(shard.stop()) for shard in self._shards]
        if stops:
            await asyncio.wait(stops, timeout=QUIT_TIMEOUT_S)
        for shard in self._shards:
            shard.kill()
        await asyncio.gather(*stops)
        if not self._at_once:
            await self._let_exit()
        for worker in self._workers:
            worker.discard()
            await worker.wait()
        for generation in self._generations:
            await generation.wait()

    async def _let_exit(self) -> None:
        """Workers that have left may still run exit hooks."""
        ends = [asyncio.create_task(worker.wait()) for worker in self._workers if worker.running]
        if ends:
            _, late = await asyncio.wait(ends, timeout=QUIT_TIMEOUT_S)
            for end in late:
                end.cancel()

    # Small things.

    def _patience_with_callbacks(self) -> tuple[float, bool]:
        return self.config.callback_timeout, self.config.callback_kill == "on"

    def _described(self) -> str:
        """For the service manager."""
        serving = sum(seat.serves for seat in self._seats())
        workers = f"{serving} of {sum(1 for _ in self._seats())} workers serve"
        return f"{self._state()}: {workers}, {self._open()} connections"

    def _seats(self) -> Iterator[Seat]:
        return (seat for shard in self._shards for seat in shard.seats)

    def _all_serve(self) -> bool:
        return all(shard.ready for shard in self._shards)

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, callback)
