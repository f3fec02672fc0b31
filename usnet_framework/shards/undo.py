"""Changes to the machine's settings that are undone whatever happens to us, a SIGKILL of everything included.

A journal belongs to one interface. It is a file, a line for each step: what was in force is written down before it is
changed, what is in force afterwards is added to it, so that it can be told later whether somebody else has changed it
again. What somebody else has set stays.

The file is locked by the process that has changed things. A file that nobody has locked is one that a killed server
left: the next server on that interface undoes it first, `usnet-ctl doctor` shows it, and `doctor --fix` undoes it. Its
name holds the network namespace, as names of interfaces are those of a namespace. After a reboot, or when the interface
is another one by now, there is nothing to undo on it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from usnet_framework.config import default_control_path
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards.cardsettings import KINDS, shown
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.unixpath import make_private

log = logging.getLogger("usnet.supervisor")

SUFFIX = ".undo"
PATIENCE_S = 1.0
"""Whoever only looks at a journal has it for a moment, too."""

LETTING_GO_S = 10.0
"""The kernel takes no queue away that a socket is bound to (EINVAL), and lets go of it some time after the socket was
closed: a grace period of RCU later it queues work, which waits for the lock of all network settings. On an idle machine
that takes 20 ms, on one that makes and removes interfaces all the time it may be seconds. Nothing tells when it is
done."""

RETRY_S = 0.02
SO_NETNS_COOKIE = 71
_MISSING = object()


def default_folder() -> Path:
    """Of journals, beside the default control socket: a server and usnet-ctl look at the same one."""
    return Path(default_control_path()).parent / "undo"


@dataclass
class _Step:
    kind: str
    name: str
    before: Any
    after: Any = field(default=_MISSING)
    undone: bool = False


class Journal:
    """Of one interface, ours until `close`. What a killed server left in it was undone."""

    def __init__(self, card: Ethtool, folder: Path | None = None) -> None:
        """InUse: another server has the interface. StartupError: the journal cannot be kept, or there is no such
        interface."""
        self._card = card
        folder = folder or default_folder()
        path = folder / _file_name(card.interface)
        try:
            identity = _identity(card.interface)
            make_private(folder)
            self._file = _locked(path, PATIENCE_S)
        except BlockingIOError:
            raise InUse(
                f"--interface {card.interface}: another server has it; stop that one or use another interface"
            ) from None
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise StartupError(f"--interface {card.interface}: there is no such interface") from None
            raise StartupError(f"{path}: what is changed cannot be written down: {error.strerror}") from None
        self._path = path
        for line in _undo_all(card, self._file):
            log.warning("left by a server that was killed: %s", line)
        stuck = [step for step in _steps(self._file) if not step.undone]
        self._file.seek(0)
        self._file.truncate()
        self._write(identity)
        self._steps: list[_Step] = []
        for step in stuck:  # whatever is set meanwhile: this is what it was
            self._announce(step.kind, step.name, step.before)

    def change(self, kind: str, name: str, value: Any) -> Any:
        """Set it (cardsettings.KINDS), unless it is so already: what is in force then. OSError: refused."""
        found = KINDS[kind].read(self._card, name)
        if found == value:
            return found
        number = self._announce(kind, name, found)
        try:
            KINDS[kind].write(self._card, name, value)
        finally:
            after = KINDS[kind].read(self._card, name)
            self._steps[number].after = after
            self._write({"step": number, "after": after})
        return after

    def changes(self) -> list[str]:
        """Made so far, as people read them."""
        return [
            shown(self._card.interface, step.kind, step.name, step.before, step.after)
            for step in self._steps
            if step.after not in (step.before, _MISSING)
        ]

    def close(self) -> None:
        """Undo everything, the last first. What cannot be undone stays written down, for the next one to try."""
        lines = _undo_all(self._card, self._file)
        for line in lines:
            log.info("%s", line)
        if _is_done(self._file):
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _announce(self, kind: str, name: str, before: Any) -> int:
        self._steps.append(_Step(kind, name, before))
        number = len(self._steps) - 1
        self._write({"step": number, "kind": kind, "name": name, "before": before})
        return number

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def leftovers(folder: Path | None = None) -> list[Finding]:
    """What servers that are gone have left changed in this network namespace."""
    return [
        Finding(
            what=f"left over on {interface}",
            asked="nothing",
            in_force=f"{len(steps)} setting{'s' if len(steps) > 1 else ''} of a server that was killed",
            reason="; ".join(f"{step.name or step.kind} was {_shown(step)}" for step in steps),
            fix="usnet-ctl doctor --fix, or start a server on it again",
            ok=False,
        )
        for interface, file in _abandoned(folder or default_folder())
        if (steps := [step for step in _steps(file) if not step.undone])
    ]


def left(interface: str, kind: str, folder: Path | None = None) -> list[str]:
    """The names, of one kind, of what a server that is gone has left changed on an interface."""
    return [
        step.name
        for its_interface, file in _abandoned(folder or default_folder())
        for step in (_steps(file) if its_interface == interface else [])
        if step.kind == kind and not step.undone
    ]


def undo_leftovers(folder: Path | None = None) -> list[str]:
    """Put them back: a line for each that was, and for each that could not be."""
    lines = []
    for interface, file in _abandoned(folder or default_folder()):
        with Ethtool(interface) as card:
            lines += _undo_all(card, file)
        if _is_done(file):
            Path(file.name).unlink(missing_ok=True)
    return lines


def _file_name(interface: str) -> str:
    return f"{_namespace()}-{interface}{SUFFIX}"


def _namespace() -> int:
    """Of the network: a number that no other one gets before the next boot. A kernel before 5.14 has but the number of
    its inode, which the next one may get."""
    with socket.socket(socket.AF_UNIX) as query, suppress(OSError):
        return int.from_bytes(query.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
    return os.stat("/proc/thread-self/ns/net").st_ino


def _identity(interface: str) -> dict[str, Any]:
    """By which an interface is told from another of its name. OSError: there is none."""
    try:
        return {"interface": interface, "index": socket.if_nametoindex(interface), "boot": _boot()}
    except OSError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface) from None


def _locked(path: Path, patience_s: float = 0.0, mode: Literal["a+", "r+"] = "a+") -> TextIO:
    """The file, with this mode made if there is none. BlockingIOError: somebody has it, for longer than that."""
    deadline_s = time.monotonic() + patience_s
    while True:
        with ExitStack() as opened:
            file = opened.enter_context(open(path, mode, encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise
                time.sleep(RETRY_S)
                continue
            if os.fstat(file.fileno()).st_nlink > 0:  # else its last owner has removed it meanwhile
                opened.pop_all()
                return file


def _abandoned(folder: Path) -> Iterator[tuple[str, TextIO]]:
    """Journals of this network namespace that nobody has; they are ours for as long as the caller looks at them."""
    prefix = _file_name("").removesuffix(SUFFIX)
    for path in sorted(folder.glob(f"{prefix}*{SUFFIX}")) if folder.is_dir() else ():
        with suppress(OSError), _locked(path, mode="r+") as file:  # one that is gone meanwhile is not made again
            yield path.name.removeprefix(prefix).removesuffix(SUFFIX), file


def _entries(file: TextIO) -> list[dict[str, Any]]:
    """The first is the interface's identity. A line that was cut off by the death of its writer is left out: what it
    announces was not done yet."""
    file.seek(0)
    entries = []
    for line in file:
        with suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def _steps(file: TextIO) -> list[_Step]:
    steps: dict[int, _Step] = {}
    for entry in _entries(file)[1:]:
        number = entry["step"]
        if "kind" in entry:
            steps[number] = _Step(entry["kind"], entry["name"], entry["before"])
        elif "after" in entry:
            steps[number].after = entry["after"]
        else:
            steps[number].undone = True
    return list(steps.values())


def _is_done(file: TextIO) -> bool:
    return all(step.undone for step in _steps(file))


def _undo_all(card: Ethtool, file: TextIO) -> list[str]:
    """_undo, and once more what the kernel refuses while it lets go of a queue."""
    deadline_s = time.monotonic() + LETTING_GO_S
    lines, refused = _undo(card, file)
    while any(may_pass for _, may_pass in refused) and time.monotonic() < deadline_s:
        time.sleep(RETRY_S)
        more, refused = _undo(card, file)
        lines += more
    return lines + [line for line, _ in refused]


def _undo(card: Ethtool, file: TextIO) -> tuple[list[str], list[tuple[str, bool]]]:
    """Everything in the journal that is not undone yet, the last first: a line for each that was, or needs no more, and
    for each that was refused, whether that may pass."""
    entries = _entries(file)
    try:
        is_same = bool(entries) and entries[0] == _identity(card.interface)
    except OSError:
        is_same = False
    is_booted_since = bool(entries) and entries[0]["boot"] != _boot()
    lines: list[str] = []
    refused: list[tuple[str, bool]] = []
    for number, step in reversed(list(enumerate(_steps(file)))):
        if step.undone:
            continue
        line, done = "", True
        if step.kind not in KINDS:
            reason = "cannot be put back: another version of usnet wrote it down"
            line, done = f"{card.interface} {step.kind}: {reason}", False
        elif not is_booted_since and (is_same or not KINDS[step.kind].of_card):
            line, done = _undo_step(card, step)
        if line and done:
            lines.append(line)
        elif line:
            refused.append((line, step.kind == "channels"))
        if done:
            file.seek(0, os.SEEK_END)
            file.write("\n" + json.dumps({"step": number, "undone": True}) + "\n")  # the last line may be cut off
            file.flush()
    return lines, refused


def _shown(step: _Step) -> str:
    return KINDS[step.kind].shown(step.before) if step.kind in KINDS else str(step.before)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _undo_step(card: Ethtool, step: _Step) -> tuple[str, bool]:
    """What was done, empty when it was so already, and whether that is all that can be done."""
    kind = KINDS[step.kind]
    try:
        found = kind.read(card, step.name)
        line = shown(card.interface, step.kind, step.name, found, step.before)
        if found == step.before:
            return "", True
        if step.after is not _MISSING and found != step.after:
            return f"{line}: not put back, as somebody else has changed it since", True
        kind.write(card, step.name, step.before)
    except OSError as error:
        what = f"{card.interface} {step.kind} {step.name}".rstrip()
        return f"{what}: cannot be put back: {error.strerror}", error.errno in (errno.ENODEV, errno.ENOENT)
    return line, True
