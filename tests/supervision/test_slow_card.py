"""A card that does not answer, or gives an error at the end: the server answers, and ends, all the same."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from usnet_framework.config import Config
from usnet_framework.shards import cardlook, supervisor
from usnet_framework.shards.findings import Finding
from usnet_framework.shards.supervisor import Supervisor


class Card:
    """Of which a look waits until it may go on."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.looks = 0
        self.put_back_with: list[float] = []

    def look(self) -> None:
        self.looks += 1
        assert self.may_answer.wait(60)

    def put_back(self, patience_s: float) -> None:
        self.put_back_with.append(patience_s)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def card() -> Card:
    return Card()


@pytest.fixture
def server(card: Card) -> Supervisor:
    one = Supervisor(Config(app="app:App"))
    prepared: Any = SimpleNamespace(stack=card, look=card.look, put_back=card.put_back, findings=[])
    one._prepared = prepared
    return one


def late(server: Supervisor) -> list[Finding]:
    return [finding for finding in server.findings() if finding.what == "interface's settings"]


def test_a_look_that_hangs_is_waited_for_a_while_and_told_of(
    server: Supervisor, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cardlook, "LOOK_S", 0.01)

    async def ask() -> None:
        for _ in range(3):
            await server.look()
            (finding,) = late(server)
            assert not finding.ok
            assert finding.reason.endswith("its driver, or the kernel, has not answered")
        assert card.looks == 1, "all wait for the same one"
        card.may_answer.set()
        monkeypatch.setattr(cardlook, "LOOK_S", 60.0)
        await server.look()
        assert late(server) == []

    asyncio.run(ask())


def test_a_look_for_which_there_is_no_thread_is_told_of(server: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    asyncio.run(server.look())
    (finding,) = late(server)
    assert finding.reason == "they cannot be read: can't start new thread"


@pytest.mark.parametrize("at_once", [False, True])
def test_what_cannot_be_put_back_does_not_change_the_end(
    server: Supervisor, card: Card, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked to stop at once, it has no patience for what may pass."""

    async def end() -> None:
        server._at_once = at_once
        assert server._prepared is not None
        await server._put_back(server._prepared)

    asyncio.run(end())
    assert card.put_back_with == [0.0 if at_once else supervisor.LETTING_GO_S]
    (line,) = caplog.messages
    assert "some settings may not be put back" in line
    assert "Too many open files" in line


def test_who_is_asked_to_stop_at_once_leaves_what_takes_long(
    server: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    never = threading.Event()

    async def end() -> None:
        prepared: Any = SimpleNamespace(stack=True, put_back=lambda _: never.wait(60))
        ending = asyncio.create_task(server._put_back(prepared))
        await asyncio.sleep(0)
        server.stop()
        server.stop()
        await ending

    asyncio.run(end())
    never.set()
    assert "it was not waited for" in caplog.text
