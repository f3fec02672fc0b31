"""Listening sockets: opened by the supervisor, inherited by whoever accepts, so that no restart loses a connection.

    tcp://HOST:PORT   one socket per shard and address (SO_REUSEPORT), so that the kernel spreads connections
    unix:PATH         one socket for all shards
    fd:N              a socket that somebody else opened and listens on: systemd's first is fd:3

Where one socket serves several shards they share its queue.

Connections inherit the options of a listener that is opened here: they are reset, not ended, when all processes that
have them open are gone (native/src/engine/kernel.c), and urgent data is data like any other.

A port is taken without the risk that two servers share it by mistake: the first socket is bound alone, which fails when
anybody listens there, and only then is SO_REUSEPORT set, so that ours (and nobody's before ours) may join.

A name may have addresses that this machine lacks: in a container localhost often is ::1 as well, and nothing has ::1.
Those are left out while another address of the name is there, and `absent` says so.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from usnet_framework.errors import InUse, StartupError, UsageError
from usnet_framework.shards.keepalive import OFF, Keepalive
from usnet_framework.shards.unixpath import UnixListener, listen_unix, try_unix
from usnet_framework.values import endpoint_text

EXPECTED = "expected tcp://HOST:PORT, unix:PATH or fd:N"
LISTENERS_MAX = 64  # per shard: UN_LISTENERS_MAX of native/src/shard/options.h
SYSTEMD_FIRST_FD = 3  # sd_listen_fds(3)
NOT_OF_THIS_MACHINE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding an address fails with that this machine lacks, or its kind of addresses."""

Endpoint = tuple[str, int]  # as socket has it; with flow and scope for IPv6
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time at all
INHERITED: tuple[tuple[int, int, int | bytes], ...] = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
)


@dataclass(frozen=True)
class Bind:
    """A parsed bind. `host` "" is every address of the machine; `fd` is -1 unless kind is "fd". `asked` is how messages
    name it."""

    text: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1
    option: str = "--bind "

    @property
    def asked(self) -> str:
        return self.option + self.text

    @property
    def place(self) -> tuple[str, str, int, str, int]:
        """What it means, however it is written."""
        return self.kind, self.host, self.port, self.path, self.fd


def parse_bind(text: str, option: str = "--bind ") -> Bind:
    """UsageError when the text is none of the three forms. `option` is what it was given by."""
    if match := re.fullmatch(r"tcp://(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s]*)):([0-9]{1,5})", text):
        host, port = match[1] or match[2], int(match[3])
        if port > 65535:
            raise UsageError(f"{option}{text}: port {port} is above 65535")
        return Bind(text, "tcp", host="" if host == "*" else host, port=port, option=option)
    if text.startswith("unix:") and text != "unix:" and "\0" not in text:
        return Bind(text, "unix", path=text.removeprefix("unix:"), option=option)
    if match := re.fullmatch(r"fd:([0-9]{1,6})", text):
        return Bind(text, "fd", fd=int(match[1]), option=option)
    raise UsageError(f"{option}{text}: {EXPECTED}")


def parse_binds(texts: Sequence[str]) -> list[Bind]:
    """UsageError when one is none of the three forms or is given twice, or there are too many."""
    if len(texts) > LISTENERS_MAX:
        raise UsageError(f"--bind: {len(texts)} addresses; at most {LISTENERS_MAX} are possible")
    binds: list[Bind] = []
    for text in texts:
        bind = parse_bind(text)
        any_port = bind.kind == "tcp" and bind.port == 0  # of those there may be several
        if not any_port and any(replace(bind, text=other.text) == other for other in binds):
            raise UsageError(f"--bind {text}: is given twice")
        binds.append(bind)
    return binds


@dataclass(frozen=True)
class Absent:
    """Addresses of a name that were left out, `here` is what was opened; as they are shown."""

    bind: Bind
    addresses: list[str]
    here: list[str]


