"""The control socket: questions and answers, and clients that speak nonsense."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.privilege import needs_other_users
from support.server import wait

from usnet_framework.config import default_control_path
from usnet_framework.errors import ControlError, ServerGone, StartupError
from usnet_framework.shards import control
from usnet_framework.shards.unixpath import make_private


async def answer() -> dict[str, Any]:
    return {"pid": 7}


async def refuse() -> None:
    raise StartupError("no, because")


async def fail() -> None:
    raise KeyError("a mistake of ours")


async def answer_with_what_cannot_be_sent() -> object:
    return object()


async def numbers() -> AsyncIterator[list[int]]:
    for number in range(3):
        yield [number]


async def list_numbers() -> control.Parts:
    return control.Parts(numbers())


async def list_nothing() -> control.Parts:
    return control.Parts(no_numbers())


async def no_numbers() -> AsyncIterator[list[int]]:
    for number in ():
        yield [number]


async def fail_in_the_middle() -> AsyncIterator[list[int]]:
    yield [1]
    raise ControlError("that was all")


async def begin_a_list() -> control.Parts:
    return control.Parts(fail_in_the_middle())


COMMANDS = {
    "status": answer,
    "reload": refuse,
    "doctor": fail,
    "conns": answer_with_what_cannot_be_sent,
    "routes": list_numbers,
    "addr": list_nothing,
    "neigh": begin_a_list,
}


def with_server(path: Path, scenario: Callable[[], Any]) -> Any:
    """Run the scenario in a thread while a server answers at the path."""

    async def run() -> Any:
        server = control.ControlServer(control.listen(str(path)), COMMANDS)
        await server.start()
        try:
            return await asyncio.to_thread(scenario)
        finally:
            server.close()

    return asyncio.run(run())


def raw(path: Path, sent: bytes) -> bytes:
    """What the server says to these bytes before it hangs up."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while part := client.recv(65536):
            received += part
        return received


def test_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    assert with_server(path, lambda: control.request(str(path), "status")) == {"pid": 7}
    assert not path.exists()


def test_a_list_comes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    assert with_server(path, lambda: list(control.stream(str(path), "routes"))) == [[0], [1], [2], []]
    assert with_server(path, lambda: control.request(str(path), "routes")) == [0, 1, 2]
    assert with_server(path, lambda: control.request(str(path), "addr")) == []


def test_a_list_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path, seen = tmp_path / "c.sock", []

    def scenario() -> None:
        for part in control.stream(str(path), "neigh"):
            seen.append(part)

    with pytest.raises(ControlError, match="neigh: that was all"):
        with_server(path, scenario)
    assert seen == [[1]]


def test_the_next_part_is_made_when_the_last_one_was_taken(tmp_path: Path) -> None:
    path, made = tmp_path / "c.sock", [0]

    async def endless() -> AsyncIterator[list[bytes]]:
        while True:
            made[0] += 1
            yield [bytes(1 << 20)]

    async def begin() -> control.Parts:
        return control.Parts(endless())

    async def run() -> None:
        server = control.ControlServer(control.listen(str(path)), {"status": answer, "conns": begin})
        await server.start()
        _reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 10)
        writer.write(control._frame({"command": "conns"}))
        await asyncio.to_thread(wait, "the first is made", lambda: made[0] > 0)
        for _ in range(100):
            assert await asyncio.to_thread(control.request, str(path), "status") == {"pid": 7}
        assert made[0] < 10
        writer.close()
        server.close()

    asyncio.run(run())


def endless_list(ended: list[int]) -> Callable[[], Any]:
    """A command; the first part of its list is taken at once."""

    async def endless() -> AsyncIterator[list[Any]]:
        try:
            yield []
            while True:
                yield [bytes(1 << 20)]
        finally:
            ended.append(1)

    async def begin() -> control.Parts:
        return control.Parts(endless())

    return begin


def test_a_list_that_is_left_unread_is_given_up_and_its_reader_hears_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PART_TIMEOUT_S", 0.05)
    path, ended = tmp_path / "c.sock", []
    monkeypatch.setitem(COMMANDS, "conns", endless_list(ended))

    def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(path))
            silent.sendall(control._frame({"command": "conns"}))
            assert hung_up(silent)  # whatever it had still to take
        parts = control.stream(str(path), "conns")
        assert next(parts) == []
        began_s = time.monotonic()
        wait("it is given up", lambda: len(ended) == 2 and time.monotonic() - began_s > control.PART_TIMEOUT_S)
        for _ in parts:
            pass

    with pytest.raises(ControlError, match=r"the list was not read for 0\.05 s; ask again") as refusal:
        with_server(path, scenario)
    assert not isinstance(refusal.value, ServerGone)


