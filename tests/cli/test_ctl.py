"""usnet-ctl: what people see, what scripts see, and refusals of one line."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from usnet_framework.cli import ctl, history, stack, status, subcommand, watch
from usnet_framework.errors import ControlError, ServerGone
from usnet_framework.shards import control, undo


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


def neighbour(**different: Any) -> dict[str, Any]:
    return {
        "shard": 0, "address": "10.0.0.9", "mac": "02:00:00:00:00:09", "state": "reachable", "router": False,
        "probes": 0, "queued": 0, "confirmed_ns": None, "used_ns": None,
    } | different  # fmt: skip


def route(**different: Any) -> dict[str, Any]:
    usual = {"shard": 0, "network": "10.0.0.0/24", "gateway": None, "origin": "link", "elsewhere": False}
    return usual | {"expires_ns": None} | different


@pytest.fixture(autouse=True)
def own_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `stack` keeps lies with the test, and what killed servers have left."""
    monkeypatch.setattr(history, "default_control_path", lambda: str(tmp_path / "own/control.sock"))
    monkeypatch.setattr(undo, "default_folder", lambda: tmp_path / "undo")


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
        "stack": {"server": "1:2", "now_ns": 10**9, "started_ns": 0, "shards": [], "drops": {}},
        "neigh": [neighbour()],
        "routes": [route()],
        "addr": [{"shard": 0, "address": "10.0.0.1/24", "state": "taken", "claimed_by": "02:00:00:00:00:09"}],
    }

    def request(path: str, command: str, **arguments: Any) -> Any:
        answers["asked"] = (path, command, *arguments.values())
        return answers[command]

    def stream(path: str, command: str, **arguments: Any) -> Any:
        answers["asked"] = (path, command, *arguments.values())
        yield from ([row] for row in answers[command])

    monkeypatch.setattr(control, "request", request)
    monkeypatch.setattr(control, "stream", stream)
    return answers


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert ctl.main(argv) == 0
    return capsys.readouterr().out


