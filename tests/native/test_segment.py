"""Segment: sizes, seals, read-only maps, and reading what a worker gone mad left behind (P4)."""

import fcntl
import mmap
import os
import random
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from usnet_framework import _native
from usnet_framework.shards.segment import EngineOptions, Segment, SegmentConfig, StackAddresses

CONN_MAX = 700  # more than two calls' worth of connections


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(SegmentConfig.for_kernel(shard=3, seats=2, conn_max=CONN_MAX, state_bytes=64))
    yield made
    made.close()


def writable(fd: int) -> mmap.mmap:
    return mmap.mmap(fd, os.fstat(fd).st_size)


def regions(segment: Segment) -> dict[str, _native.Region]:
    return _native.layout_regions(asdict(segment.config))


def put_connection(segment: Segment, slot: int, *, port: int = 2, family: int = 4) -> int:
    """Write a table entry as an engine would; returns its id."""
    conns = regions(segment)["conns"]
    conn_id = 3 << 54 | slot << 32 | 9
    peer = bytes([10, 0, 0, 7]).ljust(16, b"\0") if family == 4 else bytes(15) + b"\1"
    entry = struct.pack("<QBBHIQQQQQ", conn_id, 1, 0b1001, port, 8, 100, 60, 50, 111, 222)
    entry += peer + struct.pack("<HHI", 5555, family, 0) + bytes(24)
    with writable(segment.public_fd) as public:
        at = conns.at + slot * conns.item_bytes
        public[at : at + len(entry)] = entry
    return conn_id


def offsets(of: str) -> dict[str, int]:
    return _native.layout_offsets()[of]


def somebody_sits(segment: Segment, *ports: int) -> None:
    """A worker was attached to these ports."""
    at, item_bytes = regions(segment)["ports"].at, regions(segment)["ports"].item_bytes
    with writable(segment.public_fd) as public:
        for port in ports:
            struct.pack_into("<I", public, at + port * item_bytes + offsets("un_port_public")["serial"], 1)


def test_fresh_segment_reads_as_zero(segment: Segment) -> None:
    assert set(segment.engine_counters().values()) == {0}
    assert set(segment.closed_by_reason().values()) == {0}
    assert set(segment.stack_counters().values()) == {0}
    assert {name.partition("_")[0] for name in segment.stack_counters()} == {"ip", "tcp", "device", "drop"}
    assert segment.closed_by_reason().keys() >= {"peer", "worker_lost", "poisoned"}
    assert set(segment.seat_counters(1).values()) == {0}
    assert segment.wait_histogram(0) == [0] * 24
    assert segment.seat_status(0).serial == 0
    assert not segment.seat_status(0).attached
    assert segment.engine_status().active == 0
    assert list(segment.connections()) == []
    assert segment.quarantine(0) is None


def test_names_and_help_texts() -> None:
    assert dict(_native.ENGINE_COUNTERS)["accepted"] == "connections accepted"
    assert dict(_native.SEAT_COUNTERS)["worker_commits"] == "commits"
    assert _native.REASONS[9] == "poisoned"
    assert _native.CONNECTION_STATES == {0: "free", 1: "open", 2: "closing", 3: "linger", 4: "closed"}
    assert _native.CONNECTION_FLAGS == {0: "eof_in", 1: "eof_out", 2: "paused", 3: "blocked"}


def test_connections_are_copied_out(segment: Segment) -> None:
    conn_id = put_connection(segment, 5)
    (found,) = segment.connections()
    assert (found.id, found.shard, found.slot, found.seat, found.port) == (conn_id, 3, 5, 1, 2)
    assert (found.state, found.flags) == ("open", ("eof_in", "blocked"))
    assert (found.bytes_in, found.bytes_queued, found.bytes_out) == (100, 60, 50)
    assert (found.opened_ns, found.active_ns, found.state_length) == (111, 222, 8)
    assert (found.peer, found.local) == (("10.0.0.7", 5555), "")


