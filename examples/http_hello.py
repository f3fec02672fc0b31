"""HTTP/1.1 hello on httptools: keep-alive (of HTTP/1.0 too), pipelining, HEAD, request bodies (read and ignored).

Requests that are not to be served are refused: nonsense, no Host or two, another version, a tunnel, a head without end.

    usnet-serve examples.http_hello:Hello
    curl -i http://127.0.0.1:7000/

What survives a killed worker. A parser is Python memory, so it dies with its worker. Between two requests it holds
nothing: such a connection goes on with a new parser, and its client notices nothing. In the middle of a request it
holds what cannot be had again, so `conn.state` says whether a request is under way, committed together with the input
that made it so; the next worker resets such a connection, which tells its client that the request was not served.

A refusal is the last answer on its connection: what follows a request that was not understood cannot be understood.
"""

from __future__ import annotations

import re

import httptools

from usnet_framework import Connection, Handler

BODY = b"Hello, world!\n"
BETWEEN_REQUESTS = b""
IN_REQUEST = b"\x01"

HOST = re.compile(rb"(\[[0-9A-Za-z:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?")
UNFINISHED_BYTES_MAX = 65_536
"""Of a request's head, its trailers, or the extension of a chunk: about so much of it may come without an end."""


def _response(status: bytes, body: bytes, connection: bytes = b"") -> bytes:
    option = b"Connection: %b\r\n" % connection if connection else b""
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), option)
    return head + body


HELLO = _response(b"200 OK", BODY)
HELLO_KEPT = _response(b"200 OK", BODY, b"keep-alive")  # a client of HTTP/1.0 asked for it and waits to be told
HELLO_CLOSE = _response(b"200 OK", BODY, b"close")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BAD_REQUEST = _response(b"400 Bad Request", b"not HTTP\n", b"close")
BAD_HOST = _response(b"400 Bad Request", b"expected one valid Host\n", b"close")
TOO_LARGE = _response(b"431 Request Header Fields Too Large", b"too large\n", b"close")
NO_TUNNELS = _response(b"501 Not Implemented", b"no tunnels here\n", b"close")
NOT_THIS_VERSION = _response(b"505 HTTP Version Not Supported", b"version 1.1 or 1.0\n", b"close")


class RefusedError(Exception):
    """The head of a request is understood and not served; the argument is the answer."""


class Requests:
    """The callbacks of one connection's parser. Collects the answers to what one piece of input completed."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.answers: list[bytes] = []
        self.in_request = False
        self.last = False
        self.in_head = False
        self.hosts: list[bytes] = []  # the first two
        self.expects_continue = False  # the client keeps the body back until it is told to go on
        self.unfinished_bytes = 0  # of a head, of trailers, or of a chunk's extension

    def on_message_begin(self) -> None:
        self.in_request = self.in_head = True
        self.hosts.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer
        name = name.lower()
        if name == b"host" and len(self.hosts) < 2:
            self.hosts.append(value)
        elif name == b"expect":
            self.expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self.unfinished_bytes = 0
        self.in_head = False
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise RefusedError(NOT_THIS_VERSION)
        hosts = len(self.hosts)  # RFC 9112, section 3.2
        if hosts > 1 or (hosts == 0 and version == "1.1") or not all(map(HOST.fullmatch, self.hosts)):
            raise RefusedError(BAD_HOST)
        if self.parser.get_method() == b"CONNECT":
            raise RefusedError(NO_TUNNELS)
        self.expects_continue &= version == "1.1"

    def on_body(self, body: bytes) -> None:
        self.unfinished_bytes = 0
        self.expects_continue = False

    def on_message_complete(self) -> None:
        self.unfinished_bytes = 0
        self.in_request = self.expects_continue = False
        self.last = self.parser.should_upgrade() or not self.parser.should_keep_alive()
        answer = HELLO_CLOSE if self.last else HELLO if self.parser.get_http_version() == "1.1" else HELLO_KEPT
        self._answer(answer)

    def feed(self, data: memoryview) -> bytes:
        """The answers to the requests that `data` completes; `last` is set when the connection is to be closed."""
        self.unfinished_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as if it had not been asked for, but as the last one: what follows is not HTTP
        except httptools.HttpParserError as error:
            self._refuse(error.__context__)
        if self.unfinished_bytes > UNFINISHED_BYTES_MAX and self.in_request and not self.last:
            self._answer(TOO_LARGE)
            self.last = True
        if self.expects_continue and not self.in_head and not self.last:
            self.answers.append(CONTINUE)
            self.expects_continue = False
        answers = b"".join(self.answers)
        self.answers.clear()
        return answers

    def _refuse(self, reason: BaseException | None) -> None:
        if isinstance(reason, RefusedError):
            self._answer(reason.args[0])
        elif not self.last:  # else it is about bytes after the last request, which nobody is waiting for
            self.answers.append(BAD_REQUEST)
        self.last = True

    def _answer(self, answer: bytes) -> None:
        """To the request that the parser is at: without the body if it is HEAD."""
        is_head = self.parser.get_method() == b"HEAD"
        self.answers.append(answer[: answer.index(b"\r\n\r\n") + 4] if is_head else answer)


class Hello(Handler):
    """Answers every request with the same greeting."""

    def on_connect(self, conn: Connection) -> None:
        conn.context = Requests()

    def on_resume(self, conn: Connection) -> None:
        if conn.state == IN_REQUEST:
            conn.abort()
        else:
            conn.context = Requests()

    def on_data(self, conn: Connection, data: memoryview) -> None:
        requests: Requests = conn.context
        was_in_request = requests.in_request
        answers = requests.feed(data)
        if answers and not conn.send(answers):
            conn.pause_reading()
        if requests.last:
            conn.close()
        elif requests.in_request != was_in_request:
            conn.state = IN_REQUEST if requests.in_request else BETWEEN_REQUESTS

    def on_drain(self, conn: Connection) -> None:
        conn.resume_reading()
