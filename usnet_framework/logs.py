"""Log records as lines on stderr, for people (text) or for machines (JSON), with UTC times and the process's role.

    2026-03-01T12:00:00.123Z info    worker 0.1  usnet.worker: connection closed conn=17 reason=peer
    {"time": "2026-03-01T12:00:00.123Z", "level": "info", "role": "worker 0.1", "logger": …, "message": …, …}

What a call passes in `extra` follows the message as key=value, or as fields. A message is one line whatever a peer
managed to get into it: control characters are escaped. In text a traceback follows its record, indented.

Names of files, arguments and variables are bytes to the system. Python has those that are no UTF-8 as surrogates
(os.fsdecode), which no terminal and no JSON takes: they are shown as \\xe9 here, and in whatever else people see.

No process waits for whoever reads its log (logwriter.py). Tracebacks of one place are limited (tracebacks.py). What the
application configures for itself (logging.config.dictConfig at import) holds: a record that a handler of its own shows
on stdout or stderr is not shown once more, and where it has taken our handler off the root logger that stays off.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from usnet_framework.logwriter import LineWriter
from usnet_framework.tracebacks import TracebackLimit, origin

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PLAIN = re.compile(r"[^\s\"=]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


FLUSH_SECONDS = 1.0
"""What a process that ends waits at most for whoever reads its log."""


def configure(
    level: str, format: str, role: str, stream: TextIO | None = None, *, may_start_thread: bool = True
) -> None:
    """Send every record of this process to `stream` (stderr); `format` is text or json. May be called again, when a
    process takes another role: the last call counts, unless the application has replaced our handler meanwhile.
    `may_start_thread`: as in logwriter.py, for a process that is to be forked."""
    global _installed
    root = logging.getLogger()
    before, formatter = _installed, JsonFormatter(role) if format == "json" else TextFormatter(role)
    _enable_ours()
    if before is not None and before.closed and before not in root.handlers and root.handlers:
        return
    target = stream if stream is not None else sys.stderr
    _installed = before if before is not None and before.target is target else LineHandler(target)
    _installed.setFormatter(formatter)
    _installed.may_start_thread(may_start_thread)
    for old in [old for old in root.handlers if isinstance(old, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(_installed)
    root.setLevel(level.upper())


def _enable_ours() -> None:
    """dictConfig disables all loggers that it does not name, unless told otherwise; errors of callbacks go to ours."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in ("usnet", "usnet_framework"):
            logger.disabled = False


class LineHandler(logging.Handler):
    """A record is a line of `target`, with what a traceback adds. `closed`: somebody has closed it, as dictConfig does
    with all that there are; it goes on if it is asked to. `target` is None in a program whose stderr was closed when it
    started: another file may have that number by now."""

    def __init__(self, target: TextIO | None) -> None:
        super().__init__()
        self.target = target
        self.closed = False
        self._limit = TracebackLimit()
        self._writer: LineWriter | None = None
        if target is not None:
            with suppress(OSError, ValueError):  # no file: a StringIO
                self._writer = LineWriter(target.fileno(), self._lost)

    def may_start_thread(self, allowed: bool) -> None:
        if self._writer is not None:
            self._writer.may_start_thread = allowed

    def emit(self, record: logging.LogRecord) -> None:
        if not _application_shows(record):
            for one in self._limit.admit(record):
                self._write(self._line(one))

    def flush(self) -> None:
        """Within a bounded time."""
        for one in self._limit.ended():
            self._write(self._line(one))
        if self._writer is not None:
            self._writer.flush(FLUSH_SECONDS)

    def close(self) -> None:
        self.closed = True
        super().close()

    def _line(self, record: logging.LogRecord) -> str:
        """Of a record that cannot be formatted, too: logging would write the reason to stderr, and wait there."""
        try:
            return self.format(record)
        except Exception as error:
            place = f"{record.pathname}:{record.lineno}"
            text = f"a record cannot be shown ({type(error).__name__}: {error}): {record.msg!r} at {place}"
            return self.format(logging.makeLogRecord({**origin(record), "msg": "%s", "args": (text,)}))

    def _lost(self, count: int) -> str:
        text = f"{count:,} log line{'s were' if count != 1 else ' was'} lost: nobody read them in time"
        fields = {"name": "usnet.logs", "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
        return self.format(logging.makeLogRecord(fields))

    def _write(self, line: str) -> None:
        if self._writer is not None:
            self._writer.write(line)
        elif self.target is not None:
            with suppress(OSError, ValueError):  # it is closed
                self.target.write(f"{line}\n")


_installed: LineHandler | None = None


@atexit.register
def _flush() -> None:
    if _installed is not None and _installed in logging.getLogger().handlers:
        _installed.flush()


def _application_shows(record: logging.LogRecord) -> bool:
    """Whether a handler that is none of ours writes the record to stdout or stderr."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            shows = getattr(handler, "stream", None) in (sys.stdout, sys.stderr) and record.levelno >= handler.level
            if shows and handler.filter(record):
                return True
        logger = logger.parent if logger.propagate else None
    return False


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        extras = "".join(f" {name}={_text_value(value)}" for name, value in _extras(record).items())
        head = f"{_time(record)} {record.levelname.lower():<7} {self._role:<10}"
        line = f"{head}  {one_line(str(record.name))}: {one_line(record.getMessage())}{extras}"
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