def hung_up(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, 0)
    return [event for _, event in poll.poll(30_000)] == [select.POLLHUP]


def test_a_server_that_ends_while_a_list_is_read_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await control._read(reader)
        writer.write(control._frame({"ok": True, "part": [1]}))
        writer.close()

    async def run() -> None:
        async with await asyncio.start_unix_server(speak, str(path)):
            await asyncio.to_thread(control.request, str(path), "stack")

    with pytest.raises(ServerGone):
        asyncio.run(run())


def test_lists_leave_half_of_the_places_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENTS_MAX", 4)
    monkeypatch.setitem(COMMANDS, "conns", endless_list([]))
    path = tmp_path / "c.sock"

    def scenario() -> None:
        lists = [control.stream(str(path), "conns") for _ in range(2)]
        for each in lists:
            assert next(each) == []
        with pytest.raises(ControlError, match="conns: 2 others are reading lists; try again"):
            next(control.stream(str(path), "conns"))
        assert control.request(str(path), "status") == {"pid": 7}
        lists[0].close()  # type: ignore[attr-defined]
        wait("its place is free", lambda: listed(path))
        lists[1].close()  # type: ignore[attr-defined]

    with_server(path, scenario)


def listed(path: Path) -> bool:
    try:
        return next(control.stream(str(path), "conns")) == []
    except ControlError:
        return False


@pytest.mark.parametrize("given", [{"where": 1}, {"details": "yes"}])
def test_what_goes_with_a_command_has_its_type(tmp_path: Path, given: dict[str, Any]) -> None:
    path = tmp_path / "c.sock"
    with pytest.raises(ControlError, match=f"conns: {next(iter(given))} is no (str|bool)"):
        with_server(path, lambda: control.request(str(path), "conns", **given))


def test_a_server_that_is_gone_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(ServerGone):
        control.request(str(tmp_path / "c.sock"), "status")
    with pytest.raises(ControlError) as refusal:
        with_server(tmp_path / "c.sock", lambda: control.request(str(tmp_path / "c.sock"), "reload"))
    assert not isinstance(refusal.value, ServerGone)


def test_only_the_folder_of_the_default_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for its owner alone. Others are named by people, who may have misspelt them."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    default, folder = default_control_path(), tmp_path / "runtime/usnet"
    control.try_path(default)
    assert not folder.exists()
    control.listen(default).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for attempt in (control.try_path, control.listen):
        with pytest.raises(StartupError, match="there is no folder"):
            attempt(f"{tmp_path}/other/c.sock")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("reload", "reload: no, because"),
        ("dance", "dance: unknown command; known are status, reload, doctor, conns, routes, addr, neigh"),
        ("doctor", "doctor: the server failed to answer (KeyError); its log says more"),
        ("conns", "conns: the server failed to answer (TypeError); its log says more"),
    ],
)
def test_a_refusal(tmp_path: Path, command: str, line: str) -> None:
    path = tmp_path / "c.sock"
    with pytest.raises(ControlError) as refusal:
        with_server(path, lambda: control.request(str(path), command))
    assert str(refusal.value) == line


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\xc1", b"\xff\xff\xff\xff"])
def test_nonsense_is_hung_up_on_and_others_are_answered(tmp_path: Path, sent: bytes) -> None:
    path = tmp_path / "c.sock"

    def scenario() -> Any:
        assert raw(path, sent) == b""
        return control.request(str(path), "status")

    assert with_server(path, scenario) == {"pid": 7}


def test_a_request_that_is_no_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    assert b"unknown command" in with_server(path, lambda: raw(path, b"\0\0\0\1\x07"))


