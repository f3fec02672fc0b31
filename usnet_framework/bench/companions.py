"""Clients beside a measured load, which keep a worker from leaving: one that reads slowly, one whose callback waits,
one whose callback has a thread tick.

    python -m usnet_framework.bench.companions HOST PORT LONGEST-S

Each asks again as soon as it has its answer, until SIGTERM; then they finish, and one JSON object is printed: answers
by kind, and what was wrong. The server is handlers.Occupied. A request is a line that begins with ASK."""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

ASK = b"usnet-companion "
"""No message of usnet-load begins like this."""

LARGE = 9_000_000
READ_BYTES = 1 << 16
SLOWLY_S = 0.02  # between two reads
ANSWER_DEADLINE_S = 90.0
PATTERN = bytes(range(251)) * 1045  # of a prime length, so that a piece that is missing shows


def patterned(begin: int, length: int) -> bytes:
    """Bytes of the endless repetition of PATTERN."""
    at = begin % len(PATTERN)
    return (PATTERN[at:] + PATTERN * (length // len(PATTERN) + 1))[:length]


class Companions:
    def __init__(self, address: tuple[str, int], longest_s: float) -> None:
        self._address = address
        self._longest_s = longest_s
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.incidents: list[str] = []

    def run(self) -> None:
        kinds = (self.read_slowly, self.wait, self.tick)
        threads = [threading.Thread(target=self._repeat, args=(ask,)) for ask in kinds]
        for thread in threads:
            thread.start()
        self._stop.wait()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._stop.set()

    def _repeat(self, ask: Callable[[socket.socket], None]) -> None:
        try:
            with socket.create_connection(self._address, timeout=ANSWER_DEADLINE_S) as client:
                while not self._stop.is_set():
                    ask(client)
                    self.answers[ask.__name__] += 1
        except (OSError, ValueError) as error:
            self.incidents.append(f"{ask.__name__}: {error or type(error).__name__}")

    def read_slowly(self, client: socket.socket) -> None:
        client.sendall(ASK + b"send %d\n" % LARGE)
        got = 0
        while got < LARGE:
            piece = client.recv(min(READ_BYTES, LARGE - got))
            if not piece:
                raise ValueError(f"ended after {got} of {LARGE} bytes")
            if piece != patterned(got, len(piece)):
                raise ValueError(f"wrong bytes at {got}")
            got += len(piece)
            if not self._stop.is_set():
                time.sleep(SLOWLY_S)

    def wait(self, client: socket.socket) -> None:
        self._exchange(client, b"wait %.3f\n" % random.uniform(0, self._longest_s))

    def tick(self, client: socket.socket) -> None:
        self._exchange(client, b"tick %.3f\n" % random.uniform(0, self._longest_s / 4))

    def _exchange(self, client: socket.socket, line: bytes) -> None:
        client.sendall(ASK + line)
        answer = b""
        while len(answer) < len(line):
            piece = client.recv(len(line) - len(answer))
            if not piece:
                raise ValueError("ended instead of an answer")
            answer += piece
        if answer != line:
            raise ValueError(f"wrong answer {answer!r}")


def main(arguments: list[str]) -> int:
    host, port, longest = arguments
    companions = Companions((host, int(port)), float(longest))
    signal.signal(signal.SIGTERM, lambda number, frame: companions.stop())
    companions.run()
    print(json.dumps({"answers": companions.answers, "incidents": companions.incidents}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
