"""The figures of usnet-bench kill and memory, from numbers and texts that are known."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from usnet_framework.bench.kill import REQUEST_BYTES, Client, Kills
from usnet_framework.bench.memory import own_bytes, take
from usnet_framework.bench.signature import SIGNATURE_BYTES, sign, signer
from usnet_framework.errors import StartupError


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (50, 50), (99, 99), (100, 99), (101, 100), (200, 198)])
def test_p99_is_the_smallest_that_99_percent_do_not_exceed(count: int, expected: int) -> None:
    kills = Kills({}, 0, tuple(float(value) for value in range(count, 0, -1)))
    assert kills.p99_ms == expected


def test_a_signature_is_read_back() -> None:
    signed = sign(os.getpid()) + b"rest"
    assert signer(signed) == os.getpid()
    assert signed[SIGNATURE_BYTES:] == b"rest"


def reply_with(*replies: bytes) -> Client:
    """A client whose server answers with these, whatever it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            for reply in replies:
                connection.recv(REQUEST_BYTES, socket.MSG_WAITALL)
                connection.sendall(reply)
            connection.recv(1)

    threading.Thread(target=serve).start()
    return Client(f"{host}:{port}")


def test_the_client_knows_who_answered() -> None:
    client = reply_with(sign(7) + (0).to_bytes(8, "little").ljust(REQUEST_BYTES, b"."))
    client.ask()
    assert client.reply() == 7
    client.close()


def test_the_client_refuses_an_answer_to_another_request() -> None:
    client = reply_with(sign(7) + (1).to_bytes(8, "little").ljust(REQUEST_BYTES, b"."))
    client.ask()
    with pytest.raises(StartupError, match="request 0 came back changed"):
        client.reply()
    client.close()


SMAPS = """\
7f0000000000-7f0000001000 rw-s 00000000 00:01 1024    /memfd:usnet (deleted)
Size:                  4 kB
Rss:                1000 kB
Anonymous:             0 kB
7f0000001000-7f0000002000 rw-p 00000000 00:00 0
Rss:                   9 kB
Anonymous:             8 kB
AnonHugePages:      2048 kB
7f0000002000-7f0000003000 rw-p 00000000 00:12 12    /usr/lib/libc.so
Rss:                  30 kB
Anonymous:             3 kB
7f0000003000-7f0000004000 rw-s 00000000 00:01 1025    /dev/zero (deleted)
Rss:                 500 kB
Anonymous:             0 kB
"""


def test_own_memory_leaves_segments_and_libraries_out() -> None:
    assert own_bytes(SMAPS) == 511 * 1024


class _ThisProcess:
    """As much of a psutil.Process as is looked at."""

    pid = os.getpid()

    def cmdline(self) -> list[str]:
        return ["usnet: worker 0.0"]


def test_segments_are_counted_once_and_by_what_they_occupy() -> None:
    descriptor = os.memfd_create("bench-test")
    os.ftruncate(descriptor, 1 << 20)
    os.pwrite(descriptor, b"x" * 8192, 0)
    twice = os.dup(descriptor)
    try:
        parts = take([_ThisProcess(), _ThisProcess()])  # type: ignore[list-item]
    finally:
        os.close(descriptor)
        os.close(twice)
    assert parts["segments"] == 8192
    assert parts["worker"] > 2 << 20  # two times a Python process
