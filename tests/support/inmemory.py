"""A server over the memory device: an inline worker in a thread of this process, with its engine and our stack, on one
end of a wire; clients have a stack of their own on the other end (far.py).

    with MemoryServer(Obedient) as server, server.connect() as client:
        client.sendall(b"echo hello\\n")

It is used like support.server.Server, as far as that makes sense without processes. Leaving the block asserts that
the thread has ended without an error, and that the memory of the clients' stack is in order.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Any

from support.far import FarEnd, FarSocket
from support.server import wait

from usnet_framework import Handler
from usnet_framework._dispatch import Engine, Port
from usnet_framework._usnet import ffi, lib
from usnet_framework.handler import Shard
from usnet_framework.shards.loop import WorkerLoop
from usnet_framework.shards.ownstack import SECRET_BYTES
from usnet_framework.shards.preparation import LINGER_NS
from usnet_framework.shards.segment import EngineOptions, Segment, SegmentConfig, StackAddresses

ADDRESS, PORT = "10.78.0.1", 7000
FAR_ADDRESS = "10.78.0.2"
CONNECTIONS = 2000
JOIN_SECONDS = 30.0
OPTIONS = EngineOptions(
    numbers={
        "connection_limit": CONNECTIONS,
        "linger_ns": LINGER_NS,
        "queues": 1,
        "backlog": 1024,
        "accept_partial_checksum": 1,
    },
    addresses=StackAddresses(addresses=[(ADDRESS, 24)], listeners=[(ADDRESS, PORT)]),
)


class Wire:
    """Turns both ends of the wire before each turn of the loop, and has it wait only when nothing is on the wire: there
    is no descriptor that would tell."""

    def __init__(self, select: Callable[[float | None], Any], port: Port, engine: Engine, far: FarEnd) -> None:
        self._select = select
        self._port = port
        self._engine = engine
        self._far = far

    def select(self, timeout: float | None = None) -> Any:
        self._port.commit()
        moved = self._far.turn()
        moved |= self._engine.turn(0) > 0
        if moved:
            timeout = 0
        elif (until := self._far.seconds()) is not None:
            timeout = until if timeout is None else min(timeout, until)
        return self._select(timeout)


class MemoryServer:
    """`control`: the supervisor's end of the engine's control socket."""

    address = (ADDRESS, PORT)

    def __init__(self, handler: type[Handler]) -> None:
        self._handler = handler
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)

    def __enter__(self) -> MemoryServer:
        self._thread.start()
        assert self._started.wait(JOIN_SECONDS)
        if self._error:
            raise self._error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(JOIN_SECONDS)
        assert not self._thread.is_alive(), "the server ends"
        self.control.close()
        self._theirs.close()
        if kind is None and self._error:
            raise self._error

    def new_socket(self) -> FarSocket:
        return FarSocket(self._far)

    def connect(self, timeout: float = 10.0) -> FarSocket:
        client = self.new_socket()
        client.settimeout(timeout)
        client.connect(self.address)
        return client

    def ask(self, what: str) -> list[dict[str, Any]]:
        assert what == "conns"
        return [asdict(conn) for conn in self._segment.connections()]

    wait = staticmethod(wait)

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                self._serve(stack)
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    def _serve(self, stack: ExitStack) -> None:
        ends = _wire()
        self._far = FarEnd(ends[1], (f"{FAR_ADDRESS}/24",), CONNECTIONS)
        stack.callback(self._far.close)
        self._segment = Segment.create(SegmentConfig.for_kernel(0, 1, CONNECTIONS + 64), OPTIONS)
        stack.callback(self._segment.close)
        engine = _engine(self._segment, ends[0], self._theirs.fileno(), stack)
        stack.callback(engine.close)
        handler = self._handler()
        port = Port(engine=engine, handler=handler, resumes=False)
        stack.callback(port.close)
        self._loop = WorkerLoop()
        stack.callback(self._loop.close)
        self._loop.serve(port, "sleep", engine)
        selector: Any = self._loop._selector  # type: ignore[attr-defined]
        selector.select = Wire(selector.select, port, engine, self._far).select
        self._far.start(self._loop)
        handler.on_start(Shard(0, 0, 1, "inline"))
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        port.commit()


def _wire() -> Any:
    ends = ffi.new("struct usnet_device *[2]")
    link = ffi.new("struct usnet_link *", {"mac": bytes.fromhex("020000000001"), "mtu": 1500, "slots": 1024})
    assert lib.usnet_device_memory(ends, link) == 0
    return ends


def _engine(segment: Segment, device: Any, control_fd: int, stack: ExitStack) -> Engine:
    exchange = os.memfd_create("usnet-exchange", os.MFD_CLOEXEC)
    stack.callback(os.close, exchange)
    os.write(exchange, secrets.token_bytes(SECRET_BYTES))
    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    stack.callback(os.close, wake)
    where = int(ffi.cast("uintptr_t", device))
    return Engine(
        public_fd=segment.public_fd,
        port_fd=segment.port_fds[0],
        listeners=[],
        resumes=False,
        stack=("", (), -1, -1, exchange, (wake,)),
        control_fd=control_fd,
        device=where,
    )
