"""usnet-ctl: what people see, what scripts see, and refusals of one line."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from usnet_framework.cli import ctl
from usnet_framework.errors import ControlError
from usnet_framework.shards.ethtool import Ethtool


def worker(seat: int, **different: Any) -> dict[str, Any]:
    usual = {"pid": 1, "serial": 1, "state": "serving", "restarts": 0, "leaving": None, "hangs": None}
    return {"seat": seat, "out_of_service": False, **usual, **different}


STATUS = {
    "version": "1.2.3",
    "app": "examples.echo:Echo",
    "state": "ready",
    "listeners": ["tcp://127.0.0.1:7000"],
    "pid": 100,
    "uptime": 3725.0,
    "backend": "kernel",
    "layout": "split",
    "shards": [
        {
            "shard": 0,
            "network_pid": 102,
            "keeper_pid": 101,
            "state": "serving",
            "network_restarts": 4,
            "network_version": "1.2.4",
            "rebuilds": 0,
            "workers": [
                worker(0, pid=103, serial=2, restarts=1, leaving={"pid": 99, "state": "leaving", "serial": 1}),
                worker(1, pid=None, serial=7, state="empty", restarts=6, out_of_service=True),
                worker(2, pid=104, hangs=42.0),
            ],
        }
    ],
    "zygotes": [104],
    "spares": [105],
    "warnings": ["pinning: all asked, no process is pinned in force"],
}


def connection(**different: Any) -> dict[str, Any]:
    now = time.monotonic_ns()
    return {
        "id": 42,
        "shard": 0,
        "seat": 1,
        "state": "open",
        "flags": ["eof_in"],
        "peer": ["127.0.0.1", 5000],
        "local": ["127.0.0.1", 7000],
        "bytes_in": 10,
        "bytes_out": 20,
        "bytes_queued": 5,
        "opened_ns": now - 90 * 10**9,
        "active_ns": now,
    } | different


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Answers by command; `asked` is what was asked last."""
    answers: dict[str, Any] = {
        "status": STATUS,
        "conns": [connection()],
        "doctor": [],
        "reload": "reloading",
        "rollback": "rolled back",
        "stop": None,
        "bind": "listening",
        "unbind": "not listening",
        "upgrade": "upgraded",
    }

    def request(path: str, command: str, **arguments: str) -> Any:
        answers["asked"] = (path, command, *arguments.values())
        return answers[command]

    monkeypatch.setattr(ctl.control, "request", request)
    return answers


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert ctl.main(argv) == 0
    return capsys.readouterr().out


