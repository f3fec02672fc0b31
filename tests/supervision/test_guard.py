"""The guard of socket files: it hears of its supervisor's end however many signals say so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from support.server import wait

from usnet_framework.installed import installed

SIGNALS = 20  # a supervisor that ends may have as many threads, and each of them sends one


def test_signals_of_threads_that_end_do_not_keep_it_from_cleaning_up(tmp_path: Path) -> None:
    file = tmp_path / "a.sock"
    file.touch()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        fd = theirs.fileno()
        arguments = ["--guard", "--parent", str(os.getpid()), "--control", str(fd), "--cleanup", str(file)]
        with subprocess.Popen([installed("bin/usnet-network"), *arguments], pass_fds=[fd]) as guard:
            title = Path(f"/proc/{guard.pid}/cmdline")
            wait("it has started", lambda: title.read_bytes().startswith(b"usnet: guard"))
            for _ in range(SIGNALS):
                guard.send_signal(signal.SIGTERM)
                time.sleep(0.005)  # one that is pending already would not be another
            theirs.close()
            ours.close()
            assert guard.wait(10) == 0
    assert not file.exists()
