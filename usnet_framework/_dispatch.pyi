"""The dispatcher extension (native/dispatch), as a type checker sees it."""

from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, SupportsIndex, TypeAlias, TypeVar, final

from typing_extensions import Buffer, ParamSpec

from usnet_framework.connection import ConnectionStatistics
from usnet_framework.handler import Handler

P = ParamSpec("P")
R = TypeVar("R")

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str
"""As `socket` gives it: (host, port), (host, port, flow, scope) for IPv6, "" for a unix socket."""

@final
class Connection:
    """A connection, as its handler sees it. Use it from the loop's thread only."""

    context: Any
    """Yours; lives as long as this worker. None at first."""

    @property
    def id(self) -> int:
        """64 bits: shard 10, slot 22, generation 32. Unique in the life of a server."""

    @property
    def peer(self) -> Address: ...
    @property
    def local(self) -> Address: ...
    @property
    def closed(self) -> bool:
        """True after `close` or `abort`, and once the connection is gone."""

    @property
    def write_buffer_size(self) -> int:
        """Bytes sent that the transport has not taken yet."""

    @property
    def state(self) -> bytes:
        """Bytes that outlive this worker, `--state-bytes` at most; committed together with its output.
        ValueError: too long. ConnectionClosed: set after close."""

    @state.setter
    def state(self, value: Buffer) -> None: ...
    def send(self, data: Buffer | Iterable[Buffer]) -> bool:
        """Send bytes, or an iterable of them as one. True while at most 64 KiB wait; after False go on in `on_drain`.
        Everything is taken either way, except when more than 16 MiB wait already, or when slow peers fill the memory of
        the worker (`--buffer-limit`): beyond half of it, what finds no room in send frames may be no more than the
        connection's share. Then SendBufferFull is raised, nothing was taken, and `on_drain` follows.
        ConnectionClosed: after close, abort, send_eof, or when the connection is gone."""

    def send_eof(self) -> None:
        """Close the sending side after what was sent. ConnectionClosed: it is closed."""

    def close(self) -> None:
        """Close after what was sent is out. No further input is delivered; `on_close` follows."""

    def close_when_idle(self) -> None:
        """Close as soon as nothing is left to do: no callback runs, no input is at hand, reading is not paused, and
        none of its output waits in this worker. If that is so now, it closes before the worker waits again. Until then
        the connection is open. For `on_shutdown`, when a peer may be about to send its next request."""

    def abort(self) -> None:
        """Reset at once; what waits to be sent is dropped. `on_close` follows."""

    def run_in_context(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in the `contextvars.Context` of this connection, in which its callbacks and their tasks run:
        for timers, and for callbacks of other libraries. RuntimeError: it runs in that context already, and has entered
        another one within it (as with `Context.run`)."""

    def pause_reading(self) -> None:
        """Hold `on_data` and `on_eof` back, and let the peer's window close, until `resume_reading`."""

    def resume_reading(self) -> None: ...
    def statistics(self) -> ConnectionStatistics: ...

@final
class Engine:
    """The network engine in this process (inline layout)."""

    def __init__(
        self,
        public_fd: int,
        port_fd: int,
        listeners: Iterable[int],
        resumes: bool,
        serial: int = 1,
        stack: tuple[str, Iterable[int], int, int, int, Iterable[int]] | None = None,
        control_fd: int = -1,
        *,
        device: int = 0,
        time_ns: int = 0,
        more_port_fds: Iterable[int] = (),
    ) -> None:
        """Its options stand in the segment. `stack`, if the options ask for a stack of our own: kind and descriptors of
        the packet device, arena_fd, frames_fd (-1: memory of this process), exchange_fd, and the exchange_wake_fd of
        each shard. `control_fd`: a SOCK_SEQPACKET to the supervisor, for its log. For simulations: `device`, the
        address of a device that carries the stack's packets instead and is closed with the engine; `time_ns`, which
        makes the attribute the time; `more_port_fds`, for workers that sit at a port each, opened without `engine`: the
        segment's other ports, all of them, in order. OSError: the descriptors are not those of a segment."""

    time_ns: int
    """Set it before every turn, if it was given at first."""
    def fileno(self) -> int: ...
    def turn(self, timeout_ms: int, /) -> int: ...
    def watch(self, fd: int, /) -> None: ...
    def unwatch(self, fd: int, /) -> None: ...
    def deadline_ms(self) -> int: ...
    def deadline_ns(self) -> int: ...
    def stop_accepting(self) -> None: ...
    def end_all(self, reason: SupportsIndex, /) -> None: ...
    def lose_worker(self, port: int = 0, /) -> bool:
        """Its worker is gone. True: an event went to quarantine. ValueError: there is no such port."""

    def attach_worker(self, serial: int, resumes: bool, port: int = 0, /) -> bool:
        """A worker comes, which gets the new connections of its seat. False: not there yet, as events of the last one
        there are being copied to the other port. ValueError: there is no such port."""

    def close(self) -> None: ...

@final
class Port:
    """A worker's dispatcher: reads events, calls the handler, commits."""

    def __init__(
        self,
        public_fd: int = -1,
        port_fd: int = -1,
        number: int = 0,
        engine_wake_fd: int = -1,
        port_wake_fd: int = -1,
        handler: Handler = ...,
        resumes: bool = False,
        *,
        engine: Engine | None = None,
    ) -> None: ...
    @property
    def handler(self) -> Handler: ...
    @property
    def wake_fd(self) -> int:
        """The eventfd by which this process wakes its loop, -1: the port is closed."""

    @property
    def port_wake_fd(self) -> int:
        """The pipe by which the network process wakes the loop, -1: the engine is in this process."""

    @property
    def dirty(self) -> int:
        """Connections with work that is in no commit."""

    @property
    def pending_work(self) -> bool:
        """True while output, tasks or anything uncommitted is left."""

    @property
    def pressed(self) -> bool:
        """True while something waits for space in the segment: commit again soon."""

    def run(self) -> int:
        """A turn: deliver a batch of events and commit; how many events. Raises what is nobody's error:
        KeyboardInterrupt, SystemExit, MemoryError; the event at hand is not consumed then."""

    def use_context(self, context: Context, /) -> None:
        """Nobody else runs in this context: where `run` is called in it, it may come out changed. Elsewhere callbacks
        run in one that the port has for itself, which costs a little."""

    def commit(self) -> None: ...
    def spin(self, nanoseconds: int, /) -> bool: ...
    def sleep(self) -> bool: ...
    def awake(self) -> None: ...
    def stop(self) -> None:
        """Take no more events; what was taken is finished and committed, slow peers included, while run goes on."""

    def start(self) -> None:
        """Undo `stop`."""

    def statistics(self) -> dict[str, int]: ...
    def close(self) -> None: ...

def keep_for_good(thing: object, /) -> None:
    """Never destroy this object, not even as the process ends: of a task, what stands in a `finally` would run."""

def clone_sibling() -> tuple[int, int]:
    """Fork this process, which has one thread, as another child of its parent: its number and a descriptor of it
    (pidfd), or (0, -1) in the child. OSError; NotImplementedError as in `check_clone`."""

def check_clone() -> None:
    """NotImplementedError: the kernel does not tell what a clone needs."""
