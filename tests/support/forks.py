"""A handler that forks when a message says so, and tells how the child ended: `support.forks:Forks --app-dir tests`.

A message is where and how: `now exit` forks within `on_data`, `later exit` in a callback of the loop. The answer is the
message and the status of the child. `tasks` leaves tasks that are still pending at the next fork. Anything else is
echoed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from usnet_framework import Connection, Handler
from usnet_framework.errors import WorkerForked

EXIT_CODE = 7
RAISED = 9

ENDS = ("return", "send", "exit", "_exit", "raise", "use", "process", "subprocess")
"""What the child does."""

STATUS = dict.fromkeys(ENDS, 0) | {"exit": EXIT_CODE}


class Forks(Handler):
    def on_start(self, shard: object) -> None:
        self.start_ended = fork(os.environ["FORK_IN_START"], None, b"") if "FORK_IN_START" in os.environ else 0

    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        where, _, how = bytes(data).decode("latin-1").partition(" ")
        if where == "now":
            self.answer(conn, data, how)
        elif where == "later":
            asyncio.get_running_loop().call_soon(self.answer, conn, data, how)
            asyncio.get_running_loop().call_soon(self.count)  # waits behind it, and is not the child's to do
        elif where == "tasks":
            self.waits = asyncio.ensure_future(asyncio.sleep(3600))
            asyncio.ensure_future(self.turns())  # noqa: RUF006  # only the loop has it: that is the case
            conn.send(data)
        elif where == "start":
            conn.send(b"%d" % self.start_ended)
        elif where == "close":
            conn.close()
        elif where == "stay":
            conn.send(b"%d" % stay())
        else:
            conn.send(data)

    def answer(self, conn: Connection, data: memoryview, how: str) -> None:
        status = fork(how, conn, data)
        if status is not None:
            conn.send(bytes(data) + b" %d" % status)

    async def turns(self) -> None:
        """Is scheduled at every moment, and only the loop has it."""
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            self.count()  # a child that destroys the task would

    def count(self) -> None:
        with Path(os.environ["FORK_COUNT"]).open("a") as file:
            file.write("once\n")


def fork(how: str, conn: Connection | None, data: bytes | memoryview) -> int | None:
    """The exit code of the child; None in a child that is to return."""
    if how == "process":
        process = multiprocessing.get_context("fork").Process(target=use, args=(conn, data))
        process.start()
        process.join()
        return process.exitcode
    if how == "subprocess":
        return subprocess.run(["true"], check=False).returncode
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "send" and conn is not None:
        conn.send(b"of the child")
    elif how == "exit":
        sys.exit(EXIT_CODE)
    elif how == "_exit":
        os._exit(0)
    elif how == "raise":
        raise LookupError("of the child")
    elif how == "use":
        use(conn, data)
        os._exit(0)
    return None


def use(conn: Connection | None, data: bytes | memoryview) -> None:
    """What a child may do of it, and what not; a wrong one ends it with RAISED."""
    try:
        assert asyncio.run(asyncio.sleep(0.01, "done")) == "done"
        assert not data or bytes(data).endswith((b"use", b"process"))
        for call in () if conn is None else (lambda: conn.send(b"x"), conn.close, conn.abort, conn.send_eof):
            try:
                call()
            except WorkerForked:
                continue
            raise AssertionError("nothing was raised")
    except BaseException as error:
        print("in the child:", repr(error), file=sys.stderr, flush=True)
        os._exit(RAISED)


def stay() -> int:
    """A child that lives on."""
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(60)
    return pid
