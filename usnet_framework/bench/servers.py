"""The servers that are measured: their command lines, their cores, their start and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from usnet_framework.bench.load import READY_DEADLINE_S, Load, answers, program
from usnet_framework.bench.machine import Cores
from usnet_framework.bench.netns import (
    CLIENT_ADDRESS,
    PAIR_NETWORK,
    SERVER_INTERFACE,
    TAP_CLIENT_ADDRESS,
    TAP_INTERFACE,
    TAP_NETWORK,
    on_network,
)
from usnet_framework.bench.network import Network, add_station, add_tap
from usnet_framework.errors import StartupError, UsageError

STOP_DEADLINE_S = 15.0

Command = Callable[[str, int], list[str]]

GIVEN, STATION, TAP = "the network that is given", "AF_XDP", "TAP"
"""Places where a server meets its load."""


@dataclass(frozen=True)
class Kind:
    """One row of a comparison."""

    name: str
    echo: Command
    exchange: Command  # the server for loads that go one way
    cores: Callable[[Cores], set[int]]
    place: str = GIVEN  # where it meets the load; anywhere else it has its own stack
    needs_room: bool = False  # it does not recover well from what that interface's queue loses
    at_rest: tuple[str, ...] = ()  # further options, with which it sleeps where it would spin

    def command(self, way: str, sleeps: bool) -> Command:
        command, options = self.echo if way == "echo" else self.exchange, self.at_rest if sleeps else ()
        return lambda host, port: [*command(host, port), *options]


def usnet_command(handler: str, host: str, port: int, *options: str) -> list[str]:
    """usnet-serve, with a handler of handlers.py. Options that come later win."""
    serve = str(Path(sysconfig.get_path("scripts")) / "usnet-serve")
    command = [serve, f"usnet_framework.bench.handlers:{handler}", "--bind", f"tcp://{host}:{port}"]
    return [*command, "--queues", "1", "--metrics", "off", "--control", "off", *options]


def _usnet(handler: str, layout: str) -> Command:
    return lambda host, port: usnet_command(handler, host, port, "--layout", layout)


def _on_own_stack(backend: str, interface: str, network: str, gateway: str) -> Callable[[str, str], Command]:
    stack = ["--backend", backend, "--interface", interface, "--gateway", gateway]

    def of(handler: str, layout: str) -> Command:
        options = ["--layout", layout, *stack, "--address"]
        return lambda host, port: usnet_command(handler, host, port, *options, on_network(host, network))

    return of


_usnet_tap = _on_own_stack("tap", TAP_INTERFACE, TAP_NETWORK, TAP_CLIENT_ADDRESS)
_usnet_afxdp = _on_own_stack("afxdp", SERVER_INTERFACE, PAIR_NETWORK, CLIENT_ADDRESS)


def _on_interface(name: str, interface: str, network: str) -> Command:
    """A C program that has an interface for itself."""
    return lambda host, port: [program(name), interface, on_network(host, network), str(port)]


def _lwip_tap(host: str, port: int) -> list[str]:
    try:
        return _on_interface("usnet-echo-lwip", TAP_INTERFACE, TAP_NETWORK)(host, port)
    except StartupError as error:
        raise StartupError("lwip-tap was not built: install liblwip-dev, and build with -Dlwip=enabled") from error


def _no_exchange(name: str) -> Command:
    def refuse(host: str, port: int) -> list[str]:
        raise UsageError(f"{name} is an echo server: leave it out of loads that go one way")

    return refuse


def module_command(module: str, *arguments: str) -> list[str]:
    """A program in this folder."""
    return [sys.executable, "-P", "-m", f"usnet_framework.bench.{module}", *arguments]


def _python(loop: str, protocol: str) -> Command:
    return lambda host, port: module_command("peers", loop, protocol, host, str(port))


def _epoll_c(*options: str) -> Command:
    return lambda host, port: [program("usnet-echo-epoll"), f"{host}:{port}", *options]


ASLEEP = ("--poll", "sleep")


def _one_core(cores: Cores) -> set[int]:
    return {cores.server}


def _two_cores(cores: Cores) -> set[int]:
    return {cores.server, cores.extra}


def _kinds() -> Iterator[Kind]:
    for name, layout, cores in (
        ("usnet-inline", "inline", _one_core),
        ("usnet-split", "split", _one_core),
        ("usnet-split-2", "split", _two_cores),
    ):
        yield Kind(name, _usnet("Echo", layout), _usnet("Exchange", layout), cores, at_rest=ASLEEP)
    for device, place, usnet in (("tap", TAP, _usnet_tap), ("afxdp", STATION, _usnet_afxdp)):
        for layout in ("inline", "split"):
            servers = (usnet("Echo", layout), usnet("Exchange", layout))
            yield Kind(f"usnet-{device}-{layout}", *servers, _one_core, place, at_rest=ASLEEP)
    for name, place, echo in (
        ("lwip-tap", TAP, _lwip_tap),
        ("mirror-tap", TAP, _on_interface("usnet-echo-mirror-tap", TAP_INTERFACE, TAP_NETWORK)),
        ("mirror-afxdp", STATION, _on_interface("usnet-echo-mirror-afxdp", SERVER_INTERFACE, PAIR_NETWORK)),
    ):
        yield Kind(name, echo, _no_exchange(name), _one_core, place, needs_room=True)
    for loop in ("asyncio", "uvloop"):
        yield Kind(loop, _python(loop, "Echo"), _python(loop, "Exchange"), _one_core)
    yield Kind("epoll-c", _epoll_c(), _epoll_c("--exchange"), _one_core)


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _kinds()}
DEFAULT_NAMES = tuple(kind.name for kind in KINDS.values() if kind.place == GIVEN)


def meeting_places(kinds: Sequence[Kind], network: Network) -> dict[str, Network]:
    """Where each of them meets the load, by name."""
    add = {STATION: add_station, TAP: add_tap}
    made: dict[str, Network] = {GIVEN: network}
    for kind in kinds:
        if kind.place not in made:
            made[kind.place] = add[kind.place](network)
    return {kind.name: made[kind.place] for kind in kinds}


LWIP_WINDOW = 65535  # TCP_WND of Debian's lwipopts.h
QUEUE_PACKETS = 500  # TUN_READQ_SIZE of the kernel; a veth pair has more room
SEGMENT_BYTES = 1460


def check_load(kinds: Sequence[Kind], load: Load) -> None:
    """Refuse what would measure a queue that overflows: each connection sends as much as lwIP's window takes, and what
    is lost comes again one round trip, or one timeout, after the other."""
    each = -(-min(load.size * load.pipeline, LWIP_WINDOW) // SEGMENT_BYTES)
    for kind in kinds:
        if kind.needs_room and each > 1 and load.connections * each > QUEUE_PACKETS:
            raise UsageError(
                f"--connections {load.connections}: {each} packets each overflow the interface's queue of "
                f"{QUEUE_PACKETS}, and {kind.name} recovers badly; take {QUEUE_PACKETS // each} at most"
            )


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    target: str
    pid: int

    def wakes(self) -> int:
        """How often its threads have slept, those of all its processes."""
        family = [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]
        return sum(_wakes(process) for process in family)


def _wakes(process: int) -> int:
    """As proc(5) counts them; 0 of one that is gone."""
    found = 0
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            lines = (thread / "status").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return found


@contextmanager
def running(network: Network, command: Command, cores: set[int] | None = None) -> Iterator[Server]:
    """Starts a server on these cores, waits until it answers, and leaves nothing of it behind."""
    host, port = network.new_address()
    with tempfile.TemporaryDirectory(prefix="usnet-bench-") as folder:
        errors = Path(folder, "stderr")
        process = _spawn(network.on_server(command(host, port)), cores, folder, errors)
        try:
            _wait_ready(process, network, f"{host}:{port}", errors)
            yield Server(f"{host}:{port}", process.pid)
        finally:
            _stop(process)


def _spawn(command: Sequence[str], cores: set[int] | None, folder: str, errors: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C is for us, and what is left at the end can be killed together."""
    with errors.open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        )


def _wait_ready(process: subprocess.Popen[bytes], network: Network, target: str, errors: Path) -> None:
    deadline = time.monotonic() + READY_DEADLINE_S
    while not answers(network, target, wait_s=0.5):
        if process.poll() is not None:
            lines = errors.read_text().strip().splitlines()
            raise StartupError(f"{target}: the server exited with {process.returncode}: {lines[-1] if lines else ''}")
        if time.monotonic() > deadline:
            raise StartupError(f"{target}: the server does not answer after {READY_DEADLINE_S:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # nobody is left, as it should be
        os.killpg(process.pid, signal.SIGKILL)
