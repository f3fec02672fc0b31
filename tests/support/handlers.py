"""Handlers with bad habits, for end-to-end tests: `support.handlers:NAME --app-dir tests`."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from usnet_framework import Connection, Handler, SendBufferFull


def flood_chunk() -> bytes:
    return bytes(range(256)) * 256


class Forgetful(Handler):
    """An echo that cannot take connections over."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(data)


class Echo(Forgetful):
    def on_resume(self, conn: Connection) -> None:
        """Nothing to restore."""


class Raises(Echo):
    """Cannot handle anything."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        raise LookupError("bad")


class Poisonable(Echo):
    """Dies of messages that begin with "poison", and ends itself for those that begin with "exit"."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if data[:6] == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if data[:4] == b"exit":
            sys.exit(1)
        conn.send(data)


class PoisonableLater(Echo):
    """Dies of messages that begin with "poison", after it has waited for a while."""

    async def on_data(self, conn: Connection, data: memoryview) -> None:  # type: ignore[override]
        await asyncio.sleep(0.01)
        if data[:6] == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        conn.send(data)


class Noisy(Echo):
    """Writes what it hears to standard output and error, as a library may that was written in C."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        for fd in (1, 2):
            with suppress(OSError):
                os.write(fd, data)
        conn.send(data)


class Parent(Echo):
    """Answers with what a child inherits that is started without any care: its status, then its descriptors."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        look = "cat /proc/self/status; ls -l /proc/self/fd"
        child = subprocess.run(["sh", "-c", look], close_fds=False, capture_output=True, check=True)
        conn.send(child.stdout)
        conn.close()


class Scribbler(Echo):
    """Of "scribble" it writes ones over all of the segment that it can write, until it is killed; of "scribble N" over
    the first N bytes."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        while data[:8] == b"scribble":
            for line in Path("/proc/self/maps").read_text().splitlines():
                if "rw-s" in line and "memfd" in line:
                    start, end = (int(address, 16) for address in line.split()[0].split("-"))
                    ctypes.memset(start, 0xFF, int(data[9:] or end - start))
        conn.send(data)


class Jammer(Echo):
    """Of "jam" it fills every descriptor that processes wake each other by, and leaves it so that writing blocks."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if data[:3] == b"jam":
            for fd in map(int, os.listdir("/proc/self/fd")):
                with suppress(OSError):
                    wakes = os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe:", "anon_inode:[eventfd]"))
                    if wakes and fd > 2:
                        jam(fd)
        conn.send(data)


def jam(fd: int) -> None:
    """The largest number for an eventfd, any bytes for a pipe, until no more of them fit."""
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, (2**64 - 2).to_bytes(8, "little"))
    finally:
        os.set_blocking(fd, True)


class Babbler(Echo):
    """Of "babble HEX" it says these bytes to the supervisor, with descriptors, some ten times."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if data[:7] != b"babble ":
            conn.send(data)
            return
        for number in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError), socket.socket(fileno=os.dup(number)) as control:
                if (control.family, control.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                    for _ in range(10):
                        socket.send_fds(control, [bytes.fromhex(bytes(data[7:]).decode())], [0] * 100)


class Flood(Echo):
    """Answers "flood N" with N chunks, as fast as the peer reads; echoes anything else."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if bytes(data).startswith(b"flood "):
            conn.context = int(bytes(data).split()[1])
            self.on_drain(conn)
        else:
            conn.send(data)

    def on_drain(self, conn: Connection) -> None:
        chunk = flood_chunk()
        while conn.context:
            conn.context -= 1
            if not conn.send(chunk):
                return


PAGE_BYTES = 8 << 20


class Page(Echo):
    """Answers everything with PAGE_BYTES and closes, as a server of HTTP/1.0 does."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.send(bytes(PAGE_BYTES))
        conn.close()


PIECE_BYTES = 1 << 20
PIECES = 2


class Pieces(Echo):
    """Answers each message with PIECES pieces, and waits when the worker has no memory for one."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        conn.context = PIECES
        self.on_drain(conn)

    def on_drain(self, conn: Connection) -> None:
        while conn.context:
            try:
                conn.send(bytes([conn.context]) * PIECE_BYTES)
            except SendBufferFull:
                return
            conn.context -= 1


class NeverReads(Echo):
    """Pauses a connection that asks for it, for ever."""

    def on_data(self, conn: Connection, data: memoryview) -> None:
        if data[:12] == b"stop reading":
            conn.pause_reading()
        else:
            conn.send(data)
