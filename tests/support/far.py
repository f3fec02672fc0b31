"""Client sockets of a stack of their own at the far end of a wire in memory, for tests written for the kernel's.

A `FarEnd` lives in the thread of the event loop that serves the near end: its `turn` is part of that loop's wait.
A `FarSocket` is used from the threads of the test, like a socket.socket that blocks; what it is asked to do is done in
the loop's thread, at once or as soon as the stack can.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from usnet_framework._usnet import ffi, lib

Operation = Callable[[], int]
"""Its result, or -EAGAIN: once more when something has happened."""

PIECE = 1 << 18
NEVER_NS = 2**64 - 1
_CONNECTING = {-errno.EINPROGRESS: -errno.EAGAIN, -errno.EALREADY: -errno.EAGAIN, -errno.EISCONN: 0}


class FarEnd:
    def __init__(self, device: Any, addresses: tuple[str, ...], sockets: int) -> None:
        wanted = ffi.new("struct usnet_setup_options *")
        lib.usnet_setup_defaults(wanted, sockets)
        why = ffi.new("const char **")
        self.context = lib.usnet_setup(wanted, device, why)
        assert self.context, ffi.string(why[0]).decode()
        for address in addresses:
            checked(lib.usnet_add_address(self.context, address.encode()))
        self._lock = threading.Lock()
        self._pending: list[tuple[Operation, Future[int]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def turn(self) -> bool:
        """In the loop's thread: whether anything was done, so that there may be more."""
        done = lib.usnet_poll(self.context)
        if done:
            pending, self._pending = self._pending, []
            for operation, future in pending:
                self._try(operation, future)
        return bool(done)

    def seconds(self) -> float | None:
        """Until it wants a turn if nothing happens; None: never."""
        deadline = lib.usnet_deadline_ns(self.context)
        return None if deadline == NEVER_NS else max(0.0, deadline / 1e9 - time.monotonic())

    def close(self) -> None:
        wrong = lib.usnet_stack_check(lib.usnet_stack_of(self.context))
        found = ffi.string(wrong).decode() if wrong else ""
        lib.usnet_teardown(self.context)
        assert not found, found

    def do(self, operation: Operation, seconds: float | None = None) -> int:
        """From any other thread; OSError, TimeoutError."""
        assert self._loop, "it runs"
        future: Future[int] = Future()
        self._loop.call_soon_threadsafe(self._try, operation, future)
        try:
            result = future.result(seconds)
        except TimeoutError:
            with self._lock:
                if not future.done():
                    future.cancel()
                    raise
            result = future.result()
        return checked(result)

    def _try(self, operation: Operation, future: Future[int]) -> None:
        with self._lock:  # what has happened has a listener
            if future.cancelled():
                return
            result = operation()
            if result != -errno.EAGAIN:
                future.set_result(result)
                return
        self._pending.append((operation, future))


class FarSocket:
    """As much of socket.socket as the tests use."""

    def __init__(self, far: FarEnd, family: int = socket.AF_INET) -> None:
        self._far = far
        self._context = far.context
        self._timeout: float | None = None
        self._fd = far.do(lambda: lib.usnet_socket(self._context, family, socket.SOCK_STREAM, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def connect(self, address: tuple[str, int]) -> None:
        host, port = address
        raw = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), ipaddress.IPv4Address(host).packed)
        memory = ffi.from_buffer(raw)

        def connect() -> int:
            where = ffi.cast("struct sockaddr *", memory)
            status = int(lib.usnet_connect(self._context, self._fd, where, len(memory)))
            return _CONNECTING.get(status, status)

        self._far.do(connect, self._timeout)

    def sendall(self, data: bytes) -> None:
        view = ffi.from_buffer("uint8_t[]", data)
        sent = 0

        def write() -> int:
            nonlocal sent
            while sent < len(data):
                taken = int(lib.usnet_write(self._context, self._fd, view + sent, len(data) - sent))
                if taken < 0:
                    return taken
                sent += taken
            return 0

        self._far.do(write, self._timeout)

    def recv(self, most: int) -> bytes:
        buffer = ffi.new("uint8_t[]", min(most, PIECE))
        length = self._far.do(lambda: lib.usnet_read(self._context, self._fd, buffer, len(buffer)), self._timeout)
        return bytes(ffi.buffer(buffer, length))

    def shutdown(self, how: int) -> None:
        self._far.do(lambda: lib.usnet_shutdown(self._context, self._fd, how))

    def close(self) -> None:
        if self._fd >= 0:
            self._far.do(lambda: lib.usnet_close(self._context, self._fd))
        self._fd = -1

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        packed = struct.pack("i", value) if isinstance(value, int) else value
        self._far.do(lambda: lib.usnet_setsockopt(self._context, self._fd, level, name, packed, len(packed)))

    def getsockname(self) -> tuple[str, int]:
        return self._name(lib.usnet_getsockname)

    def getpeername(self) -> tuple[str, int]:
        return self._name(lib.usnet_getpeername)

    def _name(self, call: Callable[[Any, int, Any, Any], int]) -> tuple[str, int]:
        raw, length = ffi.new("uint8_t[]", 16), ffi.new("uint32_t *", 16)
        name = ffi.cast("struct sockaddr *", raw)
        self._far.do(lambda: call(self._context, self._fd, name, length))
        _, port, ip = struct.unpack("=HH4s", bytes(raw)[:8])
        return str(ipaddress.IPv4Address(ip)), socket.ntohs(port)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)
