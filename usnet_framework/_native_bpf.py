"""The XDP program and its maps (native/include/usnet_bpf.h, native/bpf/usnet_xdp.h) as typed Python.

Nobody but the AF_XDP device needs it, and libbpf with it: import it only there."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from usnet_framework.addresses import IpAddress, mapped

try:
    from usnet_framework._bpf import ffi, lib
except ImportError as error:
    raise ImportError(f"the XDP program is loaded with libbpf, which is not there ({error}); install libbpf1") from None

COUNTERS = ("not_served", "fragments")
"""enum usnet_xdp_counter: frames that were dropped, since nobody had the queue, or as fragments."""

OWN, SHARED = 1, 2
_MAPS = ("program", "queues", "station", "addresses", "served", "counters")
_NUMBER = struct.Struct("=I")
_STATION = struct.Struct("=6sHH")  # struct usnet_xdp_station


class BpfError(OSError):
    """Not loaded, or not attached; its text is a sentence that says why and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


class XdpProgram:
    """Loaded. Until `attach` it does nothing; it ends with the last process that has one of its descriptors."""

    def __init__(self, *, large: bool = False) -> None:
        """`large`: for packets in several buffers as well. BpfError."""
        loaded, why = ffi.new("struct usnet_bpf_program *"), ffi.new("const char **")
        _checked(lib.usnet_bpf_load(loaded, large, why), why)
        self._maps = {name: int(getattr(loaded, name)) for name in _MAPS}
        self._links: list[int] = []

    def attach(self, interface: str, *, native: bool) -> None:
        """In the driver, or behind it. BpfError."""
        why = ffi.new("const char **")
        fd = lib.usnet_bpf_attach(self._maps["program"], os.fsencode(interface), native, why)
        self._links.append(_checked(fd, why))

    def close(self) -> None:
        for fd in [*self._links, *self._maps.values()]:
            os.close(fd)
        self._links, self._maps = [], {}

    # What it is to do.

    def set_queue(self, queue: int, socket_fd: int) -> None:
        """What is for us and comes there goes to this socket."""
        self._set("queues", _NUMBER.pack(queue), _NUMBER.pack(socket_fd))

    def set_station(self, mac: bytes) -> None:
        """All that is sent to it is for us."""
        self._set("station", _NUMBER.pack(0), _STATION.pack(mac, 0, 0))

    def set_outgoing(self, first: int, last: int) -> None:
        """So is TCP to these ports of addresses that are shared; we have no station of our own."""
        self._set("station", _NUMBER.pack(0), _STATION.pack(bytes(6), first, last))

    def own(self, address: IpAddress) -> None:
        """It is ours alone."""
        self._set("addresses", mapped(address.packed), _NUMBER.pack(OWN))

    def share(self, address: IpAddress) -> None:
        """The kernel has it as well."""
        self._set("addresses", mapped(address.packed), _NUMBER.pack(SHARED))

    def unshare(self, address: IpAddress) -> None:
        _known(lib.usnet_bpf_remove(self._maps["addresses"], mapped(address.packed)))

    def serve(self, address: IpAddress, port: int, protocol: int = socket.IPPROTO_TCP) -> None:
        """Of a shared address."""
        self._set("served", _served(address, port, protocol), _NUMBER.pack(0))

    def unserve(self, address: IpAddress, port: int, protocol: int = socket.IPPROTO_TCP) -> None:
        _known(lib.usnet_bpf_remove(self._maps["served"], _served(address, port, protocol)))

    # What it does.

    def counters(self) -> Mapping[str, int]:
        """Empty once it is closed."""
        return {name: self._counter(number) for number, name in enumerate(COUNTERS)} if self._maps else {}

    def action(self, frame: bytes, interface_index: int = 1, queue: int = 0, first: int | None = None) -> int:
        """What it would do with a frame: enum xdp_action. `first`: bytes in its first buffer (Linux 6.18), or all."""
        first = len(frame) if first is None else first
        return _known(lib.usnet_bpf_try(self._maps["program"], frame, len(frame), first, interface_index, queue))

    def _counter(self, number: int) -> int:
        value = ffi.new("uint64_t *")
        _known(lib.usnet_bpf_get(self._maps["counters"], _NUMBER.pack(number), value))
        return int(value[0])

    def _set(self, name: str, key: bytes, value: bytes) -> None:
        _known(lib.usnet_bpf_set(self._maps[name], key, value))


def _served(address: IpAddress, port: int, protocol: int) -> bytes:
    return mapped(address.packed) + struct.pack(">HBx", port, protocol)


def _checked(result: int, why: Any) -> int:
    if result < 0:
        raise BpfError(-result, ffi.string(why[0]).decode(errors="replace"))
    return result


def _known(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