def test_a_server_that_listens_nowhere_says_so(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["status"] = STATUS | {"listeners": []}
    assert output(capsys, "status").splitlines()[1] == "listening nowhere"


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
    assert subcommand.duration(seconds) == text


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


@pytest.mark.parametrize("command", [name for name in ctl.COMMANDS if name not in ("stack", "capture")])
def test_json_is_what_the_server_said(command: str, server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    address = ["tcp://h:1"] if command in control.ADDRESSED else []
    assert json.loads(output(capsys, command, *address, "--json", "--control", "/some/path")) == server[command]
    assert server["asked"] == ("/some/path", command, *address)


def test_options_of_all_commands_may_stand_in_front(
    server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(output(capsys, "--json", "--control", "/other", "status")) == STATUS
    assert server["asked"] == ("/other", "status")


def test_a_path_is_one_of_the_caller(server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ctl.main(["bind", "unix:a.sock", "--control", "/some/path"])
    assert server["asked"] == ("/some/path", "bind", f"unix:{tmp_path}/a.sock")


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["bind"], "bind: no address is given; expected tcp://HOST:PORT or unix:PATH"),
        (["status", "tcp://h:1"], "tcp://h:1: unknown argument"),
        (["reload", "--wait"], "--wait: is no option of reload; it is of stop"),
        (["--timeout=1", "stop"], "--timeout: stands behind the command that it is of; it is of stop"),
        (["stop", "--watch"],
         "--watch: is no option of stop; it is of status, conns, stack, neigh, routes, addr, doctor"),
        (["doctor", "--fix", "--watch"], "--watch: --fix is done once; leave one of them out"),
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
        ([], "COMMAND: none is given; give one of status, "),
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
    own = {"stop": " [--wait] [--timeout SECONDS]", "doctor": " [--fix]", "bind": " [ADDRESS]", "unbind": " [ADDRESS]",
           "conns": " [-v] [FILTER ...]", "stack": " [-a]",
           "capture": " [-w FILE] [--snaplen BYTES] [--count N] [--drops] [FILTER ...]"}.get(command, "")  # fmt: skip
    again = " [--watch [SECONDS]]" if ctl.COMMANDS[command].watch else ""
    assert usage == f"usage: usnet-ctl {command} [--control PATH] [--json] [-h]{again}{own}"
    assert description.lower().rstrip(".") == ctl.COMMANDS[command].help.lower()
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
    def refuse(path: str, command: str, **arguments: Any) -> Any:
        raise ControlError(f"{path}: no server")

    monkeypatch.setattr(control, "request", refuse)
    assert ctl.main(["status", "--control", "/nowhere"]) == 3
    assert capsys.readouterr().err == "usnet-ctl: /nowhere: no server\n"


@pytest.mark.parametrize("command", ["status", "conns", "stack", "neigh", "routes", "addr", "doctor"])
def test_the_answer_of_another_version_is_one_line_and_exit_code_3(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "request", lambda path, command: {"pid": 1})
    monkeypatch.setattr(control, "stream", lambda path, command: iter([[{"pid": 1}]]))
    assert ctl.main([command, "--control", "/nowhere"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"usnet-ctl: {command}: the server's answer is not what usnet ")


# Looking inside.


def details(**different: Any) -> dict[str, Any]:
    tcp = {
        "state": "established", "congestion": "cubic", "phase": "open", "agreed": ["sack"], "srtt_us": 1500,
        "rttvar_us": 250, "min_rtt_us": 1000, "rto_us": 201000, "cwnd": 14480, "ssthresh": None, "snd_mss": 1448,
        "path_mtu": 1500, "snd_wnd": 65536, "rcv_wnd": None, "snd_wscale": 7, "rcv_wscale": 8, "in_flight": 0,
        "sacked": 0, "lost": 0, "retransmitted": 2, "backoff": 0, "probes": 0,
    }  # fmt: skip
    return connection(queues={"unread": 3, "unsent": None}, tcp=tcp, **different)


def test_conns_verbose_take_five_lines(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["conns"] = [details()]
    *_, queues, path, windows = output(capsys, "conns", "-v").splitlines()
    assert server["asked"][1:] == ("conns", True)
    assert queues.split() == ["unread:3", "unsent:-"]
    assert path.strip() == "established cubic:open sack rtt:1.5/0.25 min:1 rto:201 mss:1448 mtu:1500"
    assert windows.strip() == (
        "cwnd:14480 ssthresh:- snd_wnd:65536 rcv_wnd:- in_flight:0 sacked:0 lost:0 retransmitted:2 backoff:0 probes:0 "
        "wscale:7,8"
    )


def test_conns_say_why_there_are_no_details(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["conns"] = [connection(queues=None, tcp=None, why="it sleeps")]
    assert output(capsys, "conns", "-v").splitlines()[-1].strip() == "no details: it sleeps"


@pytest.mark.parametrize("argv", [["sport = :443"], ["sport", "=", ":443"], ["--json", "sport", "=", ":443"],
                                  ["sport", "=", "--json", ":443"]])  # fmt: skip
def test_a_filter_may_be_one_word_or_several(
    argv: list[str], server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output(capsys, "conns", *argv)
    assert server["asked"][1:] == ("conns", "sport = :443")


def test_a_filter_that_is_none_is_wrong_usage_and_asks_nobody(
    server: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(["conns", "sport = :htp"]) == 2
    assert capsys.readouterr().err == (
        "usnet-ctl: filter: ':htp' at character 9: expected a port, 0 to 65535, like :443\n"
    )
    assert "asked" not in server


def test_json_of_many_parts_is_one_list(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["conns"] = [connection(id=number) for number in range(3)]
    assert [conn["id"] for conn in json.loads(output(capsys, "conns", "--json"))] == [0, 1, 2]
    server["conns"] = []
    assert output(capsys, "conns", "--json") == "[]\n"


LONGEST = "2001:db80:1234:5678:9abc:def0:1234:5678/128"


def test_what_stacks_believe(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["neigh"] += [{"shard": 1, "why": "it sleeps"}]
    server["routes"] += [route(shard=1, network="0.0.0.0/0", gateway="10.0.0.254", origin="configured")]
    head, station, silent = output(capsys, "neigh").splitlines()
    assert head.split() == ["SHARD", "ADDRESS", "MAC", "STATE", "CONFIRMED", "USED"]
    assert station.split() == ["0", "10.0.0.9", "02:00:00:00:00:09", "reachable", "-", "-"]
    assert silent == "shard 1: it sleeps"
    assert [line.split() for line in output(capsys, "routes").splitlines() if "SHARD" not in line] == [
        ["0", "10.0.0.0/24", "on", "the", "link", "link"],
        ["1", "0.0.0.0/0", "10.0.0.254", "configured"],
    ]
    server["addr"] += [{"shard": 0, "address": LONGEST, "state": "ours", "claimed_by": None}]
    head, taken, longest = output(capsys, "addr").splitlines()
    assert taken.split()[:3] == ["0", "10.0.0.1/24", "taken"]
    assert head.index("STATE") == taken.index("taken") == longest.index("ours")


# Counters of a stack.


def counted(now_ns: int, server: str = "1:2", drops: int = 0, **shards: int) -> dict[str, Any]:
    """An answer in which each shard has counted so many packets."""
    values = [
        {"shard": name, "counters": {"ip_rx_packets": count, "ip_tx_packets": 0}} for name, count in shards.items()
    ]
    return {"server": server, "now_ns": now_ns, "started_ns": 0, "shards": values, "drops": {"ring_full": drops}}


@pytest.mark.parametrize(
    ("before", "since", "first"),
    [
        (None, 30, True),
        (counted(1, a=4, b=8), 18, False),
        (counted(1, a=4), 26, False),  # a shard that was not there
        (counted(1, a=40, b=8), 22, False),  # rebuilt: all that it has counted is new
        (counted(1, "other", a=4, b=8), 30, True),
        (counted(2**60, a=4, b=8), 30, True),  # of a machine that was started again
        ({"server": "1:2"}, 30, True),
        ([], 30, True),
    ],
)
def test_counters_are_compared_with_the_last_time(before: Any, since: int, first: bool) -> None:
    seen = stack.compared(counted(10**9, a=10, b=20), before)
    assert seen["counters"]["ip_rx_packets"] == {"total": 30, "since": since}
    assert seen["first"] == first


def test_stack_remembers_what_it_has_shown(server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    server["stack"] = counted(10**9, a=10, drops=3)
    head, _, packets, dropped = output(capsys, "stack").splitlines()
    assert head == "since the server started, 1.0s ago"
    assert packets.split()[:3] == ["ip_rx_packets", "10", "10"]
    assert dropped.split() == ["before_drop_ring_full", "3", "3", "dropped", "before", "any", "shard", "had", "it"]
    server["stack"] = counted(3 * 10**9, a=14, drops=3)
    head, _, packets, dropped = output(capsys, "stack").splitlines()
    assert head == "since the last look, 2.0s ago"
    assert (packets.split()[1:3], dropped.split()[1:3]) == (["4", "14"], ["0", "3"])
    assert len(output(capsys, "stack", "--all").splitlines()) == 5
    assert json.loads(output(capsys, "stack", "--json"))["counters"]["ip_tx_packets"] == {"total": 0, "since": 0}


def test_each_server_has_its_own_last_time_and_few_are_kept(
    server: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server["stack"] = counted(10**9, a=10)
    for number in range(history.SERVERS_MAX + 1):
        assert output(capsys, "stack", "--control", f"/{number}").startswith("since the server started")
    assert output(capsys, "stack", "--control", "/1").startswith("since the last look")
    assert output(capsys, "stack", "--control", "/0").startswith("since the server started")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["stack.json"]


def test_stack_says_when_it_cannot_remember(
    server: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir(mode=0o777)
    (tmp_path / "own").chmod(0o777)
    assert "anybody may write in its folder" in output(capsys, "stack").splitlines()[-1]
    assert not list((tmp_path / "own").iterdir())


# Again and again.


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited between rounds; nothing is."""
    waited: list[float] = []
    monkeypatch.setattr(watch.time, "sleep", waited.append)
    return waited


def ends_after(monkeypatch: pytest.MonkeyPatch, count: int, end: BaseException) -> None:
    left = [count]
    ask = control.request

    def request(path: str, command: str, **arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise end
        return ask(path, command, **arguments)

    monkeypatch.setattr(control, "request", request)


@pytest.mark.parametrize(
    ("end", "line"), [(KeyboardInterrupt(), ""), (ServerGone("gone"), "usnet-ctl: the server has ended\n")]
)
def test_a_watch_ends_cleanly(
    end: BaseException,
    line: str,
    server: dict[str, Any],
    rounds: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends_after(monkeypatch, 3, end)
    assert ctl.main(["status", "--json", "--watch", "0.5"]) == 0
    said = capsys.readouterr()
    assert [json.loads(one) for one in said.out.splitlines()] == [STATUS] * 3
    assert (said.err, rounds) == (line, [0.5] * 3)


def test_a_server_that_never_was_is_not_watched(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_after(monkeypatch, 0, ServerGone("no server"))
    assert ctl.main(["status", "--watch"]) == 3
    assert capsys.readouterr().err == "usnet-ctl: no server\n"


def test_a_watch_compares_with_the_round_before(
    server: dict[str, Any], rounds: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    answers = iter([counted(10**9, a=1), counted(2 * 10**9, a=3), counted(3 * 10**9, a=6)])
    monkeypatch.setattr(control, "request", lambda path, command: next(answers, None) or exit_watch())
    ctl.main(["stack", "--json", "--watch"])
    seen = [json.loads(one)["counters"]["ip_rx_packets"]["since"] for one in capsys.readouterr().out.splitlines()]
    assert (seen, rounds) == ([1, 2, 3], [1.0] * 3)
    assert not (tmp_path / "own").exists()  # the last time is that of the command without it


def test_a_terminal_is_cleared_before_each_round(
    server: dict[str, Any], rounds: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ends_after(monkeypatch, 2, KeyboardInterrupt())
    assert ctl.main(["status", "--watch"]) == 0
    assert capsys.readouterr().out.split(watch.CLEAR) == ["", *[status.status_text(STATUS) + "\n"] * 2]


def exit_watch() -> None:
    raise KeyboardInterrupt


def test_watch_takes_no_filter_for_seconds(
    server: dict[str, Any], rounds: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: exit_watch())
    assert ctl.main(["conns", "--watch", "sport = :443"]) == 0
    assert server["asked"][1:] == ("conns", "sport = :443")


@pytest.mark.parametrize("text", ["0", "0.05", "1e9"])
def test_rounds_have_bounds(text: str, server: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["status", f"--watch={text}"]) == 2
    assert capsys.readouterr().err == (
        f"usnet-ctl: --watch: '{text}' was given; expected a number of seconds, 0.1 or more\n"
    )


def test_an_interrupted_command_says_so_by_its_exit_code(
    server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_after(monkeypatch, 0, KeyboardInterrupt())
    assert ctl.main(["status"]) == 130