def test_ipv6_address_is_written_as_socket_does(segment: Segment) -> None:
    put_connection(segment, 0, family=6)
    (found,) = segment.connections()
    assert found.peer == ("::1", 5555, 0, 0)


def test_connections_come_in_slot_order_over_many_calls(segment: Segment) -> None:
    slots = [0, 255, 256, 257, 511, 512, CONN_MAX - 1]
    for slot in slots:
        put_connection(segment, slot)
    assert [found.slot for found in segment.connections()] == slots


def test_full_table_is_listed_whole(segment: Segment) -> None:
    for slot in range(512):  # a multiple of what one call copies
        put_connection(segment, slot)
    assert [found.slot for found in segment.connections()] == list(range(512))


def test_quarantine_record(segment: Segment) -> None:
    with writable(segment.public_fd) as public:
        start = regions(segment)["quarantines"].at + regions(segment)["quarantines"].part_bytes  # port 1
        record = struct.pack("<IIIIQ", 1, 5, 2, 0, 77) + bytes([10, 0, 0, 8]).ljust(16, b"\0")
        record += struct.pack("<HHI", 99, 4, 0) + b"hello world"
        public[start : start + len(record)] = record
    assert segment.quarantine(1) is None, "nobody sat there"
    somebody_sits(segment, 0, 1)
    assert segment.quarantine(0) is None
    found = segment.quarantine(1)
    assert found is not None
    assert (found.conn, found.event_type, found.peer, found.data) == (77, 2, ("10.0.0.8", 99), b"hello")


def test_counters_of_a_stack_are_read_in_their_order(segment: Segment) -> None:
    at, names = regions(segment)["stack"].at, list(segment.stack_counters())
    none = next(number for number, name in enumerate(names) if name.startswith("drop_"))  # a word that counts nothing
    with writable(segment.public_fd) as public:
        struct.pack_into(f"<{len(names) + 1}Q", public, at, *range(len(names) + 1))
    assert list(segment.stack_counters().values()) == [word for word in range(len(names) + 1) if word != none]


@pytest.mark.parametrize("seed", range(8))
def test_garbage_in_port_memory_is_read_without_harm(segment: Segment, seed: int) -> None:
    noise = random.Random(seed).randbytes(1 << 16)
    somebody_sits(segment, 2, 3)
    for port in (2, 3):
        with writable(segment.port_fds[port]) as memory:
            memory[: len(noise)] = noise
    status = segment.port_status(2)
    assert 0 <= status.events_waiting <= segment.config.event_slots
    assert 0 <= status.commands_waiting <= segment.config.command_slots
    assert 0 <= status.releases_waiting <= 4 * segment.config.event_slots
    assert segment.seat_status(1).objects == 2 * status.objects % (1 << 64)
    assert all(0 <= value < 1 << 64 for value in segment.seat_counters(1).values())
    assert len(segment.wait_histogram(1)) == 24
    assert set(segment.seat_counters(0).values()) == {0}


@pytest.mark.parametrize("seed", range(8))
def test_garbage_in_public_memory_is_read_without_harm(segment: Segment, seed: int) -> None:
    """The inline worker can write the public memory too; the header is believed once, when the segment is made."""
    rng = random.Random(seed)
    with writable(segment.public_fd) as public:
        for at in range(0, 1 << 20, 4096):
            public[at : at + 4096] = rng.randbytes(4096)
    for found in segment.connections():
        assert found.slot < CONN_MAX
    assert len(segment.engine_counters()) == len(_native.ENGINE_COUNTERS)
    for port in range(4):
        segment.quarantine(port)
        assert segment.port_status(port).events_waiting <= segment.config.event_slots


@pytest.mark.parametrize("seat", [2, 64, 2**32 - 1])
def test_no_such_seat(segment: Segment, seat: int) -> None:
    for read in (segment.seat_counters, segment.seat_status, segment.wait_histogram):
        with pytest.raises(OSError, match="Invalid argument"):
            read(seat)


