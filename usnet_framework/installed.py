"""What an import of the package does not tell: which version it is, and where the files lie that were built with it and
that no import finds: programs, the C library, its headers.

An ordinary install has them beside the Python files. An editable install leaves the Python files in the checkout and
everything built in its build folder; only the package's loader knows both, and importlib.resources asks the loader.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from usnet_framework.errors import StartupError

VERSION = "0.1.0"
"""Of the code that runs. What is installed may be another one by now, and a copy in a folder of its own has no
metadata."""


def installed(name: str) -> Path:
    """The path of a file of the package, e.g. "bin/usnet-network". StartupError: it is not there."""
    found = files("usnet_framework").joinpath(*name.split("/"))
    if isinstance(found, Path) and found.is_file():
        return found
    raise StartupError(f"the package was installed without {name}: install usnet_framework again")


def pkgconfig_folder() -> Path:
    """What PKG_CONFIG_PATH has to hold for `pkg-config usnet`.

    In a build folder usnet-uninstalled.pc lies beside usnet.pc; pkg-config prefers it.
    """
    return installed("lib/pkgconfig/usnet.pc").parent
