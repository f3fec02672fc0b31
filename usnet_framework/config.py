"""The server's options. Each is written once: as a field of Config, with how it is parsed and what it does.

Everything else derives from the field: the flag (`--graceful-timeout`), the environment variable
(`USNET_GRACEFUL_TIMEOUT`), the key of the TOML file (`graceful-timeout`), `--help` and the table in the README.
A flag wins over the environment, the environment over the file, the file over the default. A value that is refused
names where it came from.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from usnet_framework import values
from usnet_framework.errors import UsageError
from usnet_framework.installed import VERSION
from usnet_framework.values import nearest

ENVIRONMENT_PREFIX = "USNET_"
WORKERS_MAX = 64  # seats of a shard: UN_SEATS_MAX of native/src/shard/segment.h
SHARDS_MAX = 1024  # UN_SHARD_MAX
STATE_BYTES_MAX = 4096  # UN_STATE_BYTES_MAX
CONNECTIONS_MAX = 1 << 22  # UN_CONN_MAX
KEEPALIVE_MAX = 32767  # of TCP_KEEPIDLE
BUFFER_MIB_MAX = 1 << 20  # a TiB: more memory than a worker will find
PACKET_BACKENDS = ("tap", "afxdp", "netmap")  # KINDS of shards/packetdevice.py
CARD_BACKENDS = ("afxdp",)
"""Those of them that set up a card for its queues (shards/nic.py)."""
REQUIREMENTS = ("zerocopy", "native", "hugepages")
PACKET_BIND = ("tcp://*:7000",)
"""Where a packet backend listens when nobody says: its addresses are its own, and none is 127.0.0.1."""


def default_control_path() -> str:
    """Where the control socket is when nobody says otherwise; the same for the server and for usnet-ctl."""
    if os.geteuid() == 0:
        return "/run/usnet/control.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/usnet/control.sock" if runtime else f"/tmp/usnet-{os.geteuid()}/control.sock"


@dataclass(frozen=True)
class Option:
    """One option, as everything that is derived from a field of Config sees it. `live`: a reload takes it over."""

    field: str
    parse: values.Parse
    help: str
    metavar: str
    default: Any
    default_text: str
    repeated: bool
    live: bool

    @property
    def key(self) -> str:
        return self.field.replace("_", "-")

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.field.upper()

    @property
    def positional(self) -> bool:
        return self.field == "app"

    @property
    def switch(self) -> bool:
        return self.parse is values.switch


def _option(
    default: Any,
    help: str,
    parse: values.Parse,
    *,
    metavar: str = "",
    shown: str = "",
    repeated: bool = False,
    engine: str = "",
    live: bool = False,
) -> Any:
    """engine: the option of the engine that it becomes (native/src/shard/options.h). live: `usnet-ctl reload` takes it
    over when the file has changed; of the others it says that they need a restart (shards/settings.py)."""
    metadata = {"help": help, "parse": parse, "metavar": metavar, "shown": shown, "repeated": repeated}
    metadata |= {"engine": engine, "live": live}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """What a server was asked to do. Values are parsed and in range; whether the machine can do it is not known yet."""

    app: str = _option("", "the handler class to serve", values.text, metavar="MODULE:ATTRIBUTE", live=True)
    factory: bool = _option(
        False, "the attribute is a function that returns the handler class", values.switch, live=True
    )
    app_dir: str = _option(
        ".", "folder that is put in front of the import path", values.text, metavar="PATH", live=True
    )
    preload: str = _option(
        "auto",
        "auto: import the application once and fork workers from that process, unless the import leaves threads or "
        "sockets; off: every worker imports it",
        values.Choice(("auto", "off")),
        live=True,
    )
    bind: tuple[str, ...] = _option(
        ("tcp://127.0.0.1:7000",),
        "where to listen: tcp://HOST:PORT, unix:PATH or fd:N; may be given several times; a packet backend listens on "
        "port 7000 of all its addresses unless told otherwise",
        values.text,
        metavar="ADDRESS",
        repeated=True,
    )
    backend: str = _option(
        "auto",
        "what carries the connections: the kernel, or a stack of our own on a packet device; auto: kernel",
        values.Choice(("auto", "kernel", *PACKET_BACKENDS)),
    )
    interface: str | None = _option(
        None,
        "network interface of a packet backend; tap: created when there is none of that name",
        values.text,
        metavar="NAME",
        shown="usnet0 for tap",
    )
    address: tuple[str, ...] = _option(
        (),
        "an address of our own for a packet backend, with its prefix; may be given several times; without one, afxdp "
        "shares those of the interface with the kernel",
        values.own_address,
        metavar="CIDR",
        shown="none",
        repeated=True,
    )
    outgoing_ports: tuple[int, int] | None = _option(
        None,
        "ports for connections that are opened from an address that is shared with the kernel; reserved while the "
        "server is there",
        values.ports,
        metavar="LO-HI",
        shown="none",
    )
    gateway: tuple[str, ...] = _option(
        (),
        "router to networks beyond the link, for a packet backend; one for IPv4, one for IPv6, where router "
        "advertisements are taken too",
        values.host_address,
        metavar="ADDRESS",
        shown="none",
        repeated=True,
    )
    require: tuple[str, ...] = _option(
        (),
        "what a packet backend must have, or the server does not start: the card uses the frames itself, the program "
        "is in its driver, the frames lie in huge pages; may be given several times",
        values.Choice(REQUIREMENTS),
        shown="none",
        repeated=True,
    )
    queues: int | None = _option(
        None,
        "number of shards; auto: as many as there are cores for",
        values.or_auto(values.whole(1, SHARDS_MAX)),
        metavar="N",
    )
    workers: int = _option(1, "worker processes per shard", values.whole(1, WORKERS_MAX), metavar="N")
    layout: str = _option(
        "split",
        "split: a network process and workers; inline: a worker polls the network itself, its connections end with it",
        values.Choice(("split", "inline")),
    )
    cores: tuple[int, ...] | None = _option(
        None, "cores that may be used, like 0,2,4-7", values.or_auto(values.cores), metavar="LIST"
    )
    poll: str = _option(
        "adaptive", "how an idle process waits: spin, sleep, or adapt", values.Choice(("adaptive", "busy", "sleep"))
    )
    tune: bool = _option(
        False,
        "change what else serving from a card goes better with, and put it back at the end: sizes of its rings, cores "
        "of its interrupts, RPS, the qdisc of a veth peer",
        values.switch,
    )
    backlog: int = _option(
        1024,
        "connections that may wait to be accepted, per listener",
        values.whole(1, 65535),
        metavar="N",
        engine="backlog",
    )
    max_connections: int | None = _option(
        None,
        "connections of the whole server; auto: as many as descriptors allow",
        values.or_auto(values.whole(1, CONNECTIONS_MAX)),
        metavar="N",
    )
    max_connections_per_peer: int = _option(
        0,
        "connections that one peer may have open in each shard, so --queues times as many in the server at most; more "
        "are reset at once; a peer is an IPv4 address or the /64 of an IPv6 address, and so is a load balancer; 0: any "
        "number",
        values.whole(0, CONNECTIONS_MAX),
        metavar="N",
        engine="max_connections_per_peer",
    )
    refuse_poisoners: bool = _option(
        False,
        "refuse a peer for a minute whose messages killed workers three times within one; a peer is what it is above, "
        "so this is not for servers behind a load balancer",
        values.switch,
        engine="refuse_poisoners",
    )
    idle_timeout: float = _option(
        0.0,
        "close a connection that was silent for so many seconds; 0: never",
        values.seconds,
        metavar="SECONDS",
        engine="idle_timeout_ns",
    )
    send_timeout: float = _option(
        0.0,
        "reset a connection of whose waiting output the peer took nothing for so many seconds; 0: never",
        values.seconds,
        metavar="SECONDS",
        engine="send_timeout_ns",
    )
    keepalive: int = _option(
        120,
        "probe a peer that was silent for so many seconds; when it stays silent as long again, the connection ends; "
        "0: never",
        values.whole(0, KEEPALIVE_MAX),
        metavar="SECONDS",
    )
    state_bytes: int = _option(
        64,
        "room for conn.state, per connection; a multiple of 64, 4096 at most",
        values.whole(64, STATE_BYTES_MAX, 64),
        metavar="BYTES",
    )
    buffer_limit: int = _option(
        256,
        "MiB of output that may wait in a worker for slow peers, and as many of input for slow callbacks",
        values.whole(1, BUFFER_MIB_MAX),
        metavar="MIB",
    )
    spares: int = _option(1, "warm workers that wait to replace a dead one", values.whole(0, 16), metavar="N")
    start_timeout: float = _option(
        60.0,
        "seconds that a worker gets to import the application and run on_warm, as many for on_start; a reload whose "
        "code takes longer is refused",
        values.positive_seconds,
        metavar="SECONDS",
        live=True,
    )
    reload_overlap: float = _option(
        60.0,
        "seconds that a worker serves beside its successor, for connections that are not finished, before it "
        "has to leave",
        values.seconds,
        metavar="SECONDS",
        live=True,
    )
    reload_probation: float = _option(
        10.0,
        "seconds after a reload in which it is rolled back when three workers of the new code die before 100 commits, "
        "and in which usnet-ctl rollback can go back; 0: none",
        values.seconds,
        metavar="SECONDS",
    )
    graceful_timeout: float = _option(
        10.0,
        "seconds that connections get to finish when the server stops, callbacks when it reloads",
        values.seconds,
        metavar="SECONDS",
        live=True,
    )
    callback_timeout: float = _option(
        30.0,
        "seconds without progress after which a worker hangs, and is reported with its Python stack; new connections "
        "go to other workers after one second; 0: neither",
        values.seconds,
        metavar="SECONDS",
        live=True,
    )
    callback_kill: str = _option(
        "on",
        "whether a worker that hangs is killed: its connections go on, that event is put into quarantine",
        values.Choice(("on", "off")),
        live=True,
    )
    quarantine: str = _option(
        "quarantine", "folder for events that killed two workers, or in which one hung", values.text, metavar="PATH"
    )
    metrics: str = _option(
        "127.0.0.1:9464",
        "where /metrics, /healthz and /readyz are served, or off",
        values.endpoint_or_off,
        metavar="HOST:PORT",
    )
    control: str = _option(
        default_control_path,
        "the control socket that usnet-ctl speaks to, or off; a folder that is missing is made for the default alone",
        values.text,
        metavar="PATH",
        shown="/run/usnet/control.sock (root), else in $XDG_RUNTIME_DIR/usnet or /tmp/usnet-UID",
    )
    user: str | None = _option(
        None,
        "user whom network processes and workers run as, without capabilities, by name or number; the server has to be "
        "started as root, or as that user",
        values.text,
        metavar="USER",
        shown="the user who starts the server",
    )
    group: str | None = _option(
        None, "their group, by name or number", values.text, metavar="GROUP", shown="that of --user"
    )
    debuggable: bool = _option(
        False, "debuggers, and others of the same user, may open the memory and descriptors of workers", values.switch
    )
    syscalls: str = _option(
        "refuse",
        "what becomes of system calls that a network process has no use for: refuse and count them, kill it, or any",
        values.Choice(("refuse", "kill", "any")),
    )
    log_level: str = _option(
        "info", "the least severe records to log", values.Choice(("debug", "info", "warning", "error")), live=True
    )
    log_format: str = _option("text", "how records are written", values.Choice(("text", "json")), live=True)
    check: bool = _option(False, "print the plan, try what it needs privileges for, and exit", values.switch)

    @classmethod
    def from_command_line(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Config:
        """Options of a command line (without the program's name), the environment and the file they name.

        Raises UsageError. `--help` and `--version` print and exit 0, as argparse does.
        """
        flags = _parse_flags(argv)
        path = flags.pop("config", None) or environ.get(ENVIRONMENT_PREFIX + "CONFIG")
        given = _values_of_file(path) if path else {}
        given |= _values_of_environment(environ)
        given |= _values_of_flags(flags)
        if "app" not in given:
            raise UsageError(
                "no application was given: usnet-serve MODULE:ATTRIBUTE, e.g. usnet-serve examples.echo:Echo"
            )
        return cls._checked(given)

    @classmethod
    def from_values(cls, **given: Any) -> Config:
        """Options given from code, by the names of the fields; None stands for the default. Raises UsageError."""
        fields = {option.field: option for option in options()}
        parsed = {}
        for name, value in given.items():
            if name not in fields:
                raise UsageError(f"{name}=: unknown option{nearest(name, fields)}")
            if value is not None:
                parsed[name] = _parse_plain(fields[name], value, f"{name}=")
        return cls._checked(parsed)

    @classmethod
    def _checked(cls, given: Mapping[str, Any]) -> Config:
        if given.get("backend") in PACKET_BACKENDS and "bind" not in given:
            given = {**given, "bind": PACKET_BIND}
        config = cls(**given)
        if config.layout == "inline" and config.workers > 1:
            raise UsageError(
                f"--layout inline has one worker per shard, not --workers {config.workers}: raise --queues instead"
            )
        return config

    def engine_options(self) -> dict[str, int]:
        """Those that the engine takes as they are, by its names."""
        named = {field.metadata["engine"]: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _engine_number(name, value) for name, value in named.items() if name}

    def transport(self) -> str:
        """The backend that will carry the connections. UsageError when other options do not go with it."""
        if self.tune and self.backend not in CARD_BACKENDS:
            raise UsageError(
                f"--tune: --backend {self.backend} has no card to tune; add --backend afxdp, or leave --tune out"
            )
        if self.outgoing_ports is not None and (self.backend not in PACKET_BACKENDS or self.address):
            raise UsageError(
                "--outgoing-ports {}-{}: is for addresses that are shared with the kernel: "
                "--backend afxdp without --address".format(*self.outgoing_ports)
            )
        if self.backend in PACKET_BACKENDS:
            return self.backend
        if self.require:
            raise UsageError(f"--require {self.require[0]}: the kernel backend has no such thing: add --backend afxdp")
        packet = {"interface": self.interface, "address": ",".join(self.address), "gateway": ",".join(self.gateway)}
        for name, value in packet.items():
            if value:
                raise UsageError(
                    f"--{name} {value}: the kernel backend does not take it: add --backend afxdp for a network card, "
                    "or tap; or name the address in --bind"
                )
        return "kernel"


def options() -> tuple[Option, ...]:
    """All options, in the order in which they are documented."""
    return tuple(_option_of(field) for field in dataclasses.fields(Config))


def _engine_number(name: str, value: float) -> int:
    """Durations are seconds here and nanoseconds there."""
    return round(value * 1e9) if name.endswith("_ns") else int(value)


def _option_of(field: dataclasses.Field[Any]) -> Option:
    default = None if field.default is dataclasses.MISSING else field.default
    parse = field.metadata["parse"]
    return Option(
        field=field.name,
        parse=parse,
        help=field.metadata["help"],
        metavar="|".join(parse.names) if isinstance(parse, values.Choice) else field.metadata["metavar"],
        default=default,
        default_text=field.metadata["shown"] or _default_text(default),
        repeated=field.metadata["repeated"],
        live=field.metadata["live"],
    )


def _default_text(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(default)
    if isinstance(default, bool):
        return "on" if default else "off"
    return "auto" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each `USNET_…` variable that is no option. They are reported, not refused: orchestrators put
    variables of their own making into the environment of a service called usnet."""
    known = [option.variable for option in options()] + [ENVIRONMENT_PREFIX + "CONFIG"]
    return [
        f"{name}: unknown variable, ignored{nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    ]


def option_table() -> str:
    """The table of all options, in Markdown."""
    rows = ["| Flag | Environment | Default | Meaning |", "| --- | --- | --- | --- |"]
    for option in options():
        flag = option.metavar if option.positional else f"{option.flag} {option.metavar}".strip().replace("|", "\\|")
        default = f"`{option.default_text}`" if option.default_text else "required"
        rows.append(f"| `{flag}` | `{option.variable}` | {default} | {option.help} |")
    return "\n".join(rows)


# The command line.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _parser() -> _Parser:
    parser = _Parser(
        prog="usnet-serve",
        description="Serve a handler class over TCP or unix sockets; its connections outlive its processes.",
        epilog="Every option is also an environment variable (--app-dir: USNET_APP_DIR) and a key of the --config file "
        "(app-dir). Exit codes: 0 stopped cleanly, 2 wrong usage, 3 could not start.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for option in options():
        text = option.help.replace("%", "%%")
        if option.default_text and not option.switch:
            text += f" (default: {option.default_text})"
        if option.positional:
            parser.add_argument(option.field, nargs="?", metavar=option.metavar, help=text)
        elif option.switch:
            parser.add_argument(option.flag, dest=option.field, action=argparse.BooleanOptionalAction, help=text)
        else:
            action = "append" if option.repeated else "store"
            parser.add_argument(option.flag, dest=option.field, action=action, metavar=option.metavar, help=text)
    parser.add_argument("--config", metavar="FILE", help="TOML file with options")
    parser.add_argument("--version", action="version", version=f"usnet-serve {VERSION}")
    return parser


def _parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    parser = _parser()
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError(_unknown_argument(unknown[0]))
    return vars(namespace)


def _unknown_argument(argument: str) -> str:
    if not argument.startswith("-"):
        return f"{argument!r}: one application is served at a time"
    flag = argument.split("=")[0]
    return f"{flag}: unknown option{nearest(flag, [option.flag for option in options()] + ['--config', '--version'])}"


def _values_of_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {
        option.field: _parse_plain(option, flags[option.field], option.metavar if option.positional else option.flag)
        for option in options()
        if option.field in flags
    }


def _values_of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        option.field: _parse_plain(option, environ[option.variable], option.variable)
        for option in options()
        if option.variable in environ
    }


def _values_of_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}; give a TOML file that this user may read") from None
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python reads
        raise UsageError(f"{path}: not TOML: {error}") from None
    known = {option.key: option for option in options()}
    given = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{path}: {key}: unknown key{nearest(key, known)}")
        given[known[key].field] = _parse_plain(known[key], value, f"{path}: {key}")
    return given


def _parse_plain(option: Option, value: Any, source: str) -> Any:
    """The value of an option from what a flag, a variable, a file or a caller gave. UsageError names the source."""
    if not option.repeated:
        return _parse_one(option, _as_text(value), source)
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, Mapping):
        items = [value]
    if isinstance(option.parse, values.Choice):  # a name holds no comma
        items = ",".join(map(_as_text, items)).split(",")
    parsed = tuple(_parse_one(option, _as_text(item).strip(), source) for item in items)
    if not parsed:
        raise UsageError(f"{source}: is empty; give at least one")
    return parsed


def _parse_one(option: Option, text: str, source: str) -> Any:
    try:
        return option.parse(text)
    except ValueError as expected:
        raise UsageError(f"{source}: {text!r} was given; expected {expected}") from None


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value) if not isinstance(value, os.PathLike) else os.fspath(value)
