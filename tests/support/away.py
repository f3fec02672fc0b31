"""Another network namespace beside that of the test, which ends with the block.

    with Away() as away:
        ip("link", "set", "clients0", "netns", str(away.pid))
        away.run("ip", "link", "set", "clients0", "up")
"""

from __future__ import annotations

import os
import subprocess

from support.server import WITH_THE_TEST, wait


class Away:
    def __enter__(self) -> Away:
        self._process = subprocess.Popen([*WITH_THE_TEST, "unshare", "--net", "sleep", "1000"])
        here = os.readlink("/proc/thread-self/ns/net")
        wait("it has a namespace", lambda: os.readlink(f"/proc/{self.pid}/ns/net") != here)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def enter(self) -> tuple[str, ...]:
        """In front of a command that is to run there."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def run(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True)
