"""Lines go to whoever reads them, in order and each once; nobody waits, and what is lost is counted.

A test is the reader as well: a line whose writer waited for it would never be written."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from support.server import wait

from usnet_framework import logwriter
from usnet_framework.logwriter import LineWriter

PIPE_BYTES = 4096
LINE = "x" * 100


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self.reader, False)
        self._heard = b""

    def heard(self) -> list[str]:
        """Lines so far."""
        while True:
            try:
                piece = os.read(self.reader, 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            self._heard += piece
        return self._heard.decode().splitlines()

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            try:
                os.close(fd)
            except OSError:
                continue


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """At its end, nobody writes into it any more."""
    pipe = Pipe()
    yield pipe
    pipe.close()
    wait("no thread is left", lambda: not log_threads())


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is another user's: it cannot be opened again."""
    really = os.open

    def refuse(path: str, flags: int, *rest: int, **named: int) -> int:
        if str(path).startswith("/proc/self/fd"):
            raise PermissionError(13, "refused")
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(logwriter.os, "open", refuse)


def lost(count: int) -> str:
    return f"{count} lost"


def log_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "log"]


def test_a_line_is_written_by_its_caller(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.write("one")
    writer.write("two")
    assert pipe.heard() == ["one", "two"]
    assert os.get_blocking(pipe.writer), "other processes share it"


def test_nobody_waits_and_all_is_there_once_it_is_read(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    lines = [f"{number} {LINE}" for number in range(1000)]
    for line in lines:
        writer.write(line)
    wait("all is read", lambda: len(pipe.heard()) == len(lines))
    assert pipe.heard() == lines
    wait("the thread ends", lambda: not log_threads())


def test_what_is_lost_is_counted_and_said_where_it_is_missing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "BACKLOG_BYTES", 1000)
    writer = LineWriter(pipe.writer, lost)
    for number in range(200):
        writer.write(f"{number} {LINE}")
    wait("the gap is told", lambda: pipe.heard()[-1].endswith(" lost"))
    *before, told = pipe.heard()
    assert told == lost(200 - len(before))
    writer.write("after")
    assert pipe.heard()[len(before) :] == [told, "after"]


def test_a_line_longer_than_the_pipe_arrives_whole(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    writer.write("y" * 3 * PIPE_BYTES)
    writer.write("next")
    wait("all is read", lambda: pipe.heard()[-1:] == ["next"])
    assert pipe.heard() == ["y" * 3 * PIPE_BYTES, "next"]


def test_a_pipe_of_another_user_is_written_by_a_thread(pipe: Pipe, refused: None) -> None:
    writer = LineWriter(pipe.writer, lost)
    lines = [f"{number} {LINE}" for number in range(500)]
    for line in lines:
        writer.write(line)
    wait("all is read", lambda: len(pipe.heard()) == len(lines))
    assert pipe.heard() == lines


def test_a_reader_that_is_gone_is_no_error(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    os.close(pipe.reader)
    for _ in range(3):
        writer.write(LINE)
    assert writer.flush(1)


def test_a_full_disk_is_no_error_and_is_told_of() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        fd = full.fileno()
        writer = LineWriter(fd, lost)
        writer.write(LINE)
        writer.write(LINE)
        reader, end = os.pipe()
        os.dup2(end, fd)
        writer.write("after")
        assert os.read(reader, 1000) == b"2 lost\nafter\n"
        os.close(reader)
        os.close(end)


def test_a_socket_that_nobody_reads_holds_up_nobody() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = LineWriter(ours.fileno(), lost)
        for number in range(4000):
            writer.write(f"{number} {LINE}")
        assert ours.getblocking()
        heard = b""
        while heard.count(b"\n") < 4000:
            heard += theirs.recv(65536)
        assert heard.decode().splitlines() == [f"{number} {LINE}" for number in range(4000)]


def test_flush_ends_though_nobody_reads(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost)
    for _ in range(100):
        writer.write(LINE)
    assert not writer.flush(0.3)
    assert not writer.flush(0)


def test_a_process_that_is_to_be_forked_has_no_thread(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost, may_start_thread=False)
    for number in range(100):
        writer.write(f"{number} {LINE}")
    assert not log_threads()
    writer.may_start_thread = True
    writer.write("last")
    wait("all is read", lambda: pipe.heard()[-1:] == ["last"])
    assert len(pipe.heard()) == 101


def test_a_child_of_a_fork_leaves_what_waits_to_its_parent(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer, lost, may_start_thread=False)
    for number in range(100):
        writer.write(f"{number} {LINE}")
    child = os.fork()
    if child == 0:
        writer.flush(0.1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    pipe.heard()
    writer.may_start_thread = True
    writer.write("last")
    wait("all is read", lambda: pipe.heard()[-1:] == ["last"])
    assert len(pipe.heard()) == 101


def test_a_child_of_a_fork_has_no_lock_and_no_thread_of_its_parent(pipe: Pipe) -> None:
    """Whoever holds the lock is not there, nor is the thread that would write what waits."""
    writer = LineWriter(pipe.writer, lost)
    for number in range(100):
        writer.write(f"{number} {LINE}")
    assert log_threads()
    ours, theirs = socket.socketpair()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with writer._lock:
            held.set()
            release.wait()

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os.dup2(theirs.fileno(), pipe.writer)
        writer.write("of the child")
        os._exit(len(writer._waiting))
    release.set()
    holding.join()
    assert os.waitpid(child, 0)[1] == 0
    assert ours.recv(1000) == b"of the child\n"
    wait("all is read", lambda: len(pipe.heard()) == 100)
    ours.close()
    theirs.close()
