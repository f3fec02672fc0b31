"""Sockets that systemd passes: served where a bind names them, and never left listening to nobody without a word."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from support.manager import activated
from support.server import Server, run

from usnet_framework.errors import UsageError
from usnet_framework.shards import activation
from usnet_framework.shards.listeners import parse_binds

ECHO = "examples.echo:Echo"
SILENT = ("--metrics", "off", "--control", "off")


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Three: two that listen, and one of datagrams."""
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        yield [*streams, opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))]


def refusal(listeners: list[socket.socket], *arguments: str) -> str:
    fds = [listener.fileno() for listener in listeners]
    done = run("usnet-serve", ECHO, *SILENT, *arguments, prefix=activated(*listeners), pass_fds=fds)
    assert done.returncode == 2, done
    (line,) = done.stderr.splitlines()
    return line


def served(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, 10) as client:
        client.sendall(b"hello")
        return client.recv(5, socket.MSG_WAITALL)


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_sockets_that_no_bind_names_are_wrong_usage(listeners: list[socket.socket], check: list[str]) -> None:
    assert refusal(listeners[:1], *check) == (
        "usnet-serve: LISTEN_FDS: systemd passed a socket, and no --bind names one: its clients would wait for ever; "
        "add --bind fd:3"
    )
    assert refusal(listeners, "--bind", "tcp://127.0.0.1:0", *check).endswith("add --bind fd:3 --bind fd:4")


def test_a_socket_that_is_named_is_served_and_of_the_other_it_is_said(listeners: list[socket.socket]) -> None:
    fds = [listener.fileno() for listener in listeners]
    with Server(ECHO, "--bind", "fd:4", "--queues", "1", prefix=activated(*listeners), pass_fds=fds) as server:
        assert served(listeners[1].getsockname()) == b"hello"
        assert "sockets of systemd: fd:3 asked, not served in force: no --bind names them" in server.log
        (finding,) = [one for one in server.ask("doctor") if one["what"] == "sockets of systemd"]
        assert (finding["ok"], finding["asked"]) == (False, "fd:3")


def test_all_are_served(listeners: list[socket.socket]) -> None:
    fds = [listener.fileno() for listener in listeners]
    binds = ["--bind", "fd:3", "--bind", "fd:4"]
    with Server(ECHO, *binds, "--queues", "1", prefix=activated(*listeners), pass_fds=fds) as server:
        assert [served(listener.getsockname()) for listener in listeners[:2]] == [b"hello"] * 2
        assert "sockets of systemd" not in server.log


def test_sockets_of_another_process_are_none_of_ours() -> None:
    binds = parse_binds(["tcp://127.0.0.1:0"])
    for environ in ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "1"}, {}):
        assert activation.unserved(binds, environ) == []


@pytest.mark.parametrize("count", ["", "-1", "many", "0"])
def test_a_count_that_is_none_passes_nothing(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "_listens", lambda fd: True)
    environ = {"LISTEN_FDS": count, "LISTEN_PID": str(activation.os.getpid())}
    assert activation.unserved(parse_binds(["tcp://127.0.0.1:0"]), environ) == []
    environ["LISTEN_FDS"] = "1"
    with pytest.raises(UsageError, match="systemd passed a socket"):
        activation.unserved(parse_binds(["tcp://127.0.0.1:0"]), environ)
