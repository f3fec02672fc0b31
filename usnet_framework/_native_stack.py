"""The TCP/IP stack (native/include/usnet.h, usnet_kernel.h) as typed Python: frames in, frames out, events out.

A `Stack` has no clock and does no I/O: its caller hands it frames and the time, and takes frames and events from it. It
is what `usnet_framework.testing` is made of; nothing of the data path of a server goes through here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from mmap import mmap
from typing import Any, ClassVar, Self

from usnet_framework._native import c_text, checked
from usnet_framework._usnet import ffi, lib

Endpoint = tuple[str, int]
"""(address, port); the address "" is any address, of IPv4 and of IPv6."""

NEVER_NS = 2**64 - 1

NO_SSTHRESH = 2**32 - 1
"""Of a connection that has lost nothing yet."""


def _constants(prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix).lower(): getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}


EVENTS = _constants("USNET_EVENT_")
"""Name of an event to its bit."""

OPTIONS = _constants("USNET_OPTION_")
"""Name of a connection's option to its number."""

AGREED = {"window_scaling": lib.USNET_TCP_WINDOW_SCALING, "timestamps": lib.USNET_TCP_TIMESTAMPS,
          "sack": lib.USNET_TCP_SACK, "ecn": lib.USNET_TCP_ECN}  # fmt: skip

COUNTER_KINDS = {"tcp": lib.USNET_STACK_TCP, "ip": lib.USNET_STACK_IP, "drops": lib.USNET_STACK_DROPS,
                 "device": lib.USNET_STACK_DEVICE}  # fmt: skip

COUNTERS = {
    kind: tuple(
        (c_text(lib.usnet_stack_counter_name(number, index)), c_text(lib.usnet_stack_counter_help(number, index)))
        for index in range(lib.usnet_stack_counter_count(number))
    )
    for kind, number in COUNTER_KINDS.items()
}
"""(name, help) of each counter, by kind: tcp, ip, drops, device."""

CONGESTIONS = tuple(c_text(name) for name in map(lib.usnet_congestion_name, range(8)) if name)
"""Congestion controls, in the order of their indices."""


@dataclass(frozen=True, slots=True)
class Link:
    """The link that a stack's frames come from and go to, and what it does for the stack."""

    mac: bytes = bytes.fromhex("020000000001")
    mtu: int = 1500
    tx_segment_bytes: int = 0
    """It cuts TCP super-segments of up to so many bytes of payload; 0: it does not."""
    tx_checksum: bool = False
    """It completes transport checksums."""
    rx_checksum: bool = False
    rx_coalesce: bool = False
    slots: int = 1024
    """Frames on their way in each direction."""


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """A frame that a stack sends, and what the link is to do with it."""

    data: bytes
    needs_checksum: bool
    """The transport checksum holds the sum of the pseudo-header and is to be completed."""
    segment_bytes: int
    """Not 0: to be cut into segments of so many bytes of payload."""
    header_length: int
    checksum_start: int
    checksum_offset: int


@dataclass(frozen=True, slots=True)
class StackEvent:
    """News of a connection, or of a UDP endpoint."""

    conn: int
    user: int
    events: frozenset[str]
    """Of accepted, connected, readable, eof, writable, closed."""
    listener: int
    is_udp: bool
    reason: str
    """With closed: why."""


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What is known of a connection: `struct usnet_tcp_info`, in the words of RFC 9293, 6298 and 5681."""

    local: Endpoint
    remote: Endpoint
    state: str
    agreed: frozenset[str]
    reason: str
    congestion: str
    user: int
    snd_wscale: int
    rcv_wscale: int
    backoff: int
    probes: int
    in_recovery: bool
    in_loss: bool
    iss: int
    irs: int
    snd_una: int
    snd_nxt: int
    snd_wnd: int
    rcv_nxt: int
    rcv_wnd: int
    snd_mss: int
    path_mtu: int
    unread: int
    out_of_order: int
    queued: int
    cwnd: int
    ssthresh: int
    """NO_SSTHRESH: nothing has been lost yet, and slow start has no end."""
    in_flight: int
    """What was sent and is neither acknowledged nor `sacked` nor `lost`."""
    sacked: int
    lost: int
    """Given up, and not sent again yet: then it is in flight once more."""
    rto_us: int
    srtt_us: int
    rttvar_us: int
    min_rtt_us: int
    retransmitted: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a stack is."""

    conns: int
    """Those in TIME-WAIT included."""
    frames_free: int
    sents_free: int
    """Records of packets in flight."""


