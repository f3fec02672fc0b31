"""The control socket: what usnet-ctl asks of a running server, and the client that asks.

A unix socket of mode 0600, in a folder where nobody else can replace it; the client looks who answers. Both directions
carry frames of four bytes of length (big endian) and one msgpack map: a request `{"command": …}`, some with more
(TAKES), a reply `{"ok": true, "result": …}` or `{"ok": false, "error": one line}`. A long list comes in parts, each a
frame `{"ok": true, "part": […]}` before the reply, and is never whole in memory: the next part is made when the client
has taken the last. Frames and clients are bounded, a client that says nothing is sent away, and one that asks without
end takes turns with all else. Lists, which somebody may be reading, leave half of the places to others.

A command may go on until either side hangs up (streams; a capture). Its reply comes with descriptors, one for each of
its `shards`; those that one message cannot hold come with further ones, of a byte each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usnet_framework.config import default_control_path
from usnet_framework.errors import ControlError, ServerGone, StartupError, UsnetError
from usnet_framework.shards import quarantine
from usnet_framework.shards.messages import pack, unpack
from usnet_framework.shards.unixpath import PATH_BYTES_MAX, UnixListener, distrust, listen_unix, make_private, try_unix

log = logging.getLogger("usnet.supervisor")

LENGTH = struct.Struct(">I")
CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
REQUEST_BYTES_MAX = 65536
REPLY_BYTES_MAX = 1 << 26  # a table comes in parts
BACKLOG = 16
CLIENTS_MAX = 32  # each is a descriptor of the supervisor (SUPERVISOR_RESERVE of limits.py)
CLIENT_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 10.0  # the supervisor never works longer than milliseconds at a time
SLOW_REPLY_TIMEOUT_S = 600.0
LEAVE_S = 1.0
"""What a process takes to end after its server has. One that called serve() may go on."""
PART_TIMEOUT_S = 600.0
"""What a client gets to take the next part of a list: a person may be reading the last one."""
SLOW_COMMANDS = ("reload", "rollback", "conns", "neigh", "routes", "addr", "bind", "upgrade")
"""Import the application per seat; list millions; ask engines; look a name up; start an engine per shard."""
ADDRESSED = ("bind", "unbind")
"""Commands that concern an address, which a request has to name."""
TAKES: dict[str, dict[str, type]] = {
    **{name: {"address": str} for name in ADDRESSED},
    "conns": {"where": str, "details": bool},
}
"""What a request may have besides its command, by name."""
DESCRIPTORS_MAX = 250
"""In one message: the kernel takes 253."""
MORE_THAN_ALLOWED = "the server sends more descriptors than this process may have; raise the limit (ulimit -n)"

Command = Callable[..., Coroutine[Any, Any, Any]]
"""Called with what the request has besides, by name."""


@dataclass(frozen=True)
class Parts:
    """What a command returns whose result is a long list."""

    parts: AsyncIterator[list[Any]]


def listen(path: str) -> UnixListener:
    """Make the socket. The folder of the default is made when it is missing, as nobody has named it; any other has to
    be there, as for --bind unix:PATH. StartupError: a server answers there, no folder, no permission, or others could
    replace the socket."""
    what = f"--control {path}"
    folder = Path(path).absolute().parent
    try:
        if path == default_control_path():
            make_private(folder)
        why = distrust(folder) if folder.is_dir() else None
    except OSError as error:
        raise StartupError(f"{what}: cannot make its folder: {error.strerror}; use another path, or off") from None
    if why is not None:
        raise StartupError(f"{what}: {why}; use a path in a folder of your own, or off")
    return listen_unix(path, backlog=BACKLOG, what=what, mode=0o600)


def try_path(path: str) -> None:
    """Could this process listen there? Nothing is made. StartupError as `listen` has it, InUse."""
    what, folder = f"--control {path}", Path(path).parent
    if path == default_control_path() and not folder.exists():
        if why := quarantine.trouble(folder):
            raise StartupError(f"{what}: cannot make its folder: {why}; use another path, or off")
    else:
        try_unix(path, what)


class Asker:
    """Whoever asked for something that goes on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def pid(self) -> int:
        """As this PID namespace has it; 0: it is of another one."""
        credentials = self._writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
        )
        return int(CREDENTIALS.unpack(credentials)[0])

    def answer(self, result: Any, fds: Sequence[int]) -> None:
        """With descriptors: further messages, of a byte each, bring those that one cannot hold. ConnectionError."""
        frame = _frame({"ok": True, "result": result})
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as client:
            for first in range(0, max(len(fds), 1), DESCRIPTORS_MAX):
                try:
                    socket.send_fds(client, [frame if first == 0 else b"."], fds[first : first + DESCRIPTORS_MAX])
                except BlockingIOError:
                    raise ConnectionAbortedError("it does not read") from None

    def refuse(self, error: str) -> None:
        self._writer.write(_refusal(error))

    async def gone(self) -> None:
        """Until it hangs up; what it says meanwhile does not count."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(LENGTH.size):
                pass


Stream = Callable[[Mapping[str, Any], Asker], Coroutine[Any, Any, None]]


async def _serve_stream(stream: Stream, request: Mapping[str, Any], asker: Asker) -> None:
    try:
        await stream(request, asker)
    except UsnetError as error:
        asker.refuse(str(error))
    except ConnectionError:
        return  # it has hung up
    except OSError as error:
        log.exception("a command of the control socket failed")
        asker.refuse(_failure(error))


class ControlServer:
    """Answers commands by name, in the supervisor's loop."""

    def __init__(
        self, listener: UnixListener, commands: Mapping[str, Command], streams: Mapping[str, Stream] | None = None
    ) -> None:
        """`streams`: commands that go on until whoever asked hangs up."""
        self._listener = listener
        self._commands = commands
        self._streams = streams or {}
        self._clients = 0
        self._lists = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener.socket, backlog=BACKLOG)

    def close(self) -> None:
        """Ask no more; answers that are being written are finished."""
        if self._server is not None:
            self._server.close()
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            with contextlib.closing(writer):
                if self._clients <= CLIENTS_MAX:
                    await self._talk(reader, writer)
                else:
                    writer.write(_refusal(f"{CLIENTS_MAX} others are asking; try again"))
        except asyncio.CancelledError:
            return  # the loop ends; asyncio would print a traceback of a client that was waiting
        finally:
            self._clients -= 1

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(CLIENT_TIMEOUT_S):
                    request = await _read(reader)
                if isinstance(request, dict) and (stream := self._streams.get(str(request.get("command")))):
                    await _serve_stream(stream, request, Asker(reader, writer))
                    return
                async with contextlib.aclosing(self._frames(request)) as frames:
                    async for frame, patience_s in frames:
                        writer.write(frame)
                        async with asyncio.timeout(patience_s):
                            await writer.drain()
                        await asyncio.sleep(0)  # nothing above gives way when the next request is there already
        except TimeoutError:
            writer.transport.abort()  # what it does not take would hold the descriptor
        except (EOFError, ConnectionError, ValueError):
            return  # it has what it wanted, or speaks another language

    async def _frames(self, request: Any) -> AsyncGenerator[tuple[bytes, float], None]:
        """Those of a reply, and how long the client may take over each; there is one whatever happens."""
        name = str(request.get("command")) if isinstance(request, dict) else ""
        try:
            result = await self._result(name, request)
            if isinstance(result, Parts):
                with self._listing():
                    async for part in result.parts:
                        yield _frame({"ok": True, "part": part}), PART_TIMEOUT_S
                result = []
            yield _frame({"ok": True, "result": result}), CLIENT_TIMEOUT_S
        except UsnetError as error:
            yield _refusal(str(error)), CLIENT_TIMEOUT_S
        except Exception as error:
            log.exception("a command of the control socket failed")
            what = _failure(error)
            yield _refusal(what), CLIENT_TIMEOUT_S

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        """ControlError."""
        if self._lists >= CLIENTS_MAX // 2:
            raise ControlError(f"{self._lists} others are reading lists; try again")
        self._lists += 1
        try:
            yield
        finally:
            self._lists -= 1

    async def _result(self, name: str, request: Any) -> Any:
        """UsnetError."""
        command = self._commands.get(name)
        if command is None:
            raise ControlError(f"unknown command; known are {', '.join(self._commands)}")
        takes = TAKES.get(name, {})
        given = {key: request[key] for key in takes if key in request}
        if name in ADDRESSED and not isinstance(given.get("address"), str):
            raise ControlError("no address is given")
        for key, value in given.items():
            if not isinstance(value, takes[key]):
                raise ControlError(f"{key} is no {takes[key].__name__}")
        return await command(**given)


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > REQUEST_BYTES_MAX:
        raise ValueError("a request this large is none of ours")
    return unpack(await reader.readexactly(length))


