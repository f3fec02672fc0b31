"""The metrics endpoint: /metrics for Prometheus, /healthz (the supervisor's loop turns), /readyz (it can serve).

HTTP by the standard library's wsgiref on a daemon thread; what is counted is collector.py's. The supervisor is asked in
the thread of its own loop, so that nobody needs a lock; when the loop does not answer, every page is a 503.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from usnet_framework import logs
from usnet_framework.collector import Observed, ServerCollector
from usnet_framework.errors import InUse, StartupError
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.listeners import NOT_OF_THIS_MACHINE
from usnet_framework.values import endpoint_text, split_endpoint

log = logging.getLogger("usnet.metrics")

REQUEST_TIMEOUT_SECONDS = 10  # a client that stalls, or dribbles, holds a thread no longer than this

CLIENTS_MAX = 64
"""Each has a thread and a descriptor of the supervisor. One more is let in at the cost of the oldest that has not sent its
request; probes send theirs at once, so clients that only hold connections open do not fail them."""

ANSWER_SECONDS = 1  # a client that does not read its answer may lose its place after that

PLACE_SECONDS = 0.2  # what the thread of a client that lost its place gets to notice

LOOP_SECONDS = 1  # the supervisor's loop never works longer than milliseconds at a time

T = TypeVar("T")
Reply = tuple[str, list[tuple[str, str]], bytes]


class MetricsServer:
    """HTTP on its own daemon thread: /metrics, /healthz (the supervisor's loop turns), /readyz (it can serve)."""

    def __init__(self, server: Observed, address: str) -> None:
        """Listens at once, so that a port in use is a StartupError; serves after `start`. To be made by a coroutine of
        the server's loop. `finding`: where it listens, and what of a name it left out."""
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ServerCollector(server, self._ask))
        self._http, self.finding = _open(address)
        self._http.set_app(self._respond)
        self._thread = threading.Thread(target=self._http.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, the port resolved."""
        host, port = self._http.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:
            raise StartupError(
                f"--metrics {endpoint_text(self.address)}: the system gives no thread for it; allow more processes "
                "(ulimit -u, or pids.max of its control group), or use --metrics off"
            ) from None

    def close(self) -> None:
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def _respond(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, headers, body = self._reply(environ)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _reply(self, environ: Mapping[str, Any]) -> Reply:
        pages = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness}
        page = pages.get(environ["PATH_INFO"])
        if page is None:
            return _plain("404 Not Found", "there are /metrics, /healthz and /readyz")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, headers, body = _plain("405 Method Not Allowed", "GET and HEAD are allowed")
            return status, [*headers, ("Allow", "GET, HEAD")], body
        try:
            return page(environ)
        except TimeoutError:
            return _plain("503 Service Unavailable", "the supervisor's loop does not turn")

    def _metrics(self, environ: Mapping[str, Any]) -> Reply:
        try:
            encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return "200 OK", [("Content-Type", content_type)], encode(self._registry)

    def _health(self, environ: Mapping[str, Any]) -> Reply:
        self._ask(lambda: None)
        return _plain("200 OK", "alive: the supervisor's loop turns; whether everything can be served: /readyz")

    def _readiness(self, environ: Mapping[str, Any]) -> Reply:
        reasons = self._ask(self._server.unready)
        if not reasons:
            return _plain("200 OK", "ready")
        return _plain("503 Service Unavailable", f"not ready: {'; '.join(map(logs.one_line, reasons))}")

    def _ask(self, question: Callable[[], T]) -> T:
        """Call in the thread of the server's loop. TimeoutError when the loop does not turn."""
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            raise TimeoutError("the loop is closed") from None
        return answer.result(LOOP_SECONDS)


def _plain(status: str, text: str) -> Reply:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()


class _Handler(WSGIRequestHandler):
    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if isinstance(self.server, _HttpServer):
            self.server.asked(self.request)
        return parsed

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args, extra={"client": self.client_address[0]})


class _HttpServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._places = threading.Semaphore(CLIENTS_MAX)
        self._came_s: dict[socket.socket, float] = {}  # the oldest first
        self._asked: set[socket.socket] = set()  # those that have sent their request
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False) and not self._make_place():
            self.shutdown_request(request)
            return
        self._came_s[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread for it
            self._left(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(request)

    def asked(self, request: socket.socket) -> None:
        """The client has sent its request: an answer follows."""
        self._asked.add(request)

    def _make_place(self) -> bool:
        """Hang up on whoever has waited longest without a request, or else does not read."""
        now_s = time.monotonic()
        for request, came_s in list(self._came_s.items()):
            if request not in self._asked or now_s - came_s > ANSWER_SECONDS:
                with suppress(OSError):  # just closed
                    request.shutdown(socket.SHUT_RDWR)
                return self._places.acquire(timeout=PLACE_SECONDS)
        return False

    def _left(self, request: socket.socket) -> None:
        del self._came_s[request]
        self._asked.discard(request)
        self._places.release()

    def service_actions(self) -> None:
        """Called twice a second: end what takes too long, whatever its thread waits for."""
        for request, came_s in list(self._came_s.items()):
            if time.monotonic() - came_s > REQUEST_TIMEOUT_SECONDS:
                with suppress(OSError):  # just closed
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that stalled or went away is no news; the default prints a traceback."""
        failed = not isinstance(sys.exc_info()[1], OSError)
        log.log(logging.ERROR if failed else logging.DEBUG, "a request failed", exc_info=failed)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would look the host's name up in the DNS
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


def try_address(address: str) -> None:
    """Could this process listen there? StartupError as MetricsServer has it, InUse."""
    server, _ = _open(address, listens=False)
    server.server_close()


def _open(address: str, listens: bool = True) -> tuple[_HttpServer, Finding]:
    """At the first address of the name that this machine has."""
    absent: list[str] = []
    refused: OSError | UnicodeError
    try:
        host, port = split_endpoint(address)
        for family, _, _, _, resolved in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            kind = type("_HttpServer", (_HttpServer,), {"address_family": family})
            try:
                server = _bound(kind, resolved, listens)
            except OSError as error:
                if error.errno not in NOT_OF_THIS_MACHINE:
                    raise
                absent.append(endpoint_text(resolved))
                refused = error
            else:
                return server, _finding(address, server, absent)
    except (OSError, UnicodeError) as error:
        refused = error
    reason = (refused.strerror or str(refused)).lower() if isinstance(refused, OSError) else "no valid host name"
    raised = InUse if getattr(refused, "errno", 0) == errno.EADDRINUSE else StartupError
    raise raised(f"--metrics {address}: {reason}: choose another address, or off")


def _bound(kind: type[_HttpServer], address: Any, listens: bool) -> _HttpServer:
    server = kind(address, _Handler, False)
    try:
        server.server_bind()
        if listens:
            server.server_activate()
    except BaseException:
        server.server_close()
        raise
    return server


def _finding(address: str, server: _HttpServer, absent: list[str]) -> Finding:
    here = endpoint_text(server.server_address)
    if not absent:
        return Finding("metrics", address, here)
    reason, fix = f"this machine has no address for {', '.join(absent)}", f"use --metrics {here}"
    return Finding("metrics", address, here, reason, fix, ok=False)
