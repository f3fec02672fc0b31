"""Changes to the machine's settings that are undone whatever happens to us, a SIGKILL of everything included.

A journal belongs to one interface, by its number: names may change. It is a file, a line for each step: what was in
force is written down before it is changed, what is in force afterwards is added to it, so that it can be told later
whether somebody else has changed it again. What somebody else has set stays.

The file is locked by the process that has changed things. A file that nobody has locked is one that a killed server
left: the next server on that interface undoes it first, `usnet-ctl doctor` shows it, and `doctor --fix` undoes it. Its
name holds the network namespace, as numbers of interfaces are those of a namespace. What is left in another one is
shown with the way there: whoever is here may not change it. After a reboot, or when the interface is gone, there is
nothing to undo on it; when the whole namespace is, the file goes. But a card outlives its namespace: the kernel moves
it into the first one, as it is set, and nothing tells which one it is there. Its file stays, and says what to set.

Nothing here waits for the kernel but `put_back`, `undo_leftovers` and a journal that is given the patience for it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from usnet_framework.config import default_control_path
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards import namespaces
from usnet_framework.shards.cardsettings import KINDS, shown
from usnet_framework.shards.ethtool import Ethtool
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.rtnetlink import index_of, name_of, outlives_namespace
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

PASSING = {"channels": (errno.EINVAL, errno.EBUSY), "ports": (errno.EBUSY,)}
"""Refusals that may pass, by the kind of setting: a queue is in use, another server changes the list of ports."""

IN_ANOTHER = "in another network namespace"
ON_A_CARD = "on a card whose network namespace is gone, and which is in the first one now, as it was set"

RETRY_S = 0.02
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


@dataclass(frozen=True)
class _Content:
    """What a journal says: of which interface, and by their numbers the steps."""

    identity: dict[str, Any]
    steps: dict[int, _Step]

    @property
    def interface(self) -> str:
        """Its name now, or when there is none any more, that of then."""
        return _name_now(self.identity) or str(self.identity.get("interface", ""))

    @property
    def left(self) -> list[_Step]:
        return [step for step in self.steps.values() if not step.undone]

    def is_of(self, interface: str) -> bool:
        """Of this one now, or of one that had its name."""
        return interface in (self.identity.get("interface"), _name_now(self.identity))

    def has(self, step: _Step) -> bool:
        """Whether what it changed is there: not after the machine was booted, nor when the interface is gone."""
        if step.kind not in KINDS:
            return True
        is_there = not KINDS[step.kind].of_card or _name_now(self.identity) is not None
        return is_there and bool(self.identity["boot"] == _boot())


@dataclass(frozen=True)
class _Pass:
    """Of undoing: a line for each step that is done, and for each that was refused, whether that may pass."""

    done: list[str]
    refused: list[tuple[str, bool]]


class Journal:
    """Of one interface, ours until `close`. What a killed server left in it was undone."""

    def __init__(self, card: Ethtool, folder: Path | None = None, patience_s: float = LETTING_GO_S) -> None:
        """InUse: another server has the interface. StartupError: the journal cannot be kept, or there is no such
        interface. `patience_s`: how long to wait, at most, for queues of a killed server, and for whoever looks."""
        self._card = card
        folder = folder or default_folder()
        try:
            identity = _identity(card.interface)
            make_private(folder)
            self._path = folder / _file_name(identity["index"])
            with _locked(self._path, min(PATIENCE_S, patience_s)) as former:
                stuck = _settle(card, former, folder, patience_s)
                # Whatever is set meanwhile: this is what it was.
                steps = [_announced(number, step.kind, step.name, step.before) for number, step in enumerate(stuck)]
                self._file = _successor(self._path, [identity, *steps])
            self._count = len(steps)
        except BlockingIOError:
            raise in_use(card.interface, holder(card.interface, folder)) from None
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise StartupError(f"--interface {card.interface}: there is no such interface") from None
            raise StartupError(f"{folder}: what is changed cannot be written down: {error.strerror}") from None

    def change(self, kind: str, name: str, value: Any) -> Any:
        """Set it (cardsettings.KINDS), unless it is so already: what is in force then. OSError: refused, or it cannot
        be written down."""
        found = KINDS[kind].read(self._card, name)
        if found == value:
            return found
        number = self._count
        self._count += 1
        _write(self._file, _announced(number, kind, name, found))
        try:
            KINDS[kind].write(self._card, name, value)
        finally:
            after = KINDS[kind].read(self._card, name)
            with suppress(OSError):  # no room: then it is put back whatever it is
                _write(self._file, {"step": number, "after": after})
        if after != found:
            log.info("%s", shown(self._card.interface, kind, name, found, after))
        return after

    def close(self) -> None:
        """Undo everything, the last first. What cannot be undone, or not yet, stays written down: for `put_back`, or
        for the next one to try."""
        found = _undo(self._card, self._file)
        _report(found.done, [line for line, may_pass in found.refused if not may_pass])
        if not found.refused:
            self._path.unlink(missing_ok=True)
        self._file.close()


def put_back(interface: str, folder: Path | None = None, patience_s: float = LETTING_GO_S) -> None:
    """What the journal that was closed had to leave, as the kernel let go of a queue late. OSError."""
    for file in _abandoned(folder or default_folder()):
        if _read(file).is_of(interface):
            _report(*_put_back(file, patience_s))


def in_use(interface: str, pid: int | None) -> InUse:
    """A server has the interface, or its journal: what to say of that. `pid`: as `holder` has it."""
    if pid:
        who, how = f"the server of process {pid} has it", f"kill {pid}"
    else:
        who, how = "another server has it, or it is being put back as it was", "try again"
    return InUse(f"--interface {interface}: {who}; {how}, or use another interface")


def holder(interface: str, folder: Path | None = None) -> int | None:
    """The process of the server that has the interface; 0: it is not known, such as one of another PID namespace, or
    somebody puts things back. None: nobody who looks into this folder."""
    with suppress(OSError):
        path = (folder or default_folder()) / _file_name(index_of(interface))
        try:
            _locked(path, mode="r+").close()
        except BlockingIOError:
            with open(path, encoding="utf-8") as file:
                identity = _read(file).identity
            pid = int(identity.get("pid", 0))
            return pid if _began(pid) == identity.get("began") else 0
    return None


def leftovers(folder: Path | None = None) -> list[Finding]:
    """What servers that are gone have left changed in this network namespace, and is there."""
    contents = (_read(file) for file in _abandoned(folder or default_folder()))
    return [
        Finding(
            what=f"left over on {content.interface}",
            asked="nothing",
            in_force=f"{_counted(steps)} of a server that was killed",
            reason=_were(steps),
            fix="usnet-ctl doctor --fix, or start a server on it again",
            ok=False,
        )
        for content in contents
        if (steps := [step for step in content.left if content.has(step)])
    ]


def leftovers_elsewhere(folder: Path | None = None) -> list[Finding]:
    """The same of other network namespaces. It looks at all processes."""
    findings = []
    for file in _abandoned(folder or default_folder(), here=False):
        content = _read(file)
        if (found := _whereabouts(content, file.name)) is not None:
            where, steps, fix = found
            what = f"left over on {content.identity.get('interface')}"
            in_force = f"{_counted(steps)} of a server that was killed, {where}"
            findings.append(Finding(what, "nothing", in_force, _were(steps), fix, ok=False))
    return findings


def left(interface: str, kind: str, folder: Path | None = None) -> list[str]:
    """The names, of one kind, of what a server that is gone has left changed on an interface."""
    return [
        step.name
        for file in _abandoned(folder or default_folder())
        if (content := _read(file)).is_of(interface)
        for step in content.left
        if step.kind == kind
    ]


def undo_leftovers(folder: Path | None = None) -> list[str]:
    """Put them back: a line for each that was, for each that could not be, and for each interface of another network
    namespace on which something is left."""
    lines = []
    for file in _abandoned(folder or default_folder()):
        done, refused = _put_back(file, LETTING_GO_S)
        lines += done + refused
    return lines + _elsewhere(folder or default_folder())


# Undoing.


def _settle(card: Ethtool, own: TextIO, folder: Path, patience_s: float) -> list[_Step]:
    """Undo what killed servers have left on this interface, and on others that had its name: what could not be undone
    on this one."""
    for file in _abandoned(folder):
        if _read(file).is_of(card.interface):
            _report_left(*_put_back(file, patience_s))
    _report_left(*_undo_all(card, own, patience_s))
    return _read(own).left


def _put_back(file: TextIO, patience_s: float) -> tuple[list[str], list[str]]:
    """As `_undo_all`; the journal goes when nothing was refused."""
    with Ethtool(_read(file).interface) as card:
        done, refused = _undo_all(card, file, patience_s)
    if not refused:
        Path(file.name).unlink(missing_ok=True)
    return done, refused


def _undo_all(card: Ethtool, file: TextIO, patience_s: float) -> tuple[list[str], list[str]]:
    """_undo, and once more what the kernel refuses while it lets go of a queue. Lines: what is done, and what was
    refused."""
    deadline_s = time.monotonic() + patience_s
    found = _undo(card, file)
    done = found.done
    while any(may_pass for _, may_pass in found.refused) and time.monotonic() < deadline_s:
        time.sleep(RETRY_S)
        found = _undo(card, file)
        done += found.done
    return done, [line for line, _ in found.refused]


def _undo(card: Ethtool, file: TextIO) -> _Pass:
    """Everything in the journal that is not undone yet, the last first, on the interface as it is called now."""
    content, found = _read(file), _Pass([], [])
    try:
        card.interface = _name_now(content.identity) or card.interface
    except OSError as error:
        return _Pass([], [(f"{card.interface}: nothing can be put back: {error.strerror}", False)])
    for number, step in reversed(content.steps.items()):
        if step.undone:
            continue
        line, refusal = _undo_step(card, step) if content.has(step) else ("", 0)
        if not refusal:
            found.done.extend([line] if line else [])
            with suppress(OSError):  # no room: whoever looks next finds it as it was
                _write(file, {"step": number, "undone": True})
        else:
            found.refused.append((line, refusal in PASSING.get(step.kind, ())))
    return found


def _undo_step(card: Ethtool, step: _Step) -> tuple[str, int]:
    """What was done, empty when it was so already, and 0; else what was not, and the errno of the refusal."""
    if step.kind not in KINDS:
        reason = "cannot be put back: another version of usnet wrote it down"
        return f"{card.interface} {step.kind}: {reason}", errno.ENOSYS
    kind = KINDS[step.kind]
    try:
        found = kind.read(card, step.name)
        line = shown(card.interface, step.kind, step.name, found, step.before)
        if found == step.before:
            return "", 0
        if step.after is not _MISSING and found != step.after:
            return f"{line}: not put back, as somebody else has changed it since", 0
        kind.write(card, step.name, step.before)
    except OSError as error:
        what = f"{card.interface} {step.kind} {step.name}".rstrip()
        is_gone = error.errno in (errno.ENODEV, errno.ENOENT)
        return f"{what}: cannot be put back: {error.strerror}", 0 if is_gone else error.errno or errno.EIO
    return line, 0


def _report(done: Sequence[str], refused: Sequence[str]) -> None:
    for line in done:
        log.info("%s", line)
    for line in refused:
        log.warning("%s", line)


def _report_left(done: Sequence[str], refused: Sequence[str]) -> None:
    for line in (*done, *refused):
        log.warning("left by a server that was killed: %s", line)


def _counted(steps: Sequence[_Step]) -> str:
    return f"{len(steps)} setting{'s' if len(steps) > 1 else ''}"


def _were(steps: Sequence[_Step]) -> str:
    return "; ".join(f"{step.name or step.kind} was {_shown(step)}" for step in steps)


def _shown(step: _Step) -> str:
    return KINDS[step.kind].shown(step.before) if step.kind in KINDS else str(step.before)


# Files.


def _file_name(index: int | str) -> str:
    return f"{namespaces.cookie()}-{index}{SUFFIX}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _identity(interface: str) -> dict[str, Any]:
    """By which an interface is found again, whatever it is called then; and who has it. OSError: there is none."""
    return {
        "interface": interface,
        "index": index_of(interface),
        "boot": _boot(),
        "namespace": namespaces.file_number(),
        "outlives": outlives_namespace(interface),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
    }


def _began(pid: int) -> int:
    """When this process did, in ticks since the machine was booted: its number may be another one's by now. 0: there is
    none."""
    with suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])  # behind the name, which may hold anything
    return 0


def _name_now(identity: dict[str, Any]) -> str | None:
    """None: it is gone. OSError: that cannot be found out."""
    try:
        return name_of(identity["index"]) if "index" in identity else None
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


def _locked(path: Path, patience_s: float = 0.0, mode: Literal["a+", "r+"] = "a+") -> TextIO:
    """The file, with this mode made if there is none. BlockingIOError: somebody has it, for longer than that."""
    deadline_s = time.monotonic() + patience_s
    while True:
        with ExitStack() as opened:
            file = opened.enter_context(open(path, mode, encoding="utf-8", opener=_append))
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


def _append(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND, 0o600)


def _successor(path: Path, entries: Sequence[dict[str, Any]]) -> TextIO:
    """Of the journal at this path, with these entries alone. A death on the way leaves the former one."""
    with ExitStack() as opened:
        file = opened.enter_context(_locked(path.with_suffix(".new")))
        os.ftruncate(file.fileno(), 0)
        for entry in entries:
            _write(file, entry)
        os.replace(file.name, path)
        opened.pop_all()
    return file


def _announced(number: int, kind: str, name: str, before: Any) -> dict[str, Any]:
    return {"step": number, "kind": kind, "name": name, "before": before}


def _write(file: TextIO, entry: dict[str, Any]) -> None:
    """A line more, whole. OSError. The last one may have been cut off, by a death or for want of room."""
    fd = file.fileno()
    size = os.fstat(fd).st_size
    is_whole = size == 0 or os.pread(fd, 1, size - 1) == b"\n"
    begin = "" if is_whole else "\n"
    line = f"{begin}{json.dumps(entry)}\n".encode()
    if os.write(fd, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _read(file: TextIO) -> _Content:
    """The first line is the interface's identity. A line that was cut off is left out: what it announces was not done.
    So is what is said of a step that is not there."""
    file.seek(0)
    entries = []
    for line in file:
        with suppress(ValueError):
            entries.append(json.loads(line))
    steps: dict[int, _Step] = {}
    for entry in entries[1:]:
        number = entry["step"]
        if "kind" in entry:
            steps[number] = _Step(entry["kind"], entry["name"], entry["before"])
        elif number in steps and "after" in entry:
            steps[number].after = entry["after"]
        elif number in steps:
            steps[number].undone = True
    return _Content(entries[0] if entries else {}, steps)


def _abandoned(folder: Path, *, here: bool = True) -> Iterator[TextIO]:
    """Journals of this network namespace, or of all others, that nobody has; they are ours for as long as the caller
    looks at them."""
    prefix = _file_name("").removesuffix(SUFFIX)
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        if path.name.startswith(prefix) == here:
            with suppress(OSError), _locked(path, mode="r+") as file:  # one that is gone meanwhile is not made again
                yield file


# Other network namespaces.


def _elsewhere(folder: Path) -> list[str]:
    """A line for each interface of another network namespace on which something is left, with the way to it. Journals
    of namespaces that are gone go with the interfaces that are, too."""
    lines = []
    for file in _abandoned(folder, here=False):
        content = _read(file)
        if (found := _whereabouts(content, file.name)) is None:
            Path(file.name).unlink(missing_ok=True)
            continue
        where, steps, fix = found
        what = f"{content.identity.get('interface')}: {_counted(steps)} left over {where}"
        lines.append(f"{what}: {_were(steps)}; {fix}" if where == ON_A_CARD else f"{what}; {fix}")
    return lines


def _whereabouts(content: _Content, path: str) -> tuple[str, list[_Step], str] | None:
    """Where in other network namespaces something is left, what, and what to do; None: it is gone."""
    if not content.left or content.identity["boot"] != _boot():
        return None
    if way := _way_to(content):
        return IN_ANOTHER, content.left, f"nsenter --net={way} usnet-ctl doctor --fix"
    if way is None:
        return IN_ANOTHER, content.left, "usnet-ctl doctor --fix there, or on the host as root"
    if kept := _on_card(content):
        return ON_A_CARD, kept, f"set that by hand, then rm {path}"
    return None


def _way_to(content: _Content) -> str | None:
    """As `namespaces.way_into`."""
    number = content.identity.get("namespace")
    return namespaces.way_into(number) if number is not None else None


def _on_card(content: _Content) -> list[_Step]:
    """What is left on a card that outlives its network namespace."""
    steps = content.left if content.identity.get("outlives", True) else []
    return [step for step in steps if step.kind not in KINDS or KINDS[step.kind].of_card]
