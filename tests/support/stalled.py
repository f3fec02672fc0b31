"""A program in front of a server whose standard error is read by nobody.

    with Server(APP, prefix=unread_pipe()) as server: ...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_UNREAD_PIPE = """
import fcntl, os, sys
reader, writer = os.pipe()
fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
os.set_inheritable(reader, True)
os.dup2(writer, 2)
os.execvp(sys.argv[1], sys.argv[1:])
"""

def unread_pipe() -> Sequence[str]:
    """Standard error is a pipe of 4 KiB; its other end is open, and nobody reads there."""
    return (sys.executable, "-c", _UNREAD_PIPE)

