"""A release of the application: the folders and files that one generation is made of.

A deploy often switches a symbolic link (`current -> releases/2`) and asks for a reload. So folders are remembered as
they were named when the server started, and resolved once for each generation: all its processes have the same release,
whatever the link says later. The kernel knows the current folder only by what it is, the shell tells its name ($PWD).

What lies in the current folder moves along with it: entries of sys.path, and files that were named by their resolved
path. Processes of a generation run in the release's folder, so that file names relative to it belong to the release."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usnet_framework.app import parse_app
from usnet_framework.errors import StartupError


@dataclass(frozen=True)
class Release:
    """Folders are resolved. `path`: sys.path of its processes; `python`: what runs them."""

    app: str
    app_dir: str
    folder: str
    path: tuple[str, ...]
    python: str

    def load(self) -> dict[str, Any]:
        """For the message `load`."""
        return {"app": self.app, "app_dir": self.app_dir, "folder": self.folder, "argv": sys.argv}


class ReleaseFinder:
    """Made when the server starts."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """StartupError: the current folder is gone."""
        self._folder = _current_folder(environ)
        self._began_in = os.path.realpath(self._folder)

    def find(self, app: str, app_dir: str) -> Release:
        """As links point now. Whether anything is there shows when it is imported. UsageError: `app` is no name."""
        folder = os.path.realpath(self._folder)
        module, attribute = parse_app(app)
        if module.endswith(".py"):
            module = self._resolved(os.path.join(self._folder, app_dir, module), folder)
        app_dir = self._resolved(os.path.join(self._folder, app_dir), folder)
        path = tuple(self._resolved(os.path.join(self._folder, entry), folder) for entry in _import_path())
        return Release(f"{module}:{attribute}", app_dir, folder, path, _python())

    def _resolved(self, path: str, folder: str) -> str:
        below = os.path.relpath(os.path.realpath(path), self._began_in)
        if below == os.pardir or below.startswith(os.pardir + os.sep):
            return os.path.realpath(path)
        return os.path.realpath(os.path.join(folder, below))


def _current_folder(environ: Mapping[str, str]) -> str:
    named = environ.get("PWD", "")
    try:
        if os.path.isabs(named) and os.path.samefile(named, os.curdir):
            return named
    except OSError:
        pass
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise StartupError("the current folder was removed; start the server in one that exists") from None


def _import_path() -> list[str]:
    """What this process imports from, without the folder of our own programs."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    ours = os.path.dirname(main) if main and os.path.basename(main).startswith("usnet-") else None
    return [entry for number, entry in enumerate(sys.path) if number > 0 or entry != ours]


def _python() -> str:
    """The interpreter, by a path that stays the same when a link is switched. A virtual environment is known by the
    folder, so the file's own link is not followed."""
    path = Path(sys.executable)
    pinned = path.parent.resolve() / path.name
    return str(pinned if os.access(pinned, os.X_OK) else path)
