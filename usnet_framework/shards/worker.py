"""A worker process: `main([control descriptor, supervisor's pid])` in an interpreter of its own (interpreter.py), or
`live` in a fork of one that has imported the application (zygote.py).

`main` gives up privileges and imports the application; `live` is the life from there on, in a process that was spawned
as in one that was forked from another that has imported it. What worker and supervisor say to each other is in
messages.py; the order is

    import -> the handler is made -> on_warm -> "ready"         a spare, which waits
    "start" -> on_start -> "started"                            it has a place, and no port yet
    "attach" -> "attached"                                      its loop serves the port
    "retire" -> no more events; what is owed is finished
             -> on_stop -> tasks are cancelled -> the port is closed -> "left"

The loop runs from on_warm on. "yield" and "drain" may come at any time; on_shutdown is called once on_start has
returned. What comes after "left" (threads, exit hooks) delays nobody: the port is free. When the supervisor dies, the
kernel ends this process at once.

Exit codes: 0 retired, or never needed; 3 the application could not be imported or started, and the supervisor was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from usnet_framework import logs
from usnet_framework._dispatch import Engine, Port
from usnet_framework.app import describe_error, misspelt_callbacks
from usnet_framework.errors import WorkerForked
from usnet_framework.handler import Handler, Result, Shard, ShutdownReason, spawned_tasks
from usnet_framework.shards.importer import FAILED, begin, import_application
from usnet_framework.shards.loop import WorkerLoop, forget_tasks
from usnet_framework.shards.messages import Message, receive, send

log = logging.getLogger("usnet.worker")

FLUSH_POLL_S = 0.005  # while a worker that retires waits until what it owes has been taken
TURN_S = 0.1  # between turns of the loop at the end, when the watchdog cannot see whether it sleeps
CANCEL_S = 0.5  # what cancelled tasks get for their finally blocks, less than the supervisor waits beyond the timeout
STACK_SIGNAL = signal.SIGRTMIN + 1  # "write where you are": the watchdog's, shards/watchdog.py


def main(arguments: list[str]) -> int:
    begun = begin(arguments)
    if begun is None:
        return 0
    control, supervisor_pid = begun
    with control:
        loaded = receive(control)
        if loaded is None:
            return 0
        load, fds = loaded
        if fds:
            load["stack_fd"] = fds[0]
        logs.configure(load["log_level"], load["log_format"], "spare")
        handler_class = import_application(control, supervisor_pid, load, "usnet: spare")
        return FAILED if handler_class is None else live(control, handler_class, load)


def resumes(handler_class: type[Handler]) -> bool:
    """Whether connections may outlive a worker with this handler (P2)."""
    return handler_class.on_resume is not Handler.on_resume


def live(control: socket.socket, handler_class: type[Handler], load: Message) -> int:
    """All that follows the import, until the end of this process, whose exit code it returns.

    `control` is the socket to the supervisor; of `load` it takes `app`, `log_level`, `log_format` and `stack_fd`, a
    descriptor of this process for the watchdog, or None. A child that a fork of this process makes comes back by
    WorkerForked, and ends here.
    """
    pid = os.getpid()
    setproctitle("usnet: spare")
    logs.configure(load["log_level"], load["log_format"], "spare")
    _show_stack_on_request(load.get("stack_fd"))
    try:
        return Worker(control, handler_class, load).live()
    except WorkerForked:
        if os.getpid() == pid:
            raise  # the handler made it up
        log.warning("a fork of this worker came back from its callback, and is ended; end it there, with os._exit")
        sys.stdout.flush()
        os._exit(0)  # what is registered with atexit is the parent's to do


def _show_stack_on_request(fd: int | None) -> None:
    """What Python executes, for the watchdog; a signal handler in C writes it, so a loop that hangs does as well."""
    if fd is not None:
        os.set_inheritable(fd, False)
        faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True, chain=False)


class StartFailed(Exception):
    """The handler could not be made, or raised before it served; one line."""


class Retired(Exception):
    """The supervisor has the worker leave while it waits for something else."""


class Worker:
    """A handler and the loop that drives it, first without a port and then with one."""

    def __init__(self, control: socket.socket, handler_class: type[Handler], load: Message) -> None:
        self._control = control
        self._class = handler_class
        self._app = load["app"]
        self._load = load
        self._pid = os.getpid()
        self._loop = WorkerLoop()
        self._told: asyncio.Queue[tuple[Message, list[int]]] = asyncio.Queue()  # what comes in order
        self._fds: list[int] = []
        self._engine: Engine | None = None
        self._port: Port | None = None
        self._context = contextvars.copy_context()  # of all callbacks that belong to no connection
        self._started = False  # on_start returned, on_stop is owed
        self._why: ShutdownReason = "reload"  # as far as it was told
        self._warned = False  # on_shutdown was called
        self._retired = False
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def live(self) -> int:
        """The exit code; SystemExit and the like when a callback raised them: that is a death like any other."""
        try:
            self._handler = self._make_handler()
            self._stay_parent()
            life = self._loop.create_task(self._life(), context=self._context)
            life.add_done_callback(self._stop_loop)
            self._control.setblocking(False)
            self._loop.add_reader(self._control, self._hear)
            self._loop.run_forever()
            life.remove_done_callback(self._stop_loop)
            if life.done():  # else the handler stopped the loop
                life.result()
        except StartFailed as failure:
            self._say({"type": "failed", "error": str(failure)})
            forget_tasks(self._loop)
            return FAILED
        except BaseException:
            forget_tasks(self._loop)
            raise
        self._loop.run_until_complete(self._loop.create_task(self._end(), context=self._context))
        forget_tasks(self._loop)  # those that would not be cancelled
        self._loop.close()
        return 0

    def _stop_loop(self, _: object) -> None:
        self._loop.stop()

    def _make_handler(self) -> Handler:
        try:
            return self._class()
        except (Exception, SystemExit) as error:
            if os.getpid() != self._pid:
                raise
            raise self._failure("making the handler", error) from error

    async def _life(self) -> None:
        """Until there is nothing left to do but to leave."""
        try:
            await self._complete("on_warm", self._handler.on_warm)
            self._say({"type": "ready", "resumes": resumes(self._class)})
            place, _ = await self._hear_next("start")
            self._take_place(place)
            shard = Shard(place["shard"], place["seat"], place["serial"], place["layout"])
            await self._complete("on_start", self._handler.on_start, shard)
            self._started = True
            self._say({"type": "started"})
            self._attach(place, *await self._hear_next("attach"))
            self._say({"type": "attached"})
            await self._hear_next("retire")
        except Retired:
            pass
        assert self._retired, "nothing else ends a life without an error"
        if self._port is not None:
            self._port.stop()
            await self._finish(self._port)

    async def _finish(self, port: Port) -> None:
        """Slow peers, callbacks and what the handler spawned, as long as there is time."""
        while (port.pending_work or spawned_tasks(self._handler)) and time.monotonic() < self._deadline_s:
            await asyncio.sleep(FLUSH_POLL_S)
        if port.dirty:
            log.warning("connections reset, not finished in time (--graceful-timeout): %d", port.dirty)

    async def _end(self) -> None:
        self._turn()
        if self._port is not None:
            self._port.stop()  # when it was the handler who stopped the loop
            self._port.commit()
        if self._started:
            try:
                await call(self._handler.on_stop)
            except Exception:
                log.exception("on_stop raised")
        await cancel_tasks()
        if self._port is not None:
            self._port.commit()  # what on_stop and the finally blocks sent
            self._loop.serve_no_more()
            self._port.close()
        if self._engine is not None:
            self._engine.close()
        if self._retired:
            self._say({"type": "left"})

    def _turn(self) -> None:
        """A port that takes no more events shows nobody that its worker sleeps: what shows is that the loop turns."""
        self._loop.call_later(TURN_S, self._turn)

    # Places and ports.

    def _take_place(self, place: Message) -> None:
        name = f"worker {place['shard']}.{place['seat']}"
        setproctitle(f"usnet: {name}")
        logs.configure(self._load["log_level"], self._load["log_format"], name)
        if place["core"] is not None:
            os.sched_setaffinity(0, {place["core"]})
        if place["shard"] == place["seat"] == 0:  # once for all
            for method, callback in misspelt_callbacks(self._class).items():
                log.warning("%s: %s is no callback and not called; is %s meant?", self._app, method, callback)

    def _attach(self, place: Message, seat: Message, fds: list[int]) -> None:
        """StartFailed: the segment or its descriptors are of no use."""
        self._fds = fds
        resume = resumes(self._class)
        try:
            if place["layout"] == "inline":
                self._engine = _engine(seat, fds, resume, place["serial"])
                self._port = Port(engine=self._engine, handler=self._handler, resumes=resume)
            else:
                public_fd, port_fd, engine_wake_fd, port_wake_fd = fds
                self._port = Port(
                    public_fd, port_fd, seat["port"], engine_wake_fd, port_wake_fd, self._handler, resumes=resume
                )
            self._loop.serve(self._port, place["poll"], self._engine)
        except (ValueError, OSError) as error:
            raise self._failure("taking its seat", error) from error

    def _leave_to_parent(self) -> None:
        """In a child of a fork: keep nothing open that others take for the worker's."""
        self._control.close()
        for fd in self._fds:
            os.close(fd)

    # The handler's callbacks that belong to no connection: called within the running loop, so that a plain one can
    # start tasks and timers too.

    async def _complete(self, name: str, callback: Callable[..., Result], *args: Any) -> None:
        """StartFailed when it raises."""
        try:
            await call(callback, *args)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if os.getpid() != self._pid:
                raise
            raise self._failure(name, error) from error
        self._stay_parent()

    def _failure(self, what: str, error: BaseException) -> StartFailed:
        return StartFailed(f"{self._app}: {what} failed: {describe_error(error)}")

    def _stay_parent(self) -> None:
        if os.getpid() != self._pid:
            raise WorkerForked("a callback forked, and both came back")

    def _shut_down(self, timeout_s: float) -> None:
        """Tell the handler, if it has started; what it does then is waited for as if it had spawned it."""
        if self._started:
            self._warned = True
            deadline = time.monotonic() + timeout_s
            self._context.run(self._handler.spawn, call(self._handler.on_shutdown, self._why, deadline))

    # The supervisor.

    def _say(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # it is gone, so is this process soon; or it does not read, and will kill it
            send(self._control, message)

    def _hear(self) -> None:
        try:
            received = receive(self._control)
        except BlockingIOError:
            return
        if received is None:
            self._loop.remove_reader(self._control)
            received = ({"type": "retire", "timeout": 0.0}, [])
        message, fds = received
        if message["type"] == "yield":
            self._why = "reload"
            self._shut_down(message["timeout"])
        elif message["type"] == "drain":
            if self._engine is not None:
                self._engine.stop_accepting()
            self._why = "stop"
            self._shut_down(message["timeout"])
        elif message["type"] == "retire":
            self._retire(message)
        else:
            self._told.put_nowait((message, fds))

    def _retire(self, message: Message) -> None:
        if self._retired:
            return
        self._retired = True
        self._deadline_s = time.monotonic() + message["timeout"]
        if not self._warned:
            self._shut_down(message["timeout"])
        self._told.put_nowait((message, []))

    async def _hear_next(self, expected: str) -> tuple[Message, list[int]]:
        """Retired when it is to leave instead."""
        message, fds = await self._told.get()
        if message["type"] != expected:
            raise Retired
        return message, fds


async def cancel_tasks() -> None:
    """All but the one that calls, as asyncio.run does at its end, but for as long as others may have to wait for it."""
    myself = {asyncio.current_task()}
    try:
        async with asyncio.timeout(CANCEL_S):
            while tasks := asyncio.all_tasks() - myself:  # what they began meanwhile comes next
                for task in tasks:
                    task.cancel()
                for task in (await asyncio.wait(tasks))[0]:
                    if not task.cancelled() and (error := task.exception()) is not None:
                        log.error("a task raised when it was cancelled", exc_info=error)
            await asyncio.get_running_loop().shutdown_asyncgens()
    except TimeoutError:
        left = asyncio.all_tasks() - myself
        log.warning("tasks that go on after they were cancelled, and are left behind: %d", len(left))


async def call(callback: Callable[..., Result], *args: Any) -> None:
    result = callback(*args)
    if result is not None:
        await result


def _engine(seat: Message, fds: list[int], resumes: bool, serial: int) -> Engine:
    public_fd, port_fd, control_fd, *rest = fds
    stack_fds, listeners = rest[: seat["stack_fds"]], rest[seat["stack_fds"] :]
    stack = None
    if seat["device"] is not None:  # in the order of StackSetup.fds
        queue, others = stack_fds[: seat["device_fds"]], stack_fds[seat["device_fds"] :]
        arena_fd, frames_fd, exchange_fd, *wake_fds = others
        stack = (seat["device"], queue, arena_fd, frames_fd, exchange_fd, wake_fds)
    return Engine(public_fd, port_fd, listeners, resumes, serial, stack, control_fd)