@dataclass(eq=False)
class Listener:
    """One address that is listened on, `address` as it can be connected to. There is a socket for each shard, the same
    one where they share it; or none, and the stacks of our own listen on `endpoint`. `added`: while the server ran."""

    bind: Bind
    address: str
    sockets: Sequence[socket.socket] = ()
    file: UnixListener | None = None
    endpoint: tuple[str, int] | None = None
    added: bool = False

    @property
    def shared(self) -> bool:
        return len(self.sockets) > len(self._unique())

    @property
    def spreads(self) -> bool:
        """Whether the kernel spreads connections over sockets of several shards."""
        return len(self.sockets) > 1 and not self.shared

    def is_named(self, bind: Bind) -> bool:
        """Whether it is what somebody means who writes this: as it was asked for, or as it is shown. Port 0 means
        nothing that is there."""
        if bind.kind == "unix":
            return self.file is not None and self.file.path == Path(bind.path).absolute()
        if bind.kind == "fd":
            return self.bind.place == bind.place
        shown = parse_bind(self.address) if self.bind.kind == "tcp" else self.bind
        return bind.port != 0 and bind.place in (self.bind.place, shown.place)

    def set_options(self, options: Iterable[tuple[int, int, int]]) -> None:
        """Of TCP, for its connections, if it was opened here."""
        if self.bind.kind == "tcp":
            for level, option, value in options:
                for listener in self._unique():
                    listener.setsockopt(level, option, value)

    def refuse(self) -> None:
        """Have the kernel refuse new connections, whoever else holds the sockets. Those of others are left alone."""
        if self.bind.kind != "fd":
            for listener in self._unique():
                with suppress(OSError):  # refused already
                    listener.shutdown(socket.SHUT_RD)
        if self.file is not None:
            self.file.unlink()

    def close(self) -> None:
        for listener in self._unique():
            listener.close()
        if self.file is not None:
            self.file.unlink()

    def _unique(self) -> list[socket.socket]:
        return list({id(listener): listener for listener in self.sockets}.values())


@dataclass
class Listeners:
    """What is listened on now, in the order in which it was asked for."""

    open: list[Listener] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        """As they can be connected to."""
        return [one.address for one in self.open]

    @property
    def files(self) -> list[UnixListener]:
        return [one.file for one in self.open if one.file is not None]

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    def add(self, more: Listeners) -> None:
        self.open += more.open
        self.absent += more.absent

    def remove(self, gone: Sequence[Listener]) -> None:
        """They stay open."""
        self.open = [one for one in self.open if one not in gone]
        self.absent = [absent for absent in self.absent if any(one.bind == absent.bind for one in self.open)]

    def refuse(self) -> None:
        for one in self.open:
            one.refuse()

    def close(self) -> None:
        for one in self.open:
            one.close()


def open_listeners(
    binds: Sequence[Bind],
    shards: int,
    backlog: int,
    environ: Mapping[str, str] = os.environ,
    keepalive: Keepalive = OFF,
    beside: Sequence[Bind] = (),
) -> Listeners:
    """Open every bind for every shard, or nothing: StartupError, one line. `beside` is open already."""
    listeners = Listeners()
    try:
        for bind in binds:
            if bind.kind == "tcp":
                _open_tcp(bind, listeners, shards, backlog, [*binds, *beside])
            else:
                listeners.open.append(_open_shared(bind, shards, backlog, environ))
        if len(listeners.open) > LISTENERS_MAX:
            raise StartupError(f"--bind: {len(listeners.open)} addresses; at most {LISTENERS_MAX} are possible")
        for one in listeners.open:
            one.set_options(keepalive.socket_options())
    except BaseException:
        listeners.close()
        raise
    return listeners


def try_listener(bind: Bind, environ: Mapping[str, str] = os.environ) -> None:
    """Could this process listen there? Nothing is listened on, made or changed. InUse; StartupError as open_listeners
    has it."""
    if bind.kind == "tcp":
        opened = Listeners()
        _open_tcp(bind, opened, 1, None, [bind])
        opened.close()
    elif bind.kind == "unix":
        try_unix(bind.path, bind.asked)
    else:
        _inherited(bind, environ).close()


def _open_shared(bind: Bind, shards: int, backlog: int, environ: Mapping[str, str]) -> Listener:
    """One socket for all shards."""
    if bind.kind == "unix":
        file = listen_unix(bind.path, backlog, bind.asked)
        return Listener(bind, f"unix:{file.path}", [file.socket] * shards, file)
    listener = _adopt(bind, environ)
    return Listener(bind, f"{bind.text} ({_name(listener)})", [listener] * shards)


def _open_tcp(bind: Bind, listeners: Listeners, shards: int, backlog: int | None, binds: Sequence[Bind]) -> None:
    """`backlog` None: bound and not listening."""
    here, absent = [], []
    for family, address in _resolve(bind):
        dual = family == socket.AF_INET6 and address[0] == "::" and not _has_ipv4_wildcard(binds, bind.port)
        try:
            opened = _open_address(family, address, dual, shards, backlog)
        except OSError as error:
            if error.errno not in NOT_OF_THIS_MACHINE:
                kind = InUse if error.errno == errno.EADDRINUSE else StartupError
                raise kind(f"{bind.asked}: {_explain(error, bind)}") from None
            absent.append((address, error))
            continue
        here.append(_name(opened[0]))
        listeners.open.append(Listener(bind, f"tcp://{here[-1]}", opened))
    if not here:
        raise StartupError(f"{bind.asked}: {_explain(absent[0][1], bind)}")
    if absent:
        listeners.absent.append(Absent(bind, [endpoint_text(address) for address, _ in absent], here))


