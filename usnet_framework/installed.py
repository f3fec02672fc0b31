"""Where the files lie that were built with the package and that no import finds: programs, the C library, its headers.
And its version.

An ordinary install has them beside the Python files. An editable install leaves the Python files in the checkout and
everything built in its build folder; only the package's loader knows both, and importlib.resources asks the loader.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from usnet_framework.errors import StartupError


def installed(name: str) -> Path:
    """The path of a file of the package, e.g. "bin/usnet-network". StartupError: it is not there."""
    found = files("usnet_framework").joinpath(*name.split("/"))
    if isinstance(found, Path) and found.is_file():
        return found
    raise StartupError(f"the package was installed without {name}: install usnet_framework again")


@cache
def version() -> str:
    """Of the package. Read from its files once: a server is asked for it again and again, and another version may be
    installed while this one runs."""
    return metadata.version("usnet_framework")


def pkgconfig_folder() -> Path:
    """What PKG_CONFIG_PATH has to hold for `pkg-config usnet`.

    In a build folder usnet-uninstalled.pc lies beside usnet.pc; pkg-config prefers it.
    """
    return installed("lib/pkgconfig/usnet.pc").parent
