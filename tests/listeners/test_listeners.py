"""Listening sockets: what is opened, what is refused and in which words, and what is left behind."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.resolver import resolves_to

from usnet_framework.errors import StartupError, UsageError
from usnet_framework.shards.listeners import Bind, Listeners, open_listeners, parse_bind, parse_binds
from usnet_framework.shards.unixpath import PATH_BYTES_MAX, listen_unix


@pytest.fixture
def opened() -> Iterator[list[Listeners]]:
    """Listeners put here are closed at the end."""
    collected: list[Listeners] = []
    yield collected
    for listeners in collected:
        listeners.close()


def listen(opened: list[Listeners], *binds: str, shards: int = 1, environ: dict[str, str] | None = None) -> Listeners:
    opened.append(open_listeners([parse_bind(bind) for bind in binds], shards, 16, environ or {}))
    return opened[-1]


def port_of(listeners: Listeners) -> int:
    return int(listeners.open[0].sockets[0].getsockname()[1])


def refusal(*binds: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(StartupError) as caught:
        open_listeners([parse_bind(bind) for bind in binds], 2, 16, environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("tcp://127.0.0.1:7000", Bind("tcp://127.0.0.1:7000", "tcp", "127.0.0.1", 7000)),
        ("tcp://[::1]:7000", Bind("tcp://[::1]:7000", "tcp", "::1", 7000)),
        ("tcp://[fe80::1%eth0]:80", Bind("tcp://[fe80::1%eth0]:80", "tcp", "fe80::1%eth0", 80)),
        ("tcp://localhost:0", Bind("tcp://localhost:0", "tcp", "localhost", 0)),
        ("tcp://*:7000", Bind("tcp://*:7000", "tcp", "", 7000)),
        ("tcp://:7000", Bind("tcp://:7000", "tcp", "", 7000)),
        ("unix:/run/a.sock", Bind("unix:/run/a.sock", "unix", path="/run/a.sock")),
        ("fd:3", Bind("fd:3", "fd", fd=3)),
    ],
)
def test_parse(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@pytest.mark.parametrize(
    "text", ["", "7000", "1.2.3.4:70", "tcp://::1:70", "tcp://a:b:1", "tcp://h:", "udp://h:1", "unix:", "fd:x", "fd:-1"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(UsageError, match="expected tcp://HOST:PORT, unix:PATH or fd:N"):
        parse_bind(text)


def test_port_out_of_range() -> None:
    with pytest.raises(UsageError, match="port 70000 is above 65535"):
        parse_bind("tcp://h:70000")


def test_a_bind_that_is_given_twice() -> None:
    for text, again in {"tcp://*:80": "tcp://:80", "unix:/a": "unix:/a", "fd:3": "fd:03"}.items():
        with pytest.raises(UsageError, match=re.escape(f"--bind {again}: is given twice")):
            parse_binds([text, "tcp://h:1", again])
    assert len(parse_binds(["tcp://h:0", "tcp://h:0", "tcp://h:1", "tcp://i:1"])) == 4


def test_too_many_binds() -> None:
    with pytest.raises(UsageError, match="--bind: 65 addresses; at most 64 are possible"):
        parse_binds([f"tcp://h:{port}" for port in range(65)])


def test_each_shard_has_its_own_socket_on_the_same_port(opened: list[Listeners]) -> None:
    listeners = listen(opened, "tcp://127.0.0.1:0", shards=3)
    (listener,) = listeners.open
    assert len({each.fileno() for each in listener.sockets}) == 3
    assert len({each.getsockname() for each in listener.sockets}) == 1
    assert not listener.shared
    assert listeners.addresses == [f"tcp://127.0.0.1:{port_of(listeners)}"]


def test_accepted_connections_inherit_nodelay(opened: list[Listeners]) -> None:
    listeners = listen(opened, "tcp://127.0.0.1:0")
    with socket.create_connection(("127.0.0.1", port_of(listeners))):
        listeners.open[0].sockets[0].setblocking(True)
        accepted, _ = listeners.open[0].sockets[0].accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.parametrize("shards", [1, 2])
def test_port_in_use_by_another_server_of_ours(opened: list[Listeners], shards: int) -> None:
    port = port_of(listen(opened, "tcp://127.0.0.1:0", shards=shards))
    line = refusal(f"tcp://127.0.0.1:{port}")
    assert line == f"--bind tcp://127.0.0.1:{port}: the port is in use; stop who listens there or use another port"


def test_a_failure_closes_what_was_opened_before(opened: list[Listeners], tmp_path: Path) -> None:
    port = port_of(listen(opened, "tcp://127.0.0.1:0"))
    refusal(f"unix:{tmp_path}/a.sock", f"tcp://127.0.0.1:{port}")
    assert list(tmp_path.iterdir()) == []


def test_wildcard_is_dual_stack(opened: list[Listeners]) -> None:
    port = port_of(listen(opened, "tcp://[::]:0"))
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


def test_both_wildcards_on_one_port_get_along(opened: list[Listeners]) -> None:
    port = port_of(listen(opened, "tcp://0.0.0.0:0"))
    opened.pop().close()
    listeners = listen(opened, f"tcp://[::]:{port}", f"tcp://0.0.0.0:{port}")
    assert listeners.addresses == [f"tcp://[::]:{port}", f"tcp://0.0.0.0:{port}"]


def test_a_name_that_does_not_resolve() -> None:
    assert refusal("tcp://no-such-host.invalid:7000").startswith(
        "--bind tcp://no-such-host.invalid:7000: cannot resolve 'no-such-host.invalid': "
    )


def test_an_address_of_another_machine() -> None:
    assert refusal("tcp://192.0.2.1:7000") == (
        "--bind tcp://192.0.2.1:7000: this machine has no address 192.0.2.1; "
        "use one of its own, or 0.0.0.0 or [::] for all"
    )


@pytest.mark.parametrize("hosts", [("2001:db8::1", "127.0.0.1"), ("127.0.0.1", "2001:db8::1", "192.0.2.1")])
def test_addresses_that_the_machine_lacks_are_left_out(
    hosts: tuple[str, ...], opened: list[Listeners], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, *hosts)
    listeners = listen(opened, "tcp://several.example:0", shards=2)
    assert listeners.addresses == [f"tcp://127.0.0.1:{port_of(listeners)}"]
    assert [len(listener.sockets) for listener in listeners.open] == [2]
    (absent,) = listeners.absent
    assert absent.here == [f"127.0.0.1:{port_of(listeners)}"]
    assert absent.addresses == [f"[{host}]:0" if ":" in host else f"{host}:0" for host in hosts if host != "127.0.0.1"]


def test_a_machine_without_ipv6_leaves_it_out(opened: list[Listeners], monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "::1", "127.0.0.1")
    real = socket.socket

    def without_ipv6(family: int = socket.AF_INET, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    listeners = listen(opened, "tcp://both.example:0")
    assert listeners.absent[0].addresses == ["[::1]:0"]
    resolves_to(monkeypatch, "::1")
    assert "no addresses of this kind; use IPv4" in refusal("tcp://[::1]:7000")


def test_a_name_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "192.0.2.1", "2001:db8::1")
    assert refusal("tcp://other.example:7000") == (
        "--bind tcp://other.example:7000: this machine has no address other.example; "
        "use one of its own, or 0.0.0.0 or [::] for all"
    )


def test_another_trouble_with_an_address_of_a_name_is_refused(
    opened: list[Listeners], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(listen(opened, "tcp://127.0.0.2:0"))
    resolves_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    assert "the port is in use" in refusal(f"tcp://several.example:{port}")
    socket.create_server(("127.0.0.1", port)).close()  # what was opened before is closed


def test_refuse_stops_connections_but_keeps_the_descriptors(opened: list[Listeners], tmp_path: Path) -> None:
    listeners = listen(opened, "tcp://127.0.0.1:0", f"unix:{tmp_path}/a.sock", shards=2)
    port = port_of(listeners)
    listeners.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert all(each.fileno() >= 0 for listener in listeners.open for each in listener.sockets)
    assert list(tmp_path.iterdir()) == []


def test_unix_is_shared_between_shards(opened: list[Listeners], tmp_path: Path) -> None:
    listeners = listen(opened, f"unix:{tmp_path}/a.sock", shards=2)
    (listener,) = listeners.open
    assert listener.shared
    assert listener.sockets[0] is listener.sockets[1]
    assert listeners.paths == [tmp_path / "a.sock"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")


def test_a_stale_unix_socket_is_replaced(opened: list[Listeners], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/a.sock")
    listen(opened, f"unix:{tmp_path}/a.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")


def test_a_live_unix_socket_is_refused(opened: list[Listeners], tmp_path: Path) -> None:
    listen(opened, f"unix:{tmp_path}/a.sock")
    assert refusal(f"unix:{tmp_path}/a.sock") == (
        f"--bind unix:{tmp_path}/a.sock: another server is listening there; stop it or use another path"
    )
    assert (tmp_path / "a.sock").exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    assert "a file that is no socket is there" in refusal(f"unix:{tmp_path}/a")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path}/none; make it" in refusal(f"unix:{tmp_path}/none/a.sock")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    assert f"more than {PATH_BYTES_MAX} bytes" in refusal(f"unix:{tmp_path}/{'a' * 120}")


def test_closing_leaves_a_file_that_somebody_else_put_there(tmp_path: Path) -> None:
    listener = listen_unix(f"{tmp_path}/a.sock", 1, "test")
    os.unlink(listener.path)
    listener.path.write_text("another server's")
    listener.close()
    assert listener.path.read_text() == "another server's"


def test_mode_is_the_files_from_the_start(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        listener = listen_unix(f"{tmp_path}/a.sock", 1, "test", mode=0o600)
        assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
        assert os.umask(0) == 0
        listener.close()
    finally:
        os.umask(umask)


def test_an_inherited_listener_is_shared_and_survives_refuse(opened: list[Listeners]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        listeners = listen(opened, f"fd:{inherited.fileno()}", shards=2)
        assert listeners.open[0].shared
        port = inherited.getsockname()[1]
        assert listeners.addresses == [f"fd:{inherited.fileno()} (127.0.0.1:{port})"]
        listeners.refuse()
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_descriptor_that_does_not_listen() -> None:
    with socket.socket() as plain:
        assert "not a listening stream socket" in refusal(f"fd:{plain.fileno()}")
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        assert "not a listening stream socket" in refusal(f"fd:{datagram.fileno()}")


def test_a_descriptor_that_is_no_socket() -> None:
    read, write = os.pipe()
    assert "the descriptor is no socket" in refusal(f"fd:{read}")
    os.close(read)
    os.close(write)


def test_a_descriptor_that_is_not_open_explains_socket_activation() -> None:
    assert "no such descriptor was inherited; start the server with it open" in refusal("fd:900")
    assert f"LISTEN_PID is 1, this process is {os.getpid()}" in refusal(
        "fd:900", environ={"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    )
    assert "systemd passed fd:3 to fd:4" in refusal(
        "fd:900", environ={"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}
    )


def test_no_permission_for_a_low_port() -> None:
    assert refusal_as_nobody("tcp://127.0.0.1:1") == (
        "--bind tcp://127.0.0.1:1: no permission for port 1; "
        "use one above 1023, or give the server CAP_NET_BIND_SERVICE"
    )


def refusal_as_nobody(bind: str) -> str:
    """What a process without privileges is told."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        os.write(write, refusal(bind).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        line = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return line