def _open_address(
    family: socket.AddressFamily, address: Endpoint, dual: bool, shards: int, backlog: int | None
) -> list[socket.socket]:
    """A listening socket for each shard, or OSError."""
    opened: list[socket.socket] = []
    try:
        for _ in range(shards):
            opened.append(_bind_tcp(family, opened[0].getsockname() if opened else address, dual, joins=bool(opened)))
            if shards > 1:
                opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if backlog is not None:
            for listener in opened:
                listener.listen(backlog)
    except OSError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _resolve(bind: Bind) -> list[tuple[socket.AddressFamily, Endpoint]]:
    if not bind.host:
        wildcard = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        return [(wildcard, ("::" if wildcard == socket.AF_INET6 else "0.0.0.0", bind.port))]
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no valid name"
        raise StartupError(f"{bind.asked}: cannot resolve {bind.host!r}: {reason}; give an address") from None
    inet = [(family, address) for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(inet))  # type: ignore[arg-type]  # typeshed: address may also be of another family


def _has_ipv4_wildcard(binds: Sequence[Bind], port: int) -> bool:
    """0.0.0.0 is bound on its own, so [::] must leave IPv4 alone."""
    return any(bind.kind == "tcp" and bind.host == "0.0.0.0" and bind.port == port for bind in binds)


def _bind_tcp(family: socket.AddressFamily, address: Endpoint, dual: bool, joins: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if joins:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        for level, option, value in INHERITED:
            listener.setsockopt(level, option, value)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _adopt(bind: Bind, environ: Mapping[str, str]) -> socket.socket:
    """Made ready to be accepted from."""
    listener = _inherited(bind, environ)
    listener.setblocking(False)
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _inherited(bind: Bind, environ: Mapping[str, str]) -> socket.socket:
    """A listening stream socket that this process was started with, as it was given."""
    what = bind.asked
    try:
        is_socket = stat.S_ISSOCK(os.fstat(bind.fd).st_mode)
    except OSError:
        raise StartupError(f"{what}: no such descriptor was inherited{_activation_hint(bind, environ)}") from None
    if not is_socket:
        raise StartupError(f"{what}: the descriptor is no socket{_activation_hint(bind, environ)}")
    listener = socket.socket(fileno=os.dup(bind.fd))
    stream = listener.type == socket.SOCK_STREAM
    known = listener.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if not stream or not known or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise StartupError(f"{what}: not a listening stream socket; call listen() on it before the server is started")
    return listener


def _activation_hint(bind: Bind, environ: Mapping[str, str]) -> str:
    """What systemd's side of the agreement says (sd_listen_fds(3)), where that explains the mistake."""
    count = environ.get("LISTEN_FDS", "")
    if not count.isdigit():
        return "; start the server with it open, or by a systemd socket unit (its first socket is fd:3)"
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return f"; LISTEN_PID is {environ.get('LISTEN_PID')}, this process is {os.getpid()}: start it without a wrapper"
    last = SYSTEMD_FIRST_FD + int(count) - 1
    return f"; systemd passed fd:{SYSTEMD_FIRST_FD} to fd:{last}" if int(count) else "; systemd passed no socket"


def _name(listener: socket.socket) -> str:
    name = listener.getsockname()
    if listener.family != socket.AF_UNIX:
        return endpoint_text(name)
    path = os.fsdecode(name)
    return f"@{path[1:]}" if path.startswith("\0") else path or "unix"  # as ss(8) writes abstract names


def why_not_bound(error: OSError, port: int) -> str:
    """What binding or listening failed for that is no matter of the address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop who listens there or use another port"
    if error.errno == errno.EACCES:
        return f"no permission for port {port}; use one above 1023, or give the server CAP_NET_BIND_SERVICE"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; listen on fewer addresses, or raise the limit (ulimit -Hn, LimitNOFILE=)"
    if error.errno in (errno.ENOBUFS, errno.ENOMEM):
        return f"{error.strerror}; the kernel has no memory left for sockets"
    return f"{error.strerror}; use another address"


def _explain(error: OSError, bind: Bind) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {bind.host}; use one of its own, or 0.0.0.0 or [::] for all"
    if error.errno == errno.EAFNOSUPPORT:
        return "this machine has no addresses of this kind; use IPv4, or start its kernel with IPv6"
    return why_not_bound(error, bind.port)
