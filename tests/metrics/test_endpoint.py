"""The HTTP side: three pages, two methods, and a start that fails with one line."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from support.observed import MemoryServer
from support.resolver import resolves_to
from support.server import wait

from usnet_framework.errors import StartupError
from usnet_framework.metrics import MetricsServer


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The server's loop, turning in another thread as far as the endpoint is concerned."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def make(server: MemoryServer, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[str], MetricsServer]]:
    made = []

    async def construct(address: str) -> MetricsServer:
        return MetricsServer(server, address)

    def make(address: str) -> MetricsServer:
        made.append(asyncio.run_coroutine_threadsafe(construct(address), loop).result(10))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()


@pytest.fixture
def endpoint(make: Callable[[str], MetricsServer]) -> MetricsServer:
    endpoint = make("127.0.0.1:0")
    endpoint.start()
    return endpoint


def test_an_address_that_the_machine_lacks_is_left_out(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, "2001:db8::1", "127.0.0.1")
    endpoint = make("both.example:0")
    assert endpoint.address[0] == "127.0.0.1"
    assert str(endpoint.finding) == (
        f"metrics: both.example:0 asked, 127.0.0.1:{endpoint.address[1]} in force: "
        f"this machine has no address for [2001:db8::1]:0; use --metrics 127.0.0.1:{endpoint.address[1]}"
    )
    assert not endpoint.finding.ok


def test_a_name_of_another_machine_is_refused(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, "2001:db8::1", "192.0.2.1")
    with pytest.raises(StartupError) as refusal:
        make("neither.example:9464")
    assert str(refusal.value) == (
        "--metrics neither.example:9464: cannot assign requested address: choose another address, or off"
    )


def test_a_start_without_a_thread_is_refused(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = make("127.0.0.1:0")

    def start() -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(endpoint._thread, "start", start)
    with pytest.raises(StartupError, match="gives no thread for it; allow more processes"):
        endpoint.start()


def ask(endpoint: MetricsServer, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    client = http.client.HTTPConnection(*endpoint.address, timeout=10)
    try:
        client.request(method, path, headers=headers)
        reply = client.getresponse()
        return reply, reply.read()
    finally:
        client.close()


def test_get_metrics(endpoint: MetricsServer) -> None:
    reply, body = ask(endpoint, "GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    assert b"\nusnet_accepted_total{" in body
    assert int(reply.headers["Content-Length"]) == len(body)


def test_openmetrics_is_spoken_to_those_who_ask_for_it(endpoint: MetricsServer) -> None:
    reply, body = ask(endpoint, "GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_readiness_follows_the_server(endpoint: MetricsServer, server: MemoryServer) -> None:
    assert ask(endpoint, "GET", "/readyz")[0].status == 200
    server.ready = False
    reply, body = ask(endpoint, "GET", "/readyz")
    assert (reply.status, body) == (503, b"not ready: no handler can run on some shard\n")


def test_nothing_is_healthy_while_the_loop_does_not_turn(
    endpoint: MetricsServer, loop: asyncio.AbstractEventLoop
) -> None:
    assert ask(endpoint, "GET", "/healthz")[0].status == 200
    released = threading.Event()
    loop.call_soon_threadsafe(released.wait)
    try:
        assert [ask(endpoint, "GET", path)[0].status for path in ("/healthz", "/readyz", "/metrics")] == [503] * 3
    finally:
        released.set()
    assert ask(endpoint, "GET", "/healthz")[0].status == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_head_is_get_without_a_body(path: str, endpoint: MetricsServer) -> None:
    reply, body = ask(endpoint, "HEAD", path)
    assert (reply.status, body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 0


def test_other_pages_and_methods_are_refused(endpoint: MetricsServer) -> None:
    assert ask(endpoint, "GET", "/")[0].status == 404
    assert ask(endpoint, "POST", "/nowhere")[0].status == 404
    reply, _ = ask(endpoint, "POST", "/metrics")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


def test_a_client_that_stalls_does_not_hold_others_up(endpoint: MetricsServer) -> None:
    with socket.create_connection(endpoint.address) as stalled:
        stalled.sendall(b"GET /metr")
        assert ask(endpoint, "GET", "/healthz")[0].status == 200


def test_clients_that_stall_are_bounded_and_leave_without_a_word(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("usnet_framework.metrics.CLIENTS_MAX", 2)
    monkeypatch.setattr("usnet_framework.metrics.REQUEST_TIMEOUT_SECONDS", 1)
    endpoint = make("127.0.0.1:0")
    endpoint.start()
    oldest, *others = (socket.create_connection(endpoint.address, 10) for _ in range(3))
    assert oldest.recv(1) == b""  # at once: there are two places
    for client in others:
        assert client.recv(1) == b""  # sent away after the timeout
    for client in (oldest, *others):
        client.close()
    wait("others are served again", lambda: is_served(endpoint))
    assert capfd.readouterr().err == ""


def test_clients_that_only_hold_connections_open_fail_no_probe(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usnet_framework.metrics.REQUEST_TIMEOUT_SECONDS", 600)  # a probe's client waits for ten
    endpoint = make("127.0.0.1:0")
    endpoint.start()
    idle = [socket.create_connection(endpoint.address, 10) for _ in range(200)]
    for _ in range(50):
        assert ask(endpoint, "GET", "/healthz")[0].status == 200
        assert ask(endpoint, "GET", "/readyz")[0].status == 200
    for client in idle:
        client.close()


def test_a_client_that_asks_is_answered_while_others_come(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usnet_framework.metrics.CLIENTS_MAX", 1)
    endpoint = make("127.0.0.1:0")
    asked, answers = threading.Event(), threading.Event()

    def metrics(environ: object) -> tuple[str, list[tuple[str, str]], bytes]:
        asked.set()
        assert answers.wait(10)
        return "200 OK", [], b"all"

    monkeypatch.setattr(endpoint, "_metrics", metrics)
    endpoint.start()
    with socket.create_connection(endpoint.address, 10) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert asked.wait(10)
        with socket.create_connection(endpoint.address, 10) as refused:
            assert refused.recv(1) == b""
        answers.set()
        assert client.makefile("rb").read().endswith(b"all")


def test_a_client_that_dribbles_holds_its_place_no_longer(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usnet_framework.metrics.REQUEST_TIMEOUT_SECONDS", 1)
    endpoint = make("127.0.0.1:0")
    endpoint.start()

    def is_gone(client: socket.socket) -> bool:
        try:
            return client.send(b"G") == 0
        except OSError:
            return True

    with socket.create_connection(endpoint.address, 10) as client:
        wait("it is sent away while it still sends", lambda: is_gone(client))


def test_a_client_for_whom_there_is_no_thread_takes_no_place(
    make: Callable[[str], MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usnet_framework.metrics.CLIENTS_MAX", 1)
    endpoint = make("127.0.0.1:0")
    endpoint.start()
    with monkeypatch.context() as machine:
        machine.setattr("socketserver.threading.Thread.start", no_thread)
        with socket.create_connection(endpoint.address, 10) as refused:
            assert refused.recv(1) == b""
    wait("others are served", lambda: is_served(endpoint))


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def is_served(endpoint: MetricsServer) -> bool:
    try:
        return ask(endpoint, "GET", "/healthz")[0].status == 200
    except OSError:
        return False


def test_nonsense_in_accept_gets_the_plain_format(endpoint: MetricsServer) -> None:
    reply, _ = ask(endpoint, "GET", "/metrics", Accept="application/openmetrics-text; version=nonsense")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")


def test_a_port_in_use_is_one_line(endpoint: MetricsServer, make: Callable[[str], MetricsServer]) -> None:
    host, port = endpoint.address
    with pytest.raises(StartupError) as caught:
        make(f"{host}:{port}")
    assert str(caught.value) == f"--metrics {host}:{port}: address already in use: choose another address, or off"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 64, "two..dots"])
def test_a_host_that_is_none_is_one_line(make: Callable[[str], MetricsServer], host: str) -> None:
    with pytest.raises(StartupError, match=re.escape(f"--metrics {host}:1: ")):
        make(f"{host}:1")


def test_ipv6(make: Callable[[str], MetricsServer]) -> None:
    endpoint = make("[::1]:0")
    endpoint.start()
    assert ask(endpoint, "GET", "/healthz")[0].status == 200


def test_close_frees_the_port_even_before_start(make: Callable[[str], MetricsServer]) -> None:
    first = make("127.0.0.1:0")
    first.close()
    assert make("{}:{}".format(*first.address)).address == first.address