def _frame(message: Any) -> bytes:
    packet = pack(message)
    return LENGTH.pack(len(packet)) + packet


def _failure(error: Exception) -> str:
    return f"the server failed to answer ({type(error).__name__}); its log says more"


def _refusal(error: str) -> bytes:
    return _frame({"ok": False, "error": error})


def request(path: str, command: str, **arguments: Any) -> Any:
    """The result of a command of the server at `path`; `arguments` go with it. ControlError: nobody answers, or the
    server refused."""
    parts = list(_replies(path, command, arguments))
    rows = [row for reply in parts if "part" in reply for row in reply["part"]]
    return rows if len(parts) > 1 else parts[-1]["result"]


def stream(path: str, command: str, **arguments: Any) -> Iterator[list[Any]]:
    """`request`, of a long list: parts as they come, so that it is never whole in memory."""
    for reply in _replies(path, command, arguments):
        yield reply["part"] if "part" in reply else reply["result"]


def _replies(path: str, command: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parts, if there are any, and the last one. ControlError."""
    what = f"--control {path}"
    with _explained(path, what), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(REPLY_TIMEOUT_S)
        client.connect(path)
        _check_who_answers(client, what)
        if command in SLOW_COMMANDS:
            _ask(client, "status", what, {})  # is anybody there who could?
            client.settimeout(SLOW_REPLY_TIMEOUT_S)
        reply, unread_s = _ask(client, command, what, arguments), 0.0
        while reply.get("ok") and "part" in reply:
            began_s = time.monotonic()
            yield reply
            unread_s += time.monotonic() - began_s
            reply = _hear_more(client, what, unread_s)
        if not reply.get("ok"):
            raise ControlError(f"{command}: {reply['error']}")
        yield reply


@contextlib.contextmanager
def _explained(path: str, what: str) -> Iterator[None]:
    """What goes wrong while a server is asked, as ControlError."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ControlError(f"{what}: a socket's path has at most {PATH_BYTES_MAX} bytes; use the server's")
    try:
        yield
    except FileNotFoundError:
        raise ServerGone(f"{what}: there is no server; start one, or use the path it was started with") from None
    except (ConnectionRefusedError, ConnectionResetError, EOFError):  # reset: nobody had accepted us
        raise ServerGone(f"{what}: no server answers; it was killed, or is stopping") from None
    except (TimeoutError, BlockingIOError):  # a full backlog is the latter
        raise ControlError(f"{what}: the server does not answer; look whether it is stopped, or stop it") from None
    except OSError as error:
        asked = f"ask as the user who runs the server ({os.geteuid()} asked)"
        raise ControlError(f"{what}: {error.strerror or error}; {asked}") from None


def stop_and_wait(path: str, timeout_s: float) -> str:
    """Have the server at `path` stop, and return when it is gone: its processes, its sockets, and the process itself if
    that has nothing else to do. ControlError: nobody answers, it refused, or it is there after `timeout_s`."""
    what, deadline_s = f"--control {path}", time.monotonic() + timeout_s
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(socket.socket(socket.AF_UNIX))
        with _explained(path, what):
            client.settimeout(REPLY_TIMEOUT_S)
            client.connect(path)
            pid = _check_who_answers(client, what)
            process = _watched(pid, opened)
            reply = _ask(client, "stop", what, {})
        if not reply.get("ok"):
            raise ControlError(f"stop: {reply['error']}")
        try:
            client.settimeout(max(0.001, deadline_s - time.monotonic()))
            reply = _ask(client, "stopped", what, {})
        except (EOFError, ConnectionError):
            if process is not None:
                process.poll(LEAVE_S * 1e3)
            return "stopped"
        except TimeoutError:
            raise ControlError(f"stop: the server is not gone after {timeout_s:g} s; it is stopping") from None
    raise ControlError(f"stop: {reply.get('error', 'the server does not say when it is gone')}")


def _watched(pid: int, opened: contextlib.ExitStack) -> select.poll | None:
    """Becomes readable when that process ends; None when it is none of this PID namespace."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    opened.callback(os.close, pidfd)
    process = select.poll()
    process.register(pidfd, select.POLLIN)
    return process


def _check_who_answers(client: socket.socket, what: str) -> int:
    """It could say anything, and see what is asked. Root may ask the server of any user. The process."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(credentials)
    if os.geteuid() != 0 and uid not in (0, os.geteuid()):
        raise ControlError(f"{what}: another user ({uid}) answers there; use the path of your own server")
    return int(pid)


def _ask(
    client: socket.socket, command: str, what: str, arguments: Mapping[str, Any], fds: list[int] | None = None
) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has hung up; why may be there to read
        client.sendall(_frame({"command": command, **arguments}))
    return _hear(client, what, fds)


def _hear(client: socket.socket, what: str, fds: list[int] | None = None) -> dict[str, Any]:
    (length,) = LENGTH.unpack(_receive(client, LENGTH.size, fds))
    reply = _reply(_receive(client, length, fds)) if length <= REPLY_BYTES_MAX else None
    if reply is None:
        raise _not_ours(what)
    return reply


def _not_ours(what: str) -> ControlError:
    return ControlError(f"{what}: no usnet server answers there; use the path it was started with")


def _hear_more(client: socket.socket, what: str, unread_s: float) -> dict[str, Any]:
    """Of a list that was left unread for so long in all."""
    try:
        return _hear(client, what)
    except EOFError:
        if unread_s < PART_TIMEOUT_S:
            raise
    raise ControlError(f"{what}: the list was not read for {PART_TIMEOUT_S:g} s; ask again")


def _reply(packet: bytes) -> dict[str, Any] | None:
    """None when it is none of ours."""
    try:
        reply = unpack(packet)
    except ValueError:
        return None
    if not isinstance(reply, dict):
        return None
    if not reply.get("ok"):
        return reply if "error" in reply else None
    return reply if "result" in reply or isinstance(reply.get("part"), list) else None


def _receive(client: socket.socket, length: int, fds: list[int] | None = None) -> bytes:
    """`fds`: descriptors that come along are added; without it the kernel closes them. ControlError: there are too
    many."""
    received = bytearray()
    while len(received) < length:
        most = min(length - len(received), 1 << 20)
        if fds is None:
            part = client.recv(most)
        else:
            part, more, flags, _ = socket.recv_fds(client, most, DESCRIPTORS_MAX)
            fds += more
            if flags & socket.MSG_CTRUNC:
                raise ControlError(MORE_THAN_ALLOWED)
        if not part:
            raise EOFError
        received += part
    return bytes(received)


@dataclass(frozen=True)
class Session:
    """A command that goes on: what the server answered, with the descriptors that came along, until either hangs up."""

    client: socket.socket
    result: dict[str, Any]
    fds: list[int]


@contextlib.contextmanager
def opened(path: str, command: str, arguments: Mapping[str, Any]) -> Iterator[Session]:
    """Ask for it; its result names as many `shards` as there are descriptors. ControlError: nobody answers, or the
    server refused."""
    what = f"--control {path}"
    fds: list[int] = []
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        stack.callback(_close_all, fds)
        with _explained(path, what):
            client.settimeout(REPLY_TIMEOUT_S)
            client.connect(path)
            _check_who_answers(client, what)
            reply = _ask(client, command, what, arguments, fds)
            if not reply.get("ok"):
                raise ControlError(f"{command}: {reply['error']}")
            result = reply.get("result")
            if not (isinstance(result, dict) and isinstance(result.get("shards"), list)):
                raise _not_ours(what)
            while len(fds) < len(result["shards"]):
                _receive(client, 1, fds)
        yield Session(client, result, fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
