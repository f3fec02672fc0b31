"""A process manager with one worker on uvloop, to compare with where workers die or are replaced.

    python -m usnet_framework.bench.manager HOST PORT

It is as good to its clients as such managers are. It opens the socket itself, so no connection is refused while there
is no worker. It imports everything before it forks (gunicorn --preload), so a worker is there within milliseconds. One
that dies is replaced at once. At SIGHUP a new worker serves first; then the old one stops listening, sends what it has,
and closes its connections: they live in that process, and no other can go on with them. SIGTERM ends both."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from usnet_framework.bench.peers import BACKLOG, LOOPS, Echo
from usnet_framework.errors import StartupError, UsageError, UsnetError

SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
LISTENING = b"."
START_S = 30.0


class Worker:
    """In a process of its own."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connections: set[asyncio.BaseTransport] = set()

    async def serve(self, ready: int) -> None:
        """Until SIGTERM."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, told.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        server = await loop.create_server(lambda: Tracked(self._connections), sock=self._listener, backlog=BACKLOG)
        os.write(ready, LISTENING)
        await told.wait()
        server.close()
        for connection in self._connections:
            connection.close()
        while self._connections:
            await asyncio.sleep(0.001)  # what they have to say is sent; then connection_lost takes them out


class Tracked(Echo):
    """Knows which connections are open."""

    def __init__(self, connections: set[asyncio.BaseTransport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self._transport)


class Manager:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def run(self) -> None:
        """Until SIGTERM. StartupError: a worker does not come up."""
        worker = self._start()
        while (number := signal.sigwait(SIGNALS)) not in (signal.SIGTERM, signal.SIGINT):
            if number == signal.SIGHUP:
                old, worker = worker, self._start()
                os.kill(old, signal.SIGTERM)
            elif worker in _ended():
                worker = self._start()
        os.kill(worker, signal.SIGKILL)

    def _start(self) -> int:
        """A worker that listens."""
        ready, mine = os.pipe()
        worker = os.fork()
        if worker == 0:
            _become(Worker(self._listener), mine)
        os.close(mine)
        is_heard = bool(select.select([ready], [], [], START_S)[0])
        listens = is_heard and os.read(ready, 1) == LISTENING
        os.close(ready)
        if not listens:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            raise StartupError("a worker ended before it listened" if is_heard else "a worker did not come to listen")
        return worker


def _ended() -> set[int]:
    """Children that were not known to have ended. One SIGCHLD may stand for several."""
    found = set()
    try:
        while child := os.waitpid(-1, os.WNOHANG)[0]:
            found.add(child)
    except ChildProcessError:
        pass
    return found


def _become(worker: Worker, ready: int) -> NoReturn:
    code = 1
    try:
        with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
            runner.run(worker.serve(ready))
        code = 0
    finally:
        os._exit(code)


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 2 or not argv[1].isdecimal():
            raise UsageError("usage: python -m usnet_framework.bench.manager HOST PORT")
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        LOOPS["uvloop"]().close()  # imports it, or says that it is not there
        with socket.create_server((argv[0], int(argv[1])), backlog=BACKLOG) as listener:
            print(f"listening on {argv[0]}:{listener.getsockname()[1]}", flush=True)
            Manager(listener).run()
    except UsnetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
