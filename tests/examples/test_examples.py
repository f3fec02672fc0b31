"""The examples, served as the README says, and spoken to over sockets."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from support.server import Server


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or what came before the end."""
    received = b""
    while len(received) < count and (piece := client.recv(count - len(received))):
        received += piece
    return received


def kill_worker(server: Server) -> None:
    """SIGKILL the only worker, and wait until its successor sits on the seat."""
    (victim,) = server.workers()
    os.kill(victim.pid, signal.SIGKILL)
    server.wait("the worker is replaced", lambda: [w for w in server.workers() if w.serial > victim.serial])


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The class's application, served."""
    with Server(request.cls.app) as server:
        yield server


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class TestEcho:
    app = "examples.echo:Echo"

    def test_what_is_sent_comes_back(self, server: Server) -> None:
        with server.connect() as client:
            for size in (1, 60, 100_000):
                data = os.urandom(size)
                client.sendall(data)
                assert receive(client, size) == data

    def test_a_half_closed_client_gets_everything_and_then_the_end(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
            assert receive(client, 100) == b"last words"

    def test_a_connection_outlives_its_worker(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"before")
            assert receive(client, 6) == b"before"
            kill_worker(server)
            client.sendall(b"after")
            assert receive(client, 5) == b"after"


class TestCounter:
    app = "examples.counter:Counter"

    def test_lines_are_counted_per_connection(self, server: Server) -> None:
        with server.connect() as one, server.connect() as other:
            one.sendall(b"a\nb\n")
            assert receive(one, 4) == b"1\n2\n"
            other.sendall(b"a\n")
            assert receive(other, 2) == b"1\n"

    def test_the_count_and_an_unfinished_line_survive_a_killed_worker(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"one\ntwo\nthr")
            assert receive(client, 4) == b"1\n2\n"
            kill_worker(server)
            client.sendall(b"ee\nfour\n")
            assert receive(client, 4) == b"3\n4\n"


class TestHttpHello:
    app = "examples.http_hello:Hello"

    @pytest.fixture
    def client(self, server: Server) -> Iterator[http.client.HTTPConnection]:
        client = http.client.HTTPConnection(*server.address, timeout=10)
        yield client
        client.close()

    def test_keep_alive_over_methods_and_bodies(self, client: http.client.HTTPConnection) -> None:
        for method, body, expected in (
            ("GET", None, b"Hello, world!\n"),
            ("POST", b"x" * 100_000, b"Hello, world!\n"),
            ("HEAD", None, b""),
            ("GET", None, b"Hello, world!\n"),
        ):
            client.request(method, "/", body)
            used = client.sock
            reply = client.getresponse()
            assert (reply.status, reply.read(), reply.headers["Content-Length"]) == (200, expected, "14")
            assert client.sock is used, "the connection was not kept"

    def test_pipelined_requests_are_answered_in_order(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(GET * 100 + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = receive(client, 1 << 20)
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 101
        assert received.count(b"Connection: close") == 1
        assert received.endswith(b"Hello, world!\n")

    def test_a_request_in_pieces(self, server: Server) -> None:
        with server.connect() as client:
            for byte in b"GET / HTTP/1.0\r\n\r\n":
                client.sendall(bytes([byte]))
            assert receive(client, 1 << 16).endswith(b"\r\n\r\nHello, world!\n")

    def test_a_client_of_http_1_0_is_told_that_its_connection_is_kept(self, server: Server) -> None:
        """`ab -k` waits for the end of the connection otherwise."""
        kept = HELLO.replace(b"14\r\n", b"14\r\nConnection: keep-alive\r\n")
        with server.connect() as client:
            for _ in range(2):
                client.sendall(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                assert receive(client, len(kept)) == kept
            client.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            assert receive(client, 1 << 16) == kept.replace(b"keep-alive", b"close").removesuffix(b"Hello, world!\n")

    def test_a_client_that_waits_before_its_body_is_told_to_go_on(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(GET + POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert receive(client, len(HELLO + CONTINUE)) == HELLO + CONTINUE
            client.sendall(b"body!" + GET)
            assert receive(client, 2 * len(HELLO)) == 2 * HELLO

    @pytest.mark.parametrize("rest", [
        b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nbody!",
        b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody!\r\n0\r\nExpect: 100-continue\r\n\r\n",
        b"Expect: 100-continue\r\n\r\n",
    ])  # fmt: skip
    def test_who_does_not_wait_is_not_told(self, rest: bytes, server: Server) -> None:
        with server.connect() as client:
            client.sendall(POST + rest + GET)
            assert receive(client, 2 * len(HELLO)) == 2 * HELLO

    @pytest.mark.parametrize(("request_", "status"), [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"505"),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", b"501"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000, b"431"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 200_000, b"431"),
    ], ids=lambda value: value[:40].decode())  # fmt: skip
    def test_a_request_that_is_refused_is_the_last(self, request_: bytes, status: bytes, server: Server) -> None:
        with server.connect() as client:
            client.sendall(GET + request_ + GET)
            received = receive(client, 1 << 16)
        assert received.startswith(HELLO + b"HTTP/1.1 " + status)
        assert b"\r\nConnection: close\r\n" in received
        assert received.count(b"HTTP/1.1 ") == 2

    def test_the_refusal_of_a_head_has_no_body(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
            assert receive(client, 1 << 16).endswith(b"\r\n\r\n")

    @pytest.mark.parametrize("host", [b"", b"example.org", b"example.org:80", b"[::1]:7000", b"a_b", b"127.0.0.1"])
    def test_hosts_that_are_taken(self, host: bytes, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert receive(client, len(HELLO)) == HELLO

    def test_a_client_that_was_told_to_go_on_is_reset_when_the_worker_dies(self, server: Server) -> None:
        """Its request is under way: the parser that had its head is gone."""
        with server.connect() as client:
            client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert receive(client, len(CONTINUE)) == CONTINUE
            kill_worker(server)
            client.sendall(b"body!")
            with pytest.raises(ConnectionResetError):
                client.recv(1)

    def test_nonsense_is_a_400_and_the_end(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"SSH-2.0-OpenSSH\r\n")
            assert receive(client, 1 << 16).startswith(b"HTTP/1.1 400 Bad Request\r\n")

    def test_an_upgrade_is_not_taken(self, server: Server) -> None:
        with server.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            received = receive(client, 1 << 16)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close" in received

    def test_a_connection_between_requests_survives_and_one_within_is_reset(
        self, server: Server, client: http.client.HTTPConnection
    ) -> None:
        client.request("GET", "/")
        assert client.getresponse().read() == b"Hello, world!\n"
        with server.connect() as half:
            half.sendall(b"GET / HTTP/1.1\r\nHost:")
            events = "usnet_worker_events_total"
            seen = server.metrics()[events]
            half.sendall(b" x\r\n")
            server.wait("the half request was handled", lambda: server.metrics()[events] > seen)
            kill_worker(server)
            half.sendall(b"\r\n")
            with pytest.raises(ConnectionResetError):
                half.recv(1)
        used = client.sock
        client.request("GET", "/")
        assert client.getresponse().read() == b"Hello, world!\n"
        assert client.sock is used

    def test_curl_is_happy(self, server: Server) -> None:
        curl = shutil.which("curl")
        assert curl, "tools/setup.sh test installs curl"
        url = "http://{}:{}/".format(*server.address)
        done = subprocess.run(
            [curl, "-sS", "--max-time", "10", url, url, "-d", "body", "-w", "%{num_connects} "],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "Hello, world!\n1 Hello, world!\n0 "

    def test_wrk_is_happy(self, server: Server) -> None:
        wrk = shutil.which("wrk")
        assert wrk, "tools/setup.sh test installs wrk"
        done = subprocess.run(
            [wrk, "-t1", "-c8", "-d1", "http://{}:{}/".format(*server.address)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Requests/sec" in done.stdout
        assert "errors" not in done.stdout, done.stdout
        assert "Non-2xx" not in done.stdout, done.stdout