class Stack:
    """A TCP/IP stack: `input` frames, `poll` with the time, take `output` and `events`.

    `options` are the fields of `struct usnet_stack_options` by name; what is not named has its default. ValueError: a
    stack of these sizes cannot be. Calls raise OSError with the errno that usnet.h names: BlockingIOError where there
    is nothing to read or no room to write. One thread at a time may use it.
    """

    fast_paths: ClassVar[bool] = True
    """Whether stacks that are made from now on use their fast paths. Without them the same packets leave: for tests."""

    def __init__(self, *, conn_max: int = 64, link: Link | None = None, **options: int | bool | bytes) -> None:
        self.link = link or Link()
        wanted = _options(conn_max, options)
        why = ffi.new("const char **")
        size = lib.usnet_stack_bytes(wanted, why)
        if size < 0:
            raise ValueError(c_text(why[0]))
        self.options: dict[str, int | bool] = {name: getattr(wanted, name) for name in OPTION_FIELDS}
        self._open(mmap(-1, size))
        self._opened(lib.usnet_stack_create(self._handle, wanted, _link(self.link), self._bytes, size))

    @classmethod
    def adopt(cls, image: bytes, link: Link | None = None) -> Self:
        """Go on from an `image` of another stack's memory, in memory of its own."""
        stack = cls.__new__(cls)
        stack.link = link or Link()
        stack.options = {}
        memory = mmap(-1, len(image))
        memory[:] = image
        stack._open(memory)
        stack._opened(lib.usnet_stack_adopt(stack._handle, _link(stack.link), stack._bytes, len(image)))
        return stack

    @staticmethod
    def join(stacks: Sequence[Stack]) -> None:
        """Make stacks the shards of one server: what comes to one goes to the owner of its connection (`owner`)."""
        checked(lib.usnet_stack_join([stack._stack for stack in stacks], len(stacks)))

    def _open(self, memory: mmap) -> None:
        self._memory = memory
        self._bytes = ffi.from_buffer("uint8_t[]", memory, require_writable=True)
        self._handle = ffi.new("struct usnet_stack **")
        self._frame = ffi.new("uint8_t[]", 2**16 + 64)
        self._output = ffi.new("struct usnet_output *")
        self._table: Any = None

    def _opened(self, status: int) -> None:
        checked(status)
        checked(lib.usnet_stack_set_fast_paths(self._stack, self.fast_paths))

    @property
    def _stack(self) -> Any:
        if not self._handle[0]:
            raise ValueError("the stack is closed")
        return self._handle[0]

    def image(self) -> bytes:
        """A copy of all that the stack knows, for `adopt`."""
        return self._memory[:]

    def close(self) -> None:
        """Let go of everything at once; connections are not told."""
        if self._handle[0]:
            lib.usnet_stack_destroy(self._handle[0])
            self._handle[0] = ffi.NULL
            if self._table is not None:
                ffi.release(self._table)
            ffi.release(self._bytes)
            self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def add_address(self, address: str) -> None:
        """An address of our own with the prefix of its network: "10.0.0.1/24"."""
        interface = ipaddress.ip_interface(address)
        own = _endpoint((str(interface.ip), 0))
        checked(lib.usnet_stack_add_address(self._stack, own, interface.network.prefixlen))

    def add_route(self, network: str, gateway: str) -> None:
        """A way to a network: "0.0.0.0/0"."""
        to = ipaddress.ip_network(network)
        through = _endpoint((gateway, 0))
        checked(lib.usnet_stack_add_route(self._stack, _endpoint((str(to.network_address), 0)), to.prefixlen, through))

    def share(self, table: mmap) -> None:
        """The addresses are a kernel's, too, with option `shared`: what it knows stands in this table
        (`_native_kernel`), which stays open as long as the stack."""
        self._table = ffi.from_buffer("uint8_t[]", table)
        checked(lib.usnet_stack_share(self._stack, self._table))

    def follow(self) -> None:
        """There may be a newer table."""
        checked(lib.usnet_stack_follow(self._stack))

    def questions(self) -> Iterator[str]:
        """IP addresses whose Ethernet addresses are wanted in the table, since the last time."""
        wanted = ffi.new("struct usnet_endpoint *")
        while checked(lib.usnet_stack_question(self._stack, wanted)):
            yield _address(wanted)[0]

    # Packets and time.

    def input(self, frame: bytes, *, checksum_good: bool = False, checksum_partial: bool = False,
              segment_bytes: int = 0) -> None:  # fmt: skip
        """A frame came, from its Ethernet header on. OSError with ENOBUFS: no room; with EMSGSIZE: longer than any."""
        flags = lib.USNET_INPUT_CHECKSUM_GOOD * checksum_good | lib.USNET_INPUT_CHECKSUM_PARTIAL * checksum_partial
        checked(lib.usnet_stack_input(self._stack, frame, len(frame), flags, segment_bytes))

    def poll(self, now_ns: int) -> int:
        """Do all that is to be done at this time; returns how much that was."""
        return int(lib.usnet_stack_poll(self._stack, now_ns))

    def deadline_ns(self) -> int | None:
        """When to poll again if nothing comes before; None: never."""
        deadline = int(lib.usnet_stack_deadline_ns(self._stack))
        return None if deadline == NEVER_NS else deadline

    def output(self) -> OutputFrame | None:
        """The oldest frame that is to be sent."""
        info = self._output
        length = checked(lib.usnet_stack_output(self._stack, self._frame, len(self._frame), info))
        if length == 0:
            return None
        return OutputFrame(
            data=bytes(ffi.buffer(self._frame, length)),
            needs_checksum=bool(info.flags & lib.USNET_OUTPUT_CHECKSUM),
            segment_bytes=info.segment_bytes if info.flags & lib.USNET_OUTPUT_SEGMENT else 0,
            header_length=info.header_length,
            checksum_start=info.checksum_start,
            checksum_offset=info.checksum_offset,
        )

    def events(self) -> Iterator[StackEvent]:
        """News since the last time."""
        event = ffi.new("struct usnet_event *")
        while lib.usnet_stack_event(self._stack, event):
            yield StackEvent(
                conn=event.conn,
                user=event.user,
                events=frozenset(name for name, bit in EVENTS.items() if event.events & bit),
                listener=event.listener,
                is_udp=bool(event.is_udp),
                reason=_name(lib.usnet_tcp_reason_name, event.reason),
            )

    # TCP.

    def listen(self, local: Endpoint, backlog: int = 128, user: int = 0) -> int:
        """Wait for connections; returns the listener's number."""
        return checked(lib.usnet_stack_listen(self._stack, _endpoint(local), backlog, user))

    def unlisten(self, listener: int) -> None:
        checked(lib.usnet_stack_unlisten(self._stack, listener))

    def pause_listener(self, listener: int, paused: bool) -> None:
        checked(lib.usnet_stack_pause_listener(self._stack, listener, paused))

    def accept(self, conn: int, user: int = 0) -> None:
        """Take a connection that an event announced as accepted."""
        checked(lib.usnet_stack_accept(self._stack, conn, user))

    def connect(self, remote: Endpoint, local: Endpoint | None = None, user: int = 0) -> int:
        """Open a connection; returns its handle. An event says how it ended."""
        conn = ffi.new("uint64_t *")
        source = ffi.NULL if local is None else _endpoint(local)
        checked(lib.usnet_stack_connect(self._stack, _endpoint(remote), source, user, conn))
        return int(conn[0])

    def write(self, conn: int, data: bytes) -> int:
        """Returns how much was taken."""
        return checked(lib.usnet_stack_write(self._stack, conn, data, len(data)))

    def read(self, conn: int, most: int = 2**16) -> bytes:
        """b"": the peer has ended its output."""
        most = min(most, len(self._frame))
        return bytes(ffi.buffer(self._frame, checked(lib.usnet_stack_read(self._stack, conn, self._frame, most))))

    def peek(self, conn: int, most: int = 64) -> list[bytes]:
        """What can be read, in up to `most` pieces, as it lies in the stack's memory (copied here)."""
        pieces = ffi.new("struct usnet_piece[]", most)
        count = checked(lib.usnet_stack_peek(self._stack, conn, pieces, most))
        return [bytes(ffi.buffer(pieces[index].bytes, pieces[index].length)) for index in range(count)]

    def consume(self, conn: int, size: int) -> None:
        checked(lib.usnet_stack_consume(self._stack, conn, size))

    def shutdown(self, conn: int) -> None:
        checked(lib.usnet_stack_shutdown(self._stack, conn))

    def close_connection(self, conn: int) -> None:
        checked(lib.usnet_stack_close(self._stack, conn))

    def abort(self, conn: int) -> None:
        checked(lib.usnet_stack_abort(self._stack, conn))

    def set_user(self, conn: int, user: int) -> None:
        checked(lib.usnet_stack_set_user(self._stack, conn, user))

    def set_option(self, conn: int, option: str, value: int) -> None:
        """`option`: a key of OPTIONS."""
        checked(lib.usnet_stack_set_option(self._stack, conn, OPTIONS[option], value))

    def get_option(self, conn: int, option: str) -> int:
        value = ffi.new("uint32_t *")
        checked(lib.usnet_stack_get_option(self._stack, conn, OPTIONS[option], value))
        return int(value[0])

    def info(self, conn: int) -> TcpInfo:
        found = ffi.new("struct usnet_tcp_info *")
        checked(lib.usnet_stack_info(self._stack, conn, found))
        return _tcp_info(found)

    def connections(self) -> Iterator[tuple[int | None, TcpInfo]]:
        """All connections with their handles; None: it was closed, and ends in the background."""
        position = ffi.new("uint32_t *")
        conn = ffi.new("uint64_t *")
        found = ffi.new("struct usnet_tcp_info *")
        while checked(lib.usnet_stack_next_connection(self._stack, position, conn, found)):
            yield conn[0] or None, _tcp_info(found)

    # UDP.

    def udp_open(self, local: Endpoint, user: int = 0) -> int:
        """Returns the endpoint's number."""
        return checked(lib.usnet_stack_udp_open(self._stack, _endpoint(local), user))

    def udp_close(self, endpoint: int) -> None:
        checked(lib.usnet_stack_udp_close(self._stack, endpoint))

    def udp_send(self, endpoint: int, to: Endpoint, data: bytes) -> None:
        checked(lib.usnet_stack_udp_send(self._stack, endpoint, _endpoint(to), data, len(data)))

    def udp_receive(self, endpoint: int, most: int = 2**16) -> tuple[bytes, Endpoint]:
        """A datagram, of which what is beyond `most` bytes is lost, and who sent it."""
        data = ffi.new("uint8_t[]", most)
        sender = ffi.new("struct usnet_endpoint *")
        length = checked(lib.usnet_stack_udp_receive(self._stack, endpoint, sender, data, most))
        return bytes(ffi.buffer(data, length)), _address(sender)

    # To look at.

    def counters(self, kind: str) -> dict[str, int]:
        """`kind`: tcp, ip, drops or device."""
        values = ffi.new("uint64_t[]", len(COUNTERS[kind]))
        checked(lib.usnet_stack_counters(self._stack, COUNTER_KINDS[kind], values, len(values)))
        return {name: values[index] for index, (name, _) in enumerate(COUNTERS[kind])}

    def usage(self) -> Usage:
        found = ffi.new("struct usnet_stack_usage *")
        lib.usnet_stack_usage(self._stack, found)
        return Usage(**{field.name: getattr(found, field.name) for field in fields(Usage)})

    def check(self) -> str | None:
        """None, or what is wrong with the stack's memory."""
        wrong = lib.usnet_stack_check(self._stack)
        return c_text(wrong) if wrong else None


