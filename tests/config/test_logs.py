"""Records as lines: one each, with time, role and extras, whatever is in the message."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from usnet_framework import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield io.StringIO()
    root.setLevel(level)
    root.handlers[:] = handlers


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_text_line_has_time_level_role_message_and_extras(stream: io.StringIO) -> None:
    logs.configure("info", "text", "worker 0.1", stream)
    logging.getLogger("usnet").warning("peer %s is slow", 7, extra={"conn": 17, "why": 'it "sleeps"'})
    (line,) = lines(stream)
    expected = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning worker 0\.1  "
        r'usnet: peer 7 is slow conn=17 why="it \\"sleeps\\""'
    )
    assert re.fullmatch(expected, line)


def test_times_are_utc() -> None:
    record = logging.makeLogRecord({"msg": "x", "created": 86400.25, "msecs": 250.0, "levelname": "INFO"})
    assert logs.TextFormatter("supervisor").format(record).startswith("1970-01-02T00:00:00.250Z info ")


@pytest.mark.parametrize("forged", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b"])
def test_a_message_cannot_forge_a_line(forged: str, stream: io.StringIO) -> None:
    logs.configure("info", "text", "supervisor", stream)
    logging.info("got %s", forged, extra={"peer": forged})
    assert len(lines(stream)) == 1
    assert "\x1b" not in stream.getvalue()


ODD = os.fsdecode(b"caf\xe9")


def test_bytes_that_are_no_text_are_escaped() -> None:
    record = logging.makeLogRecord({"msg": "at %s", "args": (ODD,), "path": ODD, "spaced": f"a {ODD}"})
    line = logs.TextFormatter("supervisor").format(record)
    assert line.endswith(r'at caf\xe9 path=caf\xe9 spaced="a caf\\xe9"')


@pytest.mark.parametrize("emoji", ["", "\U0001f600"])
def test_bytes_that_are_no_text_are_escaped_in_json(emoji: str) -> None:
    extras = {"path": Path(ODD), "all": [{ODD: (ODD, 1)}], "lone": "\ud800"}
    record = logging.makeLogRecord({"msg": "at %s", "args": (ODD + emoji,), **extras})
    fields = json.loads(logs.JsonFormatter("supervisor").format(record))
    assert fields["message"] == "at caf\\xe9" + emoji
    assert (fields["path"], fields["lone"]) == ("caf\\xe9", "\\ud800")
    assert fields["all"] == [{"caf\\xe9": ["caf\\xe9", 1]}]


def test_json_is_one_object_per_line_with_exception_and_extras(stream: io.StringIO) -> None:
    logs.configure("debug", "json", "spare", stream)
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("usnet.x").exception(
            "handler raised", extra={"conn": 3, "level": "forged", "peer": ("::1", 2)}
        )
    (line,) = lines(stream)
    fields = json.loads(line)
    assert (fields["level"], fields["role"], fields["logger"], fields["message"]) == (
        "error", "spare", "usnet.x", "handler raised")  # fmt: skip
    assert (fields["conn"], fields["peer"]) == (3, ["::1", 2])
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("bad\nvalue")


def test_text_indents_a_traceback_under_its_record(stream: io.StringIO) -> None:
    logs.configure("info", "text", "worker 0.0", stream)
    try:
        raise ValueError("bad")
    except ValueError:
        logging.exception("handler raised")
    first, *trace = lines(stream)
    assert first.endswith("handler raised")
    assert trace
    assert all(line.startswith("    ") for line in trace)


def test_the_last_configuration_counts_and_levels_are_kept(stream: io.StringIO) -> None:
    logs.configure("debug", "text", "spare", io.StringIO())
    logs.configure("warning", "text", "worker 0.0", stream)
    logging.info("not shown")
    logging.error("shown")
    assert [line.split()[2:4] for line in lines(stream)] == [["worker", "0.0"]]


def test_a_program_whose_stderr_was_closed_logs_nowhere(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    logs.configure("info", "text", "supervisor")
    logging.warning("into the void")
    assert stream.getvalue() == ""


def test_a_record_that_cannot_be_formatted_is_shown_as_it_is(stream: io.StringIO) -> None:
    handler = logs.LineHandler(stream)
    handler.setFormatter(logs.TextFormatter("supervisor"))
    handler.handle(logging.makeLogRecord({"name": "shop", "msg": "%d apples", "args": ("no",)}))
    (line,) = lines(stream)
    assert "shop: a record cannot be shown (TypeError" in line
    assert "'%d apples'" in line
