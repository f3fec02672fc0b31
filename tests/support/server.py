"""A running usnet-serve for end-to-end tests, and the proof that it leaves nothing behind.

    with Server("examples.echo:Echo", "--workers", "2") as server:
        with server.connect() as client: ...
        os.kill(server.workers()[0].pid, signal.SIGKILL)

The server gets its own session, so that every process it ever started can be found again, reparented or not; its
sockets and quarantine lie in `server.folder`. Leaving the block stops it with SIGTERM and asserts that it exited with 0
and that no process and no socket file is left. `server.wait(what, predicate)` polls with a deadline.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.backends import Backend, Kernel

from usnet_framework.shards import control

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 30.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01

WITH_THE_TEST = ("setpriv", "--pdeathsig", "TERM")
"""In front of a command: it is asked to end when the thread that started it is no more, so that a run of the tests that
is killed leaves no server behind. A program does that, since nothing of ours may run between fork and exec. The kernel
forgets it when a process changes its user: what is behind this in a command must not."""

Serve = Callable[..., "Server"]
"""Server with a backend that the fixture `serve` has chosen."""


class Worker(NamedTuple):
    """An attached worker, as `usnet-ctl status` reports it."""

    shard: int
    seat: int
    pid: int
    serial: int


def command(name: str, programs: Path = PROGRAMS) -> str:
    """The path of one of the installed programs, e.g. usnet-serve."""
    return str(programs / name)


def run(
    name: str,
    *args: str,
    cwd: Path = REPOSITORY,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, by another one (`prefix`) if need be; for command lines that are refused and for
    usnet-ctl."""
    return subprocess.run(
        [*prefix, command(name), *args],
        cwd=cwd,
        env=_environment(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        pass_fds=pass_fds,
    )


PORTS, BLOCK = range(20000, 32000), 100  # below the ephemeral range, so that no client takes one


@cache
def _ports() -> Iterator[int]:
    """Round and round in a block that no other test process of this user has, in whatever checkout it runs."""
    locks = os.open(f"/tmp/usnet-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for block in range(0, len(PORTS), BLOCK):
        with contextlib.suppress(BlockingIOError, PermissionError):  # somebody has it
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, block)
            return itertools.cycle(PORTS[block : block + BLOCK])
    raise AssertionError("no ports are left for one more test process")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on. A server binds it a moment later, so no other test process
    takes it meanwhile, and this one takes another next time."""
    for port in _ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("they go round and round")


def title(pid: int) -> str:
    """What ps shows of a process, "usnet: spare" for one; empty: it has ended, as any that status names may have."""
    try:
        return " ".join(psutil.Process(pid).cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""


def wait(what: str, predicate: Callable[[], T], seconds: float = START_SECONDS) -> T:
    """Poll until the predicate returns something true, and return that; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = predicate()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)


