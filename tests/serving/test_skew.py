"""Which code a worker has: that of its generation, whatever the disk holds meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.answers import ask, write_answers
from support.server import Server, run

BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


def kill_worker(server: Server) -> None:
    (worker,) = server.workers()
    os.kill(worker.pid, signal.SIGKILL)
    server.wait("it is replaced", lambda: {found.pid for found in server.workers()} - {worker.pid})


def test_a_crash_does_not_deploy(tmp_path: Path) -> None:
    write_answers(tmp_path, "release = 1")
    with Server("app:App", "--queues", "1", cwd=tmp_path, env=BYTECODE) as server:
        write_answers(tmp_path, "release = 22")
        for _ in range(3):
            kill_worker(server)
            assert ask(server, "release") == 1
        server.ask("reload")
        assert ask(server, "release") == 22


@pytest.mark.parametrize("preload", ["auto", "off"])
@pytest.mark.parametrize("app", ["app:App", "./app.py:App"])
def test_two_edits_of_equal_size_within_a_second(tmp_path: Path, preload: str, app: str) -> None:
    write_answers(tmp_path, "from helper import release")
    helper = tmp_path / "helper.py"
    helper.write_text("release = 0")
    with Server(app, "--queues", "1", "--preload", preload, cwd=tmp_path, env=BYTECODE) as server:
        for number in (1, 2, 3):
            helper.write_text(f"release = {number}")
            os.utime(helper, (1_700_000_000, 1_700_000_000))  # as if it all were within one second
            server.ask("reload")
            assert ask(server, "release") == number


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """current -> releases/1, which is ready; releases/2 beside it."""
    for number in (1, 2):
        folder = tmp_path / "releases" / str(number)
        folder.mkdir(parents=True)
        write_answers(folder, f"import helper\nrelease = {number}\nfile = open('greeting').read()")
        (folder / "helper.py").write_text(f"release = {number}")
        (folder / "greeting").write_text(f"hello {number}")
    (tmp_path / "current").symlink_to("releases/1")
    return tmp_path / "current"


def switch(current: Path) -> None:
    link = current.with_name("next")
    link.symlink_to("releases/2")
    link.rename(current)


@pytest.mark.parametrize("preload", ["auto", "off"])
def test_deploy_by_a_link(current: Path, preload: str) -> None:
    env = {"PWD": str(current)}
    with Server("app:App", "--queues", "1", "--preload", preload, cwd=current, env=env) as server:
        assert ask(server, "release") == 1
        switch(current)
        if preload == "auto":
            shutil.rmtree(current.parent / "releases" / "1")
        for _ in range(3):
            kill_worker(server)
            assert ask(server, "(release, helper.release)") == (1, 1)
        server.ask("reload")
        shutil.rmtree(current.parent / "releases" / "1", ignore_errors=True)
        for _ in range(3):
            assert ask(server, "(release, helper.release, file)") == (2, 2, "hello 2")
            assert ask(server, "os.getcwd()") == str(current.parent / "releases" / "2")
            kill_worker(server)


def test_a_release_that_is_not_there_is_named(current: Path) -> None:
    with Server("app:App", "--queues", "1", cwd=current, env={"PWD": str(current)}) as server:
        current.unlink()
        current.symlink_to("releases/3")
        line = f"cannot enter the folder {current.parent}/releases/3: No such file or directory"
        assert line in server.refusal("reload")
        assert ask(server, "release") == 1


ODD = """
class Meta(type(Handler)):
    def __getattribute__(cls, name):
        if name == "on_resume":
            raise LookupError(name)
        return super().__getattribute__(name)
class Odd(App, metaclass=Meta):
    pass
"""


def test_what_is_raised_before_a_worker_is_ready_is_told(tmp_path: Path) -> None:
    """Not that it was killed for it."""
    write_answers(tmp_path, "", ODD)
    args = ("--metrics", "off", "--control", "off", "--bind", f"unix:{tmp_path}/s")
    done = run("usnet-serve", "app:Odd", *args, cwd=tmp_path)
    assert done.returncode == 3
    assert "SIGKILL" not in done.stderr
    assert "LookupError" in done.stderr