def test_a_path_where_a_server_answers(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    def second() -> None:
        with pytest.raises(StartupError, match="another server is listening there"):
            control.listen(str(path))

    with_server(path, second)


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with pytest.raises(ControlError, match="there is no server"):
        control.request(str(path), "status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ControlError, match="it was killed, or is stopping"):
        control.request(str(path), "status")


def test_a_server_that_ends_before_it_accepts_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    listener = control.listen(str(path))

    async def run() -> None:
        asked = asyncio.create_task(asyncio.to_thread(control.request, str(path), "status"))
        await asyncio.to_thread(select.select, [listener.socket], [], [])
        listener.close()
        await asked

    with pytest.raises(ServerGone, match="it was killed, or is stopping"):
        asyncio.run(run())


def test_something_else_answers(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(speak, str(path))
        async with server:
            await asyncio.to_thread(control.request, str(path), "status")

    with pytest.raises(ControlError, match="no usnet server answers there"):
        asyncio.run(run())


@pytest.mark.parametrize("packet", [b"", b"\xc1", b"\x01", b"\x80", b"\x81\xa2ok\xc3", b"\x81\xa2ok\xc2", b"\x90\x90"])
def test_an_answer_that_is_none(tmp_path: Path, packet: bytes) -> None:
    path = tmp_path / "c.sock"

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(control.LENGTH.pack(len(packet)) + packet)
        await reader.read()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_unix_server(speak, str(path)):
            await asyncio.to_thread(control.request, str(path), "status")

    with pytest.raises(ControlError, match="no usnet server answers there"):
        asyncio.run(run())


def test_clients_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENTS_MAX", 2)
    path = tmp_path / "c.sock"

    def scenario() -> Any:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for client in silent:
            client.connect(str(path))
        with pytest.raises(ControlError, match="status: 2 others are asking; try again"):
            control.request(str(path), "status")
        for client in silent:
            client.close()
        return wait("they are gone", lambda: asked(path))

    assert with_server(path, scenario) == {"pid": 7}


def asked(path: Path) -> Any:
    try:
        return control.request(str(path), "status")
    except ControlError:
        return None


def test_who_asks_without_end_leaves_others_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    question = control._frame({"command": "status"})

    async def run() -> int:
        server = control.ControlServer(control.listen(str(path)), {"status": answer})
        await server.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(question * 1000)
        reply, turns = len(control._frame({"ok": True, "result": {"pid": 7}})), 0
        answers = asyncio.create_task(reader.readexactly(reply * 1000))
        while not answers.done():
            await asyncio.sleep(0)
            turns += 1
        writer.close()
        server.close()
        return turns

    assert asyncio.run(run()) > 500


@pytest.mark.parametrize("command", ["status", "reload"])
def test_a_server_that_stands_still_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(control, "REPLY_TIMEOUT_S", 0.1)
    path = tmp_path / "c.sock"
    listener = control.listen(str(path))  # nobody accepts
    try:
        with pytest.raises(ControlError, match="the server does not answer"):
            control.request(str(path), command)
    finally:
        listener.close()


# Others on the machine.

OTHER = 65534


def test_folders_that_are_made_are_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_folder_where_anybody_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StartupError, match=f"anybody may write in its folder {folder}; use a path in a folder"):
        control.listen(str(folder / "c.sock"))
    assert not list(folder.iterdir())


def test_a_sticky_folder_and_a_link_of_our_own_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    (tmp_path / "link").symlink_to(folder)
    listener = control.listen(str(tmp_path / "link" / "c.sock"))
    assert (folder / "c.sock").is_socket()
    listener.close()


@needs_other_users
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, OTHER, OTHER)
    with pytest.raises(StartupError, match=f"its folder {folder} belongs to another user \\({OTHER}\\)"):
        control.listen(str(folder / "c.sock"))


@needs_other_users
def test_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    ours, link = tmp_path / "ours", tmp_path / "link"
    ours.mkdir(mode=0o700)
    link.symlink_to(ours)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(StartupError, match=f"its link {link} belongs to another user \\({OTHER}\\)"):
        control.listen(str(link / "c.sock"))


LISTEN = f"""
import os, socket, sys
os.setuid({OTHER})
listener = socket.socket(fileno=int(sys.argv[1]))
listener.listen()
print(flush=True)
sys.stdin.read()
"""


@needs_other_users
def test_a_socket_of_another_user_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        fd = listener.fileno()
        other = subprocess.Popen(
            [sys.executable, "-c", LISTEN, str(fd)], pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        monkeypatch.setattr(os, "geteuid", lambda: OTHER + 1)
        with pytest.raises(ControlError, match=f"another user \\({OTHER}\\) answers there"):
            control.request(str(path), "status")
        other.stdin.close()