class Server:
    """usnet-serve on a free port; see the top of this file."""

    def __init__(
        self,
        app: str | None,
        *args: str,
        cwd: Path = REPOSITORY,
        env: Mapping[str, str] | None = None,
        stop: bool = True,
        backend: Backend | None = None,
        prefix: Sequence[str] = (),
        programs: Path = PROGRAMS,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`app` None: a file of `--config` names it. `stop=False`: the test ends the server itself; only what is left
        is looked at. `backend`: the kernel, unless given. `prefix`: a program that becomes the server. `programs`:
        where another installation has usnet-serve. `pass_fds`: descriptors that it inherits."""
        backend = Kernel() if backend is None else backend
        self._folder = tempfile.TemporaryDirectory(prefix="usnet-test-")
        self.folder = Path(self._folder.name)
        port = free_port()
        self.address = backend.address(port)
        metrics = int(args[args.index("--metrics") + 1].rpartition(":")[2]) if "--metrics" in args else free_port()
        self.metrics_address = ("127.0.0.1", metrics)
        self.control = self.folder / "control.sock"
        self._stops = stop
        self._backend = backend
        self._cwd = cwd
        self._env = {**backend.env, **(env or {})}
        self._pass_fds = pass_fds
        self._command = [
            *WITH_THE_TEST,
            *prefix,
            command("usnet-serve", programs),
            *([app] if app is not None else []),
            *(backend.options(port, args) if "--bind" not in args else []),
            *args,
        ]
        for flag, value in {
            "--metrics": f"127.0.0.1:{self.metrics_address[1]}",
            "--control": str(self.control),
            "--quarantine": str(self.folder / "quarantine"),
            "--graceful-timeout": "5",
        }.items():
            if flag not in args:
                self._command += [flag, value]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with open(self.folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=_environment(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )
        try:
            wait("the server is ready", self._started)
            self._backend.started()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            if self._stops:
                assert self.stop() == 0, f"exit code {self.process.returncode}\n{self.log}"
            self.assert_nothing_left()
        except BaseException:
            self._abandon()
            raise
        self._folder.cleanup()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What the server wrote to stdout and stderr."""
        return (self.folder / "log").read_text(errors="replace")

    def new_socket(self) -> socket.socket:
        """Of the kind that `connect` connects."""
        return socket.socket()

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """A client connection, with a timeout so that a test cannot hang."""
        client = socket.create_connection(self.address, timeout)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def ctl(self, *args: str) -> Any:
        """What `usnet-ctl --json ARGS` prints."""
        done = run("usnet-ctl", *args, "--json", "--control", str(self.control))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *args: str) -> str:
        """The one line that usnet-ctl prints of what the server refuses."""
        done = run("usnet-ctl", *args, "--control", str(self.control))
        assert done.returncode == 3, done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def status(self) -> dict[str, Any]:
        """The supervisor's status, without the cost of starting usnet-ctl."""
        status: dict[str, Any] = control.request(str(self.control), "status")
        return status

    def ask(self, command: str, **arguments: str) -> Any:
        """What the supervisor answers, without the cost of starting usnet-ctl."""
        return control.request(str(self.control), command, **arguments)

    def findings(self) -> dict[str, dict[str, Any]]:
        """Of doctor, by what they are of."""
        return {finding["what"]: finding for finding in self.ask("doctor")}

    @property
    def cwd(self) -> Path:
        """Where programs of the test are run (`ctl`)."""
        return REPOSITORY

    def workers(self) -> list[Worker]:
        """The workers that run on a seat now, by shard and seat."""
        return [
            Worker(shard["shard"], worker["seat"], worker["pid"], worker["serial"])
            for shard in self.status()["shards"]
            for worker in shard["workers"]
            if worker["pid"]
        ]

    def network_pids(self) -> list[int]:
        """The network processes (not their keepers), by shard."""
        return [shard["network_pid"] for shard in self.status()["shards"] if shard["network_pid"]]

    def network_pid(self, shard: int = 0) -> int:
        """0 while there is none."""
        return self.status()["shards"][shard]["network_pid"] or 0

    def kill_network_process(self, shard: int = 0) -> None:
        """Return when another one serves."""
        old = self.wait("a network process serves", lambda: self.network_pid(shard))
        os.kill(old, signal.SIGKILL)
        self.wait("another network process serves", lambda: self.network_pid(shard) not in (0, old))

    def processes(self) -> list[psutil.Process]:
        """Every process of this server's session that still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the metrics address."""
        try:
            with urllib.request.urlopen("http://{}:{}{}".format(*self.metrics_address, path), timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as reply:
            return reply.code, reply.read().decode()

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics by name, summed over their labels."""
        return _sums((sample.name, sample.value) for sample in self._samples())

    def drops(self) -> dict[str, float]:
        """What was refused or lost, by reason."""
        samples = (sample for sample in self._samples() if sample.name == "usnet_drops_total")
        return _sums((sample.labels["reason"], sample.value) for sample in samples)

    def closed(self) -> dict[str, float]:
        """Connections that have ended, by reason."""
        samples = (sample for sample in self._samples() if sample.name == "usnet_closed_total")
        return _sums((sample.labels["reason"], sample.value) for sample in samples)

    def _samples(self) -> Iterator[Sample]:
        code, text = self.get("/metrics")
        assert code == 200, text
        for family in text_string_to_metric_families(text):
            yield from family.samples

    def wait(self, what: str, predicate: Callable[[], T], seconds: float = START_SECONDS) -> T:
        """`wait`, with the server's log in the failure."""
        try:
            return wait(what, predicate, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def assert_nothing_left(self) -> None:
        """No process of the session, no socket file in the folder. Children of a killed supervisor get a moment. And no
        network process made a system call that it should have no use for."""
        assert "SIGSYS" not in self.log, self.log
        self.wait("every process is gone", lambda: not self.processes())
        left = [path for path in self.folder.rglob("*") if path.is_socket()]
        assert not left, f"socket files left: {left}"
        self._backend.ended()

    def _started(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"usnet-serve exited with {self.process.returncode}\n{self.log}")
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def _abandon(self) -> None:
        """After a failure: show the log, end what runs, keep the failure."""
        print(self.log)
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_SECONDS)
        self._folder.cleanup()


def _sums(samples: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in samples:
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("USNET_")}
    own["USNET_SYSCALLS"] = "kill"  # of which no test may be unaware: `assert_nothing_left`
    return own | dict(extra or {})
