"""Listening sockets that are files: made without taking anything from a live server, removed only while still ours.

A file left by a server that was killed is stale: nobody answers a connect, so it is removed and the path is used
again. A path where somebody answers, or that is no socket at all, is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from usnet_framework.errors import InUse, StartupError

PATH_BYTES_MAX = 107  # sun_path of struct sockaddr_un, less its final zero
PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class UnixListener:
    """A bound, listening socket and the file it made."""

    socket: socket.socket
    path: Path
    device: int
    inode: int

    def close(self) -> None:
        """Close the socket and remove the file, unless somebody else put another one there."""
        self.socket.close()
        self.unlink()

    def unlink(self) -> None:
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)
        except OSError:
            pass  # gone already, or no longer ours to remove


def make_private(folder: Path) -> None:
    """Make the folder for its owner alone, whatever the umask, unless it is there. OSError."""
    for parent in reversed(folder.parents):
        with suppress(FileExistsError):
            parent.mkdir(mode=0o755)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def distrust(folder: Path) -> str | None:
    """Why others may put files of theirs into this folder, or in its place; None when they cannot. OSError.

    Root and this user may; a link is followed when they made it. In a folder like /tmp (sticky) nobody may touch the
    files of others.
    """
    followed = folder.stat()
    for found in (folder.lstat(), followed):
        if found.st_uid not in (0, os.geteuid()):
            kind = "link" if stat.S_ISLNK(found.st_mode) else "folder"
            return f"its {kind} {folder} belongs to another user ({found.st_uid})"
    if followed.st_mode & stat.S_IWOTH and not followed.st_mode & stat.S_ISVTX:
        return f"anybody may write in its folder {folder}"
    return None


def listen_unix(path: str, backlog: int, what: str, mode: int | None = None) -> UnixListener:
    """Listen at `path`. `mode` is the file's from its first moment; StartupError opens with `what`."""
    full = _full_path(path, what)
    if _is_stale(full, what):
        _remove(full, what)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listener, full, mode)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise StartupError(f"{what}: {_explain(error, full)}") from None
    listener.setblocking(False)
    made = os.lstat(full)
    return UnixListener(listener, full, made.st_dev, made.st_ino)


def try_unix(path: str, what: str) -> None:
    """Could this process listen at `path`? Nothing is made or removed. StartupError as listen_unix has it."""
    full = _full_path(path, what)
    _is_stale(full, what)
    if not full.parent.is_dir():
        raise StartupError(f"{what}: {_explain(FileNotFoundError(errno.ENOENT, ''), full)}")
    if not os.access(full.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise StartupError(f"{what}: {_explain(PermissionError(errno.EACCES, ''), full)}")


def _full_path(path: str, what: str) -> Path:
    full = Path(path).absolute()
    if len(os.fsencode(full)) > PATH_BYTES_MAX:
        raise StartupError(f"{what}: the path has more than {PATH_BYTES_MAX} bytes; use a shorter one")
    return full


def _bind(listener: socket.socket, path: Path, mode: int | None) -> None:
    if mode is None:
        listener.bind(str(path))
        return
    umask = os.umask(~mode & 0o777)  # never, not even for a moment, open to others
    try:
        listener.bind(str(path))
    finally:
        os.umask(umask)


def _is_stale(path: Path, what: str) -> bool:
    """Whether a socket is there that nobody listens on; StartupError when anything else is."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StartupError(f"{what}: {_explain(error, path)}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise StartupError(f"{what}: a file that is no socket is there; remove it or use another path")
    if _answers(path, what):
        raise InUse(f"{what}: another server is listening there; stop it or use another path")
    return True


def _remove(path: Path, what: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise StartupError(f"{what}: cannot remove the stale socket: {_explain(error, path)}") from None


def _answers(path: Path, what: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except PermissionError as error:
            raise StartupError(f"{what}: {_explain(error, path)}") from None
        except OSError:
            return True  # its backlog is full, or it is of another type: somebody is there
    return True


def _explain(error: OSError, path: Path) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission ({os.strerror(error.errno)}); use a path that this user may write"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"there is no folder {path.parent}; make it or use another path"
    return f"{error.strerror}; use another path"
