"""A generation whose workers are forked from its zygote, which has imported the application (zygote.py).

A worker is there in milliseconds, however often workers die, with the code that the zygote has read, and shares its
memory. When the import leaves what a fork cannot share (threads, sockets), workers are spawned instead, from the same
release: the first is made of the process that has just imported it.

    no zygote   a worker that is wanted has one started, which imports
    importing   workers wait; when it fails or dies they are told so, and the next one that is wanted tries again
    ready       workers are forked. When the zygote dies another one imports the same release, and workers wait. After
                two in a row that died before they had forked a worker, those that wait are told so, and the next
                zygote is started when a worker is wanted again
    unfit       workers are spawned for good

Where the machine has no room for a process or a descriptor, the worker that it was for fails. Whoever wanted one of
those that failed asks again after a growing delay (spare.py), so nothing is tried here without being asked for.

A zygote leaves when the last worker of its generation has: its exit hooks may remove what workers use."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from usnet_framework.shards.child import describe_exit
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.generation import spawn
from usnet_framework.shards.messages import CANNOT_FORK, Message
from usnet_framework.shards.release import Release
from usnet_framework.shards.workerprocess import WorkerOwner, WorkerProcess
from usnet_framework.shards.zygoteprocess import ZygoteProcess

log = logging.getLogger("usnet.supervisor")

FRUITLESS_FREE = 1  # one that dies before it forked may have been killed


class ForkedGeneration:
    """See generation.py: Generation. `timeout_s`: for an import. It is the zygote's owner."""

    def __init__(
        self, number: int, release: Release, load: Message, timeout_s: float, made: Callable[[WorkerProcess], None]
    ) -> None:
        self.number = number
        self.reasons: list[str] = []  # why workers are spawned
        self._release = release
        self._load = load
        self._timeout_s = timeout_s
        self._made = made
        self._zygote: ZygoteProcess | None = None
        self._fruitless = 0  # zygotes in a row that died before they had forked a worker
        self._waiting: deque[WorkerProcess] = deque()
        self._running = 0  # workers
        self._closed = False
        self._leaving: list[ZygoteProcess] = []

    @property
    def keeps_code(self) -> bool:
        return not self.reasons

    @property
    def pids(self) -> list[int]:
        processes = self._leaving if self._zygote is None else [*self._leaving, self._zygote]
        return [process.pid for process in processes if process.running]

    @property
    def is_over(self) -> bool:
        return self._closed and not self.pids

    def spawn(self, owner: WorkerOwner) -> WorkerProcess:
        worker = WorkerProcess(self.number, owner)
        if self.reasons:
            spawn(worker, self._release, self._load)
        elif self._zygote is not None and self._zygote.is_ready:
            self._zygote.fork(worker)
        else:
            if self._zygote is None:
                self._start_zygote()
            self._waiting.append(worker)
        self._running += 1
        worker.when_ended(self._worker_ended)
        self._made(worker)
        return worker

    def close(self) -> None:
        self._closed = True
        self._end_waiting(0)
        self._leave_if_unused()

    async def wait(self) -> None:
        if self._zygote is not None:
            self._dismiss()
        for zygote in self._leaving:
            await zygote.wait()

    def finding(self) -> Finding:
        what, asked = "preload", "auto"
        if not self.reasons:
            return Finding(what, asked, "workers are forked")
        fix = "start threads and open connections in on_warm, or on_start, to have workers within milliseconds"
        return Finding(what, asked, "workers are spawned", "; ".join(self.reasons), fix)

    def _start_zygote(self) -> None:
        self._zygote = ZygoteProcess(self._release, self._load, self._timeout_s, self)

    def _worker_ended(self) -> None:
        self._running -= 1
        self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if self._closed and self._running == 0 and self._zygote is not None:
            self._dismiss()

    def _dismiss(self) -> None:
        zygote, self._zygote = self._zygote, None
        assert zygote is not None, "the caller has looked"
        zygote.close()
        self._leaving = [*(other for other in self._leaving if other.running), zygote]

    def _end_waiting(self, status: int) -> None:
        waiting, self._waiting = self._waiting, deque()
        for worker in waiting:
            worker.vanish(status)

    def _fail_waiting(self, error: str) -> None:
        """Nobody but the log may be left to hear of it."""
        waiting = [worker for worker in self._waiting if worker.running]
        self._waiting.clear()
        if not waiting:
            log.error("%s", error)
        for worker in waiting:
            worker.fail(error)

    # As the owner of the zygote.

    def zygote_ready(self) -> None:
        assert self._zygote is not None, "it has just said so"
        waiting = [worker for worker in self._waiting if worker.running]
        self._waiting.clear()
        for worker in waiting:
            try:
                self._zygote.fork(worker)
            except OSError as error:
                worker.fail(f"{CANNOT_FORK}: {error.strerror}")

    def zygote_unfit(self, reasons: list[str]) -> None:
        assert self._zygote is not None, "it has just said so"
        self.reasons = reasons or ["unknown"]
        log.info("workers are spawned, not forked: %s", "; ".join(self.reasons))
        waiting = [worker for worker in self._waiting if worker.running]
        self._waiting.clear()
        if waiting:
            self._zygote.become(waiting[0])
            self._zygote = None
        else:
            self._dismiss()
        for worker in waiting[1:]:
            try:
                spawn(worker, self._release, self._load)
            except OSError as error:
                worker.fail(f"cannot start a worker process: {error.strerror}")

    def zygote_failed(self, error: str) -> None:
        if self._zygote is not None:
            self._dismiss()
        self._fail_waiting(error)

    def zygote_exited(self, status: int, asked: list[WorkerProcess]) -> None:
        zygote, self._zygote = self._zygote, None
        assert zygote is not None, "one at a time"
        self._waiting.extendleft(reversed(asked))
        if self._closed or not zygote.is_ready:
            self._end_waiting(status)
            return
        self._fruitless = 0 if zygote.has_forked else self._fruitless + 1
        if self._fruitless > FRUITLESS_FREE:
            self._fail_waiting(f"the zygote {describe_exit(status)} before it had forked a worker")
            return
        where = self._release.app_dir
        text = "the zygote %s; another one imports the application from %s"
        log.warning(text, describe_exit(status), where, extra={"pid": zygote.pid})
        try:
            self._start_zygote()
        except OSError as error:
            self._fail_waiting(f"cannot start a process: {error.strerror}")
