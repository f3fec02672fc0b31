"""usnet-ctl capture: packets of a running server, as its engines see them, as pcapng.

    usnet-ctl capture -w - | tshark -r -                 everything
    usnet-ctl capture tcp port 443 and host 10.0.0.7 -w file.pcapng
    usnet-ctl capture --drops -w - | tshark -r -         what our stack dropped, and why

Each packet stands there once, with its direction, and has a comment: its connection as `usnet-ctl conns` names it, and
why it was dropped. An interface of the file is a shard. With the kernel's sockets, where packets are the kernel's, what
passed through them stands there as packets of IP and TCP that were made of it.

The filter is in libpcap's language. Engines run it, and copy what it takes into memory that this process reads; the
supervisor has nothing to do meanwhile. What is not read in time is left out and counted: in the statistics at the end
of the file, and on standard error. It ends with SIGINT, SIGTERM, --count packets, the server, or whoever reads.
"""

from __future__ import annotations

import argparse
import mmap
import os
import select
import signal
import socket
import stat
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress

from usnet_framework._native_capture import IN, SNAPLEN_MAX, CaptureMemory, Counts
from usnet_framework.cli.subcommand import Subcommand
from usnet_framework.errors import ControlError, UsageError
from usnet_framework.installed import VERSION
from usnet_framework.shards import capturefile, control
from usnet_framework.shards.capturefilter import Link, compile_filter
from usnet_framework.shards.capturemerge import Merger, comment

LOOK_S = 0.02  # between two looks at the memories
PIPE_BYTES = select.PIPE_BUF  # a pipe that can be written takes so many without waiting
END_S = 3.0  # what the server gets to end it; it waits for engines no longer than that
STUCK_S = 1.0  # at the end, what whoever reads gets for the rest

LINKTYPES = {Link.ETHERNET: capturefile.LINKTYPE_ETHERNET, Link.IP: capturefile.LINKTYPE_RAW}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", metavar="FILTER", nargs="*", help="which packets (man pcap-filter); all by default")
    parser.add_argument("-w", metavar="FILE", dest="file", default="-", help="where to; -: standard output (-)")
    parser.add_argument(
        "--snaplen", metavar="BYTES", type=_snaplen, default=SNAPLEN_MAX, help="of each packet at most (%(default)s)"
    )
    parser.add_argument("--count", metavar="N", type=_count, help="end after so many packets")
    parser.add_argument("--drops", action="store_true", help="only what was dropped")


def _run(arguments: argparse.Namespace) -> Iterable[str]:
    """Capture until it ends; what it writes goes another way. UsageError, ControlError."""
    if arguments.json:
        raise UsageError("--json: packets are written as pcapng; tshark -r FILE -T json makes JSON of them")
    text = " ".join(arguments.filter)
    link = Link.IP if control.request(arguments.control, "status")["backend"] == "kernel" else Link.ETHERNET
    program = compile_filter(text, link) if text else b""
    asked = {"snaplen": arguments.snaplen, "drops": arguments.drops, "program": program}
    with ExitStack() as opened:
        session = opened.enter_context(control.opened(arguments.control, "capture", asked))
        if session.result.get("version") != VERSION:
            raise ControlError("capture: the server is of another version; use the usnet-ctl that came with it")
        out = Output(arguments.file, opened)
        memories = [_open(fd, session.result["bytes"], opened) for fd in session.fds]
        capture = _Capture(out, session.client, memories, arguments.count)
        capture.begin([_interface(link, arguments, number, text) for number in session.result["shards"]])
        for shard in session.result["unanswered"]:
            print(f"usnet-ctl: shard {shard} has not answered; its packets are missing until it does", file=sys.stderr)
        capture.run()
        print(f"usnet-ctl: {capture.end()}", file=sys.stderr)
    return ()


def _interface(link: Link, arguments: argparse.Namespace, shard: int, text: str) -> bytes:
    what = "what passed through sockets, as packets" if link is Link.IP else "frames"
    return capturefile.interface(LINKTYPES[link], arguments.snaplen, f"shard {shard}", f"usnet: {what}", text)


def _open(fd: int, size: int, opened: ExitStack) -> CaptureMemory:
    try:
        memory = opened.enter_context(mmap.mmap(fd, size))
    except (OSError, ValueError) as error:
        raise ControlError(f"capture: the memory of packets cannot be mapped: {error}") from None
    end = CaptureMemory(memory)
    opened.callback(end.close)
    return end


