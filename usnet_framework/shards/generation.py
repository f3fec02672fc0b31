"""A generation: one release of the application, and where its workers come from.

Whoever needs a worker of a certain code asks the generation of that code (`spawn`). A reload makes the next one; the
one before it stays until the new code has proven itself, so that there is a way back (reload.py). `close` ends what it
keeps for itself; workers that it brought forth go on.

`spawn` returns at once. The worker may not even have a process then; its owner is told `worker_ready` once it has
imported the application and on_warm is done, `worker_failed` when it could not, or `worker_exited`. Every owner sets a
deadline for that of its own (spare.py), so a generation needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from usnet_framework.shards.findings import Finding
from usnet_framework.shards.interpreter import start
from usnet_framework.shards.messages import Message
from usnet_framework.shards.release import Release
from usnet_framework.shards.workerprocess import WorkerOwner, WorkerProcess

WORKER_MODULE = "usnet_framework.shards.worker"


def spawn(worker: WorkerProcess, release: Release, load: Message) -> None:
    """Have it be an interpreter of its own, which imports the release. OSError."""
    child, control = start(WORKER_MODULE, release, worker.vanish)
    worker.begin(child, control, load)


class Generation(Protocol):
    """`number` counts from 0; a reload's is the next one, a refused one's too."""

    number: int

    @property
    def keeps_code(self) -> bool:
        """Whether workers brought forth later have the code of those brought forth before, whatever the disk holds."""
        ...

    @property
    def pids(self) -> list[int]:
        """Processes that are no workers: of a zygote."""
        ...

    @property
    def is_over(self) -> bool:
        """It was closed, and nothing that it keeps for itself is left. Without a process now, it may have one later."""
        ...

    def spawn(self, owner: WorkerOwner) -> WorkerProcess:
        """A worker, at once or in a moment. OSError when no process can be made."""
        ...

    def close(self) -> None:
        """Bring forth no more. May be called twice."""
        ...

    async def wait(self) -> None:
        """Until what it keeps for itself has ended, which its workers have."""
        ...

    def finding(self) -> Finding:
        """How workers are made, and why so."""
        ...


class SpawnedGeneration:
    """Each worker is an interpreter of its own that imports the application from the disk: --preload off. What is
    forked instead is in forkedgeneration.py."""

    keeps_code = False
    is_over = True  # it keeps nothing

    def __init__(self, number: int, release: Release, load: Message, made: Callable[[WorkerProcess], None]) -> None:
        """`load` as in messages.py; `made` is told of each worker."""
        self.number = number
        self._release = release
        self._load = load
        self._made = made

    @property
    def pids(self) -> list[int]:
        return []

    def spawn(self, owner: WorkerOwner) -> WorkerProcess:
        worker = WorkerProcess(self.number, owner)
        spawn(worker, self._release, self._load)
        self._made(worker)
        return worker

    def close(self) -> None:
        """There is nothing to end."""

    async def wait(self) -> None:
        """There is nothing to wait for."""

    def finding(self) -> Finding:
        return Finding("preload", "off", "workers are spawned")