def test_status_is_a_table_of_processes(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    head, listening, note, _, *rows = output(capsys, "status").splitlines()
    assert head == "examples.echo:Echo: ready, up 1h02m, usnet 1.2.3, kernel, split"
    assert listening == "listening on tcp://127.0.0.1:7000"
    assert note == "note: pinning: all asked, no process is pinned in force"
    assert [row.split() for row in rows] == [
        ["PROCESS", "PID", "STATE", "SERIAL", "RESTARTS", "VERSION"],
        ["supervisor", "100", "running", "1.2.3"],
        ["network", "0", "102", "serving", "4", "1.2.4"],
        ["keeper", "0", "101", "running", "0"],
        ["worker", "0.0", "103", "serving", "2", "1"],
        ["worker", "0.0", "99", "leaving", "1"],
        ["worker", "0.1", "-", "out", "of", "service", "7", "6"],
        ["worker", "0.2", "104", "hangs", "42.0s", "1", "0"],
        ["zygote", "104", "running"],
        ["spare", "105", "ready"],
    ]
    assert (
        len({row.index("PID") for row in rows if "PID" in row} | {row.index("100") for row in rows if "100" in row})
        == 1
    )


def test_conns_take_two_lines_each(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    _, first, second = output(capsys, "conns").splitlines()
    assert first.split() == ["open", "127.0.0.1:7000", "127.0.0.1:5000", "0.1"]
    assert re.fullmatch(r" +id:42 in:10 out:20 queued:5 age:1m30s idle:0\.\ds eof_in", second)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (59.94, "59.9s"), (185, "3m05s"), (7320, "2h02m"), (90000, "1d01h")]
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert ctl.duration(seconds) == text


def test_doctor_shows_reason_and_fix_of_what_is_less(
    server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"what": "shards", "asked": "auto", "in_force": "1", "reason": "", "fix": "", "ok": True}
    less = {"what": "pinning", "asked": "all", "in_force": "none", "reason": "1 core", "fix": "add cores", "ok": False}
    server["doctor"] = [good, less]
    assert output(capsys, "doctor").splitlines() == [
        "ok    shards: asked auto, in force 1",
        "LESS  pinning: asked all, in force none",
        "      reason: 1 core",
        "      fix: add cores",
    ]


@pytest.mark.parametrize("command", list(ctl.COMMANDS))
def test_json_is_what_the_server_said(command: str, server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    address = ["tcp://h:1"] if command in ctl.control.ADDRESSED else []
    assert json.loads(output(capsys, command, *address, "--json", "--control", "/some/path")) == server[command]
    assert server["asked"] == ("/some/path", command, *address)


def test_a_path_is_one_of_the_caller(server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ctl.main(["bind", "unix:a.sock", "--control", "/some/path"])
    assert server["asked"] == ("/some/path", "bind", f"unix:{tmp_path}/a.sock")


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["bind"], "bind: no address is given; expected tcp://HOST:PORT or unix:PATH"),
        (["status", "tcp://h:1"], "status tcp://h:1: status takes no address"),
        (["reload", "--wait"], "reload: --wait and --timeout are of stop"),
        (["stop", "--timeout", "1"], "--timeout: without --wait nothing is waited for"),
        (["stop", "--wait", "--timeout", "-1"],
         "--timeout: '-1' was given; expected a number of seconds, 0 or more"),
    ],
)
def test_an_address_is_for_those_that_take_one(
    argv: list[str], error: str, server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(argv) == 2
    assert capsys.readouterr().err == f"usnet-ctl: {error}\n"
    assert "asked" not in server


def test_the_control_path_has_the_default_of_the_server(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USNET_CONTROL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    ctl.main(["stop"])
    assert server["asked"] == ("/run/user/1000/usnet/control.sock", "stop")
    monkeypatch.setenv("USNET_CONTROL", "/other")
    ctl.main(["stop"])
    assert server["asked"] == ("/other", "stop")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["statsu"], "did you mean status?"),
        ([], "COMMAND"),
        (["status", "--jsno"], "usnet-ctl: --jsno: unknown option; did you mean --json?"),
        (["--contrl", "/other", "status"], "usnet-ctl: --contrl: unknown option; did you mean --control?"),
        (["bind", "tcp://h:1", "tcp://h:2"], "usnet-ctl: tcp://h:2: unknown argument"),
        (["nonsense", "--help"], "usnet-ctl: COMMAND: 'nonsense' is none of status, "),
        (["status", "--control", ""], "usnet-ctl: --control: is empty; "),
        (["status", "--control"], "expected one argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("usnet-ctl: ")
    assert expected in line


@pytest.mark.parametrize("command", list(ctl.COMMANDS))
def test_help_behind_a_command_is_about_it(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        ctl.main([command, "--help"])
    usage, _, description, *rest = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    address = " ADDRESS" if command in ("bind", "unbind") else ""
    waits = {"stop": " [--wait] [--timeout SECONDS]", "doctor": " [--fix]"}.get(command, "")
    assert usage == f"usage: usnet-ctl {command} [--control PATH] [--json] [-h]{waits}{address}"
    assert description.lower().rstrip(".") == ctl.COMMANDS[command][0].lower()
    assert "commands:" not in rest


@pytest.mark.parametrize("argv", [["--help"], ["-h", "status"]])
def test_help_before_a_command_lists_them(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ctl.main(argv)
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in ctl.COMMANDS)


def test_a_server_that_does_not_answer_is_one_line_and_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str, command: str) -> Any:
        raise ControlError(f"{path}: no server")

    monkeypatch.setattr(ctl.control, "request", refuse)
    assert ctl.main(["status", "--control", "/nowhere"]) == 3
    assert capsys.readouterr().err == "usnet-ctl: /nowhere: no server\n"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that a killed server has changed; there is no server."""

    def refuse(path: str, command: str) -> Any:
        raise ControlError(f"{path}: no server")

    monkeypatch.setattr(ctl.control, "request", refuse)
    monkeypatch.setattr(ctl.undo, "default_folder", lambda: tmp_path / "undo")
    changed = tmp_path / "setting"
    changed.write_text("before\n")
    with Ethtool("lo") as card:
        journal = ctl.undo.Journal(card)
        journal.change("file", str(changed), "after")
        journal._file.close()  # as when its process is killed
    return changed


def test_doctor_shows_what_killed_servers_have_left_without_a_server(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert output(capsys, "doctor").splitlines() == [
        "LESS  left over on lo: asked nothing, in force 1 setting of a server that was killed",
        f"      reason: {left} was before",
        "      fix: usnet-ctl doctor --fix, or start a server on it again",
    ]
    assert left.read_text() == "after\n"


def test_doctor_fix_puts_it_back(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "doctor", "--fix") == f"{left}: after -> before\n"
    assert left.read_text() == "before\n"
    assert output(capsys, "doctor", "--fix") == "nothing is left over\n"
    assert ctl.main(["doctor"]) == 3


def test_doctor_fix_says_what_it_could_not_put_back(left: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left.unlink()
    left.mkdir()
    assert ctl.main(["doctor", "--fix"]) == 3
    assert "cannot be put back: Is a directory; run it as root" in capsys.readouterr().err


def test_fix_is_of_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["status", "--fix"]) == 2
    assert capsys.readouterr().err == "usnet-ctl: status: --fix is of doctor\n"


@pytest.mark.parametrize("command", ["status", "conns", "doctor"])
def test_the_answer_of_another_version_is_one_line_and_exit_code_3(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ctl.control, "request", lambda path, command: {"pid": 1})
    assert ctl.main([command, "--control", "/nowhere"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"usnet-ctl: {command}: the server's answer is not what usnet ")