class _Capture:
    """From the first block to the last."""

    def __init__(
        self, out: Output, server: socket.socket, memories: Sequence[CaptureMemory], count: int | None
    ) -> None:
        self._out = out
        self._server = server
        self._memories = memories
        self._merger = Merger(memories)
        self._left = count
        self._since_1970_ns = time.time_ns() - time.monotonic_ns()
        self._began_ns = time.time_ns()
        self._asked = False
        self._why = ""

    def begin(self, interfaces: Sequence[bytes]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end_asked)
        self._out.write(capturefile.section(f"usnet-ctl capture, usnet {VERSION}"))
        for interface in interfaces:
            self._out.write(interface)
        self._out.flush(self._goes_on)

    def run(self) -> None:
        """Until something ends it."""
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        poll.register(self._out, 0)  # errors and hang-ups, which come whatever is asked for
        while self._goes_on():
            self._copy()
            self._look(poll)
        self._have_it_end()
        if self._left != 0 and not self._out.is_closed:
            self._copy(is_last=True)

    def end(self) -> str:
        """Write what was counted, unless whoever reads is stuck; a line about it."""
        until_s = time.monotonic() + STUCK_S
        counted = [memory.counts() for memory in self._memories]
        if self._out.flush(lambda: time.monotonic() < until_s):
            for number, counts in enumerate(counted):
                self._out.write(self._statistics(number, counts))
            self._out.flush(lambda: time.monotonic() < until_s)
        seen, lost = (sum(getattr(counts, name) for counts in counted) for name in ("seen", "lost"))
        why = f"{self._why}; " if self._why else ""
        text = f"{why}{self._out.written.total()} packets captured, {seen} seen, {lost} not read in time"
        return f"{text}, {self._out.untaken} not taken by whoever reads" if self._out.untaken else text

    def _statistics(self, number: int, counts: Counts) -> bytes:
        remark = f"{counts.lost} packets were not read in time and are missing" if counts.lost else ""
        written = self._out.written[number]
        return capturefile.statistics(
            number, self._began_ns, time.time_ns(), counts.seen, counts.matched, counts.lost, written, remark
        )

    def _goes_on(self) -> bool:
        return not (self._asked or self._why or self._out.is_closed)

    def _have_it_end(self) -> None:
        """Engines copy no more when the server hangs up, so what is counted afterwards agrees."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)
            select.select([self._server], [], [], END_S)

    def _look(self, poll: select.poll) -> None:
        """Wait for the next look at the memories, or for the end of either side."""
        for fd, _ in poll.poll(LOOK_S * 1e3):
            if fd != self._server.fileno():
                self._out.is_closed = True
            elif self._has_hung_up():
                self._why = "the server has ended"

    def _has_hung_up(self) -> bool:
        try:
            return not self._server.recv(1)
        except ConnectionError:
            return True

    def _end_asked(self, *_: object) -> None:
        self._asked = True

    def _copy(self, is_last: bool = False) -> None:
        try:
            for place, captured in self._merger.take(is_last):
                if self._left == 0:
                    break
                time_ns = captured.time_ns + self._since_1970_ns
                self._out.write(
                    capturefile.packet(
                        place, time_ns, captured.packet, captured.original, bool(captured.flags & IN), comment(captured)
                    ),
                    place,
                )
                if self._left is not None:
                    self._left -= 1
        except OSError as error:
            raise ControlError(f"capture: what an engine wrote makes no sense ({error.strerror})") from None
        self._out.flush(self._goes_on)
        if self._left == 0:
            self._why = self._why or "that was all that was asked for"


class Output:
    """A file, or standard output, whose reader may stop: it is waited for, a signal ends the waiting, and a block that
    was begun is written to its end if that can be.

    `written`: packets that have left, by the place of their shard."""

    def __init__(self, path: str, opened: ExitStack) -> None:
        self.written: Counter[int] = Counter()
        self.is_closed = False
        self._waits: list[bytes] = []
        self._bytes_given = self._bytes_gone = 0
        self._ends: deque[tuple[int, int]] = deque()  # of packets that wait: _bytes_given behind each, and its place
        self._fd = _standard_output() if path == "-" else _made(path, opened)
        if os.isatty(self._fd):
            raise UsageError("capture: standard output is a terminal; use -w FILE, or a pipe to tshark -r -")
        self._piece = 1 << 20 if stat.S_ISREG(os.fstat(self._fd).st_mode) else PIPE_BYTES

    def fileno(self) -> int:
        return self._fd

    @property
    def untaken(self) -> int:
        """Packets that wait."""
        return len(self._ends)

    def write(self, block: bytes, place: int | None = None) -> None:
        """With a place: it is a packet."""
        self._waits.append(block)
        self._bytes_given += len(block)
        if place is not None:
            self._ends.append((self._bytes_given, place))

    def flush(self, goes_on: Callable[[], bool]) -> bool:
        """What waits, as long as it goes on; whether all has left. ControlError: the file cannot be written."""
        data = memoryview(b"".join(self._waits))
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while data and not self.is_closed:
            if poll.poll(LOOK_S * 1e3):
                gone = self._write(data[: self._piece])
                data = data[gone:]
                self._count(gone)
            elif not goes_on():
                break
        self._waits = [bytes(data)] if data else []
        return not data

    def _count(self, gone: int) -> None:
        self._bytes_gone += gone
        while self._ends and self._ends[0][0] <= self._bytes_gone:
            self.written[self._ends.popleft()[1]] += 1

    def _write(self, piece: memoryview) -> int:
        try:
            return os.write(self._fd, piece)
        except ConnectionError:  # whoever reads has seen enough
            self.is_closed = True
            return 0
        except OSError as error:
            raise ControlError(f"capture: cannot write: {error.strerror}") from None


def _standard_output() -> int:
    if sys.stdout is None:  # it was closed
        raise UsageError("capture: there is no standard output; use -w FILE")
    return sys.stdout.fileno()


def _made(path: str, opened: ExitStack) -> int:
    """It holds what users said to each other: others do not read it, even if it was there and they could."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, fd)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, 0)
    except OSError as error:
        raise UsageError(f"-w {path}: {error.strerror}") from None
    return fd


def _snaplen(text: str) -> int:
    with suppress(ValueError):
        if 1 <= int(text) <= SNAPLEN_MAX:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} was given; expected 1 to {SNAPLEN_MAX}")


def _count(text: str) -> int:
    with suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} was given; expected a number, 1 or more")


CAPTURE = Subcommand("write packets of the server, and why some were dropped, as pcapng", _run, _add_options)
