"""netmap's module as a thread of the test: ports, rings and a switch, for programs that are preloaded with a shim
(native/tests/device/netmap_shim.c).

    with StandIn(folder, wire) as netmap:
        subprocess.run([...], env=os.environ | netmap.env)

A port of a VALE switch (`vale0:us`) has memory of its own. A card (`StandIn(…, cards={"eth1": 2})`) has so many ring
pairs in one memory. All of them, and the wire, are ports of one switch, which learns where a station sits; what is for
a card goes to the ring of its flow. The wire is a descriptor that is read and written a frame at a time: a TAP
interface, or a socket.

`broken` has a line for each rule of netmap's that a user broke: a place in a ring that goes back or beyond what is the
user's, a slot of the module's that was changed, a buffer in two slots or written to while it is the module's, one that
was exchanged without a word, a slot to send that is empty or too long, a list of extra buffers that is not whole at the
end.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import errno
import mmap
import os
import selectors
import socket
import struct
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from support.tree import ROOT

from usnet_framework.shards.steering import queue_of

SHIM = ROOT / "native/tests/device/netmap_shim.c"
VERSION, BUFFER_BYTES, WAITING_MAX = 14, 2048, 1024
FIRST_BUFFER = 2
NOTIFY, REGISTER, SYNC_TX, SYNC_RX, MAP = range(5)
ALL_RINGS, HOST_RINGS, ONE_RING = 1, 2, 4
EXCLUSIVE = 0x800
BUFFER_CHANGED, FORWARD, MORE_PARTS = 0x1, 0x4, 0x20
RING_FORWARDS = 0x4
SLOT_FLAGS = 0x2 | MORE_PARTS

_MESSAGE = struct.Struct("=IIiI64s56s")
_REGISTER = struct.Struct("=QQ2I6H3IQ")
_IF = struct.Struct("=16s7I12x")
_RING = struct.Struct("=qIIHHIIII")  # up to the flags
_SLOT = struct.Struct("=IHHQ")
_LINK = struct.Struct("=I")
_HEAD, _TAIL, _FLAGS, _SLOTS = 20, 28, 32, 256
_EXTRA = 32  # of struct netmap_if
_POISON = b"\xde\xad\xbe\xef\xca\xfe\xf0\x0d"


@cache
def shim() -> Path:
    """Compiled."""
    folder = tempfile.TemporaryDirectory(prefix="usnet-netmap-")
    atexit.register(folder.cleanup)
    made = Path(folder.name) / "netmap_shim.so"
    source = ["-I", ROOT / "native/src", SHIM]
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", *source, "-o", made], check=True)
    return made


def preloaded() -> str:
    """For LD_PRELOAD: the shim, behind what is preloaded already (a sanitizer has to come first)."""
    return f"{os.environ.get('LD_PRELOAD', '')} {shim()}".strip()


class Ring:
    """As the module has it: `head` as the user handed it over last, `tail` as it was told then."""

    def __init__(self, memory: Memory, at: int, is_tx: bool, first_buffer: int) -> None:
        self.memory, self.at, self.is_tx = memory, at, is_tx
        self.count = memory.slots
        self.head, self.tail = 0, self.count - 1 if is_tx else 0
        self.filled = 0  # behind the last packet that came; the user sees it with the next call
        self.exchanged = 0  # times that a slot came back with another buffer
        fields = (memory.buffers_at - at, self.count, BUFFER_BYTES, 0, int(is_tx), 0, 0, self.tail, 0)
        _RING.pack_into(memory.bytes, at, *fields)
        for slot in range(self.count):
            _SLOT.pack_into(memory.bytes, self._slot_at(slot), first_buffer + slot, 0, 0, 0)
        self.seen = self._slots()
        if not is_tx:
            for slot in range(self.count):
                self._poison(slot)

    def free(self) -> int:
        """Slots that a packet may come into."""
        return (self.head - self.filled - 1) % self.count

    def receive(self, frame: bytes) -> None:
        slot = self.filled
        for at in range(0, len(frame), BUFFER_BYTES):
            part = frame[at : at + BUFFER_BYTES]
            buffer = self._slot(slot)[0]
            if self.memory.buffer(buffer, len(_POISON)) != _POISON:
                self.memory.broken.append(f"buffer {buffer} was written to while it was the module's")
            more = MORE_PARTS if at + BUFFER_BYTES < len(frame) else 0
            self.memory.write(buffer, part)
            _SLOT.pack_into(self.memory.bytes, self._slot_at(slot), buffer, len(part), more, 0)
            slot = (slot + 1) % self.count
        self.filled = slot

    def synchronise_rx(self) -> list[bytes]:
        """The user has handed slots back, and sees what came meanwhile; packets that are the kernel's."""
        (forwards,) = struct.unpack_from("=I", self.memory.bytes, self.at + _FLAGS)
        packets, shown = [], self.seen
        for slot in self._taken():
            buffer, length, flags, _ = self._slot(slot)
            was = _SLOT.unpack_from(shown, slot * _SLOT.size)[0]
            self.exchanged += buffer != was
            if buffer != was and not flags & BUFFER_CHANGED:
                self.memory.broken.append(f"slot {slot} has another buffer, and does not say so")
            if flags & FORWARD and forwards & RING_FORWARDS:
                packets.append(self.memory.buffer(buffer, length))
            self._poison(slot)
        self._show(self.filled)
        return packets

    def synchronise_tx(self, keeps: bool) -> list[bytes]:
        """Packets that the user sent; `keeps`: their slots do not come back."""
        packets, parts = [], []
        for slot in self._taken():
            buffer, length, flags, _ = self._slot(slot)
            if not 0 < length <= BUFFER_BYTES or flags & ~SLOT_FLAGS:
                self.memory.broken.append(f"slot {slot} to send has {length} bytes and flags {flags:#x}")
            parts.append(self.memory.buffer(buffer, min(length, BUFFER_BYTES)))
            if not flags & MORE_PARTS:
                packets.append(b"".join(parts))
                parts = []
        if parts:
            self.memory.broken.append("the last packet to send is not whole")
        self._show(self.tail if keeps else (self.head - 1) % self.count)
        return packets

    def _taken(self) -> list[int]:
        """The slots that the user hands over, by the rules."""
        (head, cur, tail) = struct.unpack_from("=III", self.memory.bytes, self.at + _HEAD)
        theirs = (self.tail - self.head) % self.count
        if tail != self.tail:
            self.memory.broken.append(f"tail was set to {tail}")
        beyond = (cur - head) % self.count > (self.tail - head) % self.count
        if max(head, cur) >= self.count or (head - self.head) % self.count > theirs or beyond:
            self.memory.broken.append(f"head {head}, cur {cur}: the user's are {self.head} to {self.tail}")
            return []
        if self._unseen(self.memory.bytes, self.at + _SLOTS) != self._unseen(self.seen, 0):
            slots = f"from {self.tail} to {self.head}"
            self.memory.broken.append(f"slots {slots} were changed while they were the module's")
        taken = [(self.head + i) % self.count for i in range((head - self.head) % self.count)]
        self.head = head
        return taken

    def _unseen(self, slots: bytes | mmap.mmap, at: int) -> bytes:
        """Those that were the module's all the time since the last call, but for those that packets have come into."""
        first, last = self.tail if self.is_tx else self.filled, self.head
        size = _SLOT.size
        if first <= last:
            return slots[at + first * size : at + last * size]
        return slots[at + first * size : at + self.count * size] + slots[at : at + last * size]

    def _show(self, tail: int) -> None:
        self.tail = tail
        struct.pack_into("=I", self.memory.bytes, self.at + _TAIL, tail)
        self.seen = self._slots()

    def _slots(self) -> bytes:
        return self.memory.bytes[self.at + _SLOTS : self.at + _SLOTS + self.count * _SLOT.size]

    def _slot_at(self, slot: int) -> int:
        return self.at + _SLOTS + slot * _SLOT.size

    def _slot(self, slot: int) -> tuple[int, int, int, int]:
        found: tuple[int, int, int, int] = _SLOT.unpack_from(self.memory.bytes, self._slot_at(slot))
        return found

    def _poison(self, slot: int) -> None:
        self.memory.write(self._slot(slot)[0], _POISON)