@pytest.mark.parametrize("port", [4, 128, 2**32 - 1])
def test_no_such_port(segment: Segment, port: int) -> None:
    for read in (segment.port_counters, segment.port_status, segment.quarantine):
        with pytest.raises(OSError, match="Invalid argument"):
            read(port)


def test_counters_of_a_seat_are_those_of_both_its_ports(segment: Segment) -> None:
    at, names = offsets("un_port_memory")["counters"], [name for name, _ in _native.SEAT_COUNTERS]
    somebody_sits(segment, 0, 1)
    for port in (0, 1):
        with writable(segment.port_fds[port]) as memory:
            struct.pack_into(f"<{len(names)}Q", memory, at, *(port + 10 * number for number in range(len(names))))
    assert segment.port_counters(1)[names[2]] == 21
    assert segment.seat_counters(0)[names[2]] == 41
    assert set(segment.seat_counters(1).values()) == {0}


def resident_bytes(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def test_a_port_where_nobody_sits_takes_no_memory(segment: Segment) -> None:
    segment.seat_counters(0), segment.seat_status(0), segment.wait_histogram(0), segment.quarantine(1)
    assert resident_bytes(segment.port_fds[1]) == 0


def test_sizes_are_sealed(segment: Segment) -> None:
    for fd, size in [(segment.public_fd, segment.public_bytes), (segment.port_fds[0], segment.port_bytes)]:
        assert os.fstat(fd).st_size == size
        for other in (size - 4096, size + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, other)


def test_a_worker_cannot_seal_its_successor_out(segment: Segment) -> None:
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.port_fds[0], fcntl.F_ADD_SEALS, 0x10)  # F_SEAL_FUTURE_WRITE
    with writable(segment.port_fds[0]) as memory:
        memory[0] = 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seats": 0}, "1 to 64 workers"),
        ({"conn_max": 0}, "connections per shard"),
        ({"state_bytes": 65}, "multiple of 64"),
        ({"event_slots": 100}, "power of two"),
        ({"hold_max": 5000}, "at most half"),
    ],
)
def test_impossible_plans_say_why(change: dict[str, int], why: str) -> None:
    base = SegmentConfig.for_kernel(shard=0, seats=1, conn_max=16)
    values = {name: getattr(base, name) for name in SegmentConfig.__slots__}
    with pytest.raises(ValueError, match=why):
        Segment.create(SegmentConfig(**(values | change)))


def test_options_are_read_as_they_were_written() -> None:
    numbers = {"connection_limit": 9, "idle_timeout_ns": 10**18, "queues": 4, "queue": 3, "seed": 2**64 - 1}
    addresses = StackAddresses(
        addresses=[("10.0.0.1", 24), ("fd00::1", 64)], gateways=["10.0.0.254"], listeners=[("::", 80)]
    )
    segment = Segment.create(SegmentConfig.for_kernel(0, 1, 16), EngineOptions(numbers=numbers, addresses=addresses))
    assert segment.options() == dict.fromkeys(_native.OPTIONS, 0) | numbers
    mapped = bytes(10) + b"\xff\xff"
    with writable(segment.public_fd) as public:
        header = public[:4096]
    assert mapped + bytes([10, 0, 0, 1]) + struct.pack("<I", 24) in header
    assert bytes.fromhex("fd") + bytes(14) + b"\1" + struct.pack("<I", 64) in header
    assert mapped + bytes([10, 0, 0, 254]) + struct.pack("<I", 0) in header
    assert struct.pack("<I16sI", 1, bytes(16), 80) in header
    segment.close()


