"""A host whose TCP/IP is our stack, on a TAP interface: the socket level of usnet.h, so that a test can be the client
or the server at that end and talk to the kernel's sockets at the other one.

    with Host("10.77.0.1/24", "fd77::1/64") as host:
        conn = host.connect("10.77.0.2", port)
        conn.send(b"hello")
        assert conn.receive() == b"hello"

Calls wait until they are done, and fail after SECONDS. Nothing happens between them: a host lives while one of its
calls runs, so the kernel's end is best served by another thread. Leaving the block asserts that the stack is in order
and that what connections held was given back.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from usnet_framework._usnet import ffi, lib

SECONDS = 60.0
PIECE = 1 << 18
READY = lib.USN_EPOLLIN | lib.USN_EPOLLOUT | lib.USN_EPOLLRDHUP | (lib.USN_EPOLLET & 0xFFFFFFFF)

COUNTER_KINDS = {"tcp": lib.USNET_STACK_TCP, "ip": lib.USNET_STACK_IP, "drop": lib.USNET_STACK_DROPS,
                 "device": lib.USNET_STACK_DEVICE}  # fmt: skip
_CONNECTING = {-errno.EINPROGRESS: -errno.EAGAIN, -errno.EALREADY: -errno.EAGAIN, -errno.EISCONN: 0}
"""What connect says while it is under way, and once it is done, when it is called again."""


class Host:
    """`capture`: a pcap file of all that passes. `faults`: fields of struct usnet_faults. `options`: fields of struct
    usnet_stack_options."""

    def __init__(
        self,
        *addresses: str,
        interface: str = "usnet0",
        capture: Path | None = None,
        faults: Mapping[str, int] | None = None,
        sockets: int = 256,
        **options: int,
    ) -> None:
        self._context = ffi.NULL
        why = ffi.new("const char **")
        device = _there(lib.usnet_device_tap(interface.encode(), why), why)
        if capture:
            device = _there(lib.usnet_device_pcap(device, str(capture).encode(), ffi.NULL, ffi.NULL, why), why)
        if faults:
            device = lib.usnet_device_fault(device, ffi.new("struct usnet_faults *", dict(faults)))
        wanted = ffi.new("struct usnet_setup_options *")
        lib.usnet_setup_defaults(wanted, sockets)
        for name, value in options.items():
            setattr(wanted.stack, name, value)
        self._context = _there(lib.usnet_setup(wanted, device, why), why)
        for address in addresses:
            _checked(lib.usnet_add_address(self._context, address.encode()))
        self._epoll = _checked(lib.usnet_epoll_create(self._context))
        self._events = ffi.new("struct usnet_epoll_event[]", 64)
        self._buffer = ffi.new("uint8_t[]", PIECE)
        lib.usnet_poll(self._context)
        self._at_rest = self._usage()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.turn(0)  # what the other end did last
                self.until("connections end", lambda: self._usage() == self._at_rest or self._lingering())
                assert self.wrong() is None, self.wrong()
        finally:
            lib.usnet_teardown(self._context)

    def wrong(self) -> str | None:
        """What is wrong with the stack's memory."""
        found = lib.usnet_stack_check(lib.usnet_stack_of(self._context))
        return ffi.string(found).decode() if found else None

    def counters(self) -> dict[str, int]:
        """By kind and name: tcp_retransmitted, ip_arp_in, drop_no_route, device_tx_packets."""
        stack, found = lib.usnet_stack_of(self._context), {}
        for kind, number in COUNTER_KINDS.items():
            values = ffi.new("uint64_t[]", lib.usnet_stack_counter_count(number))
            for index in range(lib.usnet_stack_counters(stack, number, values, len(values))):
                found[f"{kind}_{ffi.string(lib.usnet_stack_counter_name(number, index)).decode()}"] = values[index]
        return found

    def turn(self, seconds: float = 0.05) -> None:
        """Live until something happens to a socket, or so long."""
        _checked(lib.usnet_epoll_wait(self._context, self._epoll, self._events, 64, int(seconds * 1000)))

    def live(self, seconds: float) -> None:
        """Live so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def until(self, what: str, predicate: Callable[[], object], seconds: float = SECONDS) -> None:
        """Live until the predicate is true."""
        deadline = time.monotonic() + seconds
        while not predicate():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            self.turn()

    def connect(self, address: str, port: int, **options: int) -> Socket:
        """`options`: of IPPROTO_TCP, by name: TCP_NODELAY=1."""
        made = self._socket(address, options)
        name = _sockaddr(address, port)

        def connect() -> int:
            where = ffi.cast("struct sockaddr *", name)
            status = int(lib.usnet_connect(self._context, made.fd, where, len(name)))
            return _CONNECTING.get(status, status)

        made.finish(connect)
        return made

    def listen(self, address: str, port: int, backlog: int = 128) -> Socket:
        made = self._socket(address, {})
        name = _sockaddr(address, port)
        _checked(lib.usnet_bind(self._context, made.fd, ffi.cast("struct sockaddr *", name), len(name)))
        _checked(lib.usnet_listen(self._context, made.fd, backlog))
        return made

    def _socket(self, address: str, options: Mapping[str, int]) -> Socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = Socket(self, _checked(lib.usnet_socket(self._context, family, socket.SOCK_STREAM, 0)))
        for name, value in options.items():
            made.set(socket.IPPROTO_TCP, getattr(socket, name), struct.pack("i", value))
        return made

    def _usage(self) -> tuple[int, int]:
        found = ffi.new("struct usnet_stack_usage *")
        lib.usnet_stack_usage(lib.usnet_stack_of(self._context), found)
        return found.conns, found.sents_free

    def _lingering(self) -> bool:
        """Only TIME-WAIT is left of those that ended: nothing is in flight, and no time but its own ends it."""
        return self._usage()[1] == self._at_rest[1]


class Socket:
    """One of a host's sockets; OSError as of the kernel's."""

    def __init__(self, host: Host, fd: int) -> None:
        self.fd = fd
        self._host = host
        self._context = host._context
        event = ffi.new("struct usnet_epoll_event *", {"events": READY})
        _checked(lib.usnet_epoll_ctl(self._context, host._epoll, lib.USN_EPOLL_CTL_ADD, fd, event))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def accept(self) -> Socket:
        return Socket(self._host, self.finish(lambda: lib.usnet_accept(self._context, self.fd, ffi.NULL, ffi.NULL)))

    def send(self, data: bytes | memoryview) -> None:
        """All of it."""
        view = ffi.from_buffer("uint8_t[]", data)
        sent = 0
        while sent < len(data):
            rest, left = view + sent, len(data) - sent
            sent += self.finish(lambda rest=rest, left=left: lib.usnet_write(self._context, self.fd, rest, left))

    def try_send(self, data: bytes) -> int:
        """As much as there is room for."""
        taken = lib.usnet_write(self._context, self.fd, data, len(data))
        return 0 if taken == -errno.EAGAIN else _checked(taken)

    def receive(self, most: int = PIECE) -> bytes:
        """What is there; b"" at the end."""
        buffer, most = self._host._buffer, min(most, PIECE)
        return ffi.buffer(buffer, self.finish(lambda: lib.usnet_read(self._context, self.fd, buffer, most)))[:]

    def receive_all(self) -> bytes:
        """Until the end."""
        return b"".join(iter(self.receive, b""))

    def shutdown(self) -> None:
        """End of output."""
        _checked(lib.usnet_shutdown(self._context, self.fd, socket.SHUT_WR))

    def close(self) -> None:
        _checked(lib.usnet_close(self._context, self.fd))

    def reset(self) -> None:
        self.set(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def set(self, level: int, name: int, value: bytes) -> None:
        _checked(lib.usnet_setsockopt(self._context, self.fd, level, name, value, len(value)))

    def info(self) -> Any:
        """struct usnet_tcp_info."""
        found = ffi.new("struct usnet_tcp_info *")
        stack = lib.usnet_stack_of(self._context)
        _checked(lib.usnet_stack_info(stack, lib.usnet_conn_of(self._context, self.fd), found))
        return found

    def finish(self, call: Callable[[], int]) -> int:
        """Repeat a call until it is done; its result."""
        result = call()
        deadline = time.monotonic() + SECONDS
        while result == -errno.EAGAIN:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"socket {self.fd}: nothing happened for {SECONDS:g} s")
            self._host.turn()
            result = call()
        return _checked(result)


def _sockaddr(address: str, port: int) -> Any:
    """Its bytes."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        raw = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), packed)
    else:
        raw = struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, packed, 0)
    return ffi.from_buffer(raw)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)


def _there(made: Any, why: Any) -> Any:
    assert made, ffi.string(why[0]).decode()
    return made
