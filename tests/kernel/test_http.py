"""HTTP clients that everybody uses, and one that behaves like a browser, at `examples.http_hello` over TAP, AF_XDP."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.backends import network_namespace
from support.link import OURS, Link, Pair, connect, reset
from support.privilege import needs_tap, needs_xdp
from support.server import Server

PLACES = [pytest.param((Link, "split"), marks=needs_tap, id="split"),
          pytest.param((Link, "inline"), marks=needs_tap, id="inline"),
          pytest.param((Pair, "split"), marks=needs_xdp, id="afxdp")]  # fmt: skip

BODY = b"Hello, world!\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n"
GET_REQUEST = b"GET /page HTTP/1.1\r\nHost: usnet\r\nAccept: */*\r\nCookie: " + b"c" * 400 + b"\r\n\r\n"
HEAD_REQUEST = b"HEAD / HTTP/1.1\r\nHost: usnet\r\n\r\n"


@pytest.fixture(scope="module", params=PLACES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    place, layout = request.param
    options = ["--queues", "1", "--layout", layout]
    with network_namespace(), Server("examples.http_hello:Hello", *options, backend=place()) as server:
        yield server
        server.wait("connections are gone", lambda: server.ask("conns") == [])


@pytest.fixture
def url(server: Server, version: int) -> str:
    host = {4: OURS[4], 6: f"[{OURS[6]}]"}[version]
    return f"http://{host}:{server.address[1]}/"


def run(tool: str, *arguments: str) -> str:
    found = shutil.which(tool)
    assert found, f"tools/setup.sh test installs {tool}"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def curl(*arguments: str) -> str:
    return run("curl", "-sS", "-g", "--max-time", "30", *arguments)


def test_curl_keeps_its_connection(url: str) -> None:
    assert curl(url, url, url, "-w", "%{num_connects} ") == "Hello, world!\n1 Hello, world!\n0 Hello, world!\n0 "


def test_curl_asks_for_the_head(url: str) -> None:
    assert curl("-I", url) == HEAD.decode().replace("\r", "")


@pytest.mark.parametrize("size", [0, 1, 10_000, 20_000_000])
def test_curl_sends_a_body(url: str, size: int, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(size))
    assert curl("--data-binary", f"@{tmp_path / 'body'}", url, "-w", "%{size_upload}") == f"Hello, world!\n{size}"


def test_curl_sends_a_body_of_unknown_length(url: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(3_000_000))
    assert curl("-T", str(tmp_path / "body"), "-H", "Transfer-Encoding: chunked", url) == "Hello, world!\n"


def test_curl_in_parallel(url: str) -> None:
    got = curl("-Z", "--parallel-max", "20", *[url] * 100, "-w", "%{http_code}\n").splitlines()
    assert sorted(got) == ["200"] * 100 + ["Hello, world!"] * 100


@pytest.mark.parametrize("connections", [1, 100])
def test_wrk(url: str, connections: int) -> None:
    told = run("wrk", "-t1", f"-c{connections}", "-d1", "--timeout", "20", url)
    assert "Requests/sec" in told
    assert "errors" not in told, told  # of sockets
    assert "Non-2xx" not in told, told


def receive(client: socket.socket, expected: bytes) -> None:
    """Exactly this."""
    got = b""
    while len(got) < len(expected):
        piece = client.recv(1 << 20)
        assert piece, f"ended after {len(got)} of {len(expected)} bytes"
        got += piece
    assert got == expected


Step = Callable[[socket.socket, random.Random], bool]
"""Part of a visit; False: it has ended the connection."""


def get(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(GET_REQUEST)
    receive(client, HEAD + BODY)
    return True


def head(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(HEAD_REQUEST)
    receive(client, HEAD)
    return True


def pipeline(client: socket.socket, chance: random.Random) -> bool:
    """Sometimes with two thousand requests: then what comes back is large, too, and has to be read meanwhile."""
    count = chance.choice([2, 5, 1000])
    sender = threading.Thread(target=client.sendall, args=((GET_REQUEST + HEAD_REQUEST) * count,))
    sender.start()
    receive(client, (HEAD + BODY + HEAD) * count)
    sender.join()
    return True


def post(client: socket.socket, chance: random.Random) -> bool:
    length = chance.choice([0, 100, 5000, 200_000, 2_000_000])
    client.sendall(b"POST / HTTP/1.1\r\nHost: usnet\r\nContent-Length: %d\r\n\r\n" % length)
    client.sendall(chance.randbytes(length))
    receive(client, HEAD + BODY)
    return True


def dribble(client: socket.socket, chance: random.Random) -> bool:
    at = chance.randrange(1, len(GET_REQUEST))
    client.sendall(GET_REQUEST[:at])
    client.sendall(GET_REQUEST[at:])
    receive(client, HEAD + BODY)
    return True


def say_good_bye(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(b"GET / HTTP/1.1\r\nHost: usnet\r\nConnection: close\r\n\r\n")
    receive(client, HEAD[:-2] + b"Connection: close\r\n\r\n" + BODY)
    assert client.recv(1) == b""
    return False


def end_output(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(GET_REQUEST)
    client.shutdown(socket.SHUT_WR)
    receive(client, HEAD + BODY)
    assert client.recv(1) == b""
    return False


def leave_early(client: socket.socket, chance: random.Random) -> bool:
    """As when somebody goes to another page: answers are on their way, and nobody wants them."""
    client.sendall(GET_REQUEST * chance.choice([1, 500]))
    return False


def leave_rudely(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(GET_REQUEST * chance.choice([1, 500]))
    reset(client)
    return False


def leave_in_the_middle(client: socket.socket, chance: random.Random) -> bool:
    client.sendall(b"POST / HTTP/1.1\r\nHost: usnet\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000))
    return False


STEPS: list[Step] = [get, get, get, get, head, pipeline, post, dribble,
                     say_good_bye, end_output, leave_early, leave_rudely, leave_in_the_middle]  # fmt: skip
TABS, CONNECTIONS_PER_TAB, VISITS = 4, 6, 60


def visit(version: int, port: int, seed: int) -> int:
    """One connection of a browser, from the first request to whatever ends it; how many steps it took."""
    chance = random.Random(seed)
    steps = 0
    with connect(version, port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        goes_on = True
        while goes_on and steps < 20:
            goes_on = chance.choice(STEPS)(client, chance)
            steps += 1
    return steps


def test_browsers(server: Server, version: int) -> None:
    """Each tab has its connections at the same time; which requests they make and how they end is random."""
    with ThreadPoolExecutor(TABS * CONNECTIONS_PER_TAB) as pool:
        visits = [pool.submit(visit, version, server.address[1], seed) for seed in range(TABS * VISITS)]
        steps = sum(made.result() for made in visits)
    print(f"{len(visits)} connections, {steps} requests or ways to leave")
    server.wait("connections are gone", lambda: server.ask("conns") == [])
    with connect(version, server.address[1]) as client:
        get(client, random.Random(0))
