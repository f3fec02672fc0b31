"""Ports for connections that a stack opens from an address that it shares with the kernel.

What comes back to them leaves the kernel like what comes to a served port, so the kernel must take none of them for
connections of its own: they are reserved (net.ipv4.ip_local_reserved_ports, which holds for IPv6 as well) for as long
as the server lives. The setting is a list of everybody's; our range is put into it and taken out again
(cardsettings.py), and others may come and go meanwhile. Servers change it one at a time (`alone`): whoever does has a
file locked. It lies where only their user gets at it, as whoever can open it can lock it. Servers with other folders,
those of another user or another container, have other locks."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from usnet_framework.addresses import IpAddress, Ports
from usnet_framework.config import default_control_path
from usnet_framework.errors import StartupError
from usnet_framework.shards import namespaces
from usnet_framework.shards.cgroup import listed, parse_list
from usnet_framework.shards.kernelsockets import local_ends
from usnet_framework.shards.unixpath import make_private

RESERVED = "proc/sys/net/ipv4/ip_local_reserved_ports"

LIST_BYTES_MAX = 1 << 20
"""Every second one of all ports takes less."""

PATIENCE_S = 1.0  # each has its turn for a few milliseconds
RETRY_S = 0.005


class _Turn:
    """No other server changes the list meanwhile. Whoever has the turn may ask for it again. OSError: EBUSY, for too
    long."""

    def __init__(self) -> None:
        self._thread = threading.RLock()
        self._depth = 0
        self._lock = -1

    def __enter__(self) -> None:
        self._take(PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self._give_back()

    @contextmanager
    def within(self, patience_s: float) -> Iterator[None]:
        """For a caller that cannot wait as long."""
        self._take(min(patience_s, PATIENCE_S))
        try:
            yield
        finally:
            self._give_back()

    def _take(self, patience_s: float) -> None:
        if not self._thread.acquire(timeout=patience_s):
            raise OSError(errno.EBUSY, "another thread of the server changes the reserved ports")
        try:
            if self._depth == 0:
                self._lock = _locked(lock_path(), patience_s)
        except BaseException:
            self._thread.release()
            raise
        self._depth += 1

    def _give_back(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            os.close(self._lock)
        self._thread.release()


alone = _Turn()


def lock_path() -> Path:
    """Beside the journals of changes (undo.py); one for each network namespace, as the list is. The file stays. So its
    name is a number that later namespaces get again, and not the cookie: no two have it at the same time."""
    return Path(default_control_path()).parent / "undo" / f"{namespaces.file_number()}-outgoing-ports.lock"


def _locked(path: Path, patience_s: float) -> int:
    """A descriptor that has the lock until it is closed. OSError."""
    make_private(path.parent)
    deadline_s = time.monotonic() + patience_s
    with ExitStack() as opened:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, file)
        while not _is_locked(file):
            if time.monotonic() >= deadline_s:
                long = f" for {patience_s:g} s" if patience_s else ""
                raise OSError(errno.EBUSY, f"another server has had {path} locked{long} (lslocks)")
            time.sleep(RETRY_S)
        opened.pop_all()
    return file


def _is_locked(file: int) -> bool:
    """By us, from now on."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def name_of(ports: Ports) -> str:
    return f"{ports[0]}-{ports[1]}"


def ports_named(name: str) -> Ports:
    first, last = map(int, name.split("-"))
    return first, last


def reserved(root: Path = Path("/")) -> set[int]:
    """In one read: the kernel answers a second one of the same file with its end."""
    with (root / RESERVED).open("rb", buffering=0) as file:
        return set(parse_list((file.read(LIST_BYTES_MAX) or b"").decode("ascii")))


def is_reserved(ports: Ports, root: Path = Path("/")) -> bool:
    """All of them."""
    return set(_all(ports)) <= reserved(root)


def is_touched(ports: Ports, root: Path = Path("/")) -> bool:
    """Whether any of them is reserved: something is to be put back, be it that others have taken the rest out."""
    return not reserved(root).isdisjoint(_all(ports))


def reserve(ports: Ports, on: bool, root: Path = Path("/")) -> None:
    """Or let the kernel have them again, as many as there still are. OSError."""
    with alone:
        found = reserved(root)
        wanted = found | set(_all(ports)) if on else found - set(_all(ports))
        with (root / RESERVED).open("w", encoding="ascii") as file:
            file.write(f"{listed(wanted)}\n")


def check_free(ports: Ports, ours: Iterable[Ports] = (), root: Path = Path("/")) -> None:
    """StartupError: others have reserved some of them. `ours` are ranges that were reserved by a server before us, and
    are about to be free."""
    taken = reserved(root).intersection(_all(ports)) - {port for range_ in ours for port in _all(range_)}
    if taken:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: {listed(taken)} of them are reserved already "
            "(sysctl net.ipv4.ip_local_reserved_ports); use others"
        )


def check_unused(ports: Ports, addresses: Collection[IpAddress]) -> None:
    """StartupError: the kernel has sockets there, which would not hear of their peers any more."""
    try:
        ends = local_ends(ports)
    except OSError as error:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: the kernel does not tell what is at them: {error}"
        ) from None
    used = {port for ip, port in ends if ip.is_unspecified or ip in addresses}
    if used:
        raise StartupError(
            f"--outgoing-ports {name_of(ports)}: the kernel has connections at {listed(used)}; "
            "use others, or wait until they have ended (ss -tan)"
        )


def _all(ports: Ports) -> range:
    return range(ports[0], ports[1] + 1)
