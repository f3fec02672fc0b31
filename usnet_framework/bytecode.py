"""Bytecode of the application is used only if it was compiled after the source's last change.

Python takes a compiled file for that of a source when the time (in whole seconds) and the size that it notes are the
source's. A second edit of equal size within the same second goes unnoticed, and so does a file that is put in place
with its old time (rsync -t, cp -p): a reload would bring the old code. For sources below the application's folder:

    used     bytecode that was written after the source's inode last changed (ctime, which no program sets)
    written  bytecode of sources that did not change for SETTLED_S: a change while one is compiled has another second

Installed libraries, also those of a virtual environment in that folder, are loaded as everywhere."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
from importlib.abc import PathEntryFinder
from importlib.machinery import ExtensionFileLoader, FileFinder, SourceFileLoader, SourcelessFileLoader

SETTLED_S = 2.0  # the notes of bytecode have seconds, clocks of file servers differ a little
LIBRARIES = ("site-packages", "dist-packages")


class Loader(SourceFileLoader):
    """Of one source file."""

    def get_data(self, path: str) -> bytes:
        if path.endswith(".pyc") and os.stat(path).st_mtime_ns <= _changed_ns(self.path):
            raise FileNotFoundError(path)  # as if there were none
        return super().get_data(path)

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        if time.time() - _changed_ns(self.path) / 1e9 > SETTLED_S:
            super().set_data(path, data, _mode=_mode)


def load_below(folder: str) -> None:
    """From now on sources below this folder are loaded so."""
    finder = FileFinder.path_hook(
        (ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (Loader, importlib.machinery.SOURCE_SUFFIXES),
        (SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
    )

    def hook(path: str) -> PathEntryFinder:
        if not _is_below(path, folder):
            raise ImportError(f"{path} is not below {folder}", path=path)
        return finder(path)

    sys.path_hooks.insert(0, hook)
    for known in [path for path in sys.path_importer_cache if _is_below(path, folder)]:
        del sys.path_importer_cache[known]


def _is_below(path: str, folder: str) -> bool:
    """And does not belong to an installed library."""
    if path != folder and not path.startswith(folder.rstrip(os.sep) + os.sep):
        return False
    return not any(part in LIBRARIES for part in path[len(folder) :].split(os.sep))


def _changed_ns(source: str) -> int:
    status = os.stat(source)
    return max(status.st_mtime_ns, status.st_ctime_ns)
