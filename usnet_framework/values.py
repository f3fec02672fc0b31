"""Text to values: the parsers that options are made of. A refusal is ValueError with what was expected instead.

Also `nearest`, the "did you mean" of every message about an unknown name.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from usnet_framework.addresses import Ports, no_host

Parse = Callable[[str], Any]


def whole(minimum: int, maximum: int, multiple: int = 1) -> Parse:
    expected = f"a whole number from {minimum} to {maximum}"
    if multiple > 1:
        expected += f", a multiple of {multiple}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not minimum <= int(text) <= maximum or int(text) % multiple:
            raise ValueError(expected)
        return int(text)

    return parse


def seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text):
        raise ValueError("a number of seconds, 0 or more")
    return float(text)


def positive_seconds(text: str) -> float:
    """Of a wait that has to end."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text) or float(text) == 0:
        raise ValueError("a number of seconds, more than 0")
    return float(text)


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.names:
            raise ValueError(f"one of {', '.join(self.names)}{nearest(text, self.names)}")
        return text


def switch(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("true or false")
    return text.lower() in ("1", "true", "yes", "on")


def or_auto(parse: Parse) -> Parse:
    def parse_or_auto(text: str) -> Any:
        if text == "auto":
            return None
        try:
            return parse(text)
        except ValueError as refusal:
            raise ValueError(f"{refusal}, or auto") from None

    return parse_or_auto


def ports(text: str) -> Ports:
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]) <= 65535:
        raise ValueError("a range of ports like 40000-49999")
    return int(match[1]), int(match[2])


def cores(text: str) -> tuple[int, ...]:
    listed: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError("a list of cores like 0,2,4-7")
        listed.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    if len(set(listed)) != len(listed):
        raise ValueError("a list of cores, each named once")
    return tuple(listed)


def endpoint_or_off(text: str) -> str:
    if text != "off":
        split_endpoint(text)
    return text


def own_address(text: str) -> str:
    """An address that a host may have, with its prefix, in its usual form."""
    expected = "an address with its prefix, like 10.0.0.1/24 or fd00::1/64"
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(expected) from None
    ip = address.ip
    is_nobodys = ip.is_unspecified or ip.is_multicast or ip.is_loopback or str(ip) == "255.255.255.255"
    if "/" not in text or is_nobodys:
        raise ValueError(f"{expected}, of one host on a network")
    if (why := no_host(address)) is not None:
        raise ValueError(f"{expected}, of one host on a network; {ip} is {why}")
    return address.with_prefixlen


def host_address(text: str) -> str:
    """Without a zone ("fe80::1%eth0"): there is one link."""
    try:
        return str(ipaddress.ip_address(text.replace("%", "/")))
    except ValueError:
        raise ValueError("an address, like 10.0.0.254 or fd00::fe") from None


def text(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a text that is not empty")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"a text that can be written in {sys.getfilesystemencoding()}") from None
    return text


def split_endpoint(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[IPV6]:PORT` as (host, port). ValueError with what was expected."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]+)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65535:
        raise ValueError("HOST:PORT, for instance 127.0.0.1:9464, or off")
    return match[1] or match[2], int(match[3])


def endpoint_text(end: Sequence[Any] | str) -> str:
    """An end of a connection, as socket has it, in the form of a bind; "unix" for a unix socket, whose ends have no
    names that say anything."""
    if isinstance(end, str):
        return end or "unix"
    host, port, *more = tuple(end)
    if ":" not in host:
        return f"{host}:{port}"
    zone = f"%{more[1]}" if len(more) > 1 and more[1] and "%" not in host else ""
    return f"[{host}{zone}]:{port}"


def nearest(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
