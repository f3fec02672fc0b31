"""What carries the connections of a server under test: the kernel's sockets, or our stack on a TAP interface.

With TAP everything happens in a network namespace of its own: the thread of the test enters it, and so does whatever it
starts from then on. The namespace holds a loopback, and the interface while a server runs; clients sit at the kernel's
end of it. It ends with the last process in it, so there is nothing to remove.

    def test_something(serve: Serve) -> None:        # runs once with each backend (tests/conftest.py)
        with serve("examples.echo:Echo") as server, server.connect() as client: ...
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Protocol

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


class Backend(Protocol):
    def address(self, port: int) -> tuple[str, int]:
        """Where clients connect."""

    def options(self, port: int) -> list[str]:
        """Of usnet-serve, to be found there."""

    def started(self) -> None:
        """The server serves."""

    def ended(self) -> None:
        """The server is gone: nothing of the backend is left."""


class Kernel:
    def address(self, port: int) -> tuple[str, int]:
        return ("127.0.0.1", port)

    def options(self, port: int) -> list[str]:
        return ["--bind", f"tcp://127.0.0.1:{port}"]

    def started(self) -> None:
        pass

    def ended(self) -> None:
        pass


class Tap:
    interface = "usnet0"
    ipv4, ipv6 = "10.77.0.1", "fd77::1"

    def address(self, port: int) -> tuple[str, int]:
        return (self.ipv4, port)

    def options(self, port: int) -> list[str]:
        ours = ["--address", f"{self.ipv4}/24", "--address", f"{self.ipv6}/64", "--interface", self.interface]
        return ["--backend", "tap", *ours, "--bind", f"tcp://*:{port}"]

    def started(self) -> None:
        """Give the kernel's end its addresses, which is the user's part."""
        for address in ("10.77.0.2/24", "fd77::2/64"):
            extra = ["nodad"] if ":" in address else []
            subprocess.run(["ip", "address", "replace", address, "dev", self.interface, *extra], check=True)

    def ended(self) -> None:
        with contextlib.suppress(OSError):
            raise AssertionError(f"interface {socket.if_nametoindex(self.interface)} is left")


@contextlib.contextmanager
def network_namespace() -> Iterator[None]:
    """This thread, and whatever it starts, in a network namespace that holds a loopback and nothing else."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_NEW_NETWORK))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _checked(_libc.setns(before, _NEW_NETWORK))
    finally:
        os.close(before)


@contextlib.contextmanager
def backend_named(name: str) -> Iterator[Backend]:
    """"kernel", or "tap" in a network namespace of its own."""
    if name == "kernel":
        yield Kernel()
    else:
        with network_namespace():
            yield Tap()


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
