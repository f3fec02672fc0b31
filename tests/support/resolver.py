"""A name server for tests that look at what is done with the addresses of a name."""

from __future__ import annotations

import socket

import pytest


def resolves_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """A name server that knows one name."""

    def getaddrinfo(host: str, port: int, **kwargs: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port))
            for each in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
