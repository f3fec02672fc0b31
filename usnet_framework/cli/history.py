"""What `usnet-ctl stack` showed the last time, a file for each user, as nstat keeps one: an answer for each server.

It lies where the user's own control socket would: in a folder where nobody else can put anything. A file that is not
readable, or makes no sense, is none. The answers of the last few servers are kept.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from usnet_framework.config import default_control_path
from usnet_framework.shards.unixpath import distrust, make_private

SERVERS_MAX = 16
PATIENCE_S = 1.0  # with others, of which each takes milliseconds, unless it is stopped
RETRY_S = 0.005


def exchange(path: str, now: Any) -> tuple[Any, str]:
    """What was kept of the server at this control socket, None if nothing was, and why what is now cannot be kept."""
    folder = Path(default_control_path()).parent
    server = os.path.abspath(path)
    try:
        make_private(folder)
        if why := distrust(folder):
            return None, why
        with _locked(folder):
            kept = _read(folder / "stack.json")
            last = kept.pop(server, None)
            newest = dict([*kept.items(), (server, now)][-SERVERS_MAX:])
            _write(folder / "stack.json", newest)
    except OSError as error:
        return None, f"{folder}: {error.strerror}"
    return last, ""


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else exchanges meanwhile. OSError: EBUSY, for too long."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """OSError."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                why = f"another usnet-ctl has had it locked for {PATIENCE_S:g} s (lslocks)"
                raise OSError(errno.EBUSY, why) from None
        time.sleep(RETRY_S)


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _write(file: Path, kept: dict[str, Any]) -> None:
    """Whole or not at all."""
    made = file.with_suffix(".new")
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as text:
            json.dump(kept, text)
        os.replace(made, file)
    finally:
        made.unlink(missing_ok=True)
