"""What the processes of a server may do, from their first moment to that of those who replace them (P14)."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.credentials import AS_OTHER, OTHER, USER, credentials, is_closed
from support.privilege import needs_other_users
from support.prying import WAYS, ways_into
from support.server import Serve, Server, free_port, run, title

from usnet_framework.config import Config
from usnet_framework.shards.privileges import networks_finding, syscalls_finding

ECHO = "examples.echo:Echo"
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])
IN_TESTS = ("--app-dir", "tests")
SILENT = ("--metrics", "off", "--control", "off")

class Processes(NamedTuple):
    """Numbers of those of a server; inline there are neither networks nor keepers."""

    networks: list[int]
    keepers: list[int]
    workers: list[int]
    spares: list[int]
    zygotes: list[int]

    @property
    def all(self) -> list[int]:
        return [pid for pids in self for pid in pids]


def processes(server: Server) -> Processes:
    status = server.status()
    keepers = [shard["keeper_pid"] for shard in status["shards"] if shard["keeper_pid"]]
    workers = [worker.pid for worker in server.workers()]
    return Processes(server.network_pids(), keepers, workers, status["spares"], status["zygotes"])


def settled(server: Server) -> Processes:
    """Once there are a spare and a zygote, which have given up what they were started with."""

    def all_there() -> Processes | None:
        found = processes(server)
        titles = [title(pid) for pid in (*found.spares, *found.zygotes)]
        return found if titles == ["usnet: spare", "usnet: zygote"] else None

    return server.wait("spare and zygote are ready", all_there)


def exchange(client: socket.socket, text: bytes = b"hello") -> None:
    client.sendall(text)
    assert client.recv(len(text), socket.MSG_WAITALL) == text


def killed(server: Server, pid: int) -> None:
    """And all that follows is done: another is in its place."""
    before = settled(server)
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        found = settled(server)
        return pid not in found.all and [*map(len, found)] == [*map(len, before)]

    server.wait("another is there", replaced)
    server.wait("the server is ready", lambda: server.get("/readyz")[0] == 200)


def assert_harmless(pids: list[int]) -> None:
    for pid in pids:
        found = credentials(pid)
        assert (found.users, found.capabilities, found.no_new_privileges) == ({USER}, 0, True), title(pid)
        assert is_closed(pid), title(pid)


# With --user.


@needs_other_users
@LAYOUTS
def test_every_process_is_of_the_user_and_so_is_every_replacement(serve: Serve, layout: str) -> None:
    with serve(ECHO, "--queues", "1", "--layout", layout, *AS_OTHER) as server:
        before = settled(server)
        assert len(before.all) == (5 if layout == "split" else 3)
        assert_harmless(before.all)
        for pid in (*before.networks, *before.workers, *before.zygotes, *before.keepers):
            killed(server, pid)
        after = settled(server)
        assert not set(after.all) & (set(before.all) - set(before.spares))
        assert_harmless(after.all)
        with server.connect() as client:
            exchange(client)


@needs_other_users
def test_groups_are_those_of_the_user_and_none_of_root(tmp_path: Path) -> None:
    with Server(ECHO, "--queues", "1", *AS_OTHER, "--group", "daemon") as server:
        found = settled(server)
        (daemon,) = credentials(found.workers[0]).groups - set(os.getgrouplist(OTHER.pw_name, OTHER.pw_gid))
        assert daemon != 0
        assert credentials(found.networks[0]).groups == {daemon}


@needs_other_users
@LAYOUTS
def test_the_application_is_imported_by_the_user_and_finds_its_files(layout: str) -> None:
    with Server("support.who:Who", *IN_TESTS, "--layout", layout, *AS_OTHER) as server, server.connect() as client:
        answer = client.makefile("rb").read().decode()
    assert answer == f"{OTHER.pw_uid} {OTHER.pw_name} {OTHER.pw_name} {OTHER.pw_dir}"


@needs_other_users
@LAYOUTS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server_with_a_user(layout: str, number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with Server(ECHO, "--layout", layout, *AS_OTHER, "--bind", f"unix:{path}", stop=False) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            exchange(client)
        os.kill(server.pid, number)
        server.wait("the file is removed", lambda: not path.exists())


@needs_other_users
def test_a_reload_and_doctor_with_a_user() -> None:
    with Server(ECHO, "--queues", "1", *AS_OTHER) as server:
        assert server.ask("reload") == "reloaded 1 worker"
        assert_harmless(settled(server).all)
        assert doctor(server, "user of workers")["in_force"] == OTHER.pw_name


@needs_other_users
def test_an_application_that_the_user_may_not_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "secret.py").write_text("")
    line = refused(3, "secret:App", "--app-dir", str(tmp_path), *AS_OTHER)
    assert "no module named 'secret'" in line
    assert f"user {OTHER.pw_uid} may not read that folder" in line


# Without.


def doctor(server: Server, what: str) -> dict[str, Any]:
    (finding,) = (finding for finding in server.ask("doctor") if finding["what"] == what)
    return finding


@LAYOUTS
def test_network_processes_have_no_capabilities_and_workers_what_the_server_has(layout: str) -> None:
    with Server(ECHO, "--queues", "1", "--layout", layout) as server:
        there = settled(server)
        for pid in (*there.networks, *there.keepers):
            found = credentials(pid)
            assert (found.users, found.capabilities, found.no_new_privileges) == ({os.geteuid()}, 0, True), title(pid)
        own = credentials(os.getpid())
        for pid in (*there.workers, *there.spares, *there.zygotes):
            assert credentials(pid) == own, title(pid)


def test_root_is_told_that_workers_need_no_privileges() -> None:
    with Server(ECHO, "--queues", "1") as server:
        finding = doctor(server, "user of workers")
        line = "user of workers: any asked, root in force: the server was started as root, and so run the workers; "
        assert (line in server.log) == (finding["in_force"] == "root") == (os.geteuid() == 0)


# Closed to others of the same user. As root they are told apart by capabilities alone.


@LAYOUTS
def test_no_process_is_open_to_another_of_its_user(layout: str) -> None:
    with Server(ECHO, "--queues", "2", "--layout", layout, *AS_OTHER) as server:
        everyone = {pid: title(pid) for pid in (*settled(server).all, server.pid)}
        assert len(everyone) == (9 if layout == "split" else 5)
        assert {everyone[pid]: ways for pid, ways in ways_into(USER, everyone).items() if ways} == {}


def test_debuggable_workers_are_open_and_nothing_else_is() -> None:
    with Server(ECHO, "--queues", "1", "--debuggable", *AS_OTHER) as server:
        found = settled(server)
        ways = ways_into(USER, [*found.all, server.pid])
    for pid in (*found.workers, *found.spares, *found.zygotes):
        assert ways.pop(pid) == list(WAYS)
    assert list(ways.values()) == [[], [], []]


@needs_other_users
def test_a_network_process_with_capabilities_is_told() -> None:
    found = networks_finding([os.getpid()])
    assert (found.ok, found.in_force) == (False, f"some: {os.getpid()}")


# System calls.


@pytest.mark.parametrize(("asked", "filters"), [("refuse", 2), ("any", 0)])
def test_network_processes_make_the_calls_that_they_have_a_use_for(serve: Serve, asked: str, filters: int) -> None:
    with serve(ECHO, "--queues", "1", "--syscalls", asked) as server, server.connect() as client:
        exchange(client)
        for pid in processes(server).networks:
            killed(server, pid)
        found = settled(server)
        assert [credentials(pid).seccomp for pid in found.networks] == [filters]
        assert {credentials(pid).seccomp for pid in (*found.keepers, *found.workers, *found.spares)} == {0}
        finding = doctor(server, "system calls")
        assert (finding["asked"], finding["in_force"], finding["ok"]) == (asked, asked, True)
        assert server.metrics()["usnet_syscalls_refused_total"] == 0


def test_inline_any_system_call_is_made() -> None:
    with Server(ECHO, "--queues", "1", "--layout", "inline") as server:
        assert {credentials(pid).seccomp for pid in processes(server).workers} == {0}
        assert doctor(server, "system calls")["in_force"] == "any"


def test_refused_calls_and_filters_that_are_not_there_are_findings() -> None:
    config = Config(app="a:A")
    own = [os.getpid()]  # has none
    assert str(syscalls_finding(config, [], refused=3)) == (
        "system calls: refuse asked, refuse in force: 3 calls of network processes were refused; "
        "the log has the number of the first; report it; --syscalls any lets them be made"
    )
    assert syscalls_finding(config, own, refused=0).in_force == "any"
    assert syscalls_finding(config, [], refused=0).ok


# Refusals.


def refused(code: int, *args: str, prefix: tuple[str, ...] = ()) -> str:
    done = run("usnet-serve", *args, "--bind", f"tcp://127.0.0.1:{free_port()}", *SILENT, prefix=prefix)
    assert done.returncode == code, done.stderr
    return done.stderr.splitlines()[-1]


def test_users_and_groups_that_are_not_there() -> None:
    for user in ("no-such-user", "4000000000", "99999999999999"):
        assert f"--user {user}: there is no such user" in refused(3, ECHO, "--user", user)
    assert "--group no-such-group: there is no such group" in refused(
        3, ECHO, "--user", OTHER.pw_name, "--group", "no-such-group"
    )
    assert "--group daemon: is the group of --user" in refused(2, ECHO, "--group", "daemon")


@needs_other_users
def test_a_user_that_cannot_be_become() -> None:
    prefix = ("setpriv", "--bounding-set", "-setuid,-kill", "--inh-caps", "-setuid,-kill")
    line = refused(3, ECHO, "--user", OTHER.pw_name, prefix=prefix)
    assert line.endswith("this process lacks CAP_KILL, CAP_SETUID; start it as root, or leave --user out")
