"""Which connections: a filter in the language of ss(8), read once and then asked of each connection.

    filter = all {("or" | "|" | "||") all}
    all    = one {["and" | "&" | "&&"] one}                    side by side means and, too
    one    = ("not" | "!") one | "(" filter ")" | state | port | host
    state  = "state" NAME                                      open, closing, linger; or of TCP: established, …
    port   = ("sport" | "dport") [= != < <= > >=] [:]NUMBER    s: ours, d: the peer's
    host   = ("src" | "dst") [= !=] ADDRESS[/PREFIX][:NUMBER]  IPv6 with a port, or beside one: [ADDRESS/PREFIX]:NUMBER

A state of TCP is not in the connection table: whoever asks has to bring it along (`needs_tcp`).
"""

from __future__ import annotations

import ipaddress
import operator
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from usnet_framework._native import CONNECTION_STATES, TCP_STATES, Address, ConnectionInfo
from usnet_framework.errors import UsageError
from usnet_framework.values import nearest

LENGTH_MAX = 4096
DEPTH_MAX = 50  # of parentheses and negations: each is a call
TOKEN = re.compile(r"\s*(\(|\)|&&?|\|\|?|[=!<>]=|[=!<>]|[^\s()&|=!<>]+|$)")

Test = Callable[[ConnectionInfo, str | None], bool]
"""Of a connection, and its state of TCP if that is known."""

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    **dict.fromkeys(("=", "==", "eq"), operator.eq),
    **dict.fromkeys(("!=", "ne", "neq"), operator.ne),
    **dict.fromkeys((">=", "ge", "geq"), operator.ge),
    **dict.fromkeys(("<=", "le", "leq"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys(("<", "lt"), operator.lt),
}
EITHER, BOTH, NEGATED = ("or", "|", "||"), ("and", "&", "&&"), ("not", "!")
SUBJECTS = ("sport", "dport", "src", "dst", "state")
TABLE_STATES = frozenset(CONNECTION_STATES.values()) - {"free", "closed"}
STATES_OF_TCP = frozenset(TCP_STATES.values()) - TABLE_STATES


class FilterError(UsageError):
    """A filter that does not parse: what is wrong, and where."""


@dataclass(frozen=True)
class Filter:
    matches: Test
    needs_tcp: bool
    """It asks for a state of TCP."""


EVERYTHING = Filter(lambda conn, state: True, needs_tcp=False)


def parse(text: str) -> Filter:
    """FilterError. An empty filter takes everything."""
    if len(text) > LENGTH_MAX:
        raise FilterError(f"the filter has {len(text)} characters; {LENGTH_MAX} are the most")
    return _Parser(text).filter() if text.strip() else EVERYTHING


class _Parser:
    """Recursive descent over the tokens: a method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0
        self._needs_tcp = False

    def filter(self) -> Filter:
        test = self._any()
        if self._token:
            raise self._wrong("expected and, or, or the end")
        return Filter(test, self._needs_tcp)

    @property
    def _token(self) -> str:
        """Empty at the end."""
        return self._tokens[self._at][0]

    def _next(self) -> str:
        token = self._token
        self._at += bool(token)
        return token

    def _takes(self, *tokens: str) -> bool:
        taken = self._token.lower() in tokens
        self._at += taken
        return taken

    def _wrong(self, why: str) -> FilterError:
        token, place = self._tokens[self._at]
        found = f"{token!r} at character {place}" if token else f"it ends at character {place}"
        return FilterError(f"filter: {found}: {why}")

    def _any(self) -> Test:
        tests = [self._all()]
        while self._takes(*EITHER):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda conn, state: any(test(conn, state) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._takes(*BOTH) or self._begins_one():
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda conn, state: all(test(conn, state) for test in tests)

    def _begins_one(self) -> bool:
        return self._token.lower() in (*NEGATED, "(", *SUBJECTS)

    def _one(self) -> Test:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"more than {DEPTH_MAX} levels")
        test = self._within()
        self._depth -= 1
        return test

    def _within(self) -> Test:
        if self._takes(*NEGATED):
            negated = self._one()
            return lambda conn, state: not negated(conn, state)
        if self._takes("("):
            inner = self._any()
            if not self._takes(")"):
                raise self._wrong("expected )")
            return inner
        subject = self._token.lower()
        if subject not in SUBJECTS:
            raise self._wrong(f"expected {', '.join(SUBJECTS)}, not or a parenthesis{nearest(subject, SUBJECTS)}")
        self._next()
        if subject == "state":
            return self._state()
        return self._port(subject) if subject.endswith("port") else self._host(subject)

    def _state(self) -> Test:
        self._takes("=", "==")
        name = self._token.lower().replace("-", "_")
        if name in STATES_OF_TCP:
            self._needs_tcp = True
        elif name not in TABLE_STATES:
            known = sorted(TABLE_STATES | STATES_OF_TCP)
            raise self._wrong(f"expected a state: {', '.join(known)}{nearest(name, known)}")
        self._next()
        if name in TABLE_STATES:
            return lambda conn, state: conn.state == name
        return lambda conn, state: state == name

    def _comparison(self) -> Callable[[int, int], bool]:
        compare = COMPARISONS.get(self._token.lower())
        if compare is None:
            return operator.eq
        self._next()
        return compare

    def _port(self, subject: str) -> Test:
        end = _local if subject == "sport" else _peer
        compare = self._comparison()
        port = _port(self._token.removeprefix(":"))
        if port is None:
            raise self._wrong("expected a port, 0 to 65535, like :443")
        self._next()

        def test(conn: ConnectionInfo, state: str | None) -> bool:
            found = end(conn)
            return not isinstance(found, str) and compare(found[1], port)

        return test

    def _host(self, subject: str) -> Test:
        end = _local if subject == "src" else _peer
        place, compare = self._at, self._comparison()
        if compare not in (operator.eq, operator.ne):
            self._at = place
            raise self._wrong("addresses are compared with = and != alone")
        lies_in = _endpoint(self._token)
        if lies_in is None:
            raise self._wrong("expected an address like 10.0.0.0/8, 10.0.0.1:443 or [fd00::1]:443")
        self._next()

        def test(conn: ConnectionInfo, state: str | None) -> bool:
            found = end(conn)
            return not isinstance(found, str) and lies_in(*found[:2]) == (compare is operator.eq)

        return test


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """With the character that each begins at, from 1 on; the last one is empty."""
    at = 0
    while match := TOKEN.match(text, at):
        yield match[1], match.start(1) + 1
        if not match[1]:
            return
        at = match.end()


def _local(conn: ConnectionInfo) -> Address:
    return conn.local


def _peer(conn: ConnectionInfo) -> Address:
    return conn.peer


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and int(text) < 65536 else None


def _endpoint(text: str) -> Callable[[str, int], bool] | None:
    """Whether an address and port lie in it; None: this is no such text."""
    if match := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text):
        host, port_text = match[1], match[2]
    elif text.count(":") > 1:
        host, port_text = text, None
    else:
        host, colon, port_text = text.partition(":")
        port_text = port_text if colon else None
    if not host and port_text is None:
        return None
    port = None if port_text in (None, "*") else _port(port_text)
    network = None if host in ("", "*") else _network(host)
    if (port is None and port_text not in (None, "*")) or (network is None and host not in ("", "*")):
        return None
    return lambda ip, its_port: (port is None or port == its_port) and (network is None or _lies_in(ip, network))


@dataclass(frozen=True)
class _Network:
    family: int
    first: int
    mask: int


def _network(text: str) -> _Network | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return _Network(family, int(network.network_address), int(network.netmask))


def _lies_in(ip: str, network: _Network) -> bool:
    if (":" in ip) != (network.family == socket.AF_INET6):
        return False
    packed = socket.inet_pton(network.family, ip.partition("%")[0])
    return int.from_bytes(packed, "big") & network.mask == network.first
