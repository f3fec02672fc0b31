"""What an application that is a file, or that a script serves, may expect of Python in its workers: pools find its
functions, and interpreter and import path are those of the program that was started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import zipapp
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.answers import answer, ask, write_answers
from support.server import WITH_THE_TEST, Server, free_port, wait

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def double(number):
    return 2 * number

def doubled(method, number):
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        return pool.submit(double, number).result(30)
"""

METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
PRELOAD = pytest.mark.parametrize("preload", ["auto", "off"])


@METHODS
@PRELOAD
def test_a_pool_of_an_application_that_is_a_file(tmp_path: Path, method: str, preload: str) -> None:
    write_answers(tmp_path, POOL)
    with Server("./app.py:App", "--queues", "1", "--preload", preload, cwd=tmp_path) as server:
        assert ask(server, f"doubled({method!r}, 21)") == 42


@METHODS
def test_a_pool_of_an_application_that_is_a_module(tmp_path: Path, method: str) -> None:
    write_answers(tmp_path, POOL)
    with Server("app:App", "--queues", "1", cwd=tmp_path) as server:
        assert ask(server, f"doubled({method!r}, 21)") == 42


@contextlib.contextmanager
def script(command: Sequence[str], port: int, cwd: Path) -> Iterator[socket.socket]:
    """A connection to what a program serves at the port."""

    def connected() -> socket.socket | None:
        assert process.poll() is None, "it has ended"
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=40)
        except ConnectionRefusedError:
            return None

    with subprocess.Popen([*WITH_THE_TEST, sys.executable, *command], start_new_session=True, cwd=cwd) as process:
        try:
            with wait("it serves", connected) as client:
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def serving(port: int, **options: Any) -> str:
    call = f'serve(App, bind="tcp://127.0.0.1:{port}", queues=1, metrics="off", control="off", **{options!r})'
    return f'if __name__ == "__main__":\n    {call}\n'


@METHODS
@PRELOAD
def test_a_pool_of_a_script_that_serves(tmp_path: Path, method: str, preload: str) -> None:
    port = free_port()
    file = write_answers(tmp_path, POOL, serving(port, preload=preload))
    with script([str(file)], port, tmp_path) as client:
        assert answer(client, f"doubled({method!r}, 21)") == 42


FLAGS = ("-O", "-B", "-X", "dev", "-W", "error::UserWarning")
FLAG_NAMES = ("optimize", "dont_write_bytecode", "dev_mode")
SHOWN = f"[getattr(sys.flags, name) for name in {FLAG_NAMES}] + ['error::UserWarning' in sys.warnoptions]"


@PRELOAD
def test_workers_have_the_interpreters_flags(tmp_path: Path, preload: str) -> None:
    port = free_port()
    file = write_answers(tmp_path, "", serving(port, preload=preload))
    with script([*FLAGS, str(file)], port, tmp_path) as client:
        assert answer(client, SHOWN) == [1, 1, True, True]


@PRELOAD
def test_workers_have_the_import_path_that_the_script_made(tmp_path: Path, preload: str) -> None:
    port = free_port()
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "supplied.py").write_text("name = 'supplied'\n")
    write_answers(tmp_path, "import supplied", name="application.py")
    main = tmp_path / "main.py"
    main.write_text(
        "import os, sys\n"
        "sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'vendor'))\n"
        f"from usnet_framework import serve\nfrom application import App\n{serving(port, preload=preload)}"
    )
    with script([str(main), "--an-argument"], port, tmp_path.parent) as client:
        assert answer(client, "supplied.name") == "supplied"
        assert answer(client, "sys.argv[1:]") == ["--an-argument"]


def test_a_vendored_framework(tmp_path: Path) -> None:
    """Workers import it from where the script did: a folder that only the script knows."""
    import usnet_framework

    port = free_port()
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "usnet_framework").symlink_to(os.path.dirname(usnet_framework.__file__))
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    for name in ("msgpack", "setproctitle", "cffi", "psutil", "typing_extensions.py", "_cffi_backend.cpython-*"):
        for found in (match for folder in packages for match in Path(folder).glob(name)):
            (tmp_path / "vendor" / found.name).symlink_to(found)
    file = write_answers(tmp_path, "import usnet_framework", serving(port))
    text = file.read_text()
    file.write_text(f"import sys\nsys.path.insert(0, {str(tmp_path / 'vendor')!r})\n{text}")
    with script(["-S", str(file)], port, tmp_path) as client:
        assert answer(client, "usnet_framework.__file__").startswith(str(tmp_path / "vendor"))


def test_an_archive(tmp_path: Path) -> None:
    port = free_port()
    source = tmp_path / "source"
    (source / "package").mkdir(parents=True)
    (source / "package" / "__init__.py").write_text("name = 'in the archive'\n")
    write_answers(source, "import package", serving(port), name="__main__.py")
    zipapp.create_archive(source, tmp_path / "app.pyz")
    with script([str(tmp_path / "app.pyz")], port, tmp_path.parent) as client:
        assert answer(client, "package.name") == "in the archive"
