"""`usnet-ctl upgrade`: another engine goes on with all connections open, or the one in office does."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.server import Serve, Server, run

from usnet_framework.installed import installed

ENGINE = "bin/usnet-engine.so"
UPGRADES = 100


@contextmanager
def installed_engine(change: bytes, into: bytes) -> Iterator[None]:
    """Another file stands where the package has its engine, as an installation replaces it: by a new one."""
    path = installed(ENGINE)
    original = path.with_suffix(".original")
    data = path.read_bytes()
    assert change in data
    assert len(change) == len(into)
    shutil.copy2(path, original)
    try:
        _replace(path, data.replace(change, into))
        yield
    finally:
        os.replace(original, path)


def _replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.chmod(0o755)
    os.replace(new, path)


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


def test_another_version_goes_on_with_open_connections(serve: Serve) -> None:
    version, other = version_in_use(), another_version()
    with serve("examples.echo:Echo") as server, socket.create_connection(server.address, 10) as client:
        assert echoes(client, b"before")
        pid, name = engine(server)
        assert name == version.decode()
        with installed_engine(version, other):
            assert "upgraded to usnet " + other.decode() in server.ctl("upgrade")
        now, name = engine(server)
        assert name == other.decode()
        assert now != pid
        assert echoes(client, b"after")
        assert other.decode() in run("usnet-ctl", "status", "--control", str(server.control)).stdout
        # The file that was installed then is the one that goes on, whatever is installed now.
        os.kill(engine(server)[0], signal.SIGKILL)
        assert echoes(client, b"after a death")
        assert engine(server)[1] == other.decode()


def test_one_that_lays_out_its_memory_otherwise_is_refused(serve: Serve) -> None:
    layout = _layout()
    with serve("examples.echo:Echo") as server, socket.create_connection(server.address, 10) as client:
        assert echoes(client, b"before")
        with installed_engine(layout, bytes(reversed(layout))):
            done = run("usnet-ctl", "upgrade", "--control", str(server.control))
        assert done.returncode == 3
        assert "laid out otherwise" in done.stderr
        assert done.stderr.count(version_in_use().decode()) == 2
        assert done.stderr.count("\n") == 1
        assert echoes(client, b"after")


def _layout() -> bytes:
    """The hash as it stands in the file: what it exports begins with it."""
    library = ctypes.CDLL(str(installed(ENGINE)))
    return bytes((ctypes.c_ubyte * 8).in_dll(library, "un_network"))


def test_what_is_no_engine_is_refused(serve: Serve, tmp_path: Path) -> None:
    path = installed(ENGINE)
    with serve("examples.echo:Echo") as server, socket.create_connection(server.address, 10) as client:
        assert echoes(client, b"before")
        with installed_engine(b"\x7fELF", b"junk"):
            done = run("usnet-ctl", "upgrade", "--control", str(server.control))
        assert done.returncode == 3
        assert "cannot be loaded" in done.stderr
        assert echoes(client, b"after")
    assert path.read_bytes()[:4] == b"\x7fELF"


def test_an_inline_server_says_why_not(serve: Serve) -> None:
    with serve("examples.echo:Echo", "--layout", "inline") as server:
        done = run("usnet-ctl", "upgrade", "--control", str(server.control))
        assert done.returncode == 3
        assert "layout inline" in done.stderr


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
