"""usnet-ctl capture beside a running server.

    with Capturing(server, "tcp port 7000") as capture: ...    # packets are copied from here on
    capture.file.packets, capture.words                        # what it wrote, and what it said at the end
"""

from __future__ import annotations

import signal
import subprocess
from types import TracebackType
from typing import Self

from support import pcapng
from support.server import STOP_SECONDS, Server, command, wait


class Capturing:
    def __init__(self, server: Server, *words: str) -> None:
        self.path = server.folder / "capture.pcapng"
        self._server = server
        self._words = words
        self.words = ""
        self._data = b""

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        line = [command("usnet-ctl"), "capture", *self._words, "-w", str(self.path)]
        line += ["--control", str(self._server.control)]
        self.process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        try:
            self._server.wait("it captures", self._has_begun)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if kind is None else signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """It ends by itself, or was asked to."""
        if self.words:
            return
        _, said = self.process.communicate(timeout=STOP_SECONDS)
        self.words, self._data = said, self.path.read_bytes()
        assert self.process.returncode in (0, -signal.SIGKILL), said

    def size(self) -> int:
        return self.path.stat().st_size

    def wait_for(self, packets: int) -> None:
        """So many were written."""
        wait("packets are captured", lambda: len(self.so_far()) >= packets)

    def wait_for_sent(self, data: bytes) -> None:
        """A packet with it: on kernel sockets it is written after the peer may have it."""
        wait("it is captured", lambda: any(data in packet.data for packet in self.so_far() if not packet.came))

    def so_far(self) -> list[pcapng.Packet]:
        return pcapng.read(self.path.read_bytes(), grows=True).packets

    @property
    def file(self) -> pcapng.File:
        return pcapng.read(self._data)

    def tshark(self, display_filter: str, *fields: str) -> list[list[str]]:
        return pcapng.tshark(self._data, display_filter, *fields)

    def _has_begun(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[1]
        return self.path.exists() and self.size() > 0

