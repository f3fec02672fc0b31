"""What a zygote says is not believed, and what it does not say is not waited for."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from usnet_framework.shards import child, zygoteprocess
from usnet_framework.shards.forkedgeneration import ForkedGeneration
from usnet_framework.shards.release import Release
from usnet_framework.shards.workerprocess import WorkerProcess
from usnet_framework.shards.zygoteprocess import ZygoteProcess

TESTS = str(Path(__file__).resolve().parents[1])
RELEASE = Release("app:App", ".", ".", (TESTS, *sys.path), sys.executable)


class Owner:
    """Of a zygote, and of workers: what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.came_back: list[WorkerProcess] = []
        self.changed = asyncio.Event()

    async def until(self, *told: str) -> None:
        """Until this has been told, in this order, and nothing else."""
        async with asyncio.timeout(20):
            while len(self.told) < len(told):
                await self.changed.wait()
                self.changed.clear()
        assert self.told == list(told)

    def _note(self, text: str) -> None:
        self.told.append(text)
        self.changed.set()

    def zygote_ready(self) -> None:
        self._note("ready")

    def zygote_unfit(self, reasons: list[str]) -> None:
        self._note(f"unfit {reasons}")

    def zygote_failed(self, error: str) -> None:
        self._note(f"failed {error}")

    def zygote_exited(self, status: int, asked: list[WorkerProcess]) -> None:
        self.came_back = asked
        self._note(f"exited {status}")

    def worker_ready(self, worker: WorkerProcess) -> None:
        self._note("worker ready")

    def worker_started(self, worker: WorkerProcess) -> None: ...
    def worker_attached(self, worker: WorkerProcess) -> None: ...
    def worker_left(self, worker: WorkerProcess) -> None: ...

    def worker_failed(self, worker: WorkerProcess, error: str) -> None:
        self._note(f"worker failed {error}")

    def worker_exited(self, worker: WorkerProcess, status: int) -> None:
        self._note(f"worker exited {status}")


Scenario = Callable[[ZygoteProcess, Owner], Awaitable[None]]
Play = Callable[..., None]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """play(script, scenario, timeout_s=20): with a zygote that does what support/liar.py has, and of which nothing may
    be left."""
    monkeypatch.setattr(zygoteprocess, "MODULE", "support.liar")

    async def whole(script: str, scenario: Scenario, timeout_s: float) -> None:
        before, owner = children(), Owner()
        zygote = ZygoteProcess(RELEASE, {"script": script}, timeout_s, owner)
        try:
            await scenario(zygote, owner)
        finally:
            zygote.close()
            await zygote.wait()
        async with asyncio.timeout(20):
            while children() - before:
                await asyncio.sleep(0.01)

    return lambda script, scenario, timeout_s=20: asyncio.run(whole(script, scenario, timeout_s))


@pytest.mark.parametrize(
    "words",
    [
        "say('ready'); say('ready')",
        "say('ready'); say('forked', (os.pidfd_open(os.getpid()),))",
        "say('forked', ())",
        "say('unfit', reasons='all')",
        "say('failed')",
        "say('hello')",
        "control.send(b'\\xc1')",
        "control.send(b'\\x01')",
        "say('ready', (0,))",
    ],
)
def test_nonsense_ends_it(play: Play, words: str) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        await owner.until(*(["ready"] if words.startswith("say('ready');") else []), "exited -9")

    play(words, scenario)


def test_a_worker_is_a_child_of_ours_in_a_group_of_its_own(play: Play) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        worker = WorkerProcess(0, owner)
        await owner.until("ready")
        zygote.fork(worker)
        async with asyncio.timeout(20):
            while not worker.pid:
                await asyncio.sleep(0.01)
        assert psutil.Process(worker.pid).ppid() == os.getpid()
        assert os.getpgid(worker.pid) == worker.pid
        worker.kill()
        await owner.until("ready", "worker exited -9")

    play("say('ready'); asked(); say('forked', (clone(),))", scenario)


def test_a_worker_that_is_killed_before_it_is_made(play: Play) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        worker = WorkerProcess(0, owner)
        await owner.until("ready")
        zygote.fork(worker)
        worker.kill()
        await owner.until("ready", "worker exited -9")
        await worker.wait()

    play("say('ready'); asked(); say('forked', (clone(),))", scenario)


@pytest.fixture
def other() -> Iterator[int]:
    """Another child of ours."""
    with subprocess.Popen(["sleep", "60"], process_group=0) as child:
        yield child.pid
        assert child.poll() is None, "it was left alone"
        child.kill()


