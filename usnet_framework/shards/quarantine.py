"""The quarantine folder: events that were being handled at two consecutive deaths of a worker (P3).

Two files for each: `NAME.bin` holds the bytes that the handler was given, `NAME.json` what is known about them. The
folder is bounded, because whoever found a request that kills workers may send it again. The bytes are written first,
and a file that the disk has no room for is removed again: none is there in part.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from usnet_framework.shards.segment import QuarantineRecord
from usnet_framework.shards.unixpath import make_private

EVENTS_MAX = 1000
EVENT_TYPES = {1: "connect", 2: "data", 3: "eof", 4: "drain", 5: "close"}  # enum un_event_type


class QuarantineFull(Exception):
    """As many events as the folder may hold are kept already."""


def trouble(folder: Path) -> str | None:
    """Why no event could be kept there, None when one could; nothing is made."""
    for nearest in (folder, *folder.parents):
        try:
            kind = os.stat(nearest).st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            return (error.strerror or str(error)).lower()
        if not stat.S_ISDIR(kind):
            return f"{nearest} is no folder"
        if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
            return f"no permission to write in {nearest}"
        return None
    return "there is no folder above it"


def keep(folder: Path, worker: str, record: QuarantineRecord, now: datetime | None = None) -> Path:
    """Write the event down; the path of its bytes. OSError when the folder does not take them, QuarantineFull.

    Facts that find no room beside the bytes are left out: the log has most of them.
    """
    now = now or datetime.now(UTC)
    make_private(folder)
    if len({path.stem for path in folder.iterdir()}) >= EVENTS_MAX:
        raise QuarantineFull(f"{folder} holds {EVENTS_MAX} events; remove those that are understood")
    name = f"{now.strftime('%Y%m%dT%H%M%S.%fZ')}-{record.conn:016x}"
    facts = {
        "time": now.isoformat(),
        "worker": worker,
        "conn": record.conn,
        "peer": record.peer,
        "event": EVENT_TYPES.get(record.event_type, str(record.event_type)),
        "bytes": len(record.data),
    }
    _write(folder / f"{name}.bin", record.data)
    with suppress(OSError):
        _write(folder / f"{name}.json", json.dumps(facts, indent=2).encode() + b"\n")
    return folder / f"{name}.bin"


def _write(path: Path, data: bytes) -> None:
    """The whole file or none. It may hold what users sent in confidence: only the owner reads it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o600)  # whatever the umask
            file.write(data)
    except OSError:
        path.unlink()
        raise
