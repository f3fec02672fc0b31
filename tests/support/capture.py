"""All that passes an interface, in a pcap file, and what tshark's expert thinks of it.

    with Capture(INTERFACE, tmp_path / "link.pcap") as capture: ...
    for remark in capture.remarks(): ...

Packets wait in the socket's buffer until the end, with the time at which they passed; that none was lost is asserted.
What the kernel's end sends is seen as it leaves, what comes to it before anything is dropped there: whatever it has
received stands in the capture.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

BUFFER_BYTES = 256 << 20
WARNING, ERROR = 0x600000, 0x800000
"""Severities of tshark: PI_WARN, PI_ERROR."""

_ALL = 3  # ETH_P_ALL
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_NANOSECONDS, _ETHERNET, _SNAP = 0xA1B23C4D, 1, 1 << 18
_PREFERENCES = ("ip.check_checksum:TRUE", "tcp.analyze_sequence_numbers:TRUE")


class Remark(NamedTuple):
    """What the expert says of a packet."""

    packet: int
    source: str
    severity: int
    text: str


class Capture:
    def __init__(self, interface: str, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _wait_for_time_stamps()
        self._socket.bind((interface, _ALL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._socket, open(self._path, "wb") as file:
            file.write(struct.pack("=IHHiIII", _NANOSECONDS, 2, 4, 0, 0, _SNAP, _ETHERNET))
            while record := self._next():
                file.write(record)
            _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert not lost, f"{lost} packets do not stand in {self._path}"

    def _next(self) -> bytes | None:
        try:
            packet, control, _, _ = self._socket.recvmsg(_SNAP, 64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        ((_, _, stamp),) = control
        return struct.pack("=IIII", *struct.unpack("qq", stamp), len(packet), len(packet)) + packet

    def remarks(self, least: int = WARNING) -> list[Remark]:
        """By packet."""
        fields = ("frame.number", "eth.src", "_ws.expert.severity", "_ws.expert.message")
        found = [_parse(line) for line in self._ask("_ws.expert", *fields)]
        return [remark for remarks in found for remark in remarks if remark.severity >= least]

    def packets(self, display_filter: str) -> int:
        """How many there are of a kind, in the words of tshark."""
        return len(self._ask(display_filter, "frame.number"))

    def _ask(self, display_filter: str, *fields: str) -> list[str]:
        """A line with these fields for each packet that the filter lets through."""
        command = ["tshark", "-n", "-r", str(self._path), "-Y", display_filter, "-T", "fields", "-E", "aggregator=|"]
        command += ["-d", "tcp.port==1-65535,data"]  # payload is random: no protocol is to be recognised in it
        command += [word for preference in _PREFERENCES for word in ("-o", preference)]
        command += [word for field in fields for word in ("-e", field)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def _wait_for_time_stamps() -> None:
    """The kernel begins to stamp packets some time after the first socket asks for it; until then the stamp is the time
    of the call that reads it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        stamp = read = 0
        while stamp >= read:
            probe.sendto(b"when", probe.getsockname())
            read = time.time_ns()
            _, ((_, _, data),), _, _ = probe.recvmsg(4, 64)
            seconds, nanoseconds = struct.unpack("qq", data)
            stamp = seconds * 10**9 + nanoseconds


def _parse(line: str) -> list[Remark]:
    number, source, severities, texts = line.split("\t")
    return [
        Remark(int(number), source, int(severity, 0), text)
        for severity, text in zip(severities.split("|"), texts.split("|"), strict=True)
    ]