LIES = {
    "itself": "os.pidfd_open(os.getpid())",
    "the supervisor": "os.pidfd_open(os.getppid())",
    "a child of its own": "os.pidfd_open(os.fork() or signal.pause())",
    "no process": "os.open('/dev/null', os.O_RDONLY)",
    "another child of ours": "os.pidfd_open({other})",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_process_that_it_has_not_made_for_us_is_left_alone(play: Play, lie: str, other: int) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        worker = WorkerProcess(0, owner)
        await owner.until("ready")
        zygote.fork(worker)
        await owner.until("ready", "worker exited -9", "exited -9")
        assert worker.pid == 0

    play(f"say('ready'); asked(); say('forked', ({LIES[lie].format(other=other)},))", scenario)


def test_what_cannot_be_forked_has_failed(play: Play) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        await owner.until("ready")
        zygote.fork(WorkerProcess(0, owner))
        await owner.until("ready", "worker failed no memory", "worker exited -9")

    play("say('ready'); asked(); say('unforked', error='no memory')", scenario)


def test_a_fork_that_hangs_ends_it_and_workers_come_back(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygoteprocess, "FORK_TIMEOUT_S", 0.3)

    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        workers = [WorkerProcess(0, owner) for _ in range(2)]
        await owner.until("ready")
        for worker in workers:
            zygote.fork(worker)
        await owner.until("ready", "exited -9")
        assert owner.came_back == workers

    play("say('ready'); asked(); signal.pause()", scenario)


def test_an_import_that_hangs_has_failed(play: Play) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        await owner.until("failed importing the application took longer than 1 s (--start-timeout)", "exited -9")

    play("signal.pause()", scenario, timeout_s=1)


def test_what_it_made_and_did_not_tell_of_ends_with_it(play: Play) -> None:
    """`play` looks for it."""

    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        worker = WorkerProcess(0, owner)
        await owner.until("ready")
        zygote.fork(worker)
        await owner.until("ready", "exited -9")
        assert owner.came_back == [worker]

    play("say('ready'); asked(); clone(); os.kill(os.getpid(), 9)", scenario)


# Where the machine has no room.


def refuse(*arguments: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


NO_ROOM = "worker failed cannot fork a worker process: Too many open files"


def test_a_process_that_came_without_its_descriptor_has_failed_and_is_waited_for(play: Play) -> None:
    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        before = children()
        await owner.until("ready")
        zygote.fork(WorkerProcess(0, owner))
        await owner.until("ready", NO_ROOM, "worker exited -9")
        assert children() > before
        async with asyncio.timeout(20):
            while children() > before:
                await asyncio.sleep(0.01)
        assert zygote.running

    play("say('ready'); asked(); signal.pidfd_send_signal(clone(), 9); say('forked')", scenario)


def test_a_process_that_cannot_be_looked_up_has_failed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_process_of", refuse)
    before = len(os.listdir("/proc/self/fd"))

    async def scenario(zygote: ZygoteProcess, owner: Owner) -> None:
        await owner.until("ready")
        zygote.fork(WorkerProcess(0, owner))
        await owner.until("ready", NO_ROOM, "worker exited -9")
        assert zygote.running

    play("say('ready'); asked(); say('forked', (clone(),))", scenario)
    assert len(os.listdir("/proc/self/fd")) == before


# The generation.


Story = Callable[[ForkedGeneration, Owner], Awaitable[None]]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Story], None]:
    """tell(script, story): with a generation whose zygotes do what the script says."""
    monkeypatch.setattr(zygoteprocess, "MODULE", "support.liar")

    async def whole(script: str, story: Story) -> None:
        generation = ForkedGeneration(0, RELEASE, {"script": script}, 20, lambda worker: None)
        try:
            await story(generation, Owner())
        finally:
            generation.close()
            await generation.wait()

    return lambda script, story: asyncio.run(whole(script, story))


def test_zygotes_that_die_as_they_fork_are_given_up_until_a_worker_is_wanted(
    tell: Callable[[str, Story], None], caplog: pytest.LogCaptureFixture
) -> None:
    died = "the zygote was killed by SIGKILL before it had forked a worker"

    async def story(generation: ForkedGeneration, owner: Owner) -> None:
        generation.spawn(owner)
        await owner.until(f"worker failed {died}", "worker exited -9")
        assert generation.pids == []
        assert not generation.is_over, "the next worker has a zygote started, which somebody has to wait for"
        assert caplog.text.count("another one imports") == 1
        generation.spawn(owner)
        await owner.until(*[f"worker failed {died}", "worker exited -9"] * 2)
        assert caplog.text.count("another one imports") == 1

    tell("say('ready'); asked(); os.kill(os.getpid(), 9)", story)


def test_a_zygote_that_dies_after_it_has_forked_is_followed(tell: Callable[[str, Story], None]) -> None:
    async def story(generation: ForkedGeneration, owner: Owner) -> None:
        zygotes = set()
        for _ in range(4):
            worker = generation.spawn(owner)
            while not worker.pid:
                await asyncio.sleep(0.01)
            zygotes |= {*generation.pids}
            worker.kill()
            await worker.wait()
        assert len(zygotes) == 4
        assert owner.told == ["worker exited -9"] * 4

    tell("say('ready'); asked(); say('forked', (clone(),)); asked(); os.kill(os.getpid(), 9)", story)


def test_without_descriptors_workers_fail_and_the_zygote_stays(
    tell: Callable[[str, Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(generation: ForkedGeneration, owner: Owner) -> None:
        for _ in range(2):
            generation.spawn(owner)
        with monkeypatch.context() as full:
            full.setattr("socket.socketpair", refuse)
            await owner.until(*[NO_ROOM, "worker exited -9"] * 2)
            with pytest.raises(OSError, match="Too many open files"):
                generation.spawn(owner)
        before = generation.pids
        worker = generation.spawn(owner)
        while not worker.pid:
            await asyncio.sleep(0.01)
        assert generation.pids == before
        worker.kill()
        await worker.wait()

    tell("say('ready'); asked(); say('forked', (clone(),))", story)
