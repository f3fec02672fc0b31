"""A reload reads the configuration file again: what it takes over, what needs a restart, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from pathlib import Path

import pytest
from support.server import Server

from usnet_framework.config import Config, options
from usnet_framework.errors import UsageError
from usnet_framework.shards.reload import ReloadRefused
from usnet_framework.shards.settings import Settings

ANSWERS = """
from usnet_framework import Handler

class One(Handler):
    def on_data(self, conn, data):
        conn.send(b"one")

class Two(Handler):
    def on_data(self, conn, data):
        conn.send(b"two")
"""


def asked(server: Server) -> bytes:
    with server.connect() as client:
        client.sendall(b"?")
        return client.recv(3, socket.MSG_WAITALL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "answers.py").write_text(ANSWERS)
    return tmp_path / "usnet.toml"


def test_a_reload_takes_over_what_can_be_and_names_the_rest(file: Path) -> None:
    file.write_text('app = "answers:One"\nqueues = 1\n')
    with Server(None, "--config", str(file), cwd=file.parent) as server:
        assert asked(server) == b"one"
        assert server.ask("reload") == "reloaded 1 worker"
        file.write_text('app = "answers:Two"\nqueues = 1\nlog-level = "debug"\nworkers = 2\nbacklog = 9\n')
        answer = server.ask("reload")
        assert answer == (
            "reloaded 1 worker; app is answers:Two; log-level is debug; restart the server for workers, backlog"
        )
        assert asked(server) == b"two"
        status = server.status()
        assert status["app"] == "answers:Two"
        assert len(server.workers()) == 1
        assert "workers: 2 asked, 1 in force: was changed since the server started; restart the server" in [
            *status["warnings"]
        ]
        assert server.log.count("configuration: app is answers:Two; ") == 1
        server.wait("it logs more", lambda: " debug " in server.log)
        file.write_text('app = "answers:Two"\nqueues = 1\nlog-level = "info"\n')
        assert server.ask("reload") == "reloaded 1 worker; log-level is info"
        assert not [warning for warning in server.status()["warnings"] if "restart the server" in warning]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('app = "answers:One"\nwrokers = 2\n', "wrokers: unknown key; did you mean workers?"),
        ('app = "answers:One"\nworkers = ', "not TOML"),
        ('app = "answers:Three"\nlog-level = "debug"\n', "answers:Three"),
        (None, "No such file or directory"),
    ],
)
def test_what_cannot_be_used_leaves_everything_as_it_is(text: str | None, expected: str, file: Path) -> None:
    file.write_text('app = "answers:One"\nqueues = 1\n')
    with Server(None, "--config", str(file), cwd=file.parent) as server:
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        assert expected in server.refusal("reload")
        assert asked(server) == b"one"
        assert server.status()["app"] == "answers:One"
        assert server.status()["reloads_refused"] == 1
        (worker,) = server.workers()
        server.wait("a spare is there", lambda: server.status()["spares"])
        os.kill(worker.pid, signal.SIGKILL)
        assert asked(server) == b"one", "of the old configuration, and the old code"


def test_a_flag_still_wins_over_the_file(file: Path) -> None:
    file.write_text("queues = 1\n")
    with Server("answers:One", "--config", str(file), cwd=file.parent) as server:
        file.write_text('app = "answers:Two"\nqueues = 1\n')
        assert server.ask("reload") == "reloaded 1 worker"
        assert asked(server) == b"one"


def test_live_options_are_those_that_need_no_restart() -> None:
    """Whoever adds one decides: these are read from `Supervisor.config` whenever they are used."""
    live = {option.field for option in options() if option.live}
    assert live >= {"app", "factory", "app_dir", "graceful_timeout", "log_level", "log_format"}
    assert not live & {"bind", "backend", "queues", "workers", "layout", "metrics", "control", "user", "state_bytes"}


def test_options_from_code_stay_as_they_are() -> None:
    settings = Settings(Config(app="a:B"), None)
    assert settings.read() == Config(app="a:B")
    settings.take(Config(app="a:B"))
    assert (settings.news, settings.findings()) == ("", [])


def test_a_refused_configuration_is_not_asked_for() -> None:
    """Of one that could not be read nothing is said later on either."""
    answers = iter([UsageError("no"), Config(app="a:B", workers=2)])

    def read() -> Config:
        answer = next(answers)
        if isinstance(answer, UsageError):
            raise answer
        return answer

    settings = Settings(Config(app="a:B"), read)
    with pytest.raises(ReloadRefused, match=r"^no$"):
        settings.read()
    assert settings.findings() == []
    assert settings.read() == Config(app="a:B")
    (finding,) = settings.findings()
    assert (finding.what, finding.asked, finding.in_force) == ("workers", "2", "1")


def test_values_are_shown_as_they_are_written() -> None:
    begun = Config(app="a:B", bind=("unix:/a", "unix:/b"), queues=2)
    settings = Settings(begun, lambda: dataclasses.replace(begun, bind=("unix:/c",), queues=None))
    settings.read()
    shown = {finding.what: (finding.asked, finding.in_force) for finding in settings.findings()}
    assert shown == {"bind": ("unix:/c", "unix:/a,unix:/b"), "queues": ("auto", "2")}
