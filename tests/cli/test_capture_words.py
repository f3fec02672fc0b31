"""usnet-ctl capture: what it refuses, in one line, before there is anything to capture. What it captures is in
serving/test_captures.py."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.server import Server, command

from usnet_framework.cli import capture, ctl
from usnet_framework.errors import UsageError
from usnet_framework.shards import capturefilter
from usnet_framework.shards.capturefilter import Link, compile_filter


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one, over a stack of our own."""
    monkeypatch.setattr(capture.control, "request", lambda path, command: {"backend": "tap"})


def refusal(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert ctl.main(["capture", *words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--snaplen", "0"], "usnet-ctl: --snaplen: '0' was given; expected 1 to 262144"),
        (["--snaplen", "all"], "usnet-ctl: --snaplen: 'all' was given; expected 1 to 262144"),
        (["--count", "0"], "usnet-ctl: --count: '0' was given; expected a number, 1 or more"),
        (["--drop"], "usnet-ctl: --drop: unknown option; did you mean --drops?"),
        (["--json"], "usnet-ctl: --json: packets are written as pcapng; tshark -r FILE -T json makes JSON of them"),
        (["tcp", "-w"], "usnet-ctl: -w: expected one argument"),
        (["a\0b"], "usnet-ctl: FILTER: there is a zero byte in it"),
    ],
)
def test_wrong_words(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, 2, *words) == line


def test_a_filter_that_does_not_parse(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, 2, "tcp", "prot", "80")
    assert line.startswith("usnet-ctl: FILTER: 'tcp prot 80' is none in libpcap's language (man pcap-filter): ")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("inbound", "inbound, outbound and ifindex are not in a packet"),
        ("tcp port 80 and outbound", "inbound, outbound and ifindex are not in a packet"),
        ("ip protochain 6", "protochain makes a loop"),
        ("ip6 protochain 6 and port 80", "protochain makes a loop"),
    ],
)
def test_a_filter_that_no_engine_could_run(
    words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """libpcap compiles it; it would take no packet, or be refused by the server for no reason that says anything."""
    assert why in refusal(capsys, 2, words, "--control", str(tmp_path / "none"))


def test_a_filter_that_is_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a real one libpcap takes a minute to compile it."""
    monkeypatch.setattr(capturefilter, "PROGRAM_MAX", 5)
    line = refusal(capsys, 2, "tcp port 80", "--control", str(tmp_path / "none"))
    assert re.match(r"usnet-ctl: FILTER: it has \d+ instructions, engines run 5 at most; ", line)


def test_libpcap_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(capturefilter.ctypes, "CDLL", missing)
    assert refusal(capsys, 3, "tcp") == (
        "usnet-ctl: FILTER: libpcap compiles filters and is not here; install it (Debian: libpcap0.8)"
    )


def test_no_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing is written, nor made."""
    out = tmp_path / "out"
    assert "there is no server" in refusal(capsys, 3, "--control", str(tmp_path / "none"), "-w", str(out))
    assert not out.exists()


def test_a_program_depends_on_what_packets_begin_with() -> None:
    ethernet, ip = (compile_filter("tcp port 80", link) for link in Link)
    assert ethernet != ip
    assert len(ethernet) % 8 == len(ip) % 8 == 0


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ctl.main(["capture", "--help"])
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("-w FILE", "--snaplen BYTES", "--count N", "--drops", "[FILTER"))


def test_there_is_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture.sys, "stdout", None)
    with ExitStack() as opened, pytest.raises(UsageError, match="there is no standard output; use -w FILE"):
        capture.Output("-", opened)


def test_others_do_not_read_a_file_that_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("of old")
    out.chmod(0o644)
    with ExitStack() as opened:
        capture.Output(str(out), opened)
    assert (out.stat().st_mode & 0o777, out.read_text()) == (0o600, "")


def test_a_terminal_gets_no_packets_and_a_file_that_cannot_be_made_is_one_line() -> None:
    with Server("examples.echo:Echo") as server:
        ours, theirs = pty.openpty()
        words = [command("usnet-ctl"), "capture", "--control", str(server.control)]
        try:
            done = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        finally:
            os.close(theirs)
            os.close(ours)
        assert (done.returncode, done.stderr) == (
            2,
            "usnet-ctl: capture: standard output is a terminal; use -w FILE, or a pipe to tshark -r -\n",
        )
        done = subprocess.run([*words, "-w", "/nowhere/x"], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (2, "usnet-ctl: -w /nowhere/x: No such file or directory\n")