@pytest.mark.parametrize(
    ("numbers", "addresses", "why"),
    [
        ({"connection_limit": 17}, StackAddresses(), "connection_limit is above conn_max"),
        ({"linger_ns": 2**63}, StackAddresses(), "linger_ns is above"),
        ({"speed": 1}, StackAddresses(), "the engine has no option speed"),
        ({"queues": 1}, StackAddresses(), "without an address"),
        ({"queues": 1}, StackAddresses(addresses=[("10.0.0.1", 33)]), "prefix"),
        ({"queues": 1}, StackAddresses(addresses=[("10.0.0.1", 24)] * 16), "more addresses"),
    ],
)
def test_options_that_make_no_sense_say_why(numbers: dict[str, int], addresses: StackAddresses, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Segment.create(SegmentConfig.for_kernel(0, 1, 16), EngineOptions(numbers=numbers, addresses=addresses))


def test_regions_lie_one_behind_the_other(segment: Segment) -> None:
    sizes = {"public": segment.public_bytes, "port": segment.port_bytes}
    ends = dict.fromkeys(sizes, 0)
    for region in regions(segment).values():
        assert region.at >= ends[region.memory]
        assert region.part_bytes >= region.item_count * region.item_bytes
        parts = len(segment.port_fds) if "seats" in region.parts else 1
        ends[region.memory] = region.at + parts * region.part_bytes
    assert all(sizes[memory] - 4096 < ends[memory] <= sizes[memory] for memory in sizes)


def test_numbers_are_those_of_the_layout() -> None:
    assert tuple(SegmentConfig.__slots__) == _native.NUMBERS


def test_offsets_of_fields_are_told() -> None:
    offsets = _native.layout_offsets()
    assert offsets["un_conn"]["id"] == 0
    assert offsets["un_event"] == dict(zip(offsets["un_event"], (0, 1, 2, 4, 8, 16, 20, 24), strict=True))
    assert offsets["un_port_memory"]["handling"] % 64 == 0  # a cache line of its own
    assert "idle_timeout_ns" in offsets["un_engine_options"]
    assert "accepted" in offsets["un_engine_counters"]


@pytest.mark.parametrize("field", ["hash", "formats"])
def test_a_segment_of_another_build_is_refused(segment: Segment, field: str) -> None:
    at = _native.layout_offsets()["un_segment_header"][field]
    with writable(segment.public_fd) as public:
        found = struct.unpack_from("<Q", public, at)[0]
        assert (found == _native.layout_hash()) == (field == "hash")
        struct.pack_into("<Q", public, at, found ^ 1)
    with pytest.raises(OSError, match="Invalid argument"):
        Segment(segment.config, segment.public_fd, segment.port_fds, segment.public_bytes, segment.port_bytes)


def test_largest_plan_is_possible() -> None:
    config = SegmentConfig.for_kernel(shard=1023, seats=64, conn_max=1 << 22, state_bytes=4096)
    sizes = _native.plan_segment({name: getattr(config, name) for name in SegmentConfig.__slots__})
    assert sizes.public_bytes > (1 << 22) * 4096
    assert sizes.port_bytes > (1 << 22) * 4096


def test_close_returns_every_descriptor_and_map() -> None:
    def open_now() -> tuple[int, int]:
        with open("/proc/self/maps", encoding="ascii") as maps:
            return len(os.listdir("/proc/self/fd")), sum("usnet-" in line for line in maps)

    before = open_now()
    segment = Segment.create(SegmentConfig.for_kernel(shard=0, seats=3, conn_max=16))
    assert open_now() != before
    segment.close()
    segment.close()
    assert open_now() == before
    with pytest.raises(ValueError, match="closed"):
        segment.engine_counters()


def test_die_with_parent_notices_a_parent_that_is_gone() -> None:
    script = textwrap.dedent(
        """
        import os, signal
        from usnet_framework._native import die_with_parent
        die_with_parent(signal.SIGKILL, os.getppid())
        try:
            die_with_parent(signal.SIGKILL, 1 << 30)
        except ProcessLookupError:
            print("gone")
        """
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "gone\n"


def test_child_dies_with_its_parent() -> None:
    child = textwrap.dedent(
        """
        import os, signal, sys
        from usnet_framework._native import die_with_parent
        die_with_parent(signal.SIGKILL, os.getppid())
        print(os.getpid(), flush=True)
        sys.stdin.read()
        """
    )
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-P', '-c', sys.argv[1]], stdin=0)"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", parent, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert int(running.stdout.readline()) > 1
        running.kill()
        assert running.stdout.read() == ""  # end of file: the child, who had the pipe too, is gone
