"""What the commands print on standard output, wherever that leads: a pipe that was closed, a disk that is full.

Names of files and arguments may be no text; they are shown escaped (logs.py), so that they cannot steer a terminal.
"""

from __future__ import annotations

import os
import sys

from usnet_framework import logs
from usnet_framework.errors import StartupError


def show(text: str, end: str = "\n", raw: bool = False) -> bool:
    """Print it; `raw`: as it is. False: the reader has seen enough (`| head`), which is no error. StartupError when it
    cannot be written."""
    if sys.stdout is None:  # it was closed before we were started
        return False
    encoding = sys.stdout.encoding
    plain = text if raw else logs.lines(text)
    try:
        print(plain.encode(encoding, "backslashreplace").decode(encoding), end=end, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is tried again at the exit
        if not isinstance(error, BrokenPipeError):
            raise StartupError(f"cannot write to standard output: {error.strerror}") from None
        return False
    return True
