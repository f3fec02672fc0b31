"""HTTP/1.1 hello on httptools: keep-alive, pipelining, HEAD, request bodies (read and ignored), 400 for nonsense.

    usnet-serve examples.http_hello:Hello
    curl -i http://127.0.0.1:7000/

What survives a killed worker. A parser is Python memory, so it dies with its worker. Between two requests it holds
nothing: such a connection goes on with a new parser, and its client notices nothing. In the middle of a request it
holds what cannot be had again, so `conn.state` says whether a request is under way, committed together with the input
that made it so; the next worker resets such a connection, which tells its client that the request was not served.
"""

from __future__ import annotations

import httptools

from usnet_framework import Connection, Handler

BODY = b"Hello, world!\n"
BETWEEN_REQUESTS = b""
IN_REQUEST = b"\x01"


def _response(status: bytes, body: bytes, *, close: bool) -> bytes:
    connection = b"Connection: close\r\n" if close else b""
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), connection)
    ) + body


HELLO = _response(b"200 OK", BODY, close=False)
HELLO_CLOSE = _response(b"200 OK", BODY, close=True)
BAD_REQUEST = _response(b"400 Bad Request", b"not HTTP\n", close=True)


class Requests:
    """The callbacks of one connection's parser. Collects the answers to what one piece of input completed."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.answers: list[bytes] = []
        self.in_request = False
        self.last = False

    def on_message_begin(self) -> None:
        self.in_request = True

    def on_message_complete(self) -> None:
        self.in_request = False
        self.last = self.parser.should_upgrade() or not self.parser.should_keep_alive()
        answer = HELLO_CLOSE if self.last else HELLO
        self.answers.append(answer if self.parser.get_method() != b"HEAD" else answer.removesuffix(BODY))

    def feed(self, data: memoryview) -> bytes:
        """The answers to the requests that `data` completes; `last` is set when the connection is to be closed."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as if it had not been asked for, but as the last one: what follows is not HTTP
        except httptools.HttpParserError:
            if not self.last:  # else it is about bytes after the last request, which nobody is waiting for
                self.answers.append(BAD_REQUEST)
            self.last = True
        answers = b"".join(self.answers)
        self.answers.clear()
        return answers


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
