"""A worker process: `python -P -m usnet_framework.shards.worker CONTROL-DESCRIPTOR SUPERVISOR-PID`.

It gives up privileges, imports the application and then waits, as a spare, until the supervisor gives it a seat; what
they say to each other is in messages.py. From then on the handler's loop runs until the supervisor has it retire. When
the supervisor dies, the kernel ends it at once.

Exit codes: 0 retired, or never needed; 3 the application could not be imported or started, and the supervisor was told.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from usnet_framework import inherited, logs
from usnet_framework._dispatch import Engine, Port
from usnet_framework._native import die_with_parent, drop_privileges
from usnet_framework.app import describe_error, load_handler, misspelt_callbacks
from usnet_framework.errors import StartupError, UsnetError, WorkerForked
from usnet_framework.handler import Handler, Result, Shard
from usnet_framework.shards.loop import new_event_loop
from usnet_framework.shards.messages import Message, receive, send
from usnet_framework.shards.stacks import STACK_SIGNAL

log = logging.getLogger("usnet.worker")

FAILED = 3
FLUSH_POLL_S = 0.005  # while a worker that retires waits until what it owes has been taken


def main(arguments: list[str]) -> int:
    inherited.reset(terminal=True)  # the terminal is the supervisor's
    control_fd, supervisor_pid = map(int, arguments)
    os.set_inheritable(control_fd, False)  # for the application's children
    try:
        die_with_parent(signal.SIGKILL, supervisor_pid)
    except ProcessLookupError:
        return 0  # the supervisor died while this process started
    with socket.socket(fileno=control_fd) as control:
        loaded = receive(control)
        if loaded is None:
            return 0
        load, fds = loaded
        _show_stack_on_request(fds[0] if fds else None)
        logs.configure(load["log_level"], load["log_format"], "spare")
        try:
            drop(load["privileges"], supervisor_pid)
            setproctitle("usnet: spare")
            handler_class = load_handler(load["app"], load["factory"], load["app_dir"])
        except UsnetError as error:
            send(control, {"type": "failed", "error": str(error)})
            return FAILED
        gc.collect()
        gc.freeze()  # what the import made stays for good: collections need not look at it again
        send(control, {"type": "ready", "resumes": resumes(handler_class)})
        seat = receive(control)
        return 0 if seat is None else serve(control, handler_class, load, *seat)


def drop(asked: Message, supervisor_pid: int) -> None:
    """Give up what privileges.py says, for good. StartupError.

    The user's files and settings are looked for where that user has them.
    """
    os.environ.update(asked["environment"])
    try:
        drop_privileges(
            signal.SIGKILL,
            supervisor_pid,
            user=asked["change"],
            capabilities=asked["user"] is not None,
            debuggable=asked["debuggable"],
        )
    except OSError as error:  # that the supervisor is gone among them: then nobody reads it
        raise StartupError(f"--user {asked['user']}: cannot give up privileges: {error.strerror}") from None


def _show_stack_on_request(fd: int | None) -> None:
    """What Python executes, for the watchdog; a signal handler in C writes it, so a loop that hangs does as well."""
    if fd is not None:
        os.set_inheritable(fd, False)
        faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True, chain=False)


def resumes(handler_class: type[Handler]) -> bool:
    """Whether connections may outlive a worker with this handler (P2)."""
    return handler_class.on_resume is not Handler.on_resume


def serve(control: socket.socket, handler_class: type[Handler], load: Message, seat: Message, fds: list[int]) -> int:
    """The exit code. A child that a fork of this process made comes back by WorkerForked, and ends here."""
    pid = os.getpid()
    try:
        return _serve(control, handler_class, load, seat, fds)
    except WorkerForked:
        if os.getpid() == pid:
            raise  # the handler made it up
        log.warning("a fork of this worker came back from its callback, and is ended; end it there, with os._exit")
        sys.stdout.flush()
        os._exit(0)  # what is registered with atexit is the parent's to do


def _serve(control: socket.socket, handler_class: type[Handler], load: Message, seat: Message, fds: list[int]) -> int:
    pid = os.getpid()
    name = f"worker {seat['shard']}.{seat['seat']}"
    setproctitle(f"usnet: {name}")
    logs.configure(load["log_level"], load["log_format"], name)
    if seat["core"] is not None:
        os.sched_setaffinity(0, {seat["core"]})
    if seat["shard"] == seat["seat"] == 0:  # once for all
        for method, callback in misspelt_callbacks(handler_class).items():
            log.warning("%s: %s is no callback and not called; is %s meant?", load["app"], method, callback)
    what = "making the handler"
    try:
        worker = Worker(control, handler_class, seat, fds)
        what = "taking its seat"
        worker.attach(seat)
        what = "on_start"
        worker.start()
    except (Exception, SystemExit) as error:
        if os.getpid() != pid:
            raise
        send(control, {"type": "failed", "error": f"{load['app']}: {what} failed: {describe_error(error)}"})
        return FAILED
    worker.run()
    worker.stop()
    return 0


class Worker:
    """A handler, the seat's port, and the loop that drives both."""

    def __init__(self, control: socket.socket, handler_class: type[Handler], seat: Message, fds: list[int]) -> None:
        self._control = control
        self._shard = Shard(seat["shard"], seat["seat"], seat["serial"], seat["layout"])
        self._fds = fds
        os.register_at_fork(after_in_child=self._leave_to_parent)
        self._handler = handler_class()
        self._deadline_s: float | None = None  # of a worker that retires

    def attach(self, seat: Message) -> None:
        """ValueError, OSError: the segment or its descriptors are of no use."""
        inline = seat["layout"] == "inline"
        self._engine = _engine(seat, self._fds, resumes(type(self._handler))) if inline else None
        self._port = _port(self._engine, self._handler, seat, self._fds)
        self._loop = new_event_loop(self._port, seat["poll"], self._engine)

    def start(self) -> None:
        """Whatever on_start raises."""
        self._port.stop()  # on_start may be a coroutine: no event comes before it is done
        self._complete(self._handler.on_start, self._shard)
        self._port.start()
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._hear)
        send(self._control, {"type": "attached"})

    def run(self) -> None:
        self._loop.run_forever()

    def stop(self) -> None:
        self._port.commit()
        try:
            self._complete(self._handler.on_stop)
        except Exception:
            log.exception("on_stop raised")
        self._port.commit()  # what on_stop sent
        self._port.close()
        if self._engine is not None:
            self._engine.close()
        self._loop.close()

    def _leave_to_parent(self) -> None:
        """In a child of a fork: keep nothing open that others take for the worker's."""
        self._control.close()
        for fd in self._fds:
            os.close(fd)

    def _complete(self, callback: Callable[..., Result], *args: Any) -> None:
        """on_start and on_stop: called within the running loop, so that a plain one can start tasks and timers too."""

        async def call() -> None:
            result = callback(*args)
            if result is not None:
                await result

        self._loop.run_until_complete(call())

    def _hear(self) -> None:
        try:
            received = receive(self._control)
        except BlockingIOError:
            return
        if received is None:
            self._loop.stop()  # the supervisor is gone, and the kernel is about to end this process
            return
        message, _ = received
        if message["type"] == "drain" and self._engine is not None:
            self._engine.stop_accepting()
        elif message["type"] == "retire" and self._deadline_s is None:
            self._deadline_s = time.monotonic() + message["timeout"]
            self._port.stop()
            self._leave_when_flushed()

    def _leave_when_flushed(self) -> None:
        assert self._deadline_s is not None, "the worker retires"
        if self._port.pending_work and time.monotonic() < self._deadline_s:
            self._loop.call_later(FLUSH_POLL_S, self._leave_when_flushed)
        else:
            if self._port.dirty:
                log.warning("connections reset, not finished in time (--graceful-timeout): %d", self._port.dirty)
            self._loop.stop()


def _engine(seat: Message, fds: list[int], resumes: bool) -> Engine:
    public_fd, port_fd, control_fd, *rest = fds
    stack_fds, listeners = rest[: seat["stack_fds"]], rest[seat["stack_fds"] :]
    stack = None
    if seat["device"] is not None:  # in the order of StackSetup.fds
        queue, others = stack_fds[: seat["device_fds"]], stack_fds[seat["device_fds"] :]
        arena_fd, frames_fd, exchange_fd, *wake_fds = others
        stack = (seat["device"], queue, arena_fd, frames_fd, exchange_fd, wake_fds)
    return Engine(public_fd, port_fd, listeners, resumes, seat["serial"], stack, control_fd)


def _port(engine: Engine | None, handler: Handler, seat: Message, fds: list[int]) -> Port:
    if engine is not None:
        return Port(engine=engine, handler=handler, resumes=resumes(type(handler)))
    public_fd, port_fd, engine_wake_fd, port_wake_fd = fds
    return Port(
        public_fd=public_fd,
        port_fd=port_fd,
        number=seat["seat"],  # of the only port
        engine_wake_fd=engine_wake_fd,
        port_wake_fd=port_wake_fd,
        handler=handler,
        resumes=resumes(type(handler)),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
