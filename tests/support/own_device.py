"""A device that somebody else wrote: examples/c/device.c, compiled against the headers that the package installs."""

from __future__ import annotations

import ctypes
import select
import socket
import subprocess
from pathlib import Path

from support.cflags import flags
from support.tree import ROOT

from usnet_framework.testing.conformance import Bench, Device
from usnet_framework.testing.offload import Frame

SOURCE = (ROOT / "examples/c/device.c").read_text("utf-8")


def compiled(source: str, folder: Path) -> ctypes.CDLL:
    (folder / "device.c").write_text(source)
    warnings = ["-Wall", "-Wextra", "-Werror"] if source == SOURCE else []
    made = folder / "device.so"
    command = ["cc", "-std=gnu11", *warnings, "-shared", "-fPIC", *flags("--cflags"), folder / "device.c", "-o", made]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(made))
    library.own_open.restype = ctypes.c_void_p
    return library


class SocketFarEnd:
    """The other end of a socketpair."""

    carries_offloads = False

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, frame: Frame) -> bool:
        assert isinstance(frame, bytes)
        self._end.send(frame)
        return True

    def receive(self, wait_s: float = 1.0) -> Frame | None:
        return self._end.recv(2**16) if select.select([self._end], [], [], wait_s)[0] else None

    def close(self) -> None:
        self._end.close()


def bench(library: ctypes.CDLL) -> Bench:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return Bench(Device.at(library.own_open(near.detach())), SocketFarEnd(far), keeps_mtu=True)
