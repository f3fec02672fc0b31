"""`usnet-ctl upgrade`: another engine goes on with all connections open, or the one in office does."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest
from support.server import Serve, Server, run

import usnet_framework
from usnet_framework.installed import installed

ENGINE = "bin/usnet-engine.so"
UPGRADES = 100


class Package:
    """A copy of the installed package, whose engine a test replaces as an installation does: by a new file."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(Path(usnet_framework.__file__).parent, folder / "usnet_framework")
        self.environment = os.environ | {"PYTHONPATH": str(folder)}
        self._folder = folder / "usnet_framework"
        self._path = self._folder / ENGINE

    def patch(self, name: str, change: str, into: str) -> None:
        text = (self._folder / name).read_text()
        assert text.count(change) == 1
        (self._folder / name).write_text(text.replace(change, into))

    def is_open_in(self, pid: int) -> bool:
        """The engine that is installed now."""
        return any(os.path.samefile(fd, self._path) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.exists())

    def install(self, change: bytes, into: bytes) -> None:
        data = installed(ENGINE).read_bytes()
        assert change in data
        assert len(change) == len(into)
        new = self._path.with_suffix(".new")
        new.write_bytes(data.replace(change, into))
        new.chmod(0o755)
        os.replace(new, self._path)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path / "site")


def version_in_use() -> bytes:
    found = re.search(rb"\0(\d+\.\d+\.\d+)\0", installed(ENGINE).read_bytes())
    assert found is not None
    return found.group(1)


def another_version() -> bytes:
    version = version_in_use()
    return version[:-1] + (b"9" if not version.endswith(b"9") else b"8")


def engine(server: Server) -> tuple[int, str]:
    (shard,) = server.status()["shards"]
    return shard["network_pid"], shard["network_version"]


def echoes(client: socket.socket, message: bytes) -> bool:
    client.sendall(message)
    return client.recv(len(message), socket.MSG_WAITALL) == message


def test_another_version_goes_on_with_open_connections(serve: Serve, package: Package) -> None:
    version, other = version_in_use(), another_version()
    with (
        serve("examples.echo:Echo", env=package.environment) as server,
        socket.create_connection(server.address, 10) as client,
    ):
        assert echoes(client, b"before")
        pid, name = engine(server)
        assert name == version.decode()
        package.install(version, other)
        assert "upgraded to usnet " + other.decode() in server.ctl("upgrade")
        package.install(b"\x7fELF", b"junk")
        now, name = engine(server)
        assert name == other.decode()
        assert now != pid
        assert echoes(client, b"after")
        assert other.decode() in run("usnet-ctl", "status", "--control", str(server.control)).stdout
        # The file that was installed then is the one that goes on, whatever is installed now.
        os.kill(now, signal.SIGKILL)
        assert echoes(client, b"after a death")
        server.wait("the next one is told", lambda: engine(server)[0] not in (None, now))
        assert engine(server)[1] == other.decode()


def test_one_that_lays_out_its_memory_otherwise_is_refused(serve: Serve, package: Package) -> None:
    layout = _layout()
    with (
        serve("examples.echo:Echo", env=package.environment) as server,
        socket.create_connection(server.address, 10) as client,
    ):
        assert echoes(client, b"before")
        package.install(layout, bytes(reversed(layout)))
        line = server.refusal("upgrade")
        assert "laid out otherwise" in line
        assert line.count(version_in_use().decode()) == 2
        assert echoes(client, b"after")


def _layout() -> bytes:
    """The hash as it stands in the file: what it exports begins with it."""
    library = ctypes.CDLL(str(installed(ENGINE)))
    return bytes((ctypes.c_ubyte * 8).in_dll(library, "un_network"))


def test_what_the_supervisor_did_not_name_is_refused(serve: Serve, package: Package) -> None:
    """As if the engine in office, which passes the descriptor on, had put another file into its place."""
    package.patch("shards/upgrade.py", "status.st_ino)", "status.st_ino + 1)")
    with (
        serve("examples.echo:Echo", env=package.environment) as server,
        socket.create_connection(server.address, 10) as client,
    ):
        assert echoes(client, b"before")
        version = engine(server)[1]
        package.install(version_in_use(), another_version())
        assert "it is not the file that was named" in server.refusal("upgrade")
        assert echoes(client, b"after")
        assert engine(server)[1] == version
        assert not package.is_open_in(server.status()["shards"][0]["keeper_pid"])


def test_what_is_no_engine_is_refused(serve: Serve, package: Package) -> None:
    with (
        serve("examples.echo:Echo", env=package.environment) as server,
        socket.create_connection(server.address, 10) as client,
    ):
        assert echoes(client, b"before")
        package.install(b"\x7fELF", b"junk")
        assert "cannot be loaded" in server.refusal("upgrade")
        assert echoes(client, b"after")


def test_an_inline_server_says_why_not(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--layout", "inline") as server:
        assert "layout inline" in server.refusal("upgrade")


def test_upgrades_under_load_lose_nothing(serve: Serve) -> None:
    """Back and forth; each client counts its own bytes."""
    stop, errors = threading.Event(), []

    def load(address: tuple[str, int]) -> None:
        try:
            with socket.create_connection(address, 20) as client:
                for number in range(1 << 30):
                    if stop.is_set():
                        return
                    assert echoes(client, b"%08d" % number * (1 + number % 50))
        except Exception as error:
            errors.append(error)

    with serve("examples.echo:Echo") as server:
        clients = [threading.Thread(target=load, args=(server.address,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for _ in range(UPGRADES):
                server.ask("upgrade")
        finally:
            stop.set()
            for client in clients:
                client.join(30)
        assert errors == []
        assert server.status()["shards"][0]["network_restarts"] == 0  # nobody died
        assert server.metrics()["usnet_takeovers_total"] == UPGRADES