def owner(remote: Endpoint, local: Endpoint, shards: int) -> int:
    """The number of the shard that a connection belongs to."""
    return int(lib.usnet_stack_owner(_endpoint(remote), _endpoint(local), shards))


def _tcp_info(found: Any) -> TcpInfo:
    plain = {field.name: getattr(found, field.name) for field in fields(TcpInfo)}
    return TcpInfo(**plain | {
        "local": _address(found.local),
        "remote": _address(found.remote),
        "state": _name(lib.usnet_tcp_state_name, found.state),
        "agreed": frozenset(name for name, bit in AGREED.items() if found.agreed & bit),
        "reason": _name(lib.usnet_tcp_reason_name, found.reason),
        "congestion": CONGESTIONS[found.congestion],
    })  # fmt: skip


def _option_fields() -> tuple[str, ...]:
    return tuple(name for name, _ in ffi.typeof("struct usnet_stack_options").fields if name != "secret")


OPTION_FIELDS = _option_fields()
"""Names of the options of a stack that are numbers: all but `secret`."""


def _options(conn_max: int, chosen: dict[str, int | bool | bytes]) -> Any:
    options = ffi.new("struct usnet_stack_options *")
    lib.usnet_stack_defaults(options, conn_max)
    for name, value in chosen.items():
        if name not in OPTION_FIELDS and name != "secret":
            raise TypeError(f"a stack has no option {name!r}")
        setattr(options, name, value)
    return options


def _link(link: Link) -> Any:
    return ffi.new("struct usnet_link *", {field.name: getattr(link, field.name) for field in fields(Link)})


def _endpoint(endpoint: Endpoint) -> Any:
    host, port = endpoint
    if not host:
        return ffi.new("struct usnet_endpoint *", {"port": port})
    ip = ipaddress.ip_address(host)
    return ffi.new("struct usnet_endpoint *", {"ip": ip.packed, "port": port, "family": ip.version})


def _address(endpoint: Any) -> Endpoint:
    ip = bytes(endpoint.ip)
    return str(ipaddress.ip_address(ip[:4] if endpoint.family == 4 else ip)), endpoint.port


def _name(name_of: Any, number: int) -> str:
    name = name_of(number)
    return c_text(name) if name else str(number)