class Memory:
    """Of a port, with its rings; the last of each direction are the kernel's."""

    def __init__(self, name: str, pairs: int, slots: int, broken: list[str], extra: int) -> None:
        self.slots, self.broken, self.extra = slots, broken, extra
        ring_bytes = _SLOTS + slots * _SLOT.size
        pairs += 1  # the kernel's
        rings_at = _IF.size + 8 * 2 * pairs
        self.buffers_at = -(-(rings_at + 2 * pairs * ring_bytes) // BUFFER_BYTES) * BUFFER_BYTES
        first_extra = FIRST_BUFFER + 2 * pairs * slots
        self.buffer_count = first_extra + extra
        self.size = self.buffers_at + self.buffer_count * BUFFER_BYTES
        self.fd = os.memfd_create(f"netmap-{name[:32]}", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size)
        self.bytes = mmap.mmap(self.fd, self.size)
        _IF.pack_into(self.bytes, 0, name.encode()[:15], VERSION, 0, pairs - 1, pairs - 1, 0, 1, 1)
        for number in range(first_extra, self.buffer_count):
            self.write(number, _LINK.pack(number + 1 if number + 1 < self.buffer_count else 0))
        _LINK.pack_into(self.bytes, _EXTRA, first_extra if extra else 0)
        places = [rings_at + i * ring_bytes for i in range(2 * pairs)]
        struct.pack_into(f"={len(places)}q", self.bytes, _IF.size, *places)
        rings = [Ring(self, at, i < pairs, FIRST_BUFFER + i * slots) for i, at in enumerate(places)]
        self.tx, self.rx = rings[:pairs], rings[pairs:]

    def buffer(self, number: int, length: int) -> bytes:
        if not FIRST_BUFFER <= number < self.buffer_count:
            self.broken.append(f"there is no buffer {number}")
            return b""
        at = self.buffers_at + number * BUFFER_BYTES
        return self.bytes[at : at + length]

    def write(self, number: int, data: bytes) -> None:
        at = self.buffers_at + number * BUFFER_BYTES
        self.bytes[at : at + len(data)] = data

    def check_buffers(self) -> list[int]:
        """Of all rings."""
        numbers = [ring._slot(slot)[0] for ring in (*self.tx, *self.rx) for slot in range(self.slots)]
        if len(set(numbers)) < len(numbers):
            self.broken.append("a buffer stands in two slots")
        return numbers

    def check_extra(self) -> None:
        """The user has closed the port. Whoever was killed has no list any more; else it is whole."""
        found = []
        (number,) = _LINK.unpack_from(self.bytes, _EXTRA)
        while number and len(found) <= self.extra:
            found.append(number)
            (number,) = _LINK.unpack(self.buffer(number, _LINK.size))
        if found and len({*found, *self.check_buffers()}) != self.extra + 2 * len(self.tx) * self.slots:
            self.broken.append(f"{len(found)} buffers beside the rings are left, of {self.extra}")


class Descriptor:
    """An open /dev/netmap; what it registered, and whether its user is to be told of packets."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.name = ""
        self.memory: Memory | None = None
        self.pair = 0
        self.is_armed = False

    @property
    def tx(self) -> Ring:
        assert self.memory is not None
        return self.memory.tx[self.pair]

    @property
    def rx(self) -> Ring:
        assert self.memory is not None
        return self.memory.rx[self.pair]


class StandIn:
    """`wire`: a descriptor, non-blocking; `kernel`: another one, to and from the kernel's stack behind a card. Both are
    the stand-in's from then on."""

    def __init__(self, folder: Path, wire: int, cards: Mapping[str, int] | None = None, slots: int = 256,
                 kernel: int | None = None) -> None:  # fmt: skip
        self.path = folder / "netmap.sock"
        self.env = {"LD_PRELOAD": preloaded(), "TEST_NETMAP": str(self.path)}
        self.broken: list[str] = []
        self.dropped = 0
        """Packets that found no room in a ring, on the wire, or on the way to the kernel."""
        self.carried = 0
        self.keeps = False
        """What is sent: no slot comes back until the next call after it is not set any more."""
        self.passed = 0
        """Packets that were the kernel's."""
        self.registered = 0
        """Ring pairs, since the beginning."""
        self.exchanged = 0
        """Slots that came back with another buffer, of ports that are closed."""
        self._calls = 0
        self._reserved: set[str] = set()
        self._is_paused = False
        self._wire, self._cards, self._slots, self._kernel = wire, dict(cards or {}), slots, kernel
        self._memories: dict[str, Memory] = {}
        self._descriptors: list[Descriptor] = []
        self._stations: dict[bytes, str] = {}
        self._flows: dict[bytes, int] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asked: deque[Callable[[], None]] = deque()
        self._is_over = False
        self._is_empty = threading.Event()
        self._is_empty.set()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._watch(self._listener.fileno(), self._accept)
        self._watch(self._wire, self._from_wire)
        self._watch(self._wake, self._take_orders)
        if self._kernel is not None:
            self._watch(self._kernel, self._from_kernel)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.order(self._end)
        self._thread.join(30)
        for descriptor in self._descriptors:
            descriptor.connection.close()
        self._listener.close()
        self._selector.close()
        os.close(self._wire)
        os.close(self._wake)
        if self._kernel is not None:
            os.close(self._kernel)
        self.path.unlink()
        assert self._error is None, f"the stand-in has ended: {self._error!r}"
        if kind is None:
            assert self.broken == []

    def ports(self) -> list[str]:
        """Names of those that somebody has open."""
        return sorted({descriptor.name for descriptor in self._descriptors if descriptor.memory is not None})

    def pairs(self) -> list[tuple[str, int]]:
        """Ports and numbers of those that somebody has open."""
        return [(one.name, one.pair) for one in self._descriptors if one.memory is not None]

    def reserve(self, name: str) -> None:
        """As if another program had the port."""
        self._reserved.add(name)

    def is_left(self, seconds: float = 10.0) -> bool:
        """Whether all ports are closed, within that time."""
        return self._is_empty.wait(seconds)

    def order(self, what: Callable[[], None]) -> None:
        """To be done by the thread."""
        self._asked.append(what)
        os.eventfd_write(self._wake, 1)

    def remove(self, name: str) -> None:
        """The port, as where an interface is removed: each call for it fails from then on."""
        self.order(lambda: self._close_all(name))

    def _close_all(self, name: str) -> None:
        for descriptor in [one for one in self._descriptors if one.name == name]:
            self._close(descriptor)

    # The thread.

    def _run(self) -> None:
        try:
            while not self._is_over:
                for key, _ in self._selector.select():
                    if self._selector.get_map().get(key.fd) is key:  # not closed by one before it
                        key.data()
        except BaseException as error:
            self._error = error

    def _end(self) -> None:
        self._is_over = True

    def _watch(self, fd: int, then: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, then)

    def _take_orders(self) -> None:
        os.eventfd_read(self._wake)
        while self._asked:
            self._asked.popleft()()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        descriptor = Descriptor(connection)
        self._descriptors.append(descriptor)
        self._is_empty.clear()
        self._watch(connection.fileno(), lambda: self._answer(descriptor))

    def _close(self, descriptor: Descriptor) -> None:
        """With the last one, what it was registered for is gone."""
        self._selector.unregister(descriptor.connection)
        descriptor.connection.close()
        self._descriptors.remove(descriptor)
        if all(other.name != descriptor.name for other in self._descriptors):
            if (memory := self._memories.pop(descriptor.name, None)) is not None:
                memory.check_extra()
                self.exchanged += sum(ring.exchanged for ring in memory.rx)
            self._stations = {mac: port for mac, port in self._stations.items() if port != descriptor.name}
            self._resume()
        if not self._descriptors:
            self._is_empty.set()

    def _answer(self, descriptor: Descriptor) -> None:
        try:
            asked = descriptor.connection.recv(_MESSAGE.size)
        except ConnectionError:
            asked = b""
        if not asked:
            self._close(descriptor)
            return
        what, number, _, version, name, port = _MESSAGE.unpack(asked)
        ancillary: list[tuple[int, int, array.array[int]]] = []
        status = 0
        try:
            if what == REGISTER:
                port = self._register(descriptor, version, name.rstrip(b"\0").decode(), port)
            elif descriptor.memory is None:
                status = -errno.ENXIO
            elif what == MAP:
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor.memory.fd]))]
            else:
                self._synchronise(descriptor, what)
        except OSError as error:
            status = -(error.errno or errno.EINVAL)
        answer = _MESSAGE.pack(what, number, status, version, name, port)
        with contextlib.suppress(ConnectionError):
            descriptor.connection.sendmsg([answer], ancillary)

    def _register(self, descriptor: Descriptor, version: int, name: str, asked: bytes) -> bytes:
        fields = list(_REGISTER.unpack(asked))
        ring, mode, extra, flags = fields[9:12] + fields[13:]
        if version != VERSION or mode not in (ALL_RINGS, HOST_RINGS, ONE_RING) or (mode == ALL_RINGS) != (":" in name):
            raise OSError(errno.EINVAL, "not as it should be")
        if name not in self._cards and not (name.startswith("vale") and ":" in name):
            raise OSError(errno.ENXIO, "no such port")
        pairs = self._cards.get(name, 1)
        if ring >= (1 if mode == HOST_RINGS else pairs):
            raise OSError(errno.EINVAL, "no such ring")
        ring = pairs if mode == HOST_RINGS else ring
        taken = name in self._reserved or (name, ring) in self.pairs()
        if descriptor.memory is not None or taken:
            raise OSError(errno.EBUSY, "another has it")
        assert flags & EXCLUSIVE
        if name not in self._memories:
            self._memories[name] = Memory(name, pairs, self._slots, self.broken, extra)
        fields[11] = self._memories[name].extra if extra else 0
        descriptor.name, descriptor.pair, descriptor.memory = name, ring, self._memories[name]
        descriptor.is_armed = True
        self.registered += 1
        fields[:8] = [0, descriptor.memory.size, self._slots, self._slots, pairs, pairs, 1, 1]
        return _REGISTER.pack(*fields)

    def _synchronise(self, descriptor: Descriptor, what: int) -> None:
        assert descriptor.memory is not None
        self._calls += 1
        if self._calls % 64 == 0:
            descriptor.memory.check_buffers()
        if what == SYNC_RX:
            for packet in descriptor.rx.synchronise_rx():
                self._to_kernel(packet)
            descriptor.is_armed = True
            self._resume()
            return
        for packet in descriptor.tx.synchronise_tx(self.keeps):
            self._forward(packet, descriptor.name)

    # The switch.

    def _from_wire(self) -> None:
        for _ in range(64):
            if self._is_full():
                self._selector.unregister(self._wire)
                self._is_paused = True
                return
            try:
                frame = os.read(self._wire, 1 << 17)
            except BlockingIOError:
                return
            if not frame:  # its other end is closed
                self._selector.unregister(self._wire)
                return
            self._forward(frame, "")

    def _is_full(self) -> bool:
        """What more came from the wire would find no room: it waits there."""
        return any(ring.free() < 64 for memory in self._memories.values() for ring in memory.rx)

    def _resume(self) -> None:
        if self._is_paused and not self._is_full():
            self._is_paused = False
            self._watch(self._wire, self._from_wire)

    def _forward(self, frame: bytes, source: str) -> None:
        """The wire's name is empty. What comes in without a sender's address of one station is still forwarded."""
        self.carried += 1
        target, sender = frame[:6], frame[6:12]
        if not sender[0] & 1:
            self._stations[sender] = source
        if (known := self._stations.get(target)) is not None and not target[0] & 1:
            names = {known} - {source}
        else:
            names = {"", *self._memories} - {source}
        for name in names:
            if name == "":
                self._write(self._wire, frame)
            else:
                self._to_port(name, frame)

    def _write(self, fd: int, frame: bytes) -> None:
        try:
            os.write(fd, frame)
        except OSError:
            self.dropped += 1

    def _to_port(self, name: str, frame: bytes) -> None:
        memory = self._memories[name]
        self._into_ring(name, memory, self._queue(frame, len(memory.rx) - 1), frame)

    def _into_ring(self, name: str, memory: Memory, pair: int, frame: bytes) -> None:
        ring = memory.rx[pair]
        if ring.free() < -(-len(frame) // BUFFER_BYTES):
            self.dropped += 1
            return
        ring.receive(frame)
        for descriptor in self._descriptors:
            if descriptor.name == name and descriptor.pair == pair and descriptor.is_armed:
                descriptor.is_armed = False
                with contextlib.suppress(OSError):
                    descriptor.connection.send(_MESSAGE.pack(NOTIFY, 0, 0, 0, b"", b""), socket.MSG_DONTWAIT)

    def _from_kernel(self) -> None:
        assert self._kernel is not None
        frame = os.read(self._kernel, 1 << 17)
        for name in self._cards:
            if (name, self._cards[name]) in self.pairs():
                self._into_ring(name, self._memories[name], self._cards[name], frame)

    def _to_kernel(self, frame: bytes) -> None:
        self.passed += 1
        if self._kernel is not None:
            self._write(self._kernel, frame)

    def _queue(self, frame: bytes, queues: int) -> int:
        """By the hash of its flow; what has none comes to the first one."""
        if queues == 1 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
            return 0
        flow = frame[26:38]
        if flow not in self._flows:
            hosts = socket.inet_ntop(socket.AF_INET, flow[:4]), socket.inet_ntop(socket.AF_INET, flow[4:8])
            ports = struct.unpack(">HH", flow[8:])
            self._flows[flow] = queue_of((hosts[0], ports[0]), (hosts[1], ports[1]), queues)
        return self._flows[flow]


def tap_wire(name: str, addresses: Sequence[str]) -> int:
    """A TAP interface in the current network namespace: the wire, with the kernel at its other end."""
    import fcntl

    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("=16sH22x", name.encode(), 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
    for command in (f"link set {name} up", *(f"address add {one} dev {name}" for one in addresses)):
        extra = ["nodad"] if "address" in command and ":" in command else []
        subprocess.run(["ip", *command.split(), *extra], check=True)
    return fd


@contextlib.contextmanager
def wired() -> Iterator[tuple[int, socket.socket]]:
    """A wire, and its other end."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (near, far):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    with far:
        yield near.detach(), far
