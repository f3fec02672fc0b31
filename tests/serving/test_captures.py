"""usnet-ctl capture beside a server on each backend: both directions, with connection and reason; what a filter leaves
out, what is lost is counted, and who may die without ending it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

import pytest
from support import pcapng
from support.backends import Afxdp, network_namespace
from support.capturing import Capturing
from support.clients import Clients, EchoDialogue
from support.everywhere import EVERYWHERE
from support.far import FarSocket
from support.inmemory import MemoryServer
from support.obedient import Obedient, pattern
from support.privilege import needs_program, needs_xdp
from support.server import Serve, Server, command, free_port, wait

from usnet_framework._native_capture import IN, Captured, CaptureMemory, memory_bytes, write_head
from usnet_framework.shards.capturefilter import Link, compile_filter
from usnet_framework.shards.capturemerge import reasons
from usnet_framework.shards.enginewords import MESSAGE, Kind, Message

ECHO = ("examples.echo:Echo", "--queues", "1")
OBEDIENT = ("support.obedient:Obedient", "--app-dir", "tests", "--queues", "1")
ETHERNET, RAW = 1, 101
FIN, SYN = 1, 2


def echoed(client: socket.socket, data: bytes = b"hello") -> None:
    client.sendall(data)
    assert client.recv(len(data), socket.MSG_WAITALL) == data


def much_echoed(client: socket.socket, mebibytes: int) -> None:
    """In pieces that find room on their way."""
    for _ in range(16 * mebibytes):
        client.sendall(bytes(1 << 16))
        left = 1 << 16
        while left:
            left -= len(client.recv(left))


class Segment(NamedTuple):
    """In the words of tshark."""

    came: bool
    source: str
    ports: set[str]
    flags: int
    payload: bytes
    remarks: set[str]
    checksum: str

    @classmethod
    def of(cls, line: list[str]) -> Segment:
        direction, ipv4, ipv6, source, destination, flags, payload, checksum, *remarks = line
        named = {name for name, remark in zip(REMARKS, remarks, strict=True) if remark}
        ports = {source, destination}
        return cls(int(direction, 0) == 1, ipv4 or ipv6, ports, int(flags, 0), bytes.fromhex(payload), named, checksum)


REMARKS = ("retransmission", "spurious_retransmission", "lost_segment", "flags")


def segments(capture: Capturing) -> list[Segment]:
    fields = ("frame.packet_flags_direction", "ip.src", "ipv6.src", "tcp.srcport", "tcp.dstport", "tcp.flags")
    more = ("tcp.payload", "tcp.checksum.status", *(f"tcp.analysis.{name}" for name in REMARKS))
    return [Segment.of(line) for line in capture.tshark("tcp", *fields, *more)]


def payloads(found: list[Segment], came: bool) -> bytes:
    """What connections have carried one way."""
    again = {"retransmission", "spurious_retransmission"}
    return b"".join(one.payload for one in found if one.came is came and not one.remarks & again)


@EVERYWHERE
@needs_program("tshark")
@pytest.mark.parametrize("layout", ["split", "inline"])
def test_both_directions_with_their_connection(serve: Serve, layout: str) -> None:
    with serve(*ECHO, "--layout", layout) as server, server.connect() as before:
        echoed(before)
        with Capturing(server) as capture:
            with server.connect() as client:
                echoed(client)
                (conn,) = (conn for conn in server.ask("conns") if conn["peer"][1] == client.getsockname()[1])
            server.wait("it is gone", lambda: len(server.ask("conns")) == 1)
            echoed(before, b"again")
            capture.wait_for_sent(b"again")
        (link,) = capture.file.links
        assert link == (RAW if server.status()["backend"] == "kernel" else ETHERNET)
        found = segments(capture)
        for flag in (SYN, FIN):
            of_it = {one.came for one in found if one.flags & flag and str(conn["peer"][1]) in one.ports}
            assert of_it == {True, False}
        assert payloads(found, came=True) == payloads(found, came=False) == b"helloagain"
        assert not any("lost_segment" in one.remarks for one in found)
        comments = {packet.comment for packet in capture.file.packets if b"hello" in packet.data and not packet.came}
        assert comments == {f"connection {conn['id']}"}
        assert not capture.tshark("_ws.malformed || ip.checksum.status == 0", "frame.number")
        assert [packet.time_ns for packet in capture.file.packets] == sorted(p.time_ns for p in capture.file.packets)
        assert capture.file.total("written") == capture.file.total("matched") == len(capture.file.packets)
        assert f"{len(capture.file.packets)} packets captured" in capture.words


@EVERYWHERE
def test_a_filter_names_one_connection(serve: Serve) -> None:
    with serve(*ECHO) as server, server.connect() as wanted, server.connect() as other:
        echoed(wanted)
        echoed(other)
        port = wanted.getsockname()[1]
        with Capturing(server, "tcp", "port", str(port)) as capture:
            for number in range(20):
                echoed(other, b"other")
                echoed(wanted, b"%05d" % number)
            capture.wait_for_sent(b"00019")
        file = capture.file
        for came in (True, False):
            seen = {packet.data[-5:] for packet in file.packets if packet.came is came}
            assert seen >= {b"%05d" % number for number in range(20)}
        assert not [packet for packet in file.packets if b"other" in packet.data]
        assert file.total("matched") == len(file.packets) < file.total("seen")


@EVERYWHERE
def test_snaplen_and_count(serve: Serve) -> None:
    with serve(*ECHO) as server, server.connect() as client:
        with Capturing(server, "tcp[tcpflags] & tcp-push != 0", "--snaplen", "80", "--count", "6") as capture:
            for _ in range(6):
                echoed(client, bytes(1000))
            capture.end()
        assert [len(packet.data) for packet in capture.file.packets] == [80] * 6
        assert all(packet.original > 1000 for packet in capture.file.packets)
        assert "that was all that was asked for; 6 packets captured" in capture.words


@EVERYWHERE
@needs_program("tshark")
def test_drops_only_with_the_reason(serve: Serve) -> None:
    """On a stack of our own: a SYN to a port without a listener. On sockets: what comes after the application has
    closed."""
    with serve(*OBEDIENT) as server, Capturing(server, "--drops") as capture:
        if is_kernel := server.status()["backend"] == "kernel":
            with server.connect() as client:
                client.sendall(b"close\n")
                assert client.recv(10) == b""
                client.sendall(b"too late")
                capture.wait_for(1)
        else:
            host, port = server.address
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port + 1), 10)
            with server.connect() as client:  # and nothing of this
                client.sendall(b"echo hello\n")
                assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    reason = "tcp_after_close" if is_kernel else "tcp_no_connection"
    packets = [packet for packet in capture.file.packets if reason in packet.comment]
    assert len(packets) == 1
    assert all(packet.came and "dropped: " in packet.comment for packet in capture.file.packets)
    ((comment,),) = capture.tshark(f'frame.comment contains "{reason}"', "frame.comment")
    assert comment == packets[0].comment


@EVERYWHERE
@needs_program("tshark")
def test_it_goes_on_with_the_next_network_process(serve: Serve) -> None:
    """And nothing of what the next one does is missing: it has the memory before it looks at a packet."""
    sent = b""
    with serve(*ECHO) as server, server.connect() as client, Capturing(server) as capture:
        for number in range(5):
            sent += b"%05d" % number
            echoed(client, b"%05d" % number)
            capture.wait_for_sent(b"%05d" % number)
            server.kill_network_process()
        echoed(client, b"after")
        capture.wait_for_sent(b"after")
    found = segments(capture)
    assert payloads(found, came=True) == payloads(found, came=False) == sent + b"after"
    assert not any("lost_segment" in one.remarks for one in found)


def test_it_goes_on_with_the_next_inline_worker_and_the_next_keeper() -> None:
    for layout in ("inline", "split"):
        with Server(*ECHO, "--layout", layout) as server, Capturing(server) as capture:
            with server.connect() as client:
                echoed(client, b"before")
                capture.wait_for_sent(b"before")
            old, keeper = server.workers(), server.status()["shards"][0]["keeper_pid"]
            os.kill(keeper or old[0].pid, signal.SIGKILL)
            server.wait("it is replaced", lambda server=server, old=old: server.workers() not in ([], old))
            server.wait("it serves again", lambda server=server: server.get("/readyz")[0] == 200)
            with server.connect() as client:
                echoed(client, b"behind")
                capture.wait_for_sent(b"behind")
        data = [packet.data for packet in capture.file.packets]
        assert sum(b"before" in one for one in data) == 2
        assert sum(b"behind" in one for one in data) == 2


def test_shards_are_merged_in_the_order_of_time() -> None:
    with Server("examples.echo:Echo", "--queues", "3") as server:
        with Clients(server.address, 24, EchoDialogue) as clients, Capturing(server) as capture:
            before = clients.answered
            server.wait("all are served", lambda: clients.answered > before + 2000)
        assert not clients.incidents
        file = capture.file
        assert file.names == ["shard 0", "shard 1", "shard 2"]
        assert {packet.shard for packet in file.packets} == {0, 1, 2}
        times = [packet.time_ns for packet in file.packets]
        late = sum(after < before for before, after in itertools.pairwise(times))
        assert late <= len(times) / 100  # an engine may lose its core between noting the time and publishing
        assert file.total("written") + file.total("lost") == file.total("matched")


@needs_xdp
def test_packets_that_cross_to_their_shard_stand_there_once(interface: Afxdp) -> None:
    interface.connect("4")
    interface.send_from(1)
    four = ("examples.echo:Echo", "--queues", "4")
    with Server(*four, backend=interface) as server, Capturing(server, "tcp") as capture:
        for number in range(16):
            with server.connect() as client:
                echoed(client)  # it is accepted
                echoed(client, b"%05d" % number)
    came = [packet for packet in capture.file.packets if packet.came and packet.data[-5:].isdigit()]
    assert sorted(packet.data[-5:] for packet in came) == [b"%05d" % number for number in range(16)]
    assert any("came through the queue of another shard" in packet.comment for packet in came)
    assert all("connection " in packet.comment for packet in came)


@pytest.fixture
def interface() -> Iterator[Afxdp]:
    with network_namespace():
        yield Afxdp()


def test_a_second_one_is_refused_and_a_third_may_follow() -> None:
    with Server(*ECHO) as server, server.connect() as client:
        with Capturing(server) as first:
            assert server.refusal("capture", "-w", str(server.folder / "second")) == (
                f"usnet-ctl: capture: another capture runs; end that one first (process {first.process.pid})\n"
            )
            assert not (server.folder / "second").exists()
        with Capturing(server) as third:
            echoed(client)
            third.wait_for_sent(b"hello")
        assert sum(b"hello" in packet.data for packet in third.file.packets) == 2


def test_a_reader_that_stops_costs_nobody_but_itself() -> None:
    """It is stopped until packets are lost; then it has what there was room for, and says what is missing."""
    with Server(*ECHO) as server, server.connect() as client, Capturing(server) as capture:
        echoed(client)
        capture.wait_for(2)
        capture.process.send_signal(signal.SIGSTOP)
        much_echoed(client, 24)  # each way: 48 MiB, with 16 of room
        written = capture.size()
        capture.process.send_signal(signal.SIGCONT)
        wait("it goes on", lambda: capture.size() > written)
        echoed(client)
    counts = capture.file
    assert counts.total("lost") > 0
    assert counts.total("written") + counts.total("lost") == counts.total("matched")
    assert f"{counts.total('lost')} not read in time" in capture.words


@contextmanager
def piped(server: Server, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    line = [command("usnet-ctl"), "capture", *words, "--control", str(server.control)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as capture:
        try:
            yield capture
        finally:
            capture.kill()


def test_a_pipe_that_nobody_reads_does_not_keep_it() -> None:
    """A signal ends it, and so does a reader that hangs up."""
    with Server(*ECHO) as server, server.connect() as client:
        for hangs_up in (False, True):
            with piped(server) as capture:
                assert capture.stdout is not None
                assert os.read(capture.stdout.fileno(), 4)  # it captures
                much_echoed(client, 4)
                if hangs_up:
                    capture.stdout.close()
                else:
                    capture.send_signal(signal.SIGTERM)
                assert capture.wait(30) == 0


def test_what_was_not_taken_is_not_said_to_be_captured() -> None:
    with Server(*ECHO) as server, server.connect() as client, piped(server) as capture:
        assert capture.stdout is not None
        assert capture.stderr is not None
        begin = os.read(capture.stdout.fileno(), 4)
        much_echoed(client, 4)
        capture.send_signal(signal.SIGTERM)
        assert capture.wait(30) == 0
        there = pcapng.read(begin + capture.stdout.read(), grows=True)
        words = capture.stderr.read().decode()
    counts = re.search(r"(\d+) packets captured, (\d+) seen, 0 not read in time, (\d+) not taken by whoever", words)
    assert counts is not None, words
    captured, seen, untaken = map(int, counts.groups())
    assert captured == len(there.packets)
    assert captured + untaken == seen
    assert untaken > 0


def test_a_reader_that_hangs_up_ends_it_without_a_packet() -> None:
    """And the next one may capture."""
    with Server(*ECHO) as server:
        for _ in range(2):
            with piped(server, "udp") as capture:
                assert capture.stdout is not None
                assert capture.stderr is not None
                assert os.read(capture.stdout.fileno(), 1 << 16)
                capture.stdout.close()
                assert capture.wait(30) == 0
                assert capture.stderr.read() == b"usnet-ctl: 0 packets captured, 0 seen, 0 not read in time\n"


def test_a_shard_that_does_not_answer_is_named() -> None:
    """It is asked all the same: what passes after it goes on is there."""
    with Server("examples.echo:Echo", "--queues", "2") as server:
        stopped = server.status()["shards"][1]["network_pid"]
        os.kill(stopped, signal.SIGSTOP)
        with Capturing(server) as capture, Clients(server.address, 24, EchoDialogue):
            with suppress(ProcessLookupError):  # the watchdog may have replaced it meanwhile
                os.kill(stopped, signal.SIGCONT)
            server.wait("it captures too", lambda: 1 in {packet.shard for packet in capture.so_far()})
        replaced = server.status()["shards"][1]["network_restarts"] > 0
    assert replaced or "usnet-ctl: shard 1 has not answered; its packets are missing until it does\n" in capture.words


def test_the_end_of_the_server_is_its_end() -> None:
    with Server(*ECHO) as server, server.connect() as client:
        with Capturing(server) as capture:
            echoed(client)
            client.close()
            assert server.stop() == 0
            capture.end()
        assert "the server has ended; " in capture.words
        assert sum(b"hello" in packet.data for packet in capture.file.packets) == 2
        assert capture.file.statistics


@needs_program("tshark")
def test_what_passes_through_sockets_is_whole(tmp_path: Path) -> None:
    """More than IP allows in one packet; over IPv6; and over a unix socket, whose addresses are made up."""
    path, port = str(tmp_path / "socket"), free_port()
    binds = ("--bind", f"tcp://[::1]:{port}", "--bind", f"unix:{path}")
    with Server(*OBEDIENT, *binds) as server, Capturing(server) as capture:
        for address in (("::1", port), path):
            with socket.socket(socket.AF_UNIX if address == path else socket.AF_INET6) as client:
                client.connect(address)
                client.sendall(b"big 300000\n")
                assert client.recv(300000, socket.MSG_WAITALL) == pattern(300000)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
    found = segments(capture)
    assert payloads(found, came=True) == b"big 300000\n" * 2
    assert payloads(found, came=False) == pattern(300000) * 2
    assert {(one.source, min(one.ports, key=int)) for one in found} == {("::1", str(port)), ("127.0.0.1", "2")}
    assert {one.checksum for one in found} == {"1"}
    assert not any(one.remarks for one in found)


class Watched:
    """The engine of a server in memory copies into a memory of the test's."""

    def __init__(self, server: MemoryServer, memory_fd: int, words: str) -> None:
        self._control = server.control
        size = memory_bytes(1 << 20)
        os.ftruncate(memory_fd, size)
        self._memory = mmap(memory_fd, size)
        write_head(self._memory, 65535, False, compile_filter(words, Link.ETHERNET))
        self._ask(server, MESSAGE.pack(Kind.CAPTURE, 0, 1, 0, size, 0), [memory_fd])
        self._end = CaptureMemory(self._memory)

    def close(self, server: MemoryServer) -> list[Captured]:
        self._ask(server, MESSAGE.pack(Kind.CAPTURE, 0, 0, 0, 0, 0), [])
        packets = list(self._end.read())
        self._end.close()
        self._memory.close()
        return packets

    def _ask(self, server: MemoryServer, packet: bytes, fds: list[int]) -> None:
        """An engine in memory turns when there is traffic."""
        socket.send_fds(self._control, [packet], fds)
        with server.connect() as client:
            wait("it is confirmed", lambda: self._is_confirmed(client))

    def _is_confirmed(self, client: FarSocket) -> bool:
        client.sendall(b"echo x\n")
        client.recv(1)
        try:
            message = Message.read(self._control.recv(MESSAGE.size))
        except BlockingIOError:
            return False
        return message is not None and message.kind is Kind.CAPTURE and message.first == 0


def test_over_a_wire_in_memory() -> None:
    """What a filter on the ports says, as its peer's stack sends it, and the reason why a SYN is refused."""
    memory_fd = os.memfd_create("usnet-capture-test", os.MFD_CLOEXEC)
    with MemoryServer(Obedient) as server:
        payload = "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x68656c6c"
        watched = Watched(server, memory_fd, f"tcp port {server.address[1] + 1} or {payload}")
        with server.connect() as client:
            client.sendall(b"echo hello\n")
            assert client.recv(5) == b"hello"
        refused = server.new_socket()
        refused.settimeout(10)
        with pytest.raises(ConnectionRefusedError):
            refused.connect((server.address[0], server.address[1] + 1))
        packets = watched.close(server)
    os.close(memory_fd)
    (answer, syn, reset) = packets
    assert (answer.flags, answer.packet[-5:], answer.drops) == (0, b"hello", 0)
    assert answer.conn
    assert (syn.flags, [name for name, _ in reasons(syn.drops)], syn.conn) == (IN, ["tcp_no_connection"], 0)
    assert (reset.flags, reset.packet[14 + 20 + 13] & 4, reset.drops) == (0, 4, 0)
