"""Messages between the supervisor and a worker: one msgpack map per packet of a SOCK_SEQPACKET pair, with descriptors.

to the worker     load    import this application: app, factory, app_dir, log_level, log_format;
                          `privileges`: what to give up before that
                  start   you will sit there: run on_start. `shard`, `seat`, `serial`, `layout`, `core`, `poll`
                  attach  sit down and serve, with the descriptors of `port`: the public memory, the port's, what wakes
                          the engine, what wakes the worker. Inline: the public memory, the port's, the engine's socket,
                          then `stack_fds` descriptors of a stack, listeners last; `device`, `device_fds`
                  yield   a successor serves beside you: on_shutdown("reload", deadline), `timeout` seconds from now;
                          go on serving what you still get
                  drain   the server stops: on_shutdown("stop", deadline), `timeout` seconds from now;
                          inline: accept no more (otherwise the network process accepts)
                  retire  take no more events, finish within `timeout` seconds, on_stop, close the port, say "left"
to the supervisor ready   imported, the handler is made, on_warm returned; `resumes`: the class defines on_resume
                  started on_start returned
                  attached  events are being taken
                  left    the port is closed; exit hooks and threads may still run, and nobody waits for them
                  failed  `error`, one line; the worker leaves

The application runs in the worker and may write to any descriptor there, so `hear` believes nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgpack  # type: ignore[import-untyped]

Message = dict[str, Any]

MESSAGE_BYTES_MAX = 65536
DESCRIPTORS_MAX = 253  # of one message: what the kernel takes; inline, up to 64 listeners, or wake-ups of all shards
CANNOT_FORK = "cannot fork a worker process"
NO_DESCRIPTOR = f"{CANNOT_FORK}: {os.strerror(errno.EMFILE)}"
"""Of a message that came without its descriptor: the kernel leaves out what the receiver has no number for."""

_SAID: dict[str, dict[str, type]] = {
    "ready": {"resumes": bool},
    "started": {},
    "attached": {},
    "left": {},
    "failed": {"error": str},
}
"""What a worker may say, and what goes with it."""


def pack(message: Any) -> bytes:
    """Names of the system that are no UTF-8 (os.fsdecode) arrive as they were."""
    return msgpack.packb(message, unicode_errors="surrogateescape")  # type: ignore[no-any-return]


def unpack(packet: bytes) -> Any:
    """ValueError when it is no msgpack."""
    return msgpack.unpackb(packet, unicode_errors="surrogateescape")


def send(control: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """OSError when the other side is gone or does not read."""
    socket.send_fds(control, [pack(message)], list(fds))


def tell(control: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """`send`, of a child: nobody hears it when the supervisor is gone or needs it no more, which the next `receive`
    tells."""
    with suppress(BrokenPipeError, ConnectionResetError):
        send(control, message, fds)


def receive(control: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and its descriptors, which children do not inherit; None when the other side is gone.
    BlockingIOError when there is none yet."""
    try:
        packet, fds = receive_packet(control)
    except ConnectionResetError:
        return None
    return (unpack(packet), fds) if packet else None


def receive_packet(control: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and its descriptors: what socket.recv_fds does, which takes flags and forgets them."""
    fds = array("i")
    room = socket.CMSG_LEN(DESCRIPTORS_MAX * fds.itemsize)
    packet, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES_MAX, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, list(fds)


def hear(control: socket.socket) -> Message | None:
    """What a worker says next, None when it will say no more. BlockingIOError when there is nothing yet, ValueError
    when it is nonsense. Descriptors that come along are not taken, so the kernel closes them."""
    try:
        packet = control.recv(MESSAGE_BYTES_MAX)
    except ConnectionResetError:
        return None
    if not packet:
        return None
    message = unpack(packet)
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in _SAID:
        raise ValueError("no message of a worker")
    if not all(isinstance(message.get(name), expected) for name, expected in _SAID[kind].items()):
        raise ValueError(f"{kind} lacks what goes with it")
    return message  # type: ignore[no-any-return]
