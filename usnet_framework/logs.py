"""Log records as lines on stderr, for people (text) or for machines (JSON), with UTC times and the process's role.

    2026-03-01T12:00:00.123Z info    worker 0.1  connection closed conn=17 reason=peer
    {"time": "2026-03-01T12:00:00.123Z", "level": "info", "role": "worker 0.1", "message": …, "conn": 17, …}

What a call passes in `extra` follows the message as key=value, or as fields. A message is one line whatever a peer
managed to get into it: control characters are escaped. In text a traceback follows its record, indented.

Names of files, arguments and variables are bytes to the system. Python has those that are no UTF-8 as surrogates
(os.fsdecode), which no terminal and no JSON takes: they are shown as \\xe9 here, and in whatever else people see.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PLAIN = re.compile(r"[^\s\"=]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, format: str, role: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (stderr); `format` is text or json. May be called again, when a
    process takes another role: the last call counts."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(role) if format == "json" else TextFormatter(role))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, TextFormatter | JsonFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        extras = "".join(f" {name}={_text_value(value)}" for name, value in _extras(record).items())
        line = (
            f"{_time(record)} {record.levelname.lower():<7} {self._role:<10}  {one_line(record.getMessage())}{extras}"
        )
        return f"{line}\n{_indented(self._trace(record))}" if record.exc_info or record.stack_info else line

    def _trace(self, record: logging.LogRecord) -> str:
        return "\n".join(
            ([self.formatException(record.exc_info)] if record.exc_info else [])
            + ([self.formatStack(record.stack_info)] if record.stack_info else [])
        )


class JsonFormatter(logging.Formatter):
    """A line for machines: one JSON object."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in _extras(record).items() if name not in fields}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return to_json(fields)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(record.msecs):03d}Z"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}


def _text_value(value: Any) -> str:
    text = _without_surrogates(str(value))
    return text if _PLAIN.fullmatch(text) and not _CONTROL.search(text) else json.dumps(text)


def one_line(text: str) -> str:
    """With control characters, and bytes that are no text, escaped."""
    return _CONTROL.sub(_escaped, text)


def lines(text: str) -> str:
    """The same for a text of several lines."""
    return _CONTROL_IN_LINES.sub(_escaped, text)


def to_json(value: Any) -> str:
    """JSON that every parser takes: what is no text is escaped, what is no value of JSON is written as str has it."""
    text = json.dumps(value, default=_json_text)
    return text if "\\ud" not in text else json.dumps(_plain_value(value), default=_json_text)


def _json_text(value: Any) -> str:
    return _without_surrogates(str(value))


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return _without_surrogates(value)
    if isinstance(value, Mapping):
        return {_plain_value(key): _plain_value(item) for key, item in value.items()}
    return [_plain_value(item) for item in value] if isinstance(value, list | tuple) else value


def _without_surrogates(text: str) -> str:
    return _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # a byte: os.fsdecode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _indented(trace: str) -> str:
    return "\n".join(f"    {one_line(line)}" for line in trace.splitlines())
