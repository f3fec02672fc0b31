"""What the commands print on standard output, wherever that leads: a pipe that was closed, a disk that is full.

Names of files and arguments may be no text; they are shown escaped (logs.py), so that they cannot steer a terminal.
"""

from __future__ import annotations

import os
import sys

from usnet_framework import logs
from usnet_framework.errors import StartupError


def show(text: str) -> None:
    """Print it. A reader that has seen enough (`| head`) is no error; StartupError when it cannot be written."""
    if sys.stdout is None:  # it was closed before we were started
        return
    encoding = sys.stdout.encoding
    try:
        print(logs.lines(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is tried again at the exit
        if not isinstance(error, BrokenPipeError):
            raise StartupError(f"cannot write to standard output: {error.strerror}") from None
